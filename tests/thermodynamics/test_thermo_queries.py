"""Queries of a run by layer and head: those that the layers solve."""

import pytest
import torch

from qattn import exact
from qattn.layers import ATTENTION
from qattn.thermo_report import queries
from qattn.transformer import Transformer

T, HEADS, SEQUENCES, POSITIONS = 7, 2, 3, 2
ARMS = [
    ("boltzmann", {}),
    ("boltzmann", {"beta": "learnable"}),
    ("boltzmann", {"couplings": "banded", "width": 2, "content": True}),
    ("couplings", {}),
    ("cardinality", {}),
    ("sigmoid", {"beta": 2.0}),
    ("softmax", {"beta": 0.5}),
    ("softmax", {"beta": "learnable"}),
    ("spin-model", {}),
]


def of_model(arm, options, monkeypatch, tmp_path):
    torch.manual_seed(1)
    model = Transformer(10, T, attention=arm, num_heads=HEADS, embed_dim=8, **options)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "beta" in name:
                parameter.copy_(torch.tensor([0.3, -0.4]))
            elif "coupling" in name or "qkv" in name:
                parameter.mul_(5)

    class Task:
        def validation(self):
            return torch.randint(10, (20, T)), None

    monkeypatch.setattr(queries, "load", lambda folder, member: (model.eval(), Task()))
    return queries.queries_of_run(tmp_path, sequences=SEQUENCES, positions=POSITIONS)


@pytest.mark.parametrize(("arm", "options"), ARMS, ids=str)
def test_weights_are_those_of_the_systems(arm, options, monkeypatch, tmp_path):
    """Solving what is returned gives the layer's weights, query by query."""
    layers = of_model(arm, options, monkeypatch, tmp_path)
    assert len(layers) == 2
    for layer in layers:
        assert layer.weights.shape == (HEADS, SEQUENCES * POSITIONS, T)
        seen = (layer.scores > -torch.inf).sum(-1)
        assert seen[0].tolist() == [4, 7] * SEQUENCES  # the fourth position and the last one
        if layer.batch is None:
            assert torch.allclose(layer.scores.softmax(-1), layer.weights, atol=1e-5)
            continue
        solved = exact.occupations(layer.batch)
        for head in range(HEADS):
            found = solved[layer.heads == head].flatten(0, 1)
            # Without queries and keys all sequences have the same models, which stand there once.
            expected = layer.weights[head][: len(found)]
            assert torch.allclose(found, expected, atol=1e-5)
            assert not torch.allclose(found.flip(0), expected, atol=1e-5)  # not any order
            assert not torch.allclose(found, layer.weights[1 - head][: len(found)], atol=1e-5)


def test_every_arm_is_here():
    assert {arm for arm, _ in ARMS} == set(ATTENTION)


@pytest.mark.parametrize("name", ["sequences", "positions"])
def test_numbers_that_are_not_positive(name, tmp_path):
    with pytest.raises(ValueError, match=f"Argument `{name}` must be positive, but is 0"):
        queries.queries_of_run(tmp_path, **{name: 0})
