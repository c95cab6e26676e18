"""Attention with structures of J: as the dense J that they stand for, and query by query."""

import pytest
import torch
from _support.structures import STRUCTURES

from qattn import boltzmann_attention, boltzmann_weights
from qattn.attention.masks import causal_lengths
from qattn.attention.models import ising_batch
from qattn.couplings import Banded, Cardinality, Couplings, LowRank

N = 6
QUADRATIC = [name for name in STRUCTURES if name not in ("potential", "competition")]


@pytest.fixture
def query_key():
    torch.manual_seed(0)
    return torch.randn(2, 3, 2, N, 4, dtype=torch.float64).unbind(0)


def structure(name: str) -> Couplings:
    """Of two heads."""
    torch.manual_seed(1)
    return STRUCTURES[name](N)


@pytest.mark.parametrize("name", QUADRATIC)
@pytest.mark.parametrize("interaction", ["spin", "occupation", "field"])
@pytest.mark.parametrize(
    "options", [{"is_causal": True}, {"normalize": True}, {"beta": torch.tensor([0.6, 1.4])}]
)
def test_structures_attend_like_their_dense_couplings(query_key, name, interaction, options):
    couplings = structure(name)
    bias = {"field_bias": -0.5, "position_bias": torch.randn(2, N, N, dtype=torch.float64)}
    options = options | {"interaction": interaction} | bias
    results = (boltzmann_weights(*query_key, J, **options) for J in (couplings, couplings.dense()))
    torch.testing.assert_close(*results)


@pytest.mark.parametrize("name", STRUCTURES)
@pytest.mark.parametrize("interaction", ["spin", "occupation", "field"])
def test_one_query_at_a_time_gives_the_rows_of_all(query_key, name, interaction):
    query, key = query_key
    if name in ("potential", "competition"):
        interaction = "spin"
    couplings = structure(name)
    options = {"interaction": interaction, "field_bias": -0.5, "is_causal": True}
    whole = boltzmann_weights(query, key, couplings, **options)
    for length in range(1, N + 1):
        rows = slice(length - 1, length)
        one = boltzmann_weights(
            query[:, :, rows], key[:, :, :length], couplings.leading(length), **options
        )
        torch.testing.assert_close(one, whole[:, :, rows, :length])
    last = boltzmann_weights(query[:, :, 2:], key, couplings, **options)
    torch.testing.assert_close(last, whole[:, :, 2:])


@pytest.mark.parametrize("name", QUADRATIC)
def test_occupations_that_interact_are_spins_that_do_in_shifted_fields(query_key, name):
    couplings = structure(name)
    # Spins of query i: J between them, and the field -Σ J over positions ≤ i. Half a score is a
    # field, so that the bias of the scores is twice that.
    J = couplings.dense()
    pull = torch.einsum("hjk,ik->hij", J, torch.ones(N, N, dtype=J.dtype).tril())
    causal = {"is_causal": True}
    spins = boltzmann_weights(*query_key, couplings, **causal)
    undone = boltzmann_weights(
        *query_key, couplings, interaction="occupation", position_bias=-2 * pull, **causal
    )
    torch.testing.assert_close(spins, undone)
    field = boltzmann_weights(*query_key, couplings, interaction="field", **causal)
    nothing = torch.zeros_like(J)
    torch.testing.assert_close(
        field, boltzmann_weights(*query_key, nothing, position_bias=-2 * pull, **causal)
    )
    if couplings.values.numel():
        assert (spins - field).abs().max() > 0.01


def test_fields_of_spins_that_are_all_down_are_those_of_the_control(query_key):
    # With so low a bias that no two spins are up, an interaction is its field, to first order.
    couplings = structure("band of 3")
    query, key = query_key
    weights = {
        interaction: boltzmann_weights(
            query, key, couplings, is_causal=True, interaction=interaction, field_bias=-30.0
        )
        for interaction in ("spin", "occupation", "field")
    }
    torch.testing.assert_close(weights["spin"], weights["field"], rtol=1e-9, atol=0)
    free = (query @ key.mT / 2 - 30.0).sigmoid().tril()
    torch.testing.assert_close(weights["occupation"], free, rtol=1e-9, atol=0)


