"""Layers whose couplings have a structure, and biases of position."""

import copy
import pickle

import pytest
import torch
from _support.layers import LINEAR
from torch.func import functional_call, stack_module_state, vmap

from qattn import BoltzmannAttention, CardinalityAttention, CouplingsAttention, exact
from qattn.couplings import Cardinality, Couplings, LowRank
from qattn.layers import ATTENTION
from qattn.layers.position_bias import position_bias

VARIANTS = {
    "banded": {"couplings": "banded", "width": 2},
    "relative, occupations": {
        "couplings": "banded", "width": 3, "relative": True, "interaction": "occupation",
    },
    "gated": {"couplings": "banded", "width": 2, "content": True, "position_bias": "relative"},
    "rank 1": {"couplings": "low_rank", "interaction": "occupation"},
    "rank 1 by content": {"couplings": "low_rank", "sign": -1, "content": True, "qk_norm": True},
    "block": {"couplings": "block", "block_size": 4, "position_bias": "absolute"},
    "cardinality": {"couplings": "cardinality", "normalize": True},
    "field": {"couplings": "banded", "interaction": "field", "beta": 1.3},
    "dense field": {"interaction": "field", "normalize": True},
    "dense occupations": {"interaction": "occupation", "position_bias": "relative"},
}  # fmt: skip


def layer_and_input(variant, made=BoltzmannAttention, **options):
    """A layer with parameters far from their start, and three sequences."""
    torch.manual_seed(0)
    layer = made(8, 2, 6, **VARIANTS[variant] | options)
    with torch.no_grad():
        for name, p in layer.named_parameters():
            if name.endswith(("coupling_values", "position_bias_values")):
                p.normal_(std=0.4)
    return layer, torch.randn(3, 6, 8)


def outcome(layer, x):
    """Output and gradients by name."""
    layer.zero_grad()
    out = layer(x)
    out.square().sum().backward()
    return {"out": out} | {name: p.grad for name, p in layer.named_parameters()}


def assert_same(one, other):
    assert one.keys() == other.keys()
    for name, value in one.items():
        torch.testing.assert_close(value, other[name], rtol=1e-4, atol=2e-5, msg=name)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("made", [BoltzmannAttention, CouplingsAttention])
@pytest.mark.parametrize("is_causal", [True, False])
def test_weights_are_occupations_of_the_models_of_the_layer(variant, made, is_causal):
    layer, x = layer_and_input(variant, made, is_causal=is_causal)
    weights, batch = layer.weights(x), layer.ising_batch(x)
    if isinstance(batch.J, Cardinality):
        wanted = exact.occupations(batch, normalize=True)  # held to enumeration elsewhere
    else:
        wanted = exact.occupations(batch.dense(), normalize=layer.normalize)
    if batch.num_groups == 2:  # heads, with queries by position and then by sequence
        wanted = wanted.unflatten(1, (6, -1)).permute(2, 0, 1, 3)
    else:
        wanted = wanted.unflatten(0, (3, 2))
    torch.testing.assert_close(weights, wanted.expand(3, -1, -1, -1), rtol=1e-4, atol=1e-5)
    value = layer._heads(x)[2]
    torch.testing.assert_close(layer(x), layer.out((weights @ value).transpose(1, 2).flatten(2)))


@pytest.mark.parametrize("variant", VARIANTS)
def test_every_parameter_learns_and_couplings_have_their_suffix(variant):
    layer, x = layer_and_input(variant)
    grads = outcome(layer, x)
    assert all(grad.abs().max() > 0 for grad in grads.values())
    shared = {"qkv", "out", "query_norm", "key_norm", "field_bias", "position_bias_values"}
    own = {name for name, _ in layer.named_parameters() if name.split(".")[0] not in shared}
    assert own
    assert all(name.endswith("coupling_values") for name in own)


@pytest.mark.parametrize("variant", VARIANTS)
def test_shorter_sequences_are_beginnings_of_longer_ones(variant):
    layer, x = layer_and_input(variant)
    for length in (1, 2, 5):
        torch.testing.assert_close(layer(x[:, :length]), layer(x)[:, :length])


