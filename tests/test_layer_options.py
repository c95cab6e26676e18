"""What every attention layer takes as PyTorch's modules do: dropout, weights, device, dtype."""

import pytest
import torch
from _support.layers import LINEAR, layer_and_input

from qattn import BoltzmannAttention, Transformer
from qattn.layers import ATTENTION

P = 0.25


@pytest.mark.parametrize("arm", ATTENTION)
def test_weights_are_returned_with_the_output(arm):
    layer, x = layer_and_input(arm)
    output, weights = layer(x, need_weights=True)
    torch.testing.assert_close(output, layer(x))
    torch.testing.assert_close(weights, layer.weights(x))


def test_weights_are_those_of_the_reads_that_made_the_output():
    layer, x = layer_and_input("boltzmann", backend="neal", num_reads=3)
    output, weights = layer(x, need_weights=True)
    heads = (weights @ layer._heads(x)[2]).transpose(1, 2).flatten(2)
    torch.testing.assert_close(output, layer.out(heads))
    assert (layer(x) - output).abs().max() > 1e-3  # other reads


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("position_bias", ["none", "relative"])
def test_dropout_acts_in_training_mode_alone(arm, position_bias):
    options = {"dropout": P, "position_bias": position_bias}
    layer, x = layer_and_input(arm, **options)
    plain = layer_and_input(arm, position_bias=position_bias)[0](x)
    assert (layer(x) - plain).abs().max() > 1e-3
    torch.testing.assert_close(layer(x, need_weights=True)[1], layer.weights(x))  # before it
    torch.testing.assert_close(layer.eval()(x), plain)
    assert "dropout=0.25" in repr(layer)


@pytest.mark.parametrize("arm", LINEAR)
def test_dropout_of_weights_leaves_their_mean(arm):
    layer, x = layer_and_input(arm, dropout=P)
    layer.out = torch.nn.Identity()
    with torch.no_grad():
        weights = layer.weights(x)
        value = layer._heads(x)[2]
        passes = torch.stack([layer(x) for _ in range(150)]).mean(0)
        # A weight is 0, or w / (1 - p): its variance is w² p / (1 - p).
        error = (weights**2 @ value**2 * P / (1 - P) / 150).sqrt()
        mean, error = ((h.transpose(1, 2).flatten(2)) for h in (weights @ value, error))
    assert ((passes - mean).abs() <= 5 * error + 1e-6).all()
    assert (((1 - P) * passes - mean).abs() > 5 * error).any()  # negative control: not scaled up


def test_dropout_of_layers_with_tiles():
    layer, x = layer_and_input("boltzmann", dropout=1.0)
    layer.TILE, layer.TILES_FROM = 2, 4
    torch.testing.assert_close(layer(x), layer.out.bias.expand_as(x))


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize(
    "more", [{"qk_norm": True}, {"beta": "learnable", "position_bias": "absolute"}]
)
def test_device_and_dtype_are_those_of_all_parameters(arm, more):
    layer = ATTENTION[arm](8, 2, 6, device="meta", dtype=torch.float64, **more)
    assert {(p.device.type, p.dtype) for p in layer.parameters()} == {("meta", torch.float64)}
    layer.to_empty(device="cpu").reset_parameters()
    output, weights = layer(torch.randn(3, 6, 8, dtype=torch.float64), need_weights=True)
    assert (output.dtype, weights.dtype) == (torch.float64, torch.float64)
    assert output.isfinite().all()


def test_fields_of_a_spin_model_have_the_dtype():
    layer = ATTENTION["spin-model"](8, 2, 6, field="residual", dtype=torch.float64)
    assert {p.dtype for p in layer.parameters()} == {torch.float64}


@pytest.mark.parametrize("arm", ATTENTION)
def test_device_and_dtype_of_a_transformer(arm):
    model = Transformer(
        5, 6, attention=arm, embed_dim=8, num_heads=2, device="meta", dtype=torch.float64
    )
    assert {(p.device.type, p.dtype) for p in model.parameters()} == {("meta", torch.float64)}
    model.to_empty(device="cpu").reset_parameters()
    assert model(torch.zeros(1, 6, dtype=torch.int64)).isfinite().all()


@pytest.mark.parametrize("dropout", [-0.1, 1.1])
def test_dropout_is_a_probability(dropout):
    with pytest.raises(ValueError, match="`dropout` must lie between 0 and 1, but is"):
        BoltzmannAttention(8, 2, 6, dropout=dropout)