@pytest.mark.parametrize("name", [n for n in STRUCTURES if n != "potential"])
@pytest.mark.parametrize("interaction", ["spin", "occupation", "field"])
def test_models_of_heads_and_of_sequences_are_the_same(query_key, name, interaction):
    query, key = query_key
    couplings = structure(name)
    if name == "competition":
        interaction = "spin"
    fields = query @ key.mT
    heads, sequences = (
        ising_batch(
            fields,
            couplings,
            lengths=causal_lengths(True, N, N),
            interaction=interaction,
            by_sequence=by_sequence,
        )
        for by_sequence in (False, True)
    )
    assert heads.h.shape == (2, N * 3, N)
    assert sequences.h.shape == (
        (2, N * 3, N) if name == "blocks" and interaction != "field" else (6, N, N)
    )
    by_head, by_sequence = (batch.scaled() for batch in (heads, sequences))
    if sequences.num_groups == 6:
        h = by_sequence[0].unflatten(0, (3, 2)).permute(1, 2, 0, 3).flatten(1, 2)
        torch.testing.assert_close(h, by_head[0])
        assert torch.equal(by_sequence[1].unflatten(0, (3, 2)), by_head[1].expand(3, -1, -1, -1))


def test_couplings_of_each_sequence(query_key):
    query, key = query_key
    torch.manual_seed(2)
    U = torch.randn(6, N, dtype=torch.float64)
    options = {"interaction": "occupation", "is_causal": True}
    together = boltzmann_weights(query, key, LowRank(U, -1), **options)
    for b in range(3):
        own = LowRank(U[2 * b : 2 * b + 2], -1)
        alone = boltzmann_weights(query[b : b + 1], key[b : b + 1], own.dense(), **options)
        torch.testing.assert_close(together[b : b + 1], alone)


def test_gradients_reach_every_argument(query_key):
    query, key = (x[:, :, :4, :2].clone().requires_grad_() for x in query_key)
    value = torch.randn(3, 2, 4, 2, dtype=torch.float64)
    U = torch.randn(2, 4, dtype=torch.float64, requires_grad=True)
    bias = torch.randn(1, 4, 4, dtype=torch.float64, requires_grad=True)
    b = torch.randn(2, dtype=torch.float64, requires_grad=True)
    for interaction in ("spin", "occupation", "field"):

        def attend(query, key, U, bias, b, interaction=interaction):
            return boltzmann_attention(
                query,
                key,
                value,
                LowRank(U),
                interaction=interaction,
                position_bias=bias,
                field_bias=b,
                normalize=True,
                is_causal=True,
            )

        assert torch.autograd.gradcheck(attend, (query, key, U, bias, b))


def test_position_bias_is_added_to_the_scores(query_key):
    query, key = query_key
    bias = torch.randn(1, N, N, dtype=torch.float64)
    weights = boltzmann_weights(query, key, torch.zeros(2, N, N).double(), position_bias=bias)
    torch.testing.assert_close(weights, (query @ key.mT / 2 + bias).sigmoid())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"couplings": Banded(torch.zeros(2, 5, 1))}, "must have 6 spins, and 2 groups .* 5 spins"),
        ({"couplings": Banded(torch.zeros(4, 6, 1))}, "or 6 .* and 4 groups"),
        ({"interaction": "spins"}, "must be one of 'spin', 'occupation', 'field', but is 'spins'"),
        (
            {"couplings": Cardinality(torch.zeros(2, 7), 6), "interaction": "field"},
            "`interaction` must be 'spin' for a potential",
        ),
        ({"position_bias": torch.zeros(6, 6)[None, :5]}, r"`position_bias` must have shape"),
        ({"couplings": Banded(torch.full((2, 6, 1), torch.nan))}, "must be finite"),
        ({"couplings": Banded(torch.zeros(2, 6, 1).double())}, "`couplings` must both be float64"),
        ({"query": torch.zeros(3, 2, 0, 4)}, "`query` and `key` must have at least 1 sequence"),
        ({"beta": torch.ones(3)}, r"`beta` must .* \(heads,\) = \(2,\), but has shape \(3,\)"),
        ({"beta": torch.ones(3), "interaction": "field"}, "`beta` must be a number or"),
        ({"field_bias": torch.zeros(3)}, r"`field_bias` must .* = \(2,\), but has shape \(3,\)"),
    ],
)
@pytest.mark.usefixtures("as_users_call")
def test_what_does_not_fit_is_refused(change, message):
    query, key = torch.zeros(2, 3, 2, 6, 4)
    arguments = {"query": query, "key": key, "couplings": Banded(torch.zeros(2, 6, 2))}
    with pytest.raises((ValueError, TypeError), match=message):
        boltzmann_weights(**(arguments | change))
