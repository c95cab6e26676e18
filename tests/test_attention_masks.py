"""Masked positions are absent spins, for every structure of J; J goes by the rows of the text."""

import pytest
import torch
from _support.brute_force import random_couplings
from _support.structures import STRUCTURES
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import boltzmann_attention, boltzmann_weights
from qattn.attention.compaction import compacted
from qattn.couplings import Banded, Block, Cardinality, LowRank

B, H, Q, N = 2, 2, 4, 6
POSITIONS = torch.arange(N)
QUADRATIC = [name for name in STRUCTURES if name not in ("potential", "competition")]
CAUSAL = torch.ones(Q, N, dtype=torch.bool).tril(N - Q)
LEFT = torch.tensor([2, 1])[:, None, None, None] <= POSITIONS
MASKS = {
    "padding right": torch.tensor([2, 5])[:, None, None, None] > POSITIONS,
    "padding left, causal": LEFT & CAUSAL,
    "holes": torch.rand(B, 1, Q, N, generator=torch.Generator().manual_seed(1)) < 0.6,
    "window": CAUSAL & torch.ones(Q, N, dtype=torch.bool).triu(N - Q - 2),
    "per head": torch.rand(B, H, Q, N, generator=torch.Generator().manual_seed(2)) < 0.6,
}


def structure(name, n=N):
    torch.manual_seed(1)
    return STRUCTURES[name](n)


