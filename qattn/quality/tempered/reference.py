"""The reference of problems that are neither small nor sparse: long parallel tempering."""

import warnings
from collections.abc import Callable

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from qattn.chains import EquilibriumWarning
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import EnergyDistribution
from qattn.quality.reference import Reference, present_pairs
from qattn.quality.split import part_of
from qattn.quality.tempered import run, stored

TEMPERING_SWEEPS = 10_000
"""Sweeps of the measurement by default: a minute or two for ten problems of 100 spins."""


def tempered_reference(
    problems: IsingBatch,
    direction: Float[Tensor, "problems n"],
    seed: int,
    num_sweeps: int = TEMPERING_SWEEPS,
    progress: Callable[[str], None] = lambda _: None,
) -> Reference:
    """The reference by parallel tempering, with error bars; problems that are on disk are read.

    Args:
        problems: The problems, one query a group, β = 1, float64.
        direction: Gradients that arrive at ⟨s⟩.
        seed: Seed of the run.
        num_sweeps: Sweeps of the measurement, and at most as many before it.
        progress: Called with a line now and then.

    Raises:
        ValueError: There are no sweeps.

    Warns:
        EquilibriumWarning: Problems did not reach equilibrium.
    """
    runs = long_runs_of(problems, direction, seed, num_sweeps, progress)
    return _reference(problems, direction, runs)


def long_runs_of(
    problems: IsingBatch,
    direction: Float[Tensor, "problems n"],
    seed: int,
    num_sweeps: int = TEMPERING_SWEEPS,
    progress: Callable[[str], None] = lambda _: None,
) -> list[stored.LongRun]:
    """A long run of each problem, read from disk or kept there; as :func:`tempered_reference`.

    Raises:
        ValueError: There are no sweeps.
    """
    if num_sweeps < 1:
        raise ValueError(f"Argument `tempering_sweeps` must be positive, but is {num_sweeps}.")
    files = [
        stored.file_of(h[0, :n].numpy(), J[:n, :n].numpy(), g[:n].numpy(), num_sweeps, seed)
        for h, J, g, n in zip(
            problems.h, problems.matrix, direction, problems.num_active[:, 0].tolist(), strict=True
        )
    ]
    runs = [stored.load(file) for file in files]
    missing = [p for p, found in enumerate(runs) if found is None]
    if missing:
        new = run.long_runs(
            part_of(problems, missing), direction[missing], num_sweeps, seed, progress
        )
        for p, found in zip(missing, new, strict=True):
            runs[p] = found
            stored.save(found, files[p])
    return [found for found in runs if found is not None]


def _reference(problems: IsingBatch, direction: Tensor, runs: list[stored.LongRun]) -> Reference:
    n = problems.num_spins

    def padded(name: str) -> Tensor:
        """A value of each problem, 0 at absent spins."""
        rows = [torch.from_numpy(getattr(found, name)) for found in runs]
        return torch.stack(
            [torch.nn.functional.pad(row, (0, n - row.shape[-1]) * row.ndim) for row in rows]
        )

    adrift = tuple(p for p, found in enumerate(runs) if not found.in_equilibrium)
    if adrift:
        worst = min(adrift, key=lambda p: runs[p].round_trips)
        warnings.warn(
            f"Parallel tempering is not known to be in equilibrium for problem"
            f"{'s' * (len(adrift) > 1)} {', '.join(map(str, adrift))} of {len(runs)} (from 0; "
            f"problem {worst} made {runs[worst].round_trips:.3g} round trips, of "
            f"{run.ROUND_TRIPS}, and has z² {runs[worst].z2:.3g}): what reads are compared with "
            f"may be off. More sweeps may help: argument `tempering_sweeps`, now "
            f"{runs[worst].num_sweeps}.",
            EquilibriumWarning,
            stacklevel=4,
        )

    def draw(num_reads: int, seed: int) -> SpinSamples:
        rng = np.random.default_rng(seed)
        spins = torch.zeros(len(runs), 1, num_reads, n, dtype=torch.int8)
        for p, found in enumerate(runs):
            chosen = found.reads[rng.integers(len(found.reads), size=num_reads)]
            spins[p, 0, :, : chosen.shape[1]] = torch.from_numpy(chosen)
        return SpinSamples(spins)

    return Reference(
        problems,
        "parallel tempering",
        padded("mean"),
        padded("pairs"),
        present_pairs(problems),
        tuple(EnergyDistribution(found.energies, found.probabilities) for found in runs),
        direction,
        padded("gradient_h"),
        padded("gradient_J"),
        torch.tensor([found.log_Z[-1] for found in runs], dtype=torch.float64),
        draw,
        mean_error=padded("mean_error"),
        pairs_error=padded("pairs_error"),
        log_Z_error=torch.tensor([found.log_Z_error[-1] for found in runs], dtype=torch.float64),
        not_in_equilibrium=adrift,
    )
