"""The options of the attention layers, and the couplings that they learn."""

import functools

import pytest
import torch
from _support.layers import LINEAR, layer_and_input
from torch.utils._python_dispatch import TorchDispatchMode

from qattn import BoltzmannAttention, Transformer, boltzmann_weights
from qattn.ising.coupling_matrix import coupling_matrix
from qattn.layers import ATTENTION
from qattn.simulators.neal import NealBackend


@pytest.mark.parametrize("arm", ["boltzmann", "couplings"])
def test_layers_give_beta_and_the_halved_bias_to_their_models(arm):
    layer, x = layer_and_input(arm, beta=2.0)
    with torch.no_grad():
        layer.field_bias.copy_(torch.tensor([0.7, -1.1]))
        query, key, _ = layer._heads(x)
        query = torch.zeros_like(query) if arm == "couplings" else query
        options = {"couplings": layer.couplings, "field_bias": layer.field_bias, "is_causal": True}
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
    torch.testing.assert_close(scaled, (0.3 * query @ key.mT).sigmoid())


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("is_causal", [True, False])
def test_normalised_weights_sum_to_one_in_every_arm(arm, is_causal):
    layer, x = layer_and_input(arm, is_causal=is_causal, normalize=True)
    weights = layer.weights(x)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, 2, 6))
    # They are the weights of `forward` too; without the option they are shares of the same.
    if arm in LINEAR:
        heads = (weights @ layer._heads(x)[2]).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer(x), layer.out(heads))
    layer.normalize = False
    plain = layer.weights(x)
    torch.testing.assert_close(weights, plain / plain.sum(-1, keepdim=True))
    assert (arm in ("softmax", "spin-model")) == torch.allclose(plain.sum(-1), torch.ones(()))


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


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize(
    ("shape", "message"),
    [
        ((5, 8), r"\(batch, positions, embed_dim = 8\), .* \(5, 8\): pass x\[None\]"),
        ((2, 5, 4), r"\(batch, positions, embed_dim = 8\), but has shape \(2, 5, 4\)\."),
        ((8,), r"but has shape \(8,\)\."),
        ((2, 7, 8), "at most context = 6 positions, but has 7"),
        ((2, 0, 8), "at least 1 and .* but has 0"),
        ((0, 5, 8), "at least 1 sequence, but has 0"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_inputs_of_another_shape_are_refused(arm, shape, message):
    layer, _ = layer_and_input(arm)
    for call in (layer, layer.weights):
        with pytest.raises(ValueError, match=f"Argument `x` must have .*{message}"):
            call(torch.zeros(shape))


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.usefixtures("as_users_call")
def test_queries_keys_and_values_of_their_own_are_refused(arm):
    layer, x = layer_and_input(arm)
    with pytest.raises(TypeError, match=r"self-attention of one tensor, layer\(x\), but .* 3: "):
        layer(x, x, x)


@pytest.mark.parametrize(
    ("name", "value", "error", "message"),
    [
        ("beta", -1.0, ValueError, "`beta` must be finite and not negative, but is -1.0"),
        ("beta", float("nan"), ValueError, "`beta` must be finite and not negative, but is nan"),
        ("num_reads", 0, ValueError, "`num_reads` must be positive, but is 0"),
        ("estimator", "calen", ValueError, "`estimator` must be one of .* but is 'calen'"),
        ("backend", "nael", ValueError, "did you mean 'neal'"),
        ("backend", NealBackend, TypeError, "`backend` must be a Backend or the name of one"),
        ("backend", 5, TypeError, "`backend` must be a Backend or the name of one, but is 5"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_settings_are_checked_where_they_are_given(name, value, error, message):
    with pytest.raises(error, match=message):
        BoltzmannAttention(8, 2, 6, **{name: value})
    layer, x = layer_and_input("boltzmann")
    before = getattr(layer, name), layer(x)
    with pytest.raises(error, match=message):
        setattr(layer, name, value)
    assert getattr(layer, name) == before[0]
    assert torch.equal(layer(x), before[1])


def test_at_beta_zero_half_of_all_positions_are_attended_to():
    layer, x = layer_and_input("boltzmann", beta=0.0)
    expected = torch.full((3, 2, 6, 6), 0.5).tril()
    torch.testing.assert_close(layer.weights(x), expected)
    layer(x).sum().backward()
    assert (layer.coupling_values.grad == 0).all()
    layer.backend, layer.num_reads = "neal", 4000
    # 5 standard errors of an even coin, 126 of them: a false alarm in 15,000.
    layer.estimator = "moment"
    assert (layer.weights(x) - expected).abs().max() < 5 * 0.5 / 4000**0.5


def test_repr_says_in_a_line_what_a_layer_is():
    layer, _ = layer_and_input("boltzmann", relative=True, qk_norm=True)
    shared = "embed_dim=8, num_heads=2, context=6, is_causal=True, qk_norm=True, normalize=False"
    line = f"BoltzmannAttention({shared}, relative=True, backend=exact)"
    assert repr(layer) == line
    layer.backend, layer.num_reads, layer.estimator = "neal", 7, "moment"
    reads = "backend=neal, num_reads=7, estimator='moment')"
    assert repr(layer) == line.replace("backend=exact)", reads)
    layer.backend = NealBackend()
    assert repr(layer) == line.replace("backend=exact)", reads.replace("neal", "NealBackend"))
    assert repr(layer_and_input("softmax", qk_norm=True)[0]) == f"SoftmaxAttention({shared})"
    assert line.replace("relative=True", "relative=False") in repr(Transformer(5, 6, qk_norm=True,
        embed_dim=8, num_heads=2))  # fmt: skip


@pytest.mark.parametrize("arm", ATTENTION)
def test_models_made_on_the_meta_device_start_as_others(arm):
    options = {"attention": arm, "embed_dim": 16, "num_heads": 4, "qk_norm": True}
    with torch.device("meta"):
        model = Transformer(7, 30, **options)
    assert all(p.is_meta for p in [*model.parameters(), *model.buffers()])
    torch.manual_seed(0)
    usual = Transformer(7, 30, **options)
    model.to_empty(device="cpu")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(torch.nan)
    model.reset_parameters()
    for (name, parameter), other in zip(model.named_parameters(), usual.parameters(), strict=True):
        assert parameter.isfinite().all(), name
        if parameter.numel() > 400:  # 5 standard errors of a standard deviation, each of the two
            ratio = float((parameter.std() / other.std()).detach())
            assert ratio == pytest.approx(1, abs=10 / (2 * 400) ** 0.5)
        elif other.unique().numel() == 1:
            assert torch.equal(parameter, other), name
    model.load_state_dict(usual.state_dict())
    tokens = torch.randint(7, (2, 8))
    assert torch.equal(model(tokens), usual(tokens))


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("normalize", [False, True])
def test_nan_stays_in_its_sequence(arm, normalize):
    layer, x = layer_and_input(arm, normalize=normalize)
    expected = layer(x)
    x[1, 4, 0] = torch.nan
    out = layer(x)
    torch.testing.assert_close(out[[0, 2]], expected[[0, 2]])
    assert out[1, 4:].isnan().all()
    if arm in ("boltzmann", "couplings"):
        layer.backend = "neal"
    if arm == "boltzmann":
        with pytest.raises(ValueError, match="`h` must be finite, but is nan at index"):
            layer(x)
