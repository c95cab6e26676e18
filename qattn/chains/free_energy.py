r"""Free energies from energies sampled at many temperatures, with error bars.

The multistate Bennett acceptance ratio (Shirts and Chodera, J. Chem. Phys. 129, 124105 (2008)):
with N_k energies from each of the inverse temperatures β_k, the ln Z_k solve

.. math::
    Z_i = \sum_t \frac{e^{-\beta_i E_t}}{\sum_k N_k\, e^{-\beta_k E_t} / Z_k},

where t runs over the energies of all temperatures together. At β = 0 ln Z is n ln 2, which fixes
the common factor. The right side needs no more than the histogram of all energies (WHAM), whose
bins are so narrow that their width adds less than 1e-4.

Noise is taken out without bias by the control variate

.. math::
    D = \sum_j b_j \big(s_j - \tanh \beta_k b_j\big), \qquad b_j = h_j + \sum_i J_{ji} s_i,

of mean zero at β_k exactly (Callen's identity), which follows the energy: its mean over a run tells
all of the error of the mean energy at β = 0, and half of its variance at the glass transition of
Sherrington and Kirkpatrick's model.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from scipy import stats
from torch import Tensor

BIN_WIDTH = 0.02
"""Width of a bin in units of 1/β of the target. An energy is shared by the two nearest bins so that
its mean is kept; ln Z is then too large by at most width²/8."""

REPLICATES = 32
"""Replicates of the jackknife that are solved at a time."""

MAX_NEWTON_STEPS = 100
"""Steps after which the equations count as unsolvable; six are usual."""


@dataclass(frozen=True, eq=False)
class FreeEnergy:
    """What energies at many temperatures say about each problem.

    Attributes:
        betas: The inverse temperatures, in units of the target's; the first is 0, the last 1.
        log_Z: ln Z at each of them; nan for a problem whose temperatures' energies do not overlap.
        standard_error: Its standard error, from the differences between the sets of replicas.
        num_sets: Number R of independent sets; Student's t has R - 1 degrees of freedom.
        energies: For each problem, energies that occurred, ascending, ...
        probabilities: ... and their probabilities at β = 1.
    """

    betas: Float[Tensor, "problems temperatures"]
    log_Z: Float[Tensor, "problems temperatures"]
    standard_error: Float[Tensor, "problems temperatures"]
    num_sets: int
    energies: list[Tensor]
    probabilities: list[Tensor]

    def half_width(self, level: float = 0.95) -> Float[Tensor, "problems temperatures"]:
        """Half of the interval of ln Z at this level."""
        return self.standard_error * float(stats.t.ppf((1 + level) / 2, self.num_sets - 1))


class EnergyRecord:
    """Energies of a run at many temperatures, as they come: none is stored.

    Args:
        betas: Inverse temperatures of each problem, ascending from 0.
        num_sets: Number R ≥ 2 of independent sets of replicas.
    """

    def __init__(self, betas: Float[Tensor, "problems temperatures"], num_sets: int) -> None:
        P, K = betas.shape
        self.betas = betas.double()
        self.num_sets = num_sets
        self.num_sweeps = 0
        self._first_bin = 0
        self._histogram = torch.zeros(P, num_sets, 0, dtype=torch.float64)
        # Sums over sweeps: of energies and variates; over blocks: of products of their means.
        self._sums = torch.zeros(2, P, K, num_sets, dtype=torch.float64)
        self._blocks = 0
        self._block_sums = torch.zeros(2, P, K, num_sets, dtype=torch.float64)
        self._products = torch.zeros(2, P, K, dtype=torch.float64)

    def add(
        self,
        energies: Float[Tensor, "sweeps problems temperatures sets"],
        variates: Float[Tensor, "sweeps problems temperatures sets"],
    ) -> None:
        """Add the energies βE of a block of sweeps, and their control variates D.

        Args:
            energies: Energies at each temperature.
            variates: D of the same states. Blocks should be longer than autocorrelation times:
                their means say how far D follows the energy.
        """
        both = torch.stack([energies, variates]).double()
        self.num_sweeps += len(energies)
        self._blocks += 1
        self._sums += both.sum(1)
        means = both.mean(1)
        self._block_sums += means
        self._products += (means * means[1]).sum(-1)
        self._count(both[0])

    def _count(self, energies: Float[Tensor, "sweeps problems temperatures sets"]) -> None:
        position = energies / BIN_WIDTH
        lower = position.floor()
        share = position - lower
        index = lower.long() - self._first_bin
        # Room for energies beyond those seen so far.
        low, high = int(index.min()), int(index.max()) + 2 - self._histogram.shape[2]
        if not self._histogram.shape[2]:
            self._first_bin, high = self._first_bin + low, high - low
            index, low = index - low, 0
        elif low < 0:
            self._first_bin += low
            index = index - low
        grown = (max(0, -low), max(0, high))
        self._histogram = torch.nn.functional.pad(self._histogram, grown)
        rows = index.permute(1, 3, 0, 2).flatten(2)
        upper = share.permute(1, 3, 0, 2).flatten(2)
        self._histogram.scatter_add_(2, rows, 1 - upper).scatter_add_(2, rows + 1, upper)

    def free_energy(self, num_spins: Int[Tensor, " problems"]) -> FreeEnergy:
        """ln Z at each temperature, and the distribution of the energy at the last.

        Args:
            num_spins: Number n of spins of each problem: ln Z is n ln 2 at β = 0.
        """
        weights = self._trapezoids()
        # How far the energy follows D, from means of blocks: Cov(E, D) / Var(D).
        blocks = self._blocks * self.num_sets
        mean_E, mean_D = self._block_sums.sum(-1) / blocks
        with_E, with_D = self._products / blocks
        slope = (with_E - mean_E * mean_D) / (with_D - mean_D.square()).clamp_min(1e-300)
        results = [self._of_problem(p, weights[p], slope[p]) for p in range(len(self.betas))]
        log_Z, errors, energies, probabilities = zip(*results, strict=True)
        start = num_spins.double().unsqueeze(1) * torch.tensor(2.0, dtype=torch.float64).log()
        return FreeEnergy(
            self.betas,
            torch.stack(log_Z) + start,
            torch.stack(errors),
            self.num_sets,
            list(energies),
            list(probabilities),
        )

    def _trapezoids(self) -> Float[Tensor, "problems temperatures temperatures"]:
        """w_ik of the trapezoidal rule, ln Z_i - ln Z_0 ≈ -Σ_k w_ik ⟨E⟩_k."""
        K = self.betas.shape[1]
        half = self.betas.diff() / 2
        step = torch.nn.functional.pad(half, (0, 1)), torch.nn.functional.pad(half, (1, 0))
        i, k = torch.arange(K).unsqueeze(1), torch.arange(K)
        return step[0].unsqueeze(1) * (k < i) + step[1].unsqueeze(1) * (k <= i)

    def _of_problem(
        self, p: int, weights: Float[Tensor, "K K"], slope: Float[Tensor, " K"]
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """ln Z - ln Z_0, its standard error, energies, and their probabilities at β = 1."""
        R = self.num_sets
        # Replicates: all sets first, then all but one of them each.
        of_sets = self._histogram[p]
        total = of_sets.sum(0)
        occupied = total.nonzero().squeeze(1)
        counts = torch.cat([total[None], total - of_sets])[:, occupied].clamp_min(0)
        energies = (occupied + self._first_bin).double() * BIN_WIDTH
        sums = self._sums[:, p].permute(2, 0, 1)
        sums = torch.cat([sums.sum(0, keepdim=True), sums.sum(0) - sums])
        samples = self.num_sweeps * torch.tensor([R] + [R - 1] * R, dtype=torch.float64)
        mean_E, mean_D = (sums / samples[:, None, None]).unbind(1)
        # The replicates are near the solution with all sets, and differ from it as integrals do.
        start = -mean_E @ weights.mT
        solved = [solve_mbar(counts[:1], energies, self.betas[p], samples[:1], start[:1])]
        solved += [
            solve_mbar(
                counts[r], energies, self.betas[p], samples[r], solved[0] + start[r] - start[0]
            )
            for r in torch.arange(1, R + 1).split(REPLICATES)
        ]
        log_Z = torch.cat(solved)
        # An energy too high by slope·D makes ln Z too low by w·slope·D.
        corrected = log_Z + (slope * mean_D) @ weights.mT
        deleted = corrected[1:]
        variance = (deleted - deleted.mean(0)).square().sum(0) * (R - 1) / R
        density = log_weights(energies, self.betas[p], samples[:1], log_Z[:1])[0]
        log_p = counts[0].log() + density - energies
        return corrected[0], variance.sqrt(), energies, log_p.softmax(0)


def solve_mbar(
    counts: Float[Tensor, "replicates bins"],
    energies: Float[Tensor, " bins"],
    betas: Float[Tensor, " temperatures"],
    samples: Float[Tensor, " replicates"],
    log_Z: Float[Tensor, "replicates temperatures"],
) -> Float[Tensor, "replicates temperatures"]:
    """ln Z_k - ln Z_0 that solve the equations of MBAR, for several data at once.

    Args:
        counts: Numbers of energies in each bin, all temperatures together.
        energies: Energies of the bins.
        betas: The inverse temperatures.
        samples: Number N of energies from each temperature.
        log_Z: Where to start.

    Returns:
        The solution, or nan where there is none: neighbours do not overlap.
    """
    f = log_Z - log_Z[:, :1]
    for _ in range(MAX_NEWTON_STEPS):
        # p_bk: the probability that an energy in bin b is from temperature k.
        log_p = samples[:, None, None].log() - f.unsqueeze(1) - energies[:, None] * betas
        p = log_p.softmax(-1)
        weighted = p * counts.unsqueeze(-1)
        expected = weighted.sum(1)
        # Newton's step for the concave function -Σ_k N f_k - Σ_b counts_b ln Σ_k N e^(-f_k - β_k E)
        # of f = ln Z; f_0 stays 0. A step of more than 1 is cut: then it converges from anywhere.
        hessian = torch.diag_embed(expected) - weighted.mT @ p
        gradient = expected - samples.unsqueeze(1)
        step, _ = torch.linalg.solve_ex(hessian[:, 1:, 1:], gradient[:, 1:])
        size = step.abs().amax(1, keepdim=True)
        f = f + torch.nn.functional.pad(step / size.clamp_min(1), (1, 0))
        if not bool((size > 1e-9).any()):  # of nan too: there is no solution
            return f
    return torch.where(size > 1e-6, torch.nan, f)


def log_weights(
    energies: Float[Tensor, " bins"],
    betas: Float[Tensor, " temperatures"],
    samples: Float[Tensor, " replicates"],
    log_Z: Float[Tensor, "replicates temperatures"],
) -> Float[Tensor, "replicates bins"]:
    """-ln Σ_k N e^(-β_k E) / Z_k: what an energy counts for the density of states."""
    exponents = samples[:, None, None].log() - log_Z.unsqueeze(1) - energies[:, None] * betas
    return -exponents.logsumexp(-1)
