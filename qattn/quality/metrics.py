r"""The figures of merit of reads, problem by problem.

Each is zero for perfect knowledge of the distribution and has a noise floor for a finite number of
reads; :mod:`qattn.quality.judge` puts the two side by side.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from scipy import stats
from torch import Tensor

from qattn.estimators import DEFAULT_ESTIMATOR
from qattn.ising.samples import SpinSamples
from qattn.pseudolikelihood import fit_betas_of_each
from qattn.quality.autocorrelation import integrated_time
from qattn.quality.reference import Reference, estimated_gradients, is_quadratic
from qattn.quality.split import part_of
from qattn.quality.states import distances

CHUNK_ELEMENTS = 1 << 22
"""Spins of reads that are converted to float64 at a time."""

VANISHING = 1e-9
"""Norm of a gradient that is nothing but rounding."""

Values = dict[str, Float[Tensor, " problems"]]


@dataclass(frozen=True)
class Metric:
    """One figure of merit.

    Attributes:
        label: Its name in tables and plots, with its unit.
        over_problems: How the problems' values become one.
        meaning: What it is, in a sentence.
        needs_exact: Whether a long run, whose reads are drawn again and again, cannot stand in.
    """

    label: str
    over_problems: Literal["rms", "mean", "size of mean", "max", "median"]
    meaning: str
    needs_exact: bool = False


METRICS: Mapping[str, Metric] = {
    "mean_rms": Metric("⟨s⟩ error, rms", "rms", "Root mean square error of ⟨s_j⟩ over the spins."),
    "mean_worst": Metric("⟨s⟩ error, worst", "max", "Largest error of any ⟨s_j⟩."),
    "pair_rms": Metric(
        "⟨ss⟩ error, rms",
        "rms",
        "Root mean square error of ⟨s_j s_k⟩, j < k; of sparse J and bands, coupled pairs.",
    ),
    "pair_worst": Metric("⟨ss⟩ error, worst", "max", "Largest error of any ⟨s_j s_k⟩."),
    "total_variation": Metric(
        "total variation", "mean", "½ Σ_s |frequency - probability|; plug-in, biased upwards.", True
    ),
    "kl": Metric(
        "KL (nats)",
        "size of mean",
        "Kullback-Leibler divergence of the reads' distribution from the exact one, corrected.",
        True,
    ),
    "energy_distance": Metric(
        "energy distance (1/β)", "mean", "First Wasserstein distance of the energies."
    ),
    "beta_h": Metric("|β_h - 1|, median", "median", "Error of the fitted temperature of fields."),
    "beta_J": Metric(
        "|β_J - 1|, median", "median", "Error of the fitted temperature of couplings."
    ),
    "gradient_h": Metric(
        "gradient error, h", "rms", "Error of dL/dh for random dL/d⟨s⟩, over its typical size."
    ),
    "gradient_J": Metric(
        "gradient error, J", "rms", "Error of dL/dJ for random dL/d⟨s⟩, over its typical size."
    ),
    "autocorrelation": Metric(
        "autocorrelation time (reads)", "mean", "Integrated time of spins or energy, the longer."
    ),
}
"""All figures by name; the last has 1 for its ideal, the others 0."""


@torch.no_grad()
def measure(
    samples: SpinSamples, reference: Reference, *, estimator: str = DEFAULT_ESTIMATOR
) -> Values:
    """Every figure that applies, of reads that are split by problem.

    A figure without a value is nan: a β that a problem's reads do not fix, an autocorrelation of
    reads whose order is lost (weighted ones) or that never vary.

    Args:
        samples: Reads of ``reference.batch``.
        reference: What they are compared with.
        estimator: How reads become gradients.
    """
    problems, _, reads, n = samples.spins.shape
    values = {
        name: torch.full((problems,), torch.nan, dtype=torch.float64)
        for name, metric in METRICS.items()
        if reference.is_exact or not metric.needs_exact
    }
    size = max(1, CHUNK_ELEMENTS // (reads * n))
    for start in range(0, problems, size):
        part = slice(start, start + size)
        weights = None if samples.weights is None else samples.weights[part]
        chunk = SpinSamples(samples.spins[part], weights)
        figures = _gradients(chunk, reference, part, estimator)
        for group in (_moments, _states, _energies, _temperatures, _order):
            figures |= group(chunk, reference, part)
        for name, value in figures.items():
            values[name][part] = value
    return values


def _moments(samples: SpinSamples, reference: Reference, part: slice) -> Values:
    active = reference.batch.active.expand_as(reference.batch.h)[part, 0]
    pairs = reference.known_pairs[part].tril(-1).flatten(1)
    of_mean = (samples.mean_spins(torch.float64)[:, 0] - reference.mean[part]) * active
    of_pairs = (samples.pair_correlations(torch.float64)[:, 0] - reference.pairs[part]).flatten(1)
    of_pairs = of_pairs * pairs
    # A single spin has no pairs: 0/0.
    return {
        "mean_rms": (of_mean.square().sum(1) / active.sum(1)).sqrt(),
        "mean_worst": of_mean.abs().amax(1),
        "pair_rms": (of_pairs.square().sum(1) / pairs.sum(1)).sqrt(),
        "pair_worst": of_pairs.abs().amax(1),
    }


def _states(samples: SpinSamples, reference: Reference, part: slice) -> Values:
    if reference.log_Z is None or not reference.is_exact:
        return {}
    log_p = -part_of(reference.batch, part).energies(samples.spins)[:, 0]
    variation, divergence = distances(samples, log_p - reference.log_Z[part].unsqueeze(1))
    return {"total_variation": variation, "kl": divergence}


def _energies(samples: SpinSamples, reference: Reference, part: slice) -> Values:
    of_reads = part_of(reference.batch, part).energies(samples.spins)[:, 0].numpy()
    weights = None if samples.weights is None else samples.weights[:, 0].double().numpy()
    distance = [
        stats.wasserstein_distance(
            energies, exact.values, None if weights is None else weights[p], exact.probabilities
        )
        for p, (energies, exact) in enumerate(zip(of_reads, reference.energies[part], strict=True))
    ]
    return {"energy_distance": torch.tensor(distance, dtype=torch.float64)}


def _temperatures(samples: SpinSamples, reference: Reference, part: slice) -> Values:
    beta, _ = fit_betas_of_each(*regression(samples, reference, part))
    error = (beta - 1).abs()
    return {"beta_h": error[:, 0], "beta_J": error[:, 1]}


def _gradients(samples: SpinSamples, reference: Reference, part: slice, estimator: str) -> Values:
    if float(samples.counts().min()) < 2:
        return {}
    batch, direction = part_of(reference.batch, part), reference.direction[part]
    of_h, of_J = estimated_gradients(samples, batch, direction, estimator)
    if isinstance(batch.J, Tensor):
        of_J = of_J * reference.known_pairs[part]
    size_h = _typical_size(reference.gradient_h)
    size_J = _typical_size(reference.gradient_J.flatten(1))
    error_J = (of_J - reference.gradient_J[part]).flatten(1)
    return {
        "gradient_h": (of_h - reference.gradient_h[part]).square().sum(1).sqrt() / size_h,
        "gradient_J": error_J.square().sum(1).sqrt() / size_J,
    }


def _typical_size(gradient: Float[Tensor, "problems values"]) -> float:
    """Root mean square norm; 1 where the gradient vanishes, as that in J does without fields."""
    size = float(gradient.square().sum(1).mean().sqrt())
    return size if size > VANISHING else 1.0


def _order(samples: SpinSamples, reference: Reference, part: slice) -> Values:
    if samples.weights is not None or samples.num_reads < 2:
        return {}
    energies = part_of(reference.batch, part).energies(samples.spins)
    # Of short chains too: what is too short is decided for all problems together (Quality).
    of_spins = integrated_time(samples.spins[:, 0].double(), least=0.0)
    of_energy = integrated_time(energies[:, 0].unsqueeze(-1), least=0.0)
    return {"autocorrelation": torch.fmax(of_spins, of_energy)}


def regression(
    samples: SpinSamples, reference: Reference, part: slice = slice(None)
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Arguments of :func:`qattn.pseudolikelihood.fit_betas` for a slice of the problems.

    An interaction that is that of no matrix has no β_J: then there is nothing to fit.
    """
    batch = part_of(reference.batch, part)
    spins = samples.spins[:, 0].double()
    weights = spins.new_ones(spins.shape[:2]) if samples.weights is None else samples.weights[:, 0]
    active = batch.active.expand_as(batch.h)[:, 0]
    if not is_quadratic(batch):
        nothing = batch.h.new_zeros(len(spins), batch.num_spins, batch.num_spins)
        return nothing[:, 0], nothing, spins, weights.double(), active
    batch = batch.dense()
    return batch.h[:, 0], batch.matrix, spins, weights.double(), active
