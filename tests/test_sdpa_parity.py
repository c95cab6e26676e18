"""Attention in place of F.scaled_dot_product_attention: what PyTorch's call does, ours does.

Without couplings against a sigmoid, with couplings against a sum over all states.
"""

import math

import pytest
import torch
from _support.brute_force import all_states, random_couplings
from torch.nn import functional as F

from qattn import boltzmann_attention, boltzmann_weights
from qattn.couplings import Cardinality

B, H, Q, N, D = 3, 2, 4, 6, 4
POSITIONS = torch.arange(N)
PADDING = torch.tensor([2, 0, 3])[:, None, None, None]
CAUSAL = torch.ones(Q, N, dtype=torch.bool).tril(N - Q)  # the queries are the last positions
GENERATOR = torch.Generator().manual_seed(3)
MASKS = {
    "none": torch.ones(1, 1, 1, N, dtype=torch.bool),
    "causal": CAUSAL,
    "padding right": POSITIONS < N - PADDING,
    "padding left": POSITIONS >= PADDING,
    "padding left, causal": (POSITIONS >= PADDING) & CAUSAL,
    "holes": torch.rand(B, 1, Q, N, generator=GENERATOR) < 0.6,
    "window": CAUSAL & torch.ones(Q, N, dtype=torch.bool).triu(N - Q - 1),
    "per head": torch.rand(H, Q, N, generator=GENERATOR) < 0.6,
    "per sequence and head": torch.rand(B, H, 1, N, generator=GENERATOR) < 0.6,
    "nothing for a query": CAUSAL & (torch.arange(Q)[:, None] != 1),
    "nothing": torch.zeros(1, N, dtype=torch.bool),
}
"""True where a query attends, in shapes that broadcast to (B, H, Q, N)."""


@pytest.fixture
def qkv():
    torch.manual_seed(0)
    query = torch.randn(B, H, Q, D, dtype=torch.float64)
    return query, *torch.randn(2, B, H, N, D, dtype=torch.float64).unbind(0)


def summed(fields, J, mask):
    """Weights by a sum over all states of the positions that a query sees; one query at a time."""
    shape = torch.broadcast_shapes(fields.shape, mask.shape)
    fields, mask, weights = fields.expand(shape), mask.expand(shape), torch.zeros(shape).double()
    for b, h, i in torch.cartesian_prod(*(torch.arange(length) for length in shape[:3])).tolist():
        seen = mask[b, h, i].nonzero().squeeze(1)
        S = all_states(len(seen))
        energy = S @ fields[b, h, i, seen] + torch.einsum(
            "sj,jk,sk->s", S, J[h][seen][:, seen].triu(1), S
        )
        weights[b, h, i, seen] = energy.softmax(0) @ (1 + S) / 2
    return weights


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("normalize", [False, True])
def test_masks_without_couplings_are_those_of_a_sigmoid(qkv, name, normalize):
    query, key, value = qkv
    mask, J = MASKS[name], torch.zeros(H, N, N, dtype=torch.float64)
    out = boltzmann_attention(query, key, value, J, attn_mask=mask, normalize=normalize)
    weights = (query @ key.mT / math.sqrt(D)).sigmoid() * mask
    total = weights.sum(-1, keepdim=True)
    weights = weights / total.masked_fill(total == 0, 1.0) if normalize else weights
    torch.testing.assert_close(out, weights @ value)


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", ["booleans", "numbers"])
def test_masks_with_couplings_are_sums_over_states(qkv, name, kind):
    query, key, _ = qkv
    mask, J = MASKS[name], random_couplings(H, N, 0.8, dtype=torch.float64)
    added = torch.zeros(1, dtype=torch.float64)
    given = mask
    if kind == "numbers":
        added = torch.randn(Q, N, dtype=torch.float64)
        given = added.masked_fill(~mask, -torch.inf)
    found = boltzmann_weights(query, key, J, attn_mask=given)
    fields = (query @ key.mT / math.sqrt(D) + added) / 2
    expected = summed(fields, J, mask)
    torch.testing.assert_close(found, expected)
    # A masked position is absent. As a field of -1e4 it would pull its neighbours down: wrong.
    pulled = boltzmann_weights(query, key, J, attn_mask=torch.where(mask, added, -1e4))
    same = bool(mask.all()) or not mask.any()
    assert torch.allclose(pulled, expected, atol=1e-3) == same


