"""The options of the attention layers, and the couplings that they learn."""

import functools

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from qattn import (
    BoltzmannAttention,
    boltzmann_weights,
)
from qattn.layers import ATTENTION, coupling_matrix


def layer_and_input(arm, **options):
    """A layer whose couplings are strong enough to matter, and three sequences."""
    torch.manual_seed(0)
    layer = ATTENTION[arm](8, 2, 6, **options)
    if isinstance(layer, BoltzmannAttention):
        torch.nn.init.normal_(layer.coupling_values, std=0.4)
    return layer, torch.randn(3, 6, 8)


@pytest.mark.parametrize("arm", ["boltzmann", "couplings"])
def test_layers_give_beta_and_the_halved_bias_to_their_models(arm):
    layer, x = layer_and_input(arm, beta=2.0)
    with torch.no_grad():
        layer.field_bias.copy_(torch.tensor([0.7, -1.1]))
        query, key, _ = layer._heads(x)
        query = torch.zeros_like(query) if arm == "couplings" else query
        options = {"couplings": layer.couplings, "field_bias": layer.field_bias}
        hot, cold = (boltzmann_weights(query, key, beta=beta, **options) for beta in (1.0, 2.0))
        torch.testing.assert_close(layer.weights(x), cold)
    assert (hot - cold).abs().max() > 0.05


def test_couplings_arm_without_couplings_is_its_bias():
    layer, x = layer_and_input("couplings")
    with torch.no_grad():
        layer.coupling_values.zero_()
        layer.field_bias.copy_(torch.tensor([0.7, -1.1]))
        expected = layer.field_bias.sigmoid()[:, None, None].expand(3, 2, 6, 6).tril()
        torch.testing.assert_close(layer.weights(x), expected)


def test_scale_of_the_function():
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 5, 4)
    J = torch.zeros(2, 5, 5)
    scaled = boltzmann_weights(query, key, J, scale=0.3)
    torch.testing.assert_close(scaled, boltzmann_weights(0.6 * query, key, J))
    torch.testing.assert_close(scaled, (0.3 * query @ key.mT).sigmoid().tril())


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("is_causal", [True, False])
def test_normalised_weights_sum_to_one_in_every_arm(arm, is_causal):
    layer, x = layer_and_input(arm, is_causal=is_causal, normalize=True)
    weights = layer.weights(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 6))
    # They are the weights of `forward` too; without the option they are shares of the same.
    value = layer._heads(x)[2]
    torch.testing.assert_close(layer(x), layer.out((weights @ value).transpose(1, 2).flatten(2)))
    layer.normalize = False
    plain = layer.weights(x)
    torch.testing.assert_close(weights, plain / plain.sum(-1, keepdim=True))
    assert (arm == "softmax") == torch.allclose(plain.sum(-1), torch.ones(()))


@pytest.mark.parametrize("arm", [arm for arm in ATTENTION if arm != "couplings"])
@pytest.mark.parametrize("part", ["query", "key"])
def test_qk_norm_makes_weights_blind_to_the_scale_of_queries_and_keys(arm, part):
    layer, x = layer_and_input(arm, qk_norm=True)
    plain, _ = layer_and_input(arm)
    for one, blind in ((layer, True), (plain, False)):
        before = one.weights(x).detach()
        rows = slice(0, 8) if part == "query" else slice(8, 16)
        with torch.no_grad():
            one.qkv.weight[rows] *= 10.0
            one.qkv.bias[rows] *= 10.0
        change = (one.weights(x) - before).abs().max()
        assert bool(change < 1e-3) is blind, change
    layer(x).square().sum().backward()
    norm = layer.query_norm if part == "query" else layer.key_norm
    assert norm.weight.grad.abs().max() > 0


def number_of_entries(context, relative):
    return context - 1 if relative else context * (context - 1) // 2


@pytest.mark.parametrize("context", [1, 2, 3, 6])
@pytest.mark.parametrize("relative", [True, False])
def test_matrix_of_couplings_holds_each_entry_twice(context, relative):
    values = torch.arange(1.0, 1 + 2 * number_of_entries(context, relative)).view(2, -1)
    expected = torch.zeros(2, context, context)
    row, col = torch.triu_indices(context, context, 1)
    expected[:, row, col] = values[:, col - row - 1] if relative else values
    expected += expected.mT.clone()
    for size in range(1, context + 1):
        block = coupling_matrix(values, context, size, relative)
        assert torch.equal(block, expected[:, :size, :size])


@pytest.mark.parametrize("relative", [True, False])
def test_gradient_of_the_matrix_of_couplings(relative):
    values = torch.randn(2, number_of_entries(5, relative), dtype=torch.float64)
    values.requires_grad_()
    for size in (1, 3, 5):
        block = functools.partial(coupling_matrix, context=5, size=size, relative=relative)
        assert torch.autograd.gradcheck(block, values)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that an operation returns."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        out = function(*args, **(kwargs or {}))
        for x in out if isinstance(out, tuple | list) else [out]:
            if isinstance(x, torch.Tensor):
                self.elements = max(self.elements, x.numel())
        return out


@pytest.mark.parametrize("relative", [True, False])
def test_context_of_a_thousand_takes_memory_of_its_square(relative):
    context, heads = 1024, 2
    with Largest() as largest:
        layer = BoltzmannAttention(8, heads, context, relative=relative)
        J = layer.couplings
        J.backward(torch.ones_like(J))
        layer(torch.randn(1, 8, 8)).sum().backward()  # exact for its first positions
    assert J.shape == (heads, context, context)
    assert largest.elements <= heads * context**2
    assert layer.coupling_values.grad.max() >= 2.0


def test_couplings_of_checkpoints_keep_their_name_and_shape():
    for relative, entries in ((False, 15), (True, 5)):
        state = BoltzmannAttention(8, 2, 6, relative=relative).state_dict()
        assert state["coupling_values"].shape == (2, entries)
        assert not any("basis" in name for name in state)