@pytest.mark.parametrize("arm", ["sigmoid", *VARIANTS])
@pytest.mark.parametrize("tile", [1, 2, 4])
def test_tiles_of_queries_change_nothing(arm, tile, monkeypatch):
    if arm == "sigmoid":
        layer, x = ATTENTION[arm](8, 2, 6, position_bias="relative"), torch.randn(3, 6, 8)
        torch.nn.init.normal_(layer.position_bias_values)
    else:
        layer, x = layer_and_input(arm)
    whole = outcome(layer, x)
    monkeypatch.setattr(layer, "TILE", tile)
    monkeypatch.setattr(layer, "TILES_FROM", 3)
    widths, attend = [], layer._weights
    monkeypatch.setattr(
        layer, "_weights", lambda *args: widths.append(args[1].shape[2]) or attend(*args)
    )
    assert_same(outcome(layer, x), whole)
    assert widths == [min(end, 6) for end in range(tile, 6 + tile, tile)]
    monkeypatch.setattr(layer, "is_causal", False)
    layer(x)
    assert widths[-1] == 6


@pytest.mark.parametrize("variant", VARIANTS)
def test_layers_are_copied_pickled_and_made_on_meta(variant):
    layer, x = layer_and_input(variant)
    for other in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        assert torch.equal(other(x), layer(x))
    with torch.device("meta"):
        bare = BoltzmannAttention(8, 2, 6, **VARIANTS[variant])
    assert all(p.is_meta for p in bare.parameters())
    torch.manual_seed(3)
    bare.to_empty(device="cpu").reset_parameters()
    usual = BoltzmannAttention(8, 2, 6, **VARIANTS[variant])
    for (name, p), q in zip(bare.named_parameters(), usual.parameters(), strict=True):
        assert p.isfinite().all(), name
        assert (p.std() < 1.5 * q.std() + 0.1).all(), name
    state = layer.state_dict()
    usual.load_state_dict(state)
    assert torch.equal(usual(x), layer(x))


@pytest.mark.parametrize("variant", VARIANTS)
def test_vmap_over_layers_equals_a_loop(variant):
    layers = []
    for seed in range(2):
        torch.manual_seed(seed)
        layers.append(BoltzmannAttention(8, 2, 6, **VARIANTS[variant]))
        for name, p in layers[-1].named_parameters():
            if name.endswith("coupling_values"):
                torch.nn.init.normal_(p, std=0.4)
    parameters, _ = stack_module_state(layers)
    x = torch.randn(2, 3, 6, 8)
    together = vmap(lambda p, x: functional_call(layers[0], p, (x,)))(parameters, x)
    together.square().sum().backward()
    for number, layer in enumerate(layers):
        grads = {name: p.grad[number] for name, p in parameters.items()}
        assert_same({"out": together[number]} | grads, outcome(layer, x[number]))


@pytest.mark.parametrize("variant", ["gated", "rank 1 by content", "cardinality", "block"])
def test_autocast_lowers_the_projections_only(variant):
    layer, x = layer_and_input(variant)
    with torch.autocast("cpu", torch.bfloat16):
        out, weights = layer(x), layer.weights(x)
    assert (out.dtype, weights.dtype) == (torch.bfloat16, torch.float32)
    torch.testing.assert_close(weights, layer.weights(x), atol=0.03, rtol=0.1)
    half = copy.deepcopy(layer).bfloat16()
    assert half(x.bfloat16()).dtype == torch.bfloat16


def test_reads_of_banded_couplings_have_the_exact_mean():
    layer, x = layer_and_input("relative, occupations", num_reads=4000)
    wanted = layer.weights(x[:1]).detach()
    layer.backend, layer.estimator = "exact", "moment"
    error = (layer.weights(x[:1]) - wanted).abs() / (wanted * (1 - wanted) / 4000).sqrt()
    assert error.nan_to_num(0.0).max() < 5
    assert layer.ising_batch(x).num_groups == 2  # heads: a sampler sees each J once


def test_couplings_depend_on_content_as_they_say():
    layer, x = layer_and_input("rank 1 by content")
    U = torch.einsum("he,bje->bhj", layer.content_coupling_values, x) + layer.coupling_values
    J = layer.couplings_of(x)
    assert isinstance(J, LowRank)
    torch.testing.assert_close(J.dense().unflatten(0, (3, 2)).triu(1),
        -(U[..., None] * U[..., None, :]).triu(1))  # fmt: skip

    layer, x = layer_and_input("gated")
    a, c = (torch.einsum("he,bje->bhj", w, x) for w in layer.content_coupling_values)
    J = layer.couplings_of(x).dense().unflatten(0, (3, 2))
    for d in (1, 2):
        gate = 2 * (a[..., d:] + c[..., :-d]).sigmoid()
        torch.testing.assert_close(
            J.diagonal(d, -2, -1), layer.coupling_values[:, d:, d - 1] * gate
        )
    assert (J.diagonal(3, -2, -1) == 0).all()
    with pytest.raises(ValueError, match=r"take layer\.couplings_of\(x\)"):
        _ = layer.couplings
    assert isinstance(layer_and_input("block")[0].couplings, Couplings)