@pytest.mark.parametrize("lowest", [-torch.inf, torch.finfo(torch.float32).min])
def test_lowest_numbers_of_a_mask_are_absent_and_finite_ones_have_gradients(qkv, lowest):
    query, key, value = (x.float() for x in qkv)
    J, mask = random_couplings(H, N, 0.8), MASKS["holes"]
    numbers = torch.randn(B, 1, Q, N).masked_fill(~mask, lowest).requires_grad_()
    out = boltzmann_attention(query, key, value, J, attn_mask=numbers)
    expected = boltzmann_weights(query, key, J, attn_mask=numbers.detach().double().float())
    torch.testing.assert_close(out, expected @ value)
    (gradient,) = torch.autograd.grad(out.square().sum(), numbers)
    assert gradient.isfinite().all()
    assert torch.equal(gradient != 0, mask)


def test_is_causal_goes_with_a_mask_and_is_aligned_to_the_last_positions(qkv):
    query, key, _ = qkv
    J, mask = random_couplings(H, N, 0.8, dtype=torch.float64), MASKS["padding left"]
    both = boltzmann_weights(query, key, J, attn_mask=mask, is_causal=True)
    torch.testing.assert_close(both, boltzmann_weights(query, key, J, attn_mask=mask & CAUSAL))
    alone = boltzmann_weights(query, key, J, is_causal=True)
    torch.testing.assert_close(alone, boltzmann_weights(query, key, J, attn_mask=CAUSAL))


SHAPES = {
    "3 axes": ((H, Q, D), (H, N, D), (H, N, D)),
    "5 axes": ((2, B, H, Q, D), (2, B, H, N, D), (2, B, H, N, D)),
    "one of each axis": ((2, 1, H, Q, D), (1, B, H, N, D), (1, B, H, N, D)),
    "keys of all sequences": ((B, H, Q, D), (H, N, D), (1, H, N, D)),
    "values of more sequences": ((H, Q, D), (H, N, D), (B, H, N, 3)),
    "keys of all heads": ((B, H, Q, D), (B, 1, N, D), (B, 1, N, D)),
    "queries of all heads": ((B, 1, Q, D), (B, H, N, D), (B, H, N, D)),
}


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("mask", [None, CAUSAL])
def test_axes_broadcast_as_in_pytorch(name, mask):
    torch.manual_seed(0)
    query, key, value = (torch.randn(shape, dtype=torch.float64) for shape in SHAPES[name])
    J = random_couplings(H, N, 0.5, dtype=torch.float64)
    out = boltzmann_attention(query, key, value, J, attn_mask=mask)
    assert out.shape == F.scaled_dot_product_attention(query, key, value, attn_mask=mask).shape
    free = boltzmann_attention(query, key, value, 0 * J, attn_mask=mask)
    weights = (query @ key.mT / math.sqrt(D)).sigmoid() * (1 if mask is None else mask)
    torch.testing.assert_close(free, weights @ value)
    # A softmax is a potential on counts, so that PyTorch's own function is a special case.
    softmax = Cardinality.subset(1, num_groups=1, num_spins=N, dtype=torch.float64)
    torch.testing.assert_close(
        boltzmann_attention(query, key, value, softmax, attn_mask=mask),
        F.scaled_dot_product_attention(query, key, value, attn_mask=mask),
    )


