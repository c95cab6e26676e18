"""Curves from reads at several temperatures agree with exact ones, as often as errors promise."""

import pytest
import torch
from scipy import stats

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import Backend
from qattn.couplings import Cardinality
from qattn.thermodynamics import (
    QUANTITIES,
    OverlapWarning,
    correlations_by_distance,
    critical_beta,
    overlap_distribution,
    thermodynamic_curves,
)
from qattn.thermodynamics.curves.jackknife import BLOCKS
from qattn.thermodynamics.curves.ladder import in_blocks

REPETITIONS = 100
BETAS = [0.3, 0.8, 1.3]
INSIDE = stats.t.ppf(0.975, BLOCKS - 1)
"""Standard errors from BLOCKS blocks within which 95 of 100 estimates are."""


class Hotter(Backend):
    """Exact reads of a tenth less β than they are asked for."""

    def sample(self, batch, *, num_reads, seed=None):
        return exact.sample(
            IsingBatch(batch.h, batch.J, batch.lengths, 0.9 * batch.beta), num_reads, seed
        )


class Aggregated(Backend):
    """Exact reads, equal ones as one row, in the order of their energies."""

    def sample(self, batch, *, num_reads, seed=None):
        samples = exact.sample(batch, num_reads, seed)
        G, Q, n = batch.h.shape
        spins = torch.zeros(G, Q, num_reads, n, dtype=torch.int8)
        weights = torch.zeros(G, Q, num_reads)
        for g in range(G):
            for q in range(Q):
                rows, counts = samples.spins[g, q].unique(dim=0, return_counts=True)
                spins[g, q, : len(rows)], weights[g, q, : len(rows)] = rows, counts.float()
        order = batch.energies(spins).argsort(-1)
        return SpinSamples(
            spins.gather(2, order[..., None].expand_as(spins)), weights.gather(2, order)
        )


class Weighted(Backend):
    """Thrown coins, each with the weight of its state."""

    def sample(self, batch, *, num_reads, seed=None):
        generator = torch.Generator().manual_seed(seed)
        shape = (batch.num_groups, batch.num_queries, num_reads, batch.num_spins)
        spins = torch.randint(0, 2, shape, generator=generator, dtype=torch.int8) * 2 - 1
        weights = (-batch.beta[:, None, None] * batch.energies(spins)).softmax(-1)
        return SpinSamples(spins, num_reads * weights)


def repeated(n, field, repetitions):
    """The same glass many times over, so that one call of a backend repeats its experiment."""
    generator = torch.Generator().manual_seed(3)
    J = torch.randn(1, n, n, generator=generator, dtype=torch.float64).triu(1) / n**0.5
    h = field * torch.randn(1, 1, n, generator=generator, dtype=torch.float64)
    return IsingBatch(h.repeat(1, repetitions, 1), J + J.mT)


def within(curves, right):
    """Of each quantity and β, how many of the repetitions have the exact value in their bars."""
    z = {
        name: (getattr(curves, name) - getattr(right, name)) / curves.errors[name]
        for name in QUANTITIES
    }
    return {name: (values.abs() < INSIDE).sum((0, 1)) for name, values in z.items()}


@pytest.mark.parametrize(
    "backend",
    [
        pytest.param("exact", id="exact"),
        pytest.param("gibbs", id="gibbs"),
        pytest.param(Aggregated(), id="rows"),
        pytest.param(Weighted(), id="weighted", marks=pytest.mark.slow),
        pytest.param(Hotter(), id="hotter"),
    ],
)
def test_exact_curves_lie_within_error_bars_in_95_of_100_repetitions(backend):
    # Binomial: 95 ± 2.2; at 5 sigma each of 36 numbers is 84 or more. χ_SG and what else is of
    # several states have errors that are too large, if anything.
    is_wrong = isinstance(backend, Hotter)  # the negative control
    batch = repeated(6, 0.5, 20 if is_wrong else REPETITIONS)
    right = thermodynamic_curves(repeated(6, 0.5, 1), BETAS)
    curves = thermodynamic_curves(batch, BETAS, backend=backend, num_reads=230, seed=5)
    inside = within(curves, right)
    if is_wrong:
        assert int(inside["energy"].max()) < 10
        return
    assert min(int(counts.min()) for counts in inside.values()) >= 84
    overall = torch.stack(list(inside.values())).double().mean()
    assert 92 < float(overall) <= 99