def test_starts():
    torch.manual_seed(0)
    gated = BoltzmannAttention(8, 2, 6, couplings="banded", content=True)
    assert torch.equal(gated.couplings_of(torch.randn(1, 6, 8)).values, gated.coupling_values)
    competition = Cardinality.competitive(torch.tensor([0.25, 0.25]), 6).values
    assert torch.equal(CardinalityAttention(8, 2, 6).coupling_values, competition)
    for context, std in ((6, 0.02**0.5), (1024, (0.5 / 1024) ** 0.5)):
        U = BoltzmannAttention(8, 8, context, couplings="low_rank").coupling_values.detach()
        assert U.std() == pytest.approx(std, rel=5 / (2 * U.numel()) ** 0.5)


@pytest.mark.parametrize("arm", ATTENTION)
@pytest.mark.parametrize("kind", ["relative", "absolute"])
@pytest.mark.parametrize("is_causal", [True, False])
def test_every_arm_takes_a_bias_of_position(arm, kind, is_causal):
    torch.manual_seed(0)
    layer = ATTENTION[arm](8, 2, 6, position_bias=kind, is_causal=is_causal)
    plain = ATTENTION[arm](8, 2, 6, is_causal=is_causal)
    plain.load_state_dict(layer.state_dict(), strict=False)
    x = torch.randn(3, 5, 8)
    torch.testing.assert_close(layer(x), plain(x))  # it starts at 0
    torch.nn.init.normal_(layer.position_bias_values)
    weights = layer.weights(x)
    query, key, value = layer._heads(x)
    i, j = torch.arange(5)[:, None], torch.arange(5)
    v = layer.position_bias_values
    bias = v[:, (i - j).abs()] if kind == "relative" else v[:, i, j]
    scores = query @ key.mT / 2 + bias
    seen = (j <= i) | torch.tensor(not is_causal)
    if arm == "softmax":
        torch.testing.assert_close(weights, scores.masked_fill(~seen, -torch.inf).softmax(-1))
    elif arm == "sigmoid":
        wanted = (scores + layer.field_bias[:, None, None]).sigmoid() * seen
        torch.testing.assert_close(weights, wanted)
    assert (weights - plain.weights(x)).abs().max() > 0.01
    if arm in LINEAR:
        heads = (weights @ value).transpose(1, 2).flatten(2)
        torch.testing.assert_close(layer(x), layer.out(heads))
    layer(x).sum().backward()
    assert v.grad.abs().max() > 0


@pytest.mark.parametrize(("queries", "positions"), [(1, 1), (1, 4), (3, 4), (4, 4), (5, 6)])
def test_bias_by_distance(queries, positions):
    values = torch.randn(2, 7, dtype=torch.float64, requires_grad=True)
    i = torch.arange(positions - queries, positions)[:, None]
    wanted = values[:, (i - torch.arange(positions)).abs()]
    assert torch.equal(position_bias(values, queries, positions), wanted)
    assert torch.autograd.gradcheck(lambda v: position_bias(v, queries, positions), values)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"couplings": "sparse"}, "`couplings` must be one of 'dense', 'banded', .* 'sparse'"),
        ({"width": 3}, r"`width` must be left out for couplings = 'dense', but is 3: .*'banded'"),
        ({"couplings": "block", "relative": True}, "`relative` .* it is for 'dense' and 'banded'"),
        ({"couplings": "cardinality", "content": True}, "it is for 'banded' and 'low_rank'"),
        ({"couplings": "banded", "width": 0}, "`width` must be positive, but is 0"),
        ({"couplings": "low_rank", "sign": 2}, "`sign` must be 1 or -1, but is 2"),
        ({"interaction": "spins"}, "`interaction` must be one of 'spin'"),
        ({"couplings": "cardinality", "interaction": "field"}, "`interaction` must be 'spin' for"),
        ({"position_bias": "yes"}, "`position_bias` must be one of 'none', 'relative', 'absolute'"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_options_that_do_not_fit_are_refused(options, message):
    with pytest.raises(ValueError, match=message):
        BoltzmannAttention(8, 2, 6, **options)


def test_repr_names_the_structure():
    layer = layer_and_input("gated")[0]
    assert (
        "position_bias='relative', couplings='banded', width=2, relative=False, content=True"
        in (repr(layer))
    )
    assert repr(layer_and_input("field")[0]).count("interaction='field'") == 1
