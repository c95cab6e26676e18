"""Training where every attention weight is far below the rounding of 1."""

import pytest
import torch
from _support.trainings import SMALL

from qattn.training import Learner, TrainConfig


@pytest.mark.parametrize("normalize", [True, False])
@pytest.mark.parametrize("attention", ["boltzmann", "couplings", "sigmoid"])
def test_fields_of_minus_twenty_train(attention, normalize):
    learner = Learner(TrainConfig(attention=attention, normalize=normalize, **SMALL))
    with torch.no_grad():
        for name, parameter in learner.parameters.items():
            if name.endswith("field_bias"):
                parameter.fill_(-40.0)
    losses = torch.cat([learner.step(number) for number in range(20)])
    assert losses.isfinite().all()
    for name, parameter in learner.parameters.items():
        assert parameter.isfinite().all(), name
        assert parameter.grad is None or parameter.grad.isfinite().all(), name
    if normalize and attention == "boltzmann":
        # The scores' gradients are those of softmax attention, not zero.
        queries = [p.grad for name, p in learner.parameters.items() if name.endswith("qkv.weight")]
        assert all(grad[: len(grad) // 3].norm() > 1e-4 for grad in queries)