def test_reads_know_ln_z_without_their_temperatures_being_asked_for():
    # One β beyond a barrier: the ladder, not the asked β, must connect it with β = 0.
    batch = repeated(6, 0.0, 1)
    right = thermodynamic_curves(batch, [3.0])
    curves = thermodynamic_curves(batch, [3.0], backend="exact", num_reads=460, seed=1)
    assert "reads of exact at" in curves.method
    for name in ("log_Z", "energy", "entropy"):
        error = 5 * curves.errors[name] + 1e-9
        assert bool(((getattr(curves, name) - getattr(right, name)).abs() < error).all()), name


def test_temperatures_are_added_where_neighbours_do_not_overlap():
    # A ferromagnet of 40 spins fluctuates far more at its transition than at β = 0.
    n = 40
    J = (torch.ones(1, n, n, dtype=torch.float64) / n).triu(1)
    batch = IsingBatch(torch.zeros(1, 1, n, dtype=torch.float64), J + J.mT)
    curves = thermodynamic_curves(batch, [2.0, 8.0], backend="gibbs", num_reads=46, seed=0)
    exactly = thermodynamic_curves(counted(n), [2.0, 8.0], num_reads=0)
    assert bool(((curves.log_Z - exactly.log_Z).abs() < 6 * curves.errors["log_Z"]).all())


def counted(n):
    total = 2 * torch.arange(n + 1, dtype=torch.float64) - n
    return IsingBatch(
        torch.zeros(1, 1, n, dtype=torch.float64),
        Cardinality(((total**2 - n) / (2 * n)).unsqueeze(0), n),
    )


class Frozen(Backend):
    """All spins up: reads of no temperature."""

    def sample(self, batch, *, num_reads, seed=None):
        G, Q, n = batch.h.shape
        return SpinSamples(torch.ones(G, Q, num_reads, n, dtype=torch.int8))


def test_reads_that_do_not_overlap_are_said_to_be_unknown():
    batch = IsingBatch(torch.full((1, 1, 16), 3.0), torch.zeros(1, 16, 16))
    with pytest.warns(OverlapWarning, match="do not overlap for 1 of 1 queries"):
        curves = thermodynamic_curves(batch, [5.0], backend=Frozen(), num_reads=23, seed=0)
    assert bool(curves.log_Z.isnan().all())


def test_the_peaks_uncertainty_counts_the_reads():
    batch = repeated(6, 0.5, 1)
    betas = torch.linspace(0.4, 2.4, 11)
    right = critical_beta(thermodynamic_curves(batch, betas))
    found = critical_beta(
        thermodynamic_curves(batch, betas, backend="exact", num_reads=460, seed=2)
    )
    assert right.standard_error == 0
    assert 0 < found.standard_error < 0.5
    assert abs(found.value - right.value) < 5 * found.standard_error


def test_overlaps_and_correlations_from_reads():
    batch = repeated(6, 0.5, 4)
    for function, name in (
        (overlap_distribution, "probabilities"),
        (correlations_by_distance, "values"),
    ):
        right, found = function(batch), function(batch, backend="exact", num_reads=920, seed=4)
        z = (getattr(found, name) - getattr(right, name)) / found.errors
        # 5 sigma of Student's t with 22 degrees of freedom.
        assert float(z.abs().max()) < 7
        assert not bool((right.errors != 0).any())
        wrong = getattr(function(batch, beta=2.0), name)
        assert float(((getattr(found, name) - wrong) / found.errors).abs().max()) > 7


def test_rows_of_equal_reads_are_single_reads_in_blocks():
    spins = torch.tensor([[[[1, 1], [-1, -1]]]], dtype=torch.int8)
    rows, counts = in_blocks(
        SpinSamples(spins, torch.tensor([[[30.0, 10.0]]])), torch.Generator().manual_seed(0)
    )
    assert rows.shape[2] % BLOCKS == 0
    assert int(rows[0, 0, :, 0].sum()) == 20
    assert int((counts > 0).sum()) == 40
    assert float(counts.mean()) == pytest.approx(1)


def test_forbidden_states_and_wrong_numbers_are_refused():
    subset = IsingBatch(torch.zeros(1, 1, 3), Cardinality.subset(1, num_groups=1, num_spins=3))
    with pytest.raises(ValueError, match="their curves are exact"):
        thermodynamic_curves(subset, [1.0], backend="gibbs")
    batch = repeated(4, 0.5, 1)
    with pytest.raises(ValueError, match="`num_reads` must be positive, but is 0"):
        thermodynamic_curves(batch, [1.0], backend="exact", num_reads=0)
    for betas in ([], [2.0, 1.0], [-1.0, 1.0], [float("nan")]):
        with pytest.raises(ValueError, match="Argument `betas` must"):
            thermodynamic_curves(batch, betas)
