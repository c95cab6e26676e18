"""A potential on counts as couplings: pairs, fields, and what has no matrix."""

import itertools

import hypothesis.strategies as st
import pytest
import torch
from hypothesis import given, settings

from qattn import IsingBatch, exact
from qattn.couplings import Cardinality


def all_spins(n):
    return torch.tensor(list(itertools.product([-1, 1], repeat=n))).view(1, 1, -1, n)


@settings(max_examples=30)
@given(
    n=st.integers(1, 7),
    constant=st.floats(-3, 3),
    slope=st.floats(-3, 3),
    curvature=st.floats(-2, 2),
    seed=st.integers(0, 2**20),
)
def test_a_quadratic_potential_is_a_matrix_and_a_field(n, constant, slope, curvature, seed):
    torch.manual_seed(seed)
    c = torch.arange(n + 1, dtype=torch.float64)
    values = (constant + slope * c + curvature * c**2)[None]
    h = torch.randn(1, n, n, dtype=torch.float64)
    batch = IsingBatch(h, Cardinality(values, n), torch.arange(1, n + 1))
    spins = all_spins(n).expand(1, n, -1, -1)
    # Energies of the binary quadratic models differ by a constant of each query.
    difference = batch.dense().energies(spins) - batch.energies(spins)
    assert difference.std(-1, unbiased=False).max() < 1e-9
    for number, bqm in enumerate(batch.to_bqms()):
        rows = spins[0, number, :, : number + 1]
        bqm_energies = torch.from_numpy(bqm.energies(rows.numpy()))
        spread = bqm_energies - batch.energies(spins)[0, number]
        assert spread.std(unbiased=False) < 1e-9
    found, wanted = (exact.mean_spins(models) for models in (batch, batch.dense()))
    torch.testing.assert_close(found, wanted, rtol=1e-9, atol=1e-10)


@pytest.mark.parametrize("size", [1.0, 2.5])
def test_competition_in_spins_and_in_occupations(size):
    strength = torch.tensor([0.7, 0.2], dtype=torch.float64)
    couplings = Cardinality.competitive(strength, 6, size=size)
    off = 1 - torch.eye(6, dtype=torch.float64)
    torch.testing.assert_close(couplings.dense(), -strength[:, None, None] * off)
    spins = torch.tensor([[1.0, 3.0, 6.0]], dtype=torch.float64)
    torch.testing.assert_close(couplings.field(spins), strength[:, None] * (2 * size - spins))
    # -(λ/2)(Σ s - (2k - n))² is -2λ(Σ n - k)².
    s = all_spins(6)[0].double().mT.expand(2, -1, -1)
    wanted = -(strength[:, None] / 2) * (s.sum(1) - (2 * size - 6)) ** 2
    torch.testing.assert_close(couplings.interaction(s), wanted)
    # Positions that are absent are not counted.
    s = torch.tensor([1.0, -1.0, 1.0, 0.0, 0.0, 0.0]).double().view(1, 6, 1).expand(2, -1, -1)
    torch.testing.assert_close(couplings.interaction(s)[:, 0], -2 * strength * (2 - size) ** 2)


def test_the_strength_of_competition_is_learnable():
    torch.manual_seed(0)
    strength = torch.tensor([0.3, 1.2], dtype=torch.float64, requires_grad=True)
    h = torch.randn(2, 3, 5, dtype=torch.float64)

    def weights(strength):
        return exact.occupations(IsingBatch(h, Cardinality.competitive(strength, 5, max_count=3)))

    assert torch.autograd.gradcheck(weights, strength)


def test_what_is_not_quadratic_has_no_matrix():
    quadratic = Cardinality.competitive(torch.ones(1), 1000)
    bent = quadratic.values.clone()
    bent[0, 1] = 0.1
    for couplings in (
        Cardinality.subset(1, num_groups=1, num_spins=4),
        Cardinality(torch.tensor([[0.0, 1.0, 0.0, 0.0, 0.0]]), 4),
        Cardinality(torch.zeros(1, 4), 4),  # count 4 is forbidden
        Cardinality(bent, 1000),  # beside values of -2e6
    ):
        with pytest.raises(ValueError, match="not quadratic"):
            couplings.dense()
    assert (quadratic.dense()[0, 0, 1:] == -1).all()
    # Values that no count has are no obstacle.
    more = torch.cat([torch.zeros(1, 4), torch.ones(1, 2)], 1)
    assert not Cardinality(more, 3).dense().any()


@pytest.mark.parametrize("n", [0, 1])
def test_no_pairs(n):
    couplings = Cardinality(torch.tensor([[0.5, 2.0]]), n)
    assert couplings.dense().shape == (1, n, n)
    assert not couplings.dense().any()
    # A potential on one position is a field on it.
    assert n == 0 or couplings.field(torch.ones(1, 1)).item() == 0.75


def test_forbidden_counts_stay_forbidden():
    couplings = Cardinality.subset(2, num_groups=2, num_spins=5)
    for beta in (0.0, 0.5, torch.tensor([0.0, 2.0])):
        scaled = couplings.scaled(beta)
        assert torch.equal(scaled.values, couplings.values)
    s = torch.tensor([[1.0], [1.0], [1.0], [-1.0], [0.0]]).expand(2, -1, -1)
    assert torch.equal(couplings.interaction(s), torch.full((2, 1), -torch.inf))
    # Of one spin: fewer than any allowed count, but the potential is the same.
    one = couplings.leading(1)
    one.check()
    assert exact.occupations(IsingBatch(torch.randn(2, 1, 1), one)).tolist() == [[[1.0]], [[1.0]]]


@pytest.mark.parametrize("beta", [0.0, 1.0])
def test_log_probability_where_counts_are_forbidden(beta):
    pairs = Cardinality.subset(2, num_groups=1, num_spins=3)
    batch = IsingBatch(torch.zeros(1, 2, 3), pairs, torch.tensor([1, 3]), beta=beta)
    spins = torch.tensor([[1, 1, -1], [-1, 1, 1], [1, -1, -1]]).expand(1, 2, 3, 3)
    # One spin alone is up; of three, any two are.
    p = torch.tensor([[[1.0, 0, 1], [1 / 3, 1 / 3, 0]]])
    torch.testing.assert_close(exact.log_prob(batch, spins).exp(), p)
