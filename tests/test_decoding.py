"""Decoding with a cache: what a pass over all positions gives, for every arm and structure."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import BoltzmannAttention
from qattn.backends.exact import ExactBackend
from qattn.layers import ATTENTION, KeyValueCache, SoftmaxAttention, SpinModelAttention
from qattn.transformer import Transformer

CONTEXT = 6

BOLTZMANN = {
    "dense": {},
    "dense, relative": {"relative": True},
    "dense, by occupations": {"interaction": "occupation"},
    "dense, a bias of J": {"interaction": "field"},
    "dense, normalised": {"normalize": True},
    "dense, cooperative": {"constraint": "non-negative"},
    "band": {"couplings": "banded", "width": 2},
    "band, relative": {"couplings": "banded", "width": 2, "relative": True},
    "band, by occupations": {"couplings": "banded", "width": 2, "interaction": "occupation"},
    "band of content": {"couplings": "banded", "width": 2, "content": True},
    "rank 1": {"couplings": "low_rank"},
    "rank 1, negative": {"couplings": "low_rank", "sign": -1},
    "rank 1 of content": {"couplings": "low_rank", "content": True},
    "blocks": {"couplings": "block", "block_size": 4},
    "potential": {"couplings": "cardinality", "max_count": 3},
    "competition": {"couplings": "cardinality", "competitive": True},
    "mean field": {"moments": "tap"},
}

BIASED = {"qk_norm": True, "position_bias": "relative", "beta": "learnable"}

OTHERS = {
    "couplings": {},
    "sigmoid": {},
    "softmax": {},
    "spin-model": {},
    "spin-model, binary": {"spins": "binary"},
    "spin-model, tap": {"mean_field": "tap"},
    "spin-model, a block": {"field": "residual"},
}

CASES = [("boltzmann", name, options) for name, options in BOLTZMANN.items()]
CASES += [(name.split(",")[0], name, options) for name, options in OTHERS.items()]


def random_layer(arm, options):
    """A layer with every parameter away from its start."""
    torch.manual_seed(1)
    layer = ATTENTION[arm](8, 2, CONTEXT, **options)
    for name, parameter in layer.named_parameters():
        size = 0.2 if name.endswith("coupling_values") else 0.5
        torch.nn.init.normal_(parameter, std=size)
    return layer.eval(), torch.randn(3, CONTEXT, 8)


@torch.no_grad()
def decoded(layer, x, pieces):
    cache = KeyValueCache(CONTEXT)
    return torch.cat([layer(piece, cache=cache) for piece in x.split(pieces, 1)], 1)


@pytest.mark.parametrize("biased", [False, True])
@pytest.mark.parametrize(("arm", "name", "options"), CASES, ids=[name for _, name, _ in CASES])
def test_pieces_give_what_the_whole_gives(arm, name, options, biased):
    # Control: what comes before a position matters, so that a cache that was forgotten would show.
    layer, x = random_layer(arm, options | (BIASED if biased else {}))
    whole = layer(x).detach()
    for pieces in ([1] * CONTEXT, [2, 3, 1]):
        torch.testing.assert_close(decoded(layer, x, pieces), whole, rtol=0, atol=1e-5)
    alone = torch.cat([layer(piece) for piece in x.split(1, 1)], 1)
    assert (alone - whole).abs().max() > 1e-3


@settings(max_examples=20, deadline=None, derandomize=True)
@given(st.lists(st.integers(1, 150), min_size=1, max_size=8))
def test_any_pieces_of_a_long_text(pieces):
    # Beyond TILES_FROM positions the whole is computed by tiles.
    torch.manual_seed(0)
    length, layer = sum(pieces), BoltzmannAttention(4, 1, 1200, couplings="banded", width=1)
    torch.nn.init.normal_(layer.coupling_values, std=0.3)
    x, cache = torch.randn(1, length, 4), KeyValueCache(1200)
    with torch.no_grad():
        found = torch.cat([layer(piece, cache=cache) for piece in x.split(pieces, 1)], 1)
        torch.testing.assert_close(found, layer(x), rtol=0, atol=1e-5)


def test_half_precision_and_autocast():
    layer, x = random_layer("boltzmann", BIASED)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        whole = layer(x).detach()
        found = decoded(layer, x, [4, 1, 1])
    assert found.dtype == whole.dtype == torch.bfloat16
    torch.testing.assert_close(found, whole, rtol=0.02, atol=0.02)


class Recorded(ExactBackend):
    """Independent reads, and the sizes of the batches that they were drawn for."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def sample(self, batch, *, num_reads, seed=None):
        self.sizes.append(tuple(batch.h.shape))
        return super().sample(batch, num_reads=num_reads, seed=seed)


