"""Autocast and half precision: the Ising part is computed in float32."""

import copy

import pytest
import torch
from _support.layers import layer_and_input

from qattn import (
    IsingBatch,
    Transformer,
    boltzmann_attention,
    boltzmann_weights,
)
from qattn.backends import ExactBackend
from qattn.estimators import draw, expectation, hard_patterns, mean_spins
from qattn.estimators.autograd import ESTIMATORS, Estimate
from qattn.layers import ATTENTION

HALVES = [torch.bfloat16, torch.float16]


def tolerance(dtype, of):
    """Some roundings of the half precision, relative to the largest value."""
    return 8 * torch.finfo(dtype).eps * float(of.detach().abs().max())


def gradients(model, loss):
    model.zero_grad()
    loss.float().backward()
    return {name: p.grad.float() for name, p in model.named_parameters() if p.grad is not None}


def assert_near(outcome, expected, dtype):
    """Outputs and gradients, each within roundings of its own largest value."""
    (out, grads), (reference, references) = outcome, expected
    assert (out.float() - reference).abs().max() < tolerance(dtype, reference)
    assert grads.keys() == references.keys()
    for name, grad in grads.items():
        assert grad.isfinite().all(), name
        error = (grad - references[name]).abs().max()
        # Biases of keys have no gradient but rounding: the least scale is that of all gradients.
        scale = max(float(references[name].abs().max()), 1e-2 * max_abs(references))
        assert error < 30 * torch.finfo(dtype).eps * scale, name


def max_abs(tensors):
    return max(float(x.abs().max()) for x in tensors.values())


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "normalize": True}])
def test_layers_under_autocast(arm, dtype, options):
    layer, x = layer_and_input(arm, **options)
    expected = layer(x), gradients(layer, layer(x).square().mean())
    with torch.autocast("cpu", dtype=dtype):
        out, weights = layer(x), layer.weights(x)
    assert (out.dtype, weights.dtype) == (dtype, torch.float32)
    torch.testing.assert_close(weights, layer.weights(x), atol=0.02, rtol=0)
    assert_near((out, gradients(layer, out.float().square().mean())), expected, dtype)


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "normalize": True, "beta": 1.5}])
def test_layers_with_parameters_of_half_precision(arm, dtype, options):
    if arm in ("softmax", "sigmoid"):
        options = {name: value for name, value in options.items() if name != "beta"}
    layer, x = layer_and_input(arm, **options)
    half = copy.deepcopy(layer).to(dtype)
    layer.load_state_dict(half.state_dict())  # the same parameters, rounded
    expected = layer(x), gradients(layer, layer(x).square().mean())
    out = half(x.to(dtype))
    assert out.dtype == dtype
    assert_near((out, gradients(half, out.float().square().mean())), expected, dtype)


@pytest.mark.parametrize("arm", ["boltzmann", "couplings"])
@pytest.mark.parametrize("estimator", ["callen", "moment", "score"])
@pytest.mark.parametrize("autocast", [True, False])
def test_reads_in_half_precision(arm, estimator, autocast):
    # The fields differ by their rounding: with one seed most reads of exact enumeration do not.
    layer, x = layer_and_input(arm, backend="exact", num_reads=2000, estimator=estimator)
    torch.manual_seed(1)
    expected = layer(x), gradients(layer, layer(x).square().mean())
    half = layer if autocast else copy.deepcopy(layer).bfloat16()
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
        out = half(x if autocast else x.bfloat16())
    assert out.dtype == torch.bfloat16
    grads = gradients(half, out.float().square().mean())
    assert (out.float() - expected[0]).abs().max() < 0.05 * expected[0].abs().max()
    for name, grad in grads.items():
        assert grad.isfinite().all()
        assert (grad - expected[1][name]).abs().max() < 0.15 * max_abs(expected[1]), name


@pytest.mark.parametrize("backend", ["neal", "diabatic"])
def test_sampling_backends_under_autocast(backend):
    layer, x = layer_and_input("boltzmann", backend=backend, num_reads=50)
    with torch.no_grad():
        layer.coupling_values *= 0.1
    torch.manual_seed(1)
    plain = layer(x)
    torch.manual_seed(1)
    with torch.autocast("cpu", torch.bfloat16):
        out = layer(x)
    assert out.dtype == torch.bfloat16
    assert (out.float() - plain).abs().max() < 0.1 * plain.abs().max()
    assert all(g.isfinite().all() for g in gradients(layer, out.float().square().mean()).values())


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("dtype", HALVES)
def test_transformer_under_autocast(arm, dtype):
    torch.manual_seed(0)
    model = Transformer(7, 6, attention=arm, embed_dim=8, num_heads=2)
    tokens = torch.randint(7, (4, 6))
    expected = model(tokens), gradients(model, model(tokens).square().mean())
    with torch.autocast("cpu", dtype=dtype):
        out = model(tokens)
    assert_near((out, gradients(model, out.float().square().mean())), expected, dtype)


