"""torch.func over stacked models, and the ensemble learner built on it."""

import pytest
import torch
from _support.brute_force import random_couplings
from torch.autograd import forward_ad
from torch.func import functional_call, grad, stack_module_state, vmap
from torch.nn import functional as F

from qattn import IsingBatch, Transformer, exact
from qattn.couplings import Banded
from qattn.layers import ATTENTION
from qattn.training import Learner, TrainConfig

ROUNDING = 1e-5


def test_vmap_of_exact_moments_over_h_and_J():
    torch.manual_seed(0)
    h = torch.randn(3, 2, 4, 5, dtype=torch.float64)
    J = random_couplings(6, 5, 0.8, dtype=torch.float64).view(3, 2, 5, 5)
    lengths = torch.tensor([[5, 3, 1, 4], [2, 5, 5, 0]])

    def loss(h, J):
        batch = IsingBatch(h, J, lengths, validate=False)
        return (exact.mean_spins(batch) ** 2).sum() + exact.log_partition(batch).sum()

    looped = torch.stack([loss(h[i], J[i]) for i in range(3)])
    torch.testing.assert_close(vmap(loss)(h, J), looped)
    torch.testing.assert_close(vmap(loss, (None, 0))(h[0], J)[1], loss(h[0], J[1]))
    gradients = vmap(grad(loss, argnums=(0, 1)))(h, J)
    for i in range(3):
        expected = grad(loss, argnums=(0, 1))(h[i], J[i])
        torch.testing.assert_close(tuple(x[i] for x in gradients), expected)


@pytest.mark.parametrize("kind", ["dense", "banded"])
@pytest.mark.filterwarnings("ignore:.torch.jit.script:DeprecationWarning")  # PyTorch's own use
def test_without_gradients_it_is_the_same(kind):
    # There the operation runs without autograd; not where a transformation needs its rules.
    torch.manual_seed(0)
    h, J = torch.randn(3, 2, 4, 5), random_couplings(2, 5, 0.8)
    couplings = Banded(torch.randn(2, 5, 2)) if kind == "banded" else J

    def moments(h):
        return exact.mean_spins(IsingBatch(h, couplings, validate=False))

    expected = torch.stack([moments(one) for one in h])
    with torch.no_grad():
        torch.testing.assert_close(torch.stack([moments(one) for one in h]), expected)
        torch.testing.assert_close(vmap(moments)(h), expected)
    for enabled in (True, False):
        with torch.set_grad_enabled(enabled), forward_ad.dual_level():
            dual = forward_ad.make_dual(h[0], torch.ones_like(h[0]))
            with pytest.raises(NotImplementedError, match="forward mode AD"):
                moments(dual)


def test_vmap_reaches_the_log_space_fallback():
    h = torch.tensor([450.0, 0.3, 450.0], dtype=torch.float64).expand(2, 1, 1, 3)
    J = torch.zeros(2, 1, 3, 3, dtype=torch.float64)
    J[1, 0, 0, 2] = J[1, 0, 2, 0] = -500.0

    def loss(h, J):
        return exact.mean_spins(IsingBatch(h, J, validate=False)).sum()

    gradients = vmap(grad(loss, argnums=(0, 1)))(h, J)
    for i in range(2):
        expected = grad(loss, argnums=(0, 1))(h[i], J[i])
        torch.testing.assert_close(tuple(x[i] for x in gradients), expected)


@pytest.mark.parametrize("arm", ["boltzmann", "couplings"])
def test_vmap_of_grad_over_stacked_transformers(arm):
    models = []
    for seed in range(3):
        torch.manual_seed(seed)
        models.append(Transformer(7, 6, attention=arm, embed_dim=8, num_heads=2))
    parameters, buffers = stack_module_state(models)
    tokens = torch.randint(7, (3, 4, 6))

    def loss(parameters, buffers, tokens):
        logits = functional_call(models[0], (parameters, buffers), (tokens,))
        return F.cross_entropy(logits.flatten(0, 1), tokens.flatten())

    gradients = vmap(grad(loss))(parameters, buffers, tokens)
    for i, model in enumerate(models):
        alone = F.cross_entropy(model(tokens[i]).flatten(0, 1), tokens[i].flatten())
        alone.backward()
        for name, parameter in model.named_parameters():
            torch.testing.assert_close(gradients[name][i], parameter.grad, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("attention", ATTENTION)
def test_members_of_an_ensemble_train_like_separate_runs(attention):
    sizes = {"attention": attention, "context": 6, "width": 16, "heads": 2, "batch_size": 8}
    together = Learner(TrainConfig(ensemble=3, seed=4, **sizes))
    alone = [Learner(TrainConfig(seed=4 + i, **sizes)) for i in range(3)]
    for number in range(12):
        losses = together.step(number)
        expected = torch.cat([learner.step(number) for learner in alone])
        assert (losses - expected).abs().max() < ROUNDING
    # Different seeds give different losses, or the comparison would say nothing.
    assert losses.unique().numel() == 3
    for member, learner in zip(together.evaluate(), alone, strict=True):
        assert member["validation_loss"] == pytest.approx(
            learner.evaluate()[0]["validation_loss"], abs=ROUNDING
        )
    for name, value in alone[0].parameters.items():
        torch.testing.assert_close(together.parameters[name][0], value, atol=1e-4, rtol=1e-3)