def test_reads_are_drawn_for_the_new_queries_alone():
    # 400 texts of 50 reads a query; z of the mean of each of 5 x 8 outputs, with the standard error
    # of what was drawn: 5 sigma. Control: J of the other sign.
    torch.manual_seed(0)
    layer, x = random_layer("boltzmann", {"backend": Recorded(), "num_reads": 50})
    x = x[:1].expand(400, -1, -1)
    found = decoded(layer, x, [5, 1])[:, 1:]  # one spin has its exact mean
    assert layer.backend.sizes == [(2, 5 * 400, 5), (2, 400, 6)]
    layer.backend = "exact"
    error = found.std(0) / 400**0.5
    distances = []
    for sign in (1, -1):
        layer.coupling_values.data.mul_(sign)
        exact = layer(x[:1])[0, 1:].detach()
        distances.append(((found.mean(0) - exact).abs() / error).max())
    assert distances[0] < 5 < distances[1]


def test_a_model_decodes_token_by_token():
    torch.manual_seed(0)
    model = Transformer(vocab_size=7, context=CONTEXT, num_heads=2, embed_dim=8).eval()
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.4)
    tokens, cache = torch.randint(7, (2, CONTEXT)), model.new_cache()
    with torch.no_grad():
        pieces = [model(piece, cache) for piece in tokens.split([3, 1, 2], 1)]
        torch.testing.assert_close(torch.cat(pieces, 1), model(tokens), rtol=0, atol=1e-5)
    assert [kept.length for kept in cache] == [CONTEXT] * 2


def test_a_shorter_cache_goes_on_from_there():
    layer, x = random_layer("boltzmann", {"couplings": "banded", "content": True})
    cache = KeyValueCache(CONTEXT)
    with torch.no_grad():
        layer(torch.cat([x[:, :2], 9 * x[:, 2:5]], 1), cache=cache)
        cache.length = 2  # drop the last three
        torch.testing.assert_close(layer(x[:, 2:], cache=cache), layer(x)[:, 2:])


def test_a_pass_that_fails_leaves_the_cache_as_it_was():
    model = Transformer(vocab_size=7, context=CONTEXT, num_heads=2, embed_dim=8)
    tokens, cache = torch.zeros(1, 4, dtype=torch.int64), model.new_cache()

    def fail(*_):
        raise RuntimeError("no reads")

    with torch.no_grad():
        whole = model(tokens)
        model(tokens[:, :3], cache)
        hook = model.blocks[1].register_forward_pre_hook(fail)
        with pytest.raises(RuntimeError, match="no reads"):
            model(tokens[:, 3:], cache)
        hook.remove()
        assert [kept.length for kept in cache] == [3, 3]
        torch.testing.assert_close(model(tokens[:, 3:], cache), whole[:, 3:], rtol=0, atol=1e-5)


def test_what_a_cache_is_not_for():
    layer, x = BoltzmannAttention(8, 2, CONTEXT), torch.randn(2, CONTEXT, 8)
    cache = KeyValueCache(CONTEXT)
    with pytest.raises(ValueError, match=r"call the layer under torch.no_grad\(\)"):
        layer(x, cache=cache)
    with torch.no_grad():
        layer(x, cache=cache)
        with pytest.raises(ValueError, match="room for context = 6 positions: 6 are taken, and 1"):
            layer(x[:, :1], cache=cache)
        cache.length = 3
        with pytest.raises(ValueError, match="holds 2 sequences, but `x` has 1"):
            layer(x[:1, :1], cache=cache)
        with pytest.raises(ValueError, match=r"SoftmaxAttention, .* see later ones"):
            SoftmaxAttention(8, 2, CONTEXT, is_causal=False)(x, cache=KeyValueCache(CONTEXT))
        with pytest.raises(ValueError, match="a steady state is one of all"):
            SpinModelAttention(8, 2, CONTEXT, steady_state=True)(x, cache=KeyValueCache(CONTEXT))
    assert repr(cache) == "KeyValueCache(3 of 6 positions)"
    model = Transformer(vocab_size=7, context=CONTEXT, num_heads=2, embed_dim=8)
    cache, tokens = model.new_cache(), torch.zeros(1, CONTEXT, dtype=torch.int64)
    with torch.no_grad():
        model(tokens, cache)
        with pytest.raises(ValueError, match="at most context = 6 positions, but has 1 behind 6"):
            model(tokens[:, :1], cache)
        with pytest.raises(ValueError, match=r"one of each of the 2 layers, .* but holds 1"):
            model(tokens[:, :1], cache[:1])
