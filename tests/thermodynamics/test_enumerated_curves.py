"""Exact curves against sums over states that are written differently."""

import math

import pytest
import torch
from _support.brute_force import all_states, random_batch

from qattn import IsingBatch
from qattn.couplings import Cardinality
from qattn.thermodynamics import QUANTITIES, thermodynamic_curves
from qattn.thermodynamics.curves import enumeration


def by_hand(h, J, beta):
    """All quantities of one model by its definition, with the overlaps of all pairs of states."""
    n = len(h)
    S = all_states(n)
    E = -(S @ h + ((S @ J.triu(1)) * S).sum(-1))
    weights = (-beta * E).exp()
    Z = weights.sum()
    p = weights / Z
    m, q = S.mean(1), S @ S.T / n
    U, mean = p @ E, p @ S
    covariance = (S * p[:, None]).T @ S - torch.outer(mean, mean)
    centre = p @ m if bool((h != 0).any()) else p @ m.abs()
    two = torch.outer(p, p)
    return {
        "log_Z": Z.log(),
        "free_energy": -Z.log() / beta,
        "energy": U,
        "entropy": -(p * p.log()).sum(),
        "heat_capacity": beta**2 * p @ (E - U) ** 2,
        "magnetisation": p @ m,
        "absolute_magnetisation": p @ m.abs(),
        "susceptibility": beta * n * (p @ m**2 - centre**2),
        "spin_glass_susceptibility": (covariance**2).sum() / n,
        "cross_susceptibility": (covariance.fill_diagonal_(0) ** 2).sum() / n,
        "binder": 1 - p @ m**4 / (3 * (p @ m**2) ** 2),
        "overlap_binder": 1 - (two * q**4).sum() / (3 * (two * q**2).sum() ** 2),
    }


def test_all_quantities_of_queries_of_all_lengths():
    torch.manual_seed(0)
    batch = random_batch(7, 1.0, 1.0, seed=1, queries=8)
    batch = IsingBatch(batch.h, batch.J, torch.arange(8), batch.beta)
    batch.h[:, 5] = 0
    betas = [0.3, 1.0, 2.5]
    curves = thermodynamic_curves(batch, betas)
    assert curves.errors == {}
    for g, (q, b) in ((g, divmod(i, 3)) for g in range(2) for i in range(3, 24)):
        n = q
        expected = by_hand(
            batch.beta * batch.h[g, q, :n], batch.beta * batch.J[g, :n, :n], betas[b]
        )
        for name in QUANTITIES:
            torch.testing.assert_close(
                getattr(curves, name)[g, q, b], expected[name], rtol=1e-9, atol=1e-11
            )


def test_chunks_of_any_size_give_the_same(monkeypatch):
    batch = random_batch(6, 1.0, 1.0, seed=2)
    whole = thermodynamic_curves(batch, [0.5, 1.0, 2.0])
    monkeypatch.setattr(enumeration, "CHUNK_ELEMENTS", 64)
    pieces = thermodynamic_curves(batch, [0.5, 1.0, 2.0])
    for name in QUANTITIES:
        torch.testing.assert_close(
            getattr(whole, name), getattr(pieces, name), equal_nan=True, rtol=1e-10, atol=1e-12
        )


def test_transform_holds_all_correlations():
    p = torch.rand(3, 128, generator=torch.Generator().manual_seed(0)).double()
    S = (torch.arange(128)[:, None] >> torch.arange(7)) % 2 * 2.0 - 1
    rho = enumeration.walsh(p)
    for spins in ([], [0], [6], [1, 4], [0, 1, 2, 3, 4, 5, 6]):
        number = sum(1 << j for j in spins)
        torch.testing.assert_close(rho[:, number], p @ S[:, spins].prod(1).double())


@pytest.mark.parametrize(("shift", "is_even"), [(0, True), (1, False)])
def test_susceptibility_is_about_the_absolute_value_where_the_energy_is_even(shift, is_even):
    # A potential on the number of spins up that is lowest at 3 + shift of 6.
    counts = torch.arange(7, dtype=torch.float64)
    batch = IsingBatch(
        torch.zeros(1, 1, 6, dtype=torch.float64), Cardinality((counts - 3 - shift)[None] ** 2, 6)
    )
    curves = thermodynamic_curves(batch, [0.2])
    p = torch.tensor([math.comb(6, c) for c in range(7)]) * (0.2 * (counts - 3 - shift) ** 2).exp()
    p, m = p / p.sum(), counts / 3 - 1
    centre = p @ m.abs() if is_even else p @ m
    torch.testing.assert_close(curves.susceptibility[0, 0, 0], 0.2 * 6 * (p @ m**2 - centre**2))


def test_groups_of_curves():
    batch = random_batch(5, 1.0, 1.0, seed=4)
    curves = thermodynamic_curves(batch, [0.5, 1.0], backend="exact", num_reads=46, seed=0)
    second = curves[1:]
    assert torch.equal(second.energy, curves.energy[1:])
    assert torch.equal(second.replicates["energy"], curves.replicates["energy"][:, 1:])
    assert torch.equal(second.error("energy"), curves.errors["energy"][1:])
    assert "1 x 6 queries at 2 β from 0.5 to 1, by reads of exact" in repr(second)
