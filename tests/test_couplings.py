"""Structures of J as functions of their values, and as the J of an Ising batch."""

import hypothesis.strategies as st
import pytest
import torch
from _support.structures import STRUCTURES, structured_batch
from hypothesis import given, settings

from qattn import IsingBatch
from qattn.couplings import Banded, Block, Cardinality, LowRank, interaction
from qattn.couplings.base import NotFinite

QUADRATIC = [name for name in STRUCTURES if name != "potential"]


@pytest.mark.parametrize("name", QUADRATIC)
@settings(max_examples=15)
@given(n=st.integers(1, 9), seed=st.integers(0, 2**20))
def test_products_and_energies_are_those_of_the_matrix(name, n, seed):
    torch.manual_seed(seed)
    couplings = STRUCTURES[name](n)
    J = couplings.dense()
    assert torch.equal(J, J.mT)
    assert not J.diagonal(dim1=1, dim2=2).any()
    s = torch.randint(-1, 2, (2, n, 5)).double()
    torch.testing.assert_close(couplings.matvec(s), J @ s)
    if name != "competition":  # its interaction has a constant and a field besides
        torch.testing.assert_close(interaction(couplings, s), interaction(J, s))


@pytest.mark.parametrize("name", QUADRATIC)
@settings(max_examples=15)
@given(n=st.integers(2, 9), seed=st.integers(0, 2**20))
def test_leading_and_scaled_commute_with_dense(name, n, seed):
    torch.manual_seed(seed)
    couplings = STRUCTURES[name](n)
    m = n // 2 + 1
    torch.testing.assert_close(couplings.leading(m).dense(), couplings.dense()[:, :m, :m])
    assert couplings.leading(m).num_spins == m
    beta = torch.tensor([0.5, 2.0], dtype=torch.float64)
    torch.testing.assert_close(couplings.scaled(beta).dense()[1], 2 * couplings.dense()[1])
    torch.testing.assert_close(couplings.scaled(0.3).dense(), 0.3 * couplings.dense())
    assert torch.equal(couplings[1:].dense(), couplings.dense()[1:])
    assert torch.equal(couplings.repeated(2).dense()[2:], couplings.dense())


@pytest.mark.parametrize("name", QUADRATIC)
def test_energies_are_those_of_the_bqms_up_to_a_constant(name):
    batch = structured_batch(name, 6, seed=2)
    spins = torch.randint(0, 2, (2, 4, 7, 6)) * 2 - 1
    energies = batch.energies(spins).flatten(0, 1)
    for number, bqm in enumerate(batch.to_bqms()):
        rows = spins.flatten(0, 1)[number, :, : bqm.num_variables].numpy()
        if bqm.num_variables:
            difference = torch.from_numpy(bqm.energies(rows)) - energies[number]
            assert difference.std() < 1e-9
            assert name == "competition" or difference.abs().max() < 1e-9


@pytest.mark.parametrize("name", QUADRATIC)
def test_a_ghost_spin_carries_the_fields_of_a_structure(name):
    batch = structured_batch(name, 5, seed=3)
    ghost, dense = batch.with_ghost_spin(), batch.dense()
    assert torch.equal(ghost.matrix[:, 0, 1:].view(2, 4, 5), dense.h)
    assert torch.equal(ghost.matrix[::4, 1:, 1:], dense.matrix)


def test_competition_is_a_coupling_between_all_spins():
    strength = torch.tensor([0.7], dtype=torch.float64)
    couplings = Cardinality.competitive(strength, 5)
    off_diagonal = 1 - torch.eye(5, dtype=torch.float64)
    torch.testing.assert_close(couplings.dense()[0], -0.7 * off_diagonal)
    # The fields λ(2 - n_i) of queries of n_i spins.
    lengths = torch.tensor([[1.0, 3.0, 5.0]], dtype=torch.float64)
    torch.testing.assert_close(couplings.field(lengths), 0.7 * (2 - lengths))


def test_the_gradient_of_pairs_is_restricted_to_the_structure():
    torch.manual_seed(0)
    values = torch.randn(1, 6, 2, dtype=torch.float64, requires_grad=True)
    s = torch.randn(1, 6, 3, dtype=torch.float64)
    (found,) = torch.autograd.grad(Banded(values).interaction(s).sum(), values)
    wanted = torch.zeros(1, 6, 2, dtype=torch.float64)
    wanted[:, 1:, 0] = (s[:, 1:] * s[:, :-1]).sum(-1)
    wanted[:, 2:, 1] = (s[:, 2:] * s[:, :-2]).sum(-1)
    torch.testing.assert_close(found, wanted)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Banded(torch.zeros(2, 3)), r"`values` must have shape \(groups, n, width\)"),
        (lambda: LowRank(torch.zeros(2, 3), sign=0), "`sign` must be 1 or -1, but is 0"),
        (lambda: Block(torch.zeros(1, 2, 3, 3), 3), "`num_spins` must lie in the last"),
        (lambda: Cardinality(torch.zeros(1, 3), 5).dense(), "not quadratic"),
        (
            lambda: IsingBatch(torch.zeros(1, 1, 3), Banded(torch.zeros(1, 4, 1))),
            "1 groups of 3 spins to match `h`, but has 1 of 4",
        ),
    ],
)
def test_what_does_not_fit_is_refused(make, message, as_users_call):
    with pytest.raises(ValueError, match=message):
        make()


def test_values_that_are_not_finite_are_refused():
    with pytest.raises(NotFinite, match="`J` must be finite"):
        IsingBatch(torch.zeros(1, 1, 2), Banded(torch.full((1, 2, 1), torch.nan)))
    forbidden = Cardinality(torch.full((1, 2), -torch.inf), 2)
    with pytest.raises(ValueError, match="must allow a count"):
        IsingBatch(torch.zeros(1, 1, 2), forbidden)


def test_blocks_are_as_symmetric_as_a_dense_coupling():
    J = torch.tensor([[0.0, 0.3], [0.3 * (1 + 3e-7), 0.0]]).expand(1, 2, 2, 2)
    blocks = IsingBatch(torch.zeros(1, 1, 4), Block(J, 4)).J.values
    assert torch.equal(blocks, blocks.mT)
    for wrong, message in ((J.triu(1), r"symmetric.*J\.triu\(1\)"), (J + 1, "zero diagonal")):
        with pytest.raises(ValueError, match=message):
            IsingBatch(torch.zeros(1, 1, 4), Block(wrong, 4))
