"""torch.compile, torch.export, fake tensors and batched gradients of layers and transformer.

``test_compile.py`` runs these tests in a process without checks of shapes, which Dynamo cannot see
through: `python -m pytest -o addopts= tests/_support/compiling.py`.
"""

import copy

import pytest
import torch
from _support.layers import layer_and_input
from torch._subclasses.fake_tensor import FakeTensorMode

from qattn import (
    BoltzmannMultiheadAttention,
    IsingBatch,
    Transformer,
    boltzmann_attention,
    exact,
)
from qattn.couplings import Banded, Cardinality, LowRank
from qattn.layers import ATTENTION

OTHERS = [arm for arm in ATTENTION if arm != "boltzmann"]


@pytest.fixture(autouse=True)
def compiled_anew():
    """No test sees what another one compiled."""
    torch.compiler.reset()
    yield
    torch.compiler.reset()


def outcome(model, *args):
    """Output and gradients."""
    out = model(*args)
    model.zero_grad()
    out.float().square().mean().backward()
    return [out, *(p.grad for p in model.parameters() if p.grad is not None)]


def assert_equal(results, expected):
    assert len(results) == len(expected)
    for a, b in zip(results, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-6, rtol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("options", [{}, {"qk_norm": True, "normalize": True, "is_causal": False}])
def test_compiled_layers_are_one_graph(arm, options):
    layer, x = layer_and_input(arm, **options)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    expected = outcome(layer, x)
    assert_equal(outcome(compiled, x), expected)
    assert_equal(outcome(compiled, x[:, :4]), outcome(layer, x[:, :4]))  # another shape


@pytest.mark.parametrize("sign", [1, -1])
def test_compiled_moments_of_rank_one_are_one_graph(sign):
    torch.manual_seed(0)
    h, U = torch.randn(2, 4, 8, requires_grad=True), torch.randn(2, 8, requires_grad=True)

    def solve(h, U):
        batch = IsingBatch(h, LowRank(0.6 * U, sign), torch.arange(5, 9), validate=False)
        return (exact.occupations(batch) ** 2).sum() + exact.log_partition(batch).sum()

    value, expected = torch.compile(solve, fullgraph=True, backend="aot_eager")(h, U), solve(h, U)
    grads, expected_grads = (torch.autograd.grad(x, (h, U)) for x in (value, expected))
    assert_equal([value, *grads], [expected, *expected_grads])


STRUCTURED = [
    {"couplings": "banded", "width": 2, "content": True, "position_bias": "relative"},
    {"couplings": "banded", "relative": True, "interaction": "occupation"},
    {"couplings": "low_rank", "content": True, "position_bias": "absolute"},
    {"couplings": "low_rank", "sign": -1},
    {"couplings": "block", "block_size": 4},
    {"couplings": "cardinality"},
    {"interaction": "field"},
]


@pytest.mark.parametrize(
    "options", [STRUCTURED[0], *(pytest.param(o, marks=pytest.mark.slow) for o in STRUCTURED[1:])]
)
def test_compiled_layers_with_structures_and_tiles_are_one_graph(options):
    layer, x = layer_and_input("boltzmann", **options)
    expected = outcome(layer, x)
    layer.TILE, layer.TILES_FROM = 4, 6
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    assert_equal(outcome(compiled, x), expected)


@pytest.mark.parametrize("options", STRUCTURED)
def test_exported_fake_and_meta_layers_with_structures(options):
    layer, x = layer_and_input("boltzmann", **options)
    expected = layer(x)
    exported = torch.export.export(layer, (x,), strict=False).module()
    torch.testing.assert_close(exported(x), expected)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        assert layer(mode.from_tensor(x)).shape == expected.shape
    assert copy.deepcopy(layer).to("meta")(x.to("meta")).shape == expected.shape
    assert torch.equal(layer(x), expected)


@pytest.mark.slow
@pytest.mark.parametrize("arm", ["sigmoid", "boltzmann"])
def test_compiled_layers_under_autocast(arm):
    layer, x = layer_and_input(arm)
    compiled = torch.compile(layer, fullgraph=True, backend="aot_eager")
    with torch.autocast("cpu", torch.bfloat16):
        out, expected = compiled(x), layer(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, expected)


@pytest.mark.parametrize(
    "arm", ["boltzmann", *(pytest.param(a, marks=pytest.mark.slow) for a in OTHERS)]
)
def test_compiled_transformer_is_one_graph(arm):
    torch.manual_seed(0)
    model = Transformer(7, 6, attention=arm, embed_dim=8, num_heads=2)
    tokens = torch.randint(7, (4, 6))
    compiled = torch.compile(model, fullgraph=True, backend="aot_eager")
    assert_equal(outcome(compiled, tokens), outcome(model, tokens))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:.torch.jit.script_method. is deprecated:DeprecationWarning")
@pytest.mark.parametrize("arm", ["boltzmann", "sigmoid"])
def test_inductor_compiles_the_transformer(arm):
    torch.manual_seed(0)
    model = Transformer(7, 6, attention=arm, embed_dim=8, num_heads=2)
    tokens = torch.randint(7, (4, 6))
    assert_equal(outcome(torch.compile(model, fullgraph=True), tokens), outcome(model, tokens))


@pytest.mark.parametrize("hinted", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_compiled_attention_in_pytorchs_place(hinted):
    torch.manual_seed(0)
    module, x = BoltzmannMultiheadAttention(8, 2, context=6, batch_first=True), torch.randn(3, 6, 8)
    call = [x, x, x]
    if hinted:
        mask = torch.nn.Transformer.generate_square_subsequent_mask(6)
        call += [None, False, mask, True, True]

    def attend(*args):
        return module(*args)[0]

    compiled = torch.compile(attend, fullgraph=True, backend="aot_eager")
    torch.testing.assert_close(compiled(*call), attend(*call))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # Dynamo's, at every break
def test_sampling_is_one_break_of_attention_in_pytorchs_place():
    torch.manual_seed(0)
    module = BoltzmannMultiheadAttention(
        8, 2, context=6, batch_first=True, backend="neal", num_reads=4
    )
    x = torch.randn(3, 6, 8)
    assert len(torch._dynamo.explain(module)(x, x, x).break_reasons) == 1
    results = []
    for model in (torch.compile(module, backend="aot_eager"), module):
        torch.manual_seed(1)
        results.append(model(x, x, x)[0])
    torch.testing.assert_close(*results)


def test_compiled_function_is_one_graph():
    torch.manual_seed(0)
    query, key, value = torch.randn(3, 2, 2, 6, 4)
    J = torch.randn(2, 6, 6).triu(1)
    J = 0.4 * (J + J.mT)

    def attend(query, key, value, J):
        return boltzmann_attention(
            query, key, value, J, is_causal=True, field_bias=-0.3, validate=False
        )

    compiled = torch.compile(attend, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(query, key, value, J), attend(query, key, value, J))


@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # Dynamo looks at it
@pytest.mark.parametrize("mask", ["holes", "padding", "numbers"])
def test_compiled_function_with_a_mask_equals_the_eager_one(mask):
    # How many models there are depends on the mask's values, so that the graph breaks there.
    torch.manual_seed(0)
    leaves = [
        x.requires_grad_() for x in (*torch.randn(3, 2, 2, 6, 4).unbind(0), torch.randn(2, 6, 6))
    ]
    masks = {
        "holes": torch.rand(2, 1, 6, 6) < 0.6,
        "padding": torch.arange(6) >= torch.tensor([2, 0])[:, None, None, None],
        "numbers": torch.randn(6, 6).masked_fill(torch.rand(6, 6) < 0.4, -torch.inf),
    }

    def attend(query, key, value, J):
        J = 0.4 * (J.triu(1) + J.triu(1).mT)
        return boltzmann_attention(query, key, value, J, attn_mask=masks[mask])

    compiled = torch.compile(attend, backend="aot_eager")
    results = []
    for function in (compiled, attend):
        out = function(*leaves)
        results.append((out, *torch.autograd.grad(out.square().sum(), leaves)))
    torch.testing.assert_close(*results)


def test_moments_of_a_potential_on_counts_are_one_graph():
    torch.manual_seed(0)
    h, values = torch.randn(2, 4, 6), torch.randn(2, 4)
    values[0, 0] = -torch.inf

    def loss(h, values):
        batch = IsingBatch(h, Cardinality(values, 6), torch.arange(1, 5), validate=False)
        return exact.occupations(batch, normalize=True)[..., 0].sum() + (
            exact.log_partition(batch).square().sum()
        )

    leaves = h.requires_grad_(), values.requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found, wanted = compiled(*leaves), loss(*leaves)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves)
    )


