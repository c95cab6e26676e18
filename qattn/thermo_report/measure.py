"""From queries to what a report holds of them: averages of curves, their peaks, and regimes."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.couplings import Banded
from qattn.ising.batch import IsingBatch
from qattn.thermo_report.averages import (
    AnyCurves,
    average,
    selected,
    summed,
    system,
    with_working_point,
)
from qattn.thermo_report.queries import POSITIONS, SEQUENCES, LayerQueries, queries_of_run
from qattn.thermo_report.results import Average, Section
from qattn.thermodynamics import (
    REGIMES,
    correlations_by_distance,
    positions_held,
    regimes_of,
    softmax_curves,
    thermodynamic_curves,
)

Progress = Callable[[str], object]


def thermo_of_problems(
    sets: Mapping[str, IsingBatch],
    betas: Float[Tensor, " betas"],
    *,
    progress: Progress = lambda _: None,
    **reads: Any,
) -> Section:
    """Curves of sets of problems, a system for each set.

    Args:
        sets: Problems by name.
        betas: Values of β, in units of the problems' own; 1, the working point, is added.
        progress: Called with a line before each part of the work.
        reads: `backend`, `num_reads` and `seed` of
            :func:`qattn.thermodynamics.thermodynamic_curves`.

    Raises:
        ValueError: There are fewer than three positive values of β, or nothing is exact for the
            couplings and there is no backend.
    """
    betas, systems = with_working_point(betas), []
    for name, batch in sets.items():
        progress(f"{name}: curves")
        curves = thermodynamic_curves(batch, betas, **reads)
        systems.append(replace(system(name, curves), correlations=_correlations(batch, **reads)))
    return Section("Problems", [systems])


def thermo_of_run(
    folder: Path,
    betas: Float[Tensor, " betas"],
    *,
    sequences: int = SEQUENCES,
    positions: int = POSITIONS,
    member: int = 0,
    seed: int = 0,
    progress: Progress = lambda _: None,
    **reads: Any,
) -> Section:
    """Curves, regimes and correlations of every layer and head of a trained run.

    Args:
        folder: The run's folder.
        betas: Values of β, in units of each head's own; 1, the working point, is added.
        sequences: Validation sequences whose queries are taken.
        positions: Queries of each of them.
        member: Which seed of an ensemble.
        seed: Seed of the sequences and of reads.
        progress: Called with a line before each part of the work.
        reads: `backend` and `num_reads` of :func:`qattn.thermodynamics.thermodynamic_curves`.

    Raises:
        FileNotFoundError: The folder is not one of a run, or it has no checkpoint.
        ValueError: A number is not positive, or there are fewer than three positive values of β.
    """
    betas = with_working_point(betas)
    section = Section(str(folder), [])
    layers = queries_of_run(
        folder, sequences=sequences, positions=positions, member=member, seed=seed
    )
    for number, layer in enumerate(layers):
        progress(f"{folder.name}: layer {number}")
        batch, groups = layer.batch, layer.heads
        curves: AnyCurves = (
            softmax_curves(layer.scores, betas)
            if batch is None
            else thermodynamic_curves(batch, betas, seed=seed, **reads)
        )
        heads = []
        for head in range(len(layer.scores)):
            chosen = groups == head
            of_head = system(f"{number}.{head}", selected(curves, chosen))
            attended, shares = _regimes(layer, head)
            correlations = None
            if batch is not None:
                models = _of_groups(batch, chosen)
                correlations = _correlations(models, seed=seed, **reads)
            heads.append(
                replace(
                    of_head,
                    label=f"head {head}",
                    attended=attended,
                    regimes=shares,
                    correlations=correlations,
                )
            )
        section.rows.append(heads)
        joined = summed(curves, int(groups.max()) + 1)
        section.together.append(system(f"{number}, all", joined, peaks=("heat_capacity",)))
        if batch is not None and not _is_uncoupled(batch):
            free = thermodynamic_curves(_without_couplings(batch), betas, seed=seed)
            section.uncoupled.append(
                system(f"{number}, J = 0", free, peaks=("heat_capacity", "susceptibility"))
            )
    return section


def _regimes(layer: LayerQueries, head: int) -> tuple[float, dict[str, float]]:
    """Median number of positions that hold 0.9 of the weight; shares of the regimes."""
    weights, present = layer.weights[head], layer.scores[head] > -torch.inf
    found = regimes_of(weights, present=present)
    known = max(int((found >= 0).sum()), 1)
    shares = {name: int((found == i).sum()) / known for i, name in enumerate(REGIMES)}
    return float(positions_held(weights).double().quantile(0.5)), shares


def _is_uncoupled(batch: IsingBatch) -> bool:
    return isinstance(batch.J, Banded) and not batch.J.width


def _without_couplings(batch: IsingBatch) -> IsingBatch:
    free = Banded(batch.h.new_zeros(batch.num_groups, batch.num_spins, 0))
    return replace(batch, J=free, validate=True)


def _of_groups(batch: IsingBatch, groups: Tensor) -> IsingBatch:
    lengths = torch.from_numpy(batch.num_active.copy())[groups]
    beta = batch.beta
    beta = beta[groups] if isinstance(beta, Tensor) and beta.ndim else beta
    return IsingBatch(batch.h[groups], batch.J[groups], lengths, beta)


def _correlations(batch: IsingBatch, **reads: Any) -> Average:
    """The mean over the queries' connected correlations at each distance from 1 on."""
    found = correlations_by_distance(batch, **reads)
    values, errors = (x.flatten(0, 1)[:, 1:] for x in (found.values, found.errors))
    return average(values, errors.nan_to_num())
