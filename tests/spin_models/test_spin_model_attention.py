"""The layer of spin models, against their functions, and as a block of its own."""

import copy

import pytest
import torch
from torch.nn import functional as F

from qattn import SoftmaxAttention, SpinModelAttention, Transformer
from qattn.spin_models import (
    NotConvergedWarning,
    binary_mean_spin,
    kinetic_step,
    steady_state,
    vector_mean_spin,
)

OPTIONS = [
    {"spins": spins, "mean_field": order, "steady_state": steady}
    for spins in ("vector", "binary")
    for order in ("naive", "tap")
    for steady in (False, True)
]


def layer_and_input(**options):
    torch.manual_seed(0)
    return SpinModelAttention(12, 3, 6, **options), 2 * torch.randn(2, 6, 12)


def split(x):
    """By heads."""
    return x.unflatten(-1, (3, -1)).transpose(1, 2)


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("is_causal", [True, False])
def test_the_layer_is_a_step_of_its_spin_model(options, is_causal):
    layer, x = layer_and_input(**options, is_causal=is_causal)
    field, J = split(x @ layer.qkv.weight[24:].mT + layer.qkv.bias[24:]), layer.weights(x)
    model = {"spins": options["spins"], "mean_field": options["mean_field"]}
    if options["steady_state"]:
        m = steady_state(field, J, **model)
    else:
        mean_spin = {"vector": vector_mean_spin, "binary": binary_mean_spin}[options["spins"]]
        m = kinetic_step(field, J, mean_spin(field), **model)
    out = layer(x)
    torch.testing.assert_close(out, layer.out(m.transpose(1, 2).flatten(2)), atol=1e-4, rtol=1e-4)
    out.square().sum().backward()
    assert all(p.grad.abs().max() > 0 for p in layer.parameters())
    if is_causal:
        changed = x.clone()
        changed[:, 4:] += 1.0
        torch.testing.assert_close(layer(changed)[:, :4], out[:, :4], atol=1e-4, rtol=1e-4)
    outs = [SpinModelAttention(12, 3, 6, is_causal=is_causal, **other) for other in OPTIONS]
    for other in outs:
        other.load_state_dict(layer.state_dict())
    near = [torch.allclose(other(x), out, atol=1e-3) for other in outs]
    assert [o for o, same in zip(OPTIONS, near, strict=True) if same] == [options]


def test_couplings_are_softmax_weights_of_the_layers_beta_and_bias():
    layer, x = layer_and_input(beta="learnable", position_bias="relative", qk_norm=True)
    plain = SoftmaxAttention(12, 3, 6, beta="learnable", position_bias="relative", qk_norm=True)
    with torch.no_grad():
        layer.log_beta.copy_(torch.tensor([0.3, -0.5, 1.0]))
        layer.position_bias_values.normal_()
    plain.load_state_dict(layer.state_dict())
    torch.testing.assert_close(layer.weights(x), plain.weights(x))
    field = layer._heads(x)[2]
    m = kinetic_step(field, plain.weights(x), vector_mean_spin(field))
    torch.testing.assert_close(layer(x), layer.out(m.transpose(1, 2).flatten(2)))


def test_weak_values_of_many_components_give_attention_and_the_field():
    # φ(x) is x/2 for weak x: m = (x + J x/2)/2.
    layer, x = layer_and_input()
    with torch.no_grad():
        layer.qkv.weight[24:] *= 1e-3
        layer.qkv.bias[24:] = 0
    field = layer._heads(x)[2]
    m = (field + layer.weights(x) @ field / 2) / 2
    torch.testing.assert_close(layer(x), layer.out(m.transpose(1, 2).flatten(2)))


CRITICAL = {"spins": "binary", "steady_state": True}
"""With weak fields, as a residual stream is at the start, the steady state is hardly reached."""


@pytest.mark.parametrize("options", [o for o in OPTIONS if o != o | CRITICAL])
def test_the_residual_stream_as_field_is_a_block_of_its_own(options):
    torch.manual_seed(0)
    model = Transformer(
        7, 6, attention="spin-model", embed_dim=8, num_heads=2, field="residual", **options
    )
    tokens = torch.randint(7, (4, 6))
    first = model.blocks[0]
    x = F.embedding(tokens, model.tokens.weight) + model.positions
    m = first.attention(x)
    torch.testing.assert_close(first(x), m + first.ffn(m))  # no skip around the attention
    field = x.unflatten(-1, (2, 4)).transpose(1, 2)
    mean_spin = {"vector": vector_mean_spin, "binary": binary_mean_spin}[options["spins"]]
    normalised = mean_spin(field).transpose(1, 2).flatten(2)
    query, key = first.attention.qkv(normalised).unflatten(-1, (2, 2, 4)).unbind(2)
    scores = query.transpose(1, 2) @ key.permute(0, 2, 3, 1) / 2
    J = scores.masked_fill(torch.ones(6, 6).triu(1).bool(), -torch.inf).softmax(-1)
    torch.testing.assert_close(model.attention_weights(tokens)[0], J)
    if not options["steady_state"]:
        model_options = {"spins": options["spins"], "mean_field": options["mean_field"]}
        wanted = kinetic_step(field, J, mean_spin(field), **model_options)
        torch.testing.assert_close(m, wanted.transpose(1, 2).flatten(2))
    F.cross_entropy(model(tokens).flatten(0, 1), tokens.flatten()).backward()
    assert all(p.grad is not None for p in model.parameters())


def test_a_steady_state_that_is_not_reached_is_flagged_once():
    layer, x = layer_and_input(field="residual", **CRITICAL)
    with pytest.warns(NotConvergedWarning, match="steady state of 6 of 6 systems has not conver"):
        assert layer(1e-4 * x).isfinite().all()
    layer(1e-4 * x)  # a warning would be an error here


@pytest.mark.parametrize("options", OPTIONS)
def test_half_precision_is_near_single(options):
    layer, x = layer_and_input(**options)
    expected = layer(x)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    half = copy.deepcopy(layer).bfloat16()(x.bfloat16())
    for found in (out, half):
        assert found.dtype == torch.bfloat16
        assert (found - expected).abs().max() < 0.05 * expected.abs().max()


def test_repr_and_wrong_options():
    line = repr(SpinModelAttention(12, 3, 6, spins="binary", steady_state=True))
    assert "spins='binary', mean_field='naive', steady_state=True, field='value')" in line
    for options, message in (
        ({"spins": "potts"}, "`spins` must be one of 'vector', 'binary', but is 'potts'"),
        ({"mean_field": "bethe"}, "`mean_field` must be one of 'naive', 'tap', but is 'bethe'"),
        ({"field": "key"}, "`field` must be one of 'value', 'residual', but is 'key'"),
    ):
        with pytest.raises(ValueError, match=message):
            SpinModelAttention(12, 3, 6, **options)
    with pytest.raises(ValueError, match=r"more than 2 `num_heads` = 12, .*but is 12: take fewer"):
        SpinModelAttention(12, 6, 6)
    assert SpinModelAttention(12, 6, 6, spins="binary")(torch.randn(1, 6, 12)).isfinite().all()