@pytest.mark.parametrize("dtype", HALVES)
def test_transformer_in_half_precision(dtype):
    torch.manual_seed(0)
    model = Transformer(7, 6, embed_dim=8, num_heads=2)
    tokens = torch.randint(7, (4, 6))
    expected = model(tokens)
    out = copy.deepcopy(model).to(dtype)(tokens)
    assert out.dtype == dtype
    assert (out.float() - expected).abs().max() < 4 * tolerance(dtype, expected)


@pytest.mark.parametrize("dtype", HALVES)
def test_function_computes_its_models_in_single_precision(dtype):
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 6, 4).to(dtype)
    J = torch.randn(2, 6, 6).triu(1)
    J = (0.5 * (J + J.mT)).to(dtype)
    single = [x.float() for x in (query, key, value, J)]
    weights = boltzmann_weights(query, key, J, field_bias=-0.3, is_causal=True)
    expected = boltzmann_weights(single[0], single[1], single[3], field_bias=-0.3, is_causal=True)
    assert weights.dtype == torch.float32
    assert torch.equal(weights, expected)  # no step of it is in half precision
    with torch.autocast("cpu", dtype=dtype):
        assert torch.equal(
            boltzmann_weights(query, key, J, field_bias=-0.3, is_causal=True), expected
        )
    out = boltzmann_attention(query, key, value, J, field_bias=-0.3, is_causal=True)
    assert out.dtype == dtype
    torch.testing.assert_close(out, (expected.to(dtype) @ value))
    double = boltzmann_weights(query.double(), key.double(), J.double())
    assert double.dtype == torch.float64


@pytest.mark.parametrize("estimator", ["callen", "moment", "score"])
def test_estimates_do_not_change_under_autocast(estimator):
    torch.manual_seed(0)
    J = torch.randn(2, 5, 5).triu(1)
    h, J = torch.randn(2, 3, 5).requires_grad_(), J + J.mT
    results = []
    for enabled in (False, True):
        h.grad = None
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            batch = IsingBatch(h, J)
            mean = mean_spins(batch, ExactBackend(), num_reads=9, estimator=estimator, seed=1)
        mean.square().sum().backward()
        results.append((mean.detach(), h.grad))
    for plain, cast in zip(*results, strict=True):
        assert torch.equal(plain, cast)


@pytest.mark.parametrize("autocast", [False, True])
@pytest.mark.parametrize("estimator", sorted(ESTIMATORS))
def test_estimates_are_those_of_double_precision(estimator, autocast):
    """Half precision would be off by 1e-3, with and without autocast around it."""
    generator = torch.Generator().manual_seed(0)
    J = torch.randn(2, 5, 5, generator=generator, dtype=torch.float64).triu(1)
    h = torch.randn(2, 3, 5, generator=generator, dtype=torch.float64)
    spins = (2 * torch.randint(0, 2, (2, 3, 9, 5), generator=generator) - 1).to(torch.int8)
    active = torch.ones(2, 3, 5, dtype=torch.bool)
    results = []
    for dtype in (torch.float64, torch.float32):
        fields = h.detach().to(dtype).requires_grad_()
        couplings = (J + J.mT).to(dtype).requires_grad_()
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            (mean,) = Estimate.apply(fields, couplings, spins, None, active, estimator, "", ())
            mean.square().sum().backward()
        results.append((mean.detach(), fields.grad, couplings.grad))
    for double, single in zip(*results, strict=True):
        assert single.dtype == torch.float32
        torch.testing.assert_close(single, double.float(), rtol=1e-5, atol=1e-5)


def test_values_of_half_precision_have_an_expectation():
    batch = IsingBatch(torch.full((1, 2, 3), 0.3).requires_grad_(), torch.zeros(1, 3, 3))
    samples = draw(batch, ExactBackend(), num_reads=9, seed=1)
    patterns = hard_patterns(samples, batch)
    mean = expectation(patterns.bfloat16(), batch, samples)
    assert torch.equal(mean, expectation(patterns, batch, samples))