@pytest.mark.parametrize("num_queries", [1, 5, 9])
@pytest.mark.parametrize("key_heads", [(1, 1), (2, 2), (2, 1), (4, 2)])
@pytest.mark.parametrize("masked", [False, True])
def test_grouped_queries_have_keys_of_their_group_and_couplings_of_their_own(
    num_queries, key_heads, masked
):
    torch.manual_seed(0)
    query = torch.randn(B, 4, num_queries, D, dtype=torch.float64, requires_grad=True)
    key, value = (torch.randn(B, heads, N, D, dtype=torch.float64) for heads in key_heads)
    J, mask = random_couplings(4, N, 0.5, dtype=torch.float64), None
    if masked:
        mask = torch.rand(B, 1, num_queries, N) < 0.7
    out = boltzmann_attention(
        query, key, value, J, attn_mask=mask, field_bias=-0.3, enable_gqa=True
    )
    repeated = (x.repeat_interleave(4 // x.shape[1], 1) for x in (key, value))
    expected = boltzmann_attention(query, *repeated, J, attn_mask=mask, field_bias=-0.3)
    torch.testing.assert_close(out, expected)
    torch.testing.assert_close(
        *(torch.autograd.grad(x.square().sum(), query) for x in (out, expected))
    )


def test_dropout_is_that_of_pytorch(qkv):
    query, key, value = qkv
    J = torch.zeros(H, N, N, dtype=torch.float64)
    weights = boltzmann_weights(query, key, J)
    # Values that are a unit matrix show the weights: each is 0, or scaled up.
    unit = torch.eye(N, dtype=torch.float64).expand(B, H, N, N)
    torch.manual_seed(0)
    dropped = boltzmann_attention(query, key, unit, J, dropout_p=0.25)
    kept = dropped != 0
    torch.testing.assert_close(dropped, weights * kept / 0.75)
    # 144 weights are dropped with p = 1/4: 5 sigma of their share.
    share, sigma = float(kept.double().mean()), math.sqrt(0.25 * 0.75 / weights.numel())
    assert abs(share - 0.75) < 5 * sigma < 0.2
    assert (boltzmann_attention(query, key, value, J, dropout_p=1.0) == 0).all()


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("autocast", [False, True])
def test_masks_in_half_precision_and_under_autocast(qkv, dtype, autocast):
    query, key, value = (x.to(dtype) for x in qkv)
    J, mask = random_couplings(H, N, 0.5), MASKS["padding left, causal"]
    numbers = torch.zeros(mask.shape).masked_fill(~mask, torch.finfo(dtype).min).to(dtype)
    expected = boltzmann_weights(query.float(), key.float(), J, attn_mask=mask)
    with torch.autocast("cpu", dtype=dtype, enabled=autocast):
        for given in (mask, numbers):
            weights = boltzmann_weights(query, key, J, attn_mask=given)
            assert torch.equal(weights, expected)  # no step of it is in half precision
        out = boltzmann_attention(query, key, value, J, attn_mask=mask)
    assert out.dtype == dtype
    torch.testing.assert_close(out, expected.to(dtype) @ value)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"attn_mask": torch.ones(Q, N - 1).bool()}, ValueError, r"`attn_mask` must broadcast to"),
        ({"attn_mask": torch.ones(5, B, H, Q, N).bool()}, ValueError, "but has shape"),
        ({"attn_mask": torch.ones(Q, N, dtype=torch.int64)}, TypeError, "pass attn_mask.bool"),
        ({"key": torch.zeros(4, H, N, D)}, ValueError, r"`key` must have batch axes that go with"),
        ({"value": torch.zeros(4, H, N, D)}, ValueError, "`value` must have batch axes that go"),
        (
            {"key": torch.zeros(B, 3, N, D)},
            ValueError,
            "`key` must have as many heads .* pass enable_gqa",
        ),
        ({"value": torch.zeros(B, 3, N, D)}, ValueError, "`value` must have as many heads"),
        ({"value": torch.zeros(N, D)}, ValueError, "`value` must have shape"),
        ({"dropout_p": 1.5}, ValueError, "`dropout_p` must lie between 0 and 1, but is 1.5"),
        ({"couplings": torch.zeros(1, H, N, N)}, ValueError, "`couplings` must have shape"),
        ({"couplings": torch.zeros(())}, ValueError, "`couplings` must have shape"),
        ({"couplings": torch.zeros(H, 9, 9)}, ValueError, "pass rows="),
        ({"rows": torch.arange(N) + 1}, ValueError, r"`rows` must .* 0 … 5, but holds 6"),
        ({"rows": torch.arange(N) - 1}, ValueError, r"`rows` must .* 0 … 5, but holds -1"),
        ({"rows": torch.zeros(N, dtype=torch.int64)}, ValueError, "gives two positions .* same"),
        ({"rows": torch.zeros(N)}, TypeError, "`rows` must hold whole numbers"),
        ({"rows": torch.arange(N + 1)}, ValueError, r"`rows` must have shape \(positions,\)"),
        ({"rows": torch.zeros(4, N, dtype=torch.int64)}, ValueError, r"`rows` must have shape"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_what_does_not_fit_is_refused(change, error, message):
    arguments = {
        "query": torch.zeros(B, H, Q, D),
        "key": torch.zeros(B, H, N, D),
        "value": torch.zeros(B, H, N, D),
        "couplings": torch.zeros(H, N, N),
    }
    with pytest.raises(error, match=message):
        boltzmann_attention(**(arguments | change))