def vectors(*shape, seed=0):
    """Queries, keys or values."""
    return torch.randn(*shape, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("name", QUADRATIC)
@pytest.mark.parametrize("mask", MASKS)
@pytest.mark.parametrize(
    "options",
    [
        {"normalize": True},
        {"interaction": "occupation", "beta": torch.tensor([0.6, 1.4], dtype=torch.float64)},
        {"interaction": "field"},
    ],
)
def test_structures_with_masks_are_their_dense_couplings(name, mask, options):
    query, key = vectors(B, H, Q, 4), vectors(B, H, N, 4, seed=1)
    options = options | {"attn_mask": MASKS[mask], "position_bias": vectors(1, Q, N, seed=2)}
    J = structure(name)
    results = (boltzmann_weights(query, key, c, field_bias=-0.5, **options) for c in (J, J.dense()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize(
    ("name", "moments"),
    [*((name, "exact") for name in STRUCTURES), ("band of 3", "tap"), ("rank 1, negative", "tap")],
)
@pytest.mark.parametrize("mask", MASKS)
def test_each_query_is_that_of_the_keys_that_it_sees(name, mask, moments):
    query, key, J = vectors(B, H, Q, 4), vectors(B, H, N, 4, seed=1), structure(name)
    J = J.scaled(0.1) if moments == "tap" else J
    options = {"moments": moments, "field_bias": -0.5}
    weights = boltzmann_weights(query, key, J, attn_mask=MASKS[mask], **options)
    whole = MASKS[mask].expand(B, H, Q, N)
    tolerance = {"rtol": 1e-6, "atol": 1e-6} if moments == "tap" else {}
    for b, h, i in torch.cartesian_prod(*map(torch.arange, (B, H, Q))).tolist():
        seen = whole[b, h, i].nonzero().squeeze(1)
        assert (weights[b, h, i][~whole[b, h, i]] == 0).all()
        if not len(seen):
            continue
        J_h = J[h : h + 1]
        c = (
            J_h.leading(len(seen))
            if isinstance(J, Cardinality)
            else J_h.dense()[:, seen][:, :, seen]
        )
        alone = boltzmann_weights(query[b, h, None, i, None], key[b, h, None, seen], c, **options)
        torch.testing.assert_close(weights[b, h, i, seen], alone[0, 0], **tolerance)


CALLS = st.tuples(st.sampled_from([*QUADRATIC, "dense"]), st.integers(0, 1000), st.booleans())


def drawn(name, seed, is_causal, n, rows_of_J):
    """A call with a random mask."""
    torch.manual_seed(seed)
    J = random_couplings(H, rows_of_J, 0.8, dtype=torch.float64)
    mask = torch.rand(B, 1, Q, n) < 0.7
    if is_causal:
        mask &= torch.ones(Q, n, dtype=torch.bool).tril(n - Q)
    J = J if name == "dense" else structure(name, rows_of_J)
    return vectors(B, H, Q, 3, seed=seed), vectors(B, H, n, 3, seed=seed + 1), J, mask


@settings(derandomize=True, deadline=None, max_examples=15)
@given(CALLS)
def test_keys_in_other_slots_have_the_same_weights(call):
    query, key, J, mask = drawn(*call, n=N, rows_of_J=N + 2)
    # Rows of J that some position of each sequence has, in ascending order.
    rows = torch.stack([torch.randperm(N + 2)[:N].sort().values for _ in range(B)])
    slots = torch.stack([torch.randperm(N) for _ in range(B)])
    weights = boltzmann_weights(query, key, J, attn_mask=mask, rows=rows)
    moved = boltzmann_weights(
        query,
        torch.take_along_dim(key, slots[:, None, :, None], 2),
        J,
        attn_mask=torch.take_along_dim(mask, slots[:, None, None], 3),
        rows=torch.take_along_dim(rows, slots, 1),
    )
    torch.testing.assert_close(moved, torch.take_along_dim(weights, slots[:, None, None], 3))
    # With other rows it is another model.
    if call[0] in ("dense", "band of 3"):
        other = boltzmann_weights(query, key, J, attn_mask=mask, rows=(rows + 1) % (N + 2))
        assert not torch.allclose(other, weights)


@settings(derandomize=True, deadline=None, max_examples=15)
@given(CALLS)
def test_keys_that_no_query_sees_may_as_well_be_absent(call):
    query, key, J, mask = drawn(*call, n=N, rows_of_J=N)
    hidden = torch.randint(N, ())
    mask[..., hidden] = False
    weights = boltzmann_weights(query, key, J, attn_mask=mask)
    left = POSITIONS[hidden != POSITIONS]
    without = boltzmann_weights(query, key[:, :, left], J, attn_mask=mask[..., left], rows=left)
    torch.testing.assert_close(without, weights[..., left])
    # Whatever stands there, and whatever row it has.
    key[:, :, hidden] = torch.nan
    rows = torch.where(hidden == POSITIONS, -1, POSITIONS)
    again = boltzmann_weights(query, key, J, attn_mask=mask, rows=rows)
    torch.testing.assert_close(again, weights)


SMALL = {
    "padding left, causal": torch.tensor([[[0, 1, 1, 0], [0, 1, 1, 1]], [[1, 1, 1, 0], [1] * 4]]),
    "holes": torch.tensor([[[1, 0, 0, 1], [0, 1, 1, 0]], [[1, 1, 0, 1], [0] * 4]]),
}


@pytest.mark.parametrize("mask", SMALL)
@pytest.mark.parametrize("name", ["dense", "band of 3", "relative band", "blocks", "potential"])
def test_gradients_reach_every_argument(mask, name):
    J, rows = structure(name, 4)[:1] if name != "dense" else None, torch.tensor([2, 0, 3, 1])
    values = random_couplings(1, 4, 0.5, dtype=torch.float64) if J is None else J.values
    if name == "relative band":
        values = values[:, 0, :2]
    mask, value = SMALL[mask][:, None].bool(), vectors(2, 1, 4, 2, seed=5)

    def attend(query, key, values, numbers, b):
        if name == "relative band":
            c = Banded.relative(values, 4)
        elif name == "blocks":
            c = J.with_values((values + values.mT) / 2)
        else:
            c = (values + values.mT) / 2 if J is None else J.with_values(values)
        numbers = numbers.masked_fill(~mask, -torch.inf)
        return boltzmann_attention(
            query, key, value, c, attn_mask=numbers, rows=rows, field_bias=b, validate=False
        )

    numbers = vectors(*mask.shape, seed=3)
    leaves = (vectors(2, 1, 2, 1), vectors(2, 1, 4, 1, seed=1), values, numbers, vectors(1))
    leaves = tuple(x.detach().clone().requires_grad_() for x in leaves)
    assert torch.autograd.gradcheck(attend, leaves)


def models(J, mask, rows=None):
    return compacted(torch.zeros(B, H, Q, N, dtype=torch.float64), J, 1.0, mask, rows)


def test_queries_with_the_same_couplings_stay_together():
    J = random_couplings(H, N, 0.5, dtype=torch.float64)
    band, relative = structure("band of 3"), structure("relative band")
    by_text = (POSITIONS - torch.tensor([2, 1])[:, None]).clamp_min(-1)
    groups = {
        "padding right": (J, MASKS["padding right"], None, H),
        "padding left, causal, rows of the text": (J, LEFT & CAUSAL, by_text, H),
        "padding left, causal, rows of slots": (J, LEFT & CAUSAL, None, B * H),
        "holes": (J, MASKS["holes"], None, B * H * Q),
        "window": (J, MASKS["window"], None, H * Q),
        "window on a band": (band, MASKS["window"], None, H * Q),
        "window on a relative band": (relative, MASKS["window"], None, H),
        "padding left on a relative band": (relative, LEFT & CAUSAL, None, H),
        "holes under a potential": (structure("potential"), MASKS["holes"], None, H),
    }
    for name, (c, mask, rows, number) in groups.items():
        small = models(c, mask.expand(-1, 1, -1, -1) if mask.ndim == 4 else mask[None, None], rows)
        found = len(small.couplings) if isinstance(c, torch.Tensor) else small.couplings.num_groups
        assert found == number, name
    # Where the first positions are present, nothing moves.
    assert models(J, MASKS["padding right"]).index is None
    # Other distances are other couplings, in a relative band too.
    dilated = torch.tensor([[True, True, False, False, True, True]])[None, None].expand(1, 1, Q, N)
    dilated = torch.cat([dilated, torch.tensor([1, 1, 1, 1, 0, 0]).bool().expand(1, 1, Q, N)])
    assert models(relative, dilated).couplings.num_groups == B * H


def test_windows_that_share_couplings_have_the_gradient_of_windows_that_do_not():
    # Equal numbers are not enough to share: of couplings that are all 0, each has its own gradient.
    query, key, mask = vectors(1, H, Q, 3), vectors(1, H, N, 3, seed=1), MASKS["window"]
    values = vectors(H, N - 1, seed=2).requires_grad_()
    relative = Banded.relative(values, N)

    def gradient(J, of):
        weights = boltzmann_weights(query, key, J, attn_mask=mask)
        return torch.autograd.grad(weights.square().sum(), of)[0]

    torch.testing.assert_close(gradient(relative, values), gradient(relative.dense(), values))
    zeros = torch.zeros(H, N, N, dtype=torch.float64, requires_grad=True)
    almost = (1e-9 * random_couplings(H, N, 1.0, dtype=torch.float64)).requires_grad_()
    torch.testing.assert_close(gradient(zeros, zeros), gradient(almost, almost))
    assert gradient(zeros, zeros)[:, -1].abs().max() > 1e-3
    # Without gradients they share, which changes no weight.
    J = relative.dense().detach()
    assert len(models(J, mask[None, None]).couplings) == H
    torch.testing.assert_close(
        boltzmann_weights(query, key, J, attn_mask=mask),
        boltzmann_weights(query, key, J.clone().requires_grad_(), attn_mask=mask),
    )


@pytest.mark.parametrize("interaction", ["spin", "occupation"])
def test_couplings_of_each_sequence_with_masks(interaction):
    query, key, U = vectors(B, H, Q, 3), vectors(B, H, N, 3, seed=1), vectors(B * H, N, seed=2)
    for mask in MASKS.values():
        whole = mask.expand(B, -1, -1, -1) if mask.ndim == 4 else mask.expand(B, 1, Q, N)
        options = {"interaction": interaction}
        together = boltzmann_weights(query, key, LowRank(U, -1), attn_mask=mask, **options)
        for b in range(B):
            own = LowRank(U[H * b : H * (b + 1)], -1).dense()
            alone = boltzmann_weights(query[b], key[b], own, attn_mask=whole[b], **options)
            torch.testing.assert_close(together[b], alone)


def test_small_weights_of_masked_blocks_keep_their_sum():
    # Sums below the range of a float32.
    block = Block(torch.zeros(H, 2, 3, 3), N)
    scores = torch.linspace(-99.0, -97.0, N).expand(1, Q, N)
    zeros = torch.zeros(1, H, Q, 2), torch.zeros(1, H, N, 2)
    mask = MASKS["holes"][:1]
    found = boltzmann_weights(*zeros, block, attn_mask=mask, position_bias=scores, normalize=True)
    expected = scores.masked_fill(~mask, -torch.inf).softmax(-1).nan_to_num(0.0)
    torch.testing.assert_close(found, expected.expand_as(found))


def test_members_of_a_vmap_have_one_mask():
    query, key, mask = vectors(B, H, Q, 3), vectors(B, H, N, 3, seed=1), MASKS["holes"]
    J = vectors(3, H, N, N, seed=2)
    J = J.triu(1) + J.triu(1).mT

    def loss(J, mask):
        return boltzmann_weights(query, key, J, attn_mask=mask, validate=False).square().sum()

    found = torch.func.vmap(torch.func.grad(loss), (0, None))(J, mask)
    torch.testing.assert_close(found, torch.stack([torch.func.grad(loss)(x, mask) for x in J]))
    with pytest.raises(NotImplementedError, match="`attn_mask` must be the same for all members"):
        torch.func.vmap(loss, (None, 0))(J[0], mask)


def test_without_values_each_query_is_a_model():
    J, mask = random_couplings(H, N, 0.5), MASKS["holes"]
    query, key = torch.randn(B, H, Q, 3), torch.randn(B, H, N, 3)

    class Attend(torch.nn.Module):
        def forward(self, query, key, mask):
            return boltzmann_weights(query, key, J, attn_mask=mask)

    exported = torch.export.export(Attend(), (query, key, mask)).module()
    other = MASKS["padding left, causal"].contiguous()
    for m in (mask, other):
        torch.testing.assert_close(exported(query, key, m), Attend()(query, key, m))
    with torch.device("meta"):
        on_meta = (x.to("meta") for x in (query, key, J))
        assert boltzmann_weights(*on_meta, attn_mask=mask.to("meta")).shape == (B, H, Q, N)
