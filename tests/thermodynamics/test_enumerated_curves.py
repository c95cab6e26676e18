"""Exact curves against sums over states that are written differently."""

import torch
from _support.brute_force import all_states, random_batch

from qattn import IsingBatch
from qattn.thermodynamics import QUANTITIES, thermodynamic_curves


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
        "cross_susceptibility": (covariance.fill_diagonal_(0)**2).sum() / n,
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