def test_moments_of_a_band_are_one_graph():
    torch.manual_seed(0)
    h, values = torch.randn(2, 4, 6), torch.randn(2, 6, 2)

    def loss(h, values):
        batch = IsingBatch(h, Banded(values), torch.arange(2, 6), validate=False)
        return exact.occupations(batch)[..., 0].sum() + exact.log_partition(batch).square().sum()

    leaves = h.requires_grad_(), values.requires_grad_()
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    found, wanted = compiled(*leaves), loss(*leaves)
    torch.testing.assert_close(found, wanted)
    torch.testing.assert_close(
        torch.autograd.grad(found, leaves), torch.autograd.grad(wanted, leaves)
    )


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("strict", [pytest.param(True, marks=pytest.mark.slow), False])
def test_exported_models_equal_the_eager_ones(arm, strict):
    torch.manual_seed(0)
    model = Transformer(7, 6, attention=arm, embed_dim=8, num_heads=2, num_layers=1)
    tokens = torch.randint(7, (4, 6))
    exported = torch.export.export(model, (tokens,), strict=strict).module()
    other = torch.randint(7, (4, 6))
    torch.testing.assert_close(exported(other), model(other))


@pytest.mark.parametrize("arm", ATTENTION)
def test_fake_and_meta_tensors(arm):
    layer, x = layer_and_input(arm)
    expected = layer(x)
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:
        out = layer(mode.from_tensor(x))
        assert (out.shape, out.dtype) == (expected.shape, expected.dtype)
    assert torch.equal(layer(x), expected)  # nothing fake is left behind
    with torch.device("meta"):
        assert copy.deepcopy(layer).to("meta")(x.to("meta")).shape == expected.shape
    assert torch.equal(layer(x), expected)


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("compiled", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_batched_gradients(arm, compiled):
    layer, x = layer_and_input(arm)
    x.requires_grad_()
    model = torch.compile(layer, backend="eager", fullgraph=True) if compiled else layer
    out = model(x)
    directions = torch.randn(4, *out.shape)
    (batched,) = torch.autograd.grad(out, x, directions, is_grads_batched=True, retain_graph=True)
    for direction, gradient in zip(directions, batched, strict=True):
        (alone,) = torch.autograd.grad(out, x, direction, retain_graph=True)
        torch.testing.assert_close(gradient, alone)


@pytest.mark.parametrize(
    "settings",
    [
        {"backend": "neal"},
        pytest.param({"backend": "diabatic"}, marks=pytest.mark.slow),
        pytest.param({"estimator": "score"}, marks=pytest.mark.slow),
    ],
)
@pytest.mark.filterwarnings("ignore:The .grad attribute:UserWarning")  # Dynamo's, at every break
def test_sampling_is_one_break_of_a_layer(settings):
    layer, x = layer_and_input("boltzmann", num_reads=4, **settings)
    with torch.no_grad():
        layer.coupling_values *= 0.1
    explained = torch._dynamo.explain(layer)(x)
    assert (explained.graph_break_count, explained.graph_count) == (1, 2)
    compiled = torch.compile(layer, backend="aot_eager")
    results = []
    for model in (compiled, layer):
        torch.manual_seed(1)
        results.append(outcome(model, x))
    assert_equal(*results)
