"""From queries to what a report holds of them: averages of curves, their peaks, and regimes."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.thermo_report.quantities import EXTENSIVE, ISING, SOFTMAX
from qattn.thermo_report.queries import POSITIONS, SEQUENCES, LayerQueries, queries_of_run
from qattn.thermo_report.results import Average, Section, System
from qattn.thermodynamics import (
    REGIMES,
    Curves,
    SoftmaxCurves,
    correlations_by_distance,
    critical_beta,
    positions_held,
    regimes,
    softmax_curves,
    thermodynamic_curves,
)

Progress = Callable[[str], object]


def thermo_of_problems(
    sets: Mapping[str, IsingBatch],
    betas: Float[Tensor, " betas"],
    progress: Progress = lambda _: None,
) -> Section:
    """Curves of sets of problems, a system for each set.

    Args:
        sets: Problems by name.
        betas: Values of β, in units of the problems' own; 1, the working point, is added.
        progress: Called with a line before each part of the work.

    Raises:
        ValueError: There are fewer than three positive values of β.
    """
    betas, systems = with_working_point(betas), []
    for name, batch in sets.items():
        progress(f"{name}: curves")
        curves = thermodynamic_curves(batch, betas)
        systems.append(replace(system(name, curves), correlations=_correlations(batch)))
    return Section("Problems", [systems])


def thermo_of_run(
    folder: Path,
    betas: Float[Tensor, " betas"],
    *,
    sequences: int = SEQUENCES,
    positions: int = POSITIONS,
    seed: int = 0,
    progress: Progress = lambda _: None,
) -> Section:
    """Curves, regimes and correlations of every layer and head of a trained run.

    Args:
        folder: The run's folder.
        betas: Values of β, in units of each head's own; 1, the working point, is added.
        sequences: Validation sequences whose queries are taken.
        positions: Queries of each of them.
        seed: Seed of the sequences.
        progress: Called with a line before each part of the work.

    Raises:
        FileNotFoundError: The folder is not one of a run, or it has no checkpoint.
        ValueError: A number is not positive, or there are fewer than three positive values of β.
    """
    betas, rows, together = with_working_point(betas), [], []
    layers = queries_of_run(folder, sequences=sequences, positions=positions, seed=seed)
    for number, layer in enumerate(layers):
        progress(f"{folder.name}: layer {number}")
        batch, groups = layer.batch, layer.heads
        curves = (
            softmax_curves(layer.scores, betas)
            if batch is None
            else thermodynamic_curves(batch, betas)
        )
        heads = []
        for head in range(len(layer.scores)):
            name, chosen = f"layer {number}, head {head}", groups == head
            of_head = system(name, selected(curves, chosen))
            attended, shares = _regimes(layer, head)
            correlations = None if batch is None else _correlations(_of_groups(batch, chosen))
            heads.append(
                replace(of_head, attended=attended, regimes=shares, correlations=correlations)
            )
        rows.append(heads)
        joined = summed(curves, int(groups.max()) + 1)
        together.append(system(f"layer {number}, all heads", joined, peaks=("heat_capacity",)))
    return Section(str(folder), rows, together)


def with_working_point(betas: Float[Tensor, " betas"]) -> Float[Tensor, " more_betas"]:
    """The values of β with 1 among them, ascending, in float64.

    Raises:
        ValueError: There are fewer than three, or one is not positive.
    """
    if len(betas) < 3 or not bool(((betas > 0) & betas.isfinite()).all()):
        raise ValueError(
            f"Argument `betas` must have three positive numbers or more, but is {betas.tolist()}."
        )
    betas = betas.double()
    near = (betas - 1).abs() < 1e-9  # 1 but for rounding
    return torch.cat([betas[~near], betas.new_ones(1)]).unique()


def system(
    name: str, curves: Curves | SoftmaxCurves, peaks: tuple[str, ...] | None = None
) -> System:
    """The averages of curves over all queries.

    Args:
        name: Name of the system.
        curves: Its curves.
        peaks: Quantities whose peaks are looked for; None for all that have one.
    """
    kind = "ising" if isinstance(curves, Curves) else "softmax"
    drawn = ISING if kind == "ising" else SOFTMAX
    if peaks is None:
        peaks = tuple(name for name, quantity in drawn.items() if quantity.peaks)
    sizes = curves.sizes.flatten()
    units = {"n": sizes, "log n": sizes.double().log(), "": torch.ones_like(sizes)}
    errors = curves.errors if isinstance(curves, Curves) else {}
    averages = {
        quantity: average(
            getattr(curves, quantity).flatten(0, -2) / units[drawn[quantity].per].unsqueeze(-1),
            errors[quantity].flatten(0, -2) / units[drawn[quantity].per].unsqueeze(-1)
            if quantity in errors
            else None,
        )
        for quantity in drawn
    }
    work = int((curves.betas == 1).nonzero())
    return System(
        name=name,
        kind=kind,
        num_queries=len(sizes),
        sizes=(int(sizes.min()), int(sizes.max())),
        method="all positions" if isinstance(curves, SoftmaxCurves) else curves.method,
        betas=curves.betas.numpy(),
        curves=averages,
        critical={quantity: critical_beta(curves, quantity) for quantity in peaks},
        at_work={q: float(getattr(curves, q)[..., work].mean()) for q in EXTENSIVE},
    )


def average(
    values: Float[Tensor, "queries points"], errors: Float[Tensor, "queries points"] | None = None
) -> Average:
    """Mean and quartiles over queries, and the error of the mean; NaN are left out."""
    number = values.isfinite().sum(0).clamp_min(1)
    error = torch.zeros_like(values) if errors is None else errors
    low, high = (values.nanquantile(q, 0) for q in (0.25, 0.75))
    return Average(
        values.nanmean(0).numpy(),
        low.numpy(),
        high.numpy(),
        (error.square().nansum(0).sqrt() / number).numpy(),
    )


def selected(
    curves: Curves | SoftmaxCurves, groups: Float[Tensor, " groups"] | Tensor
) -> Curves | SoftmaxCurves:
    """The curves of some of the groups."""
    if isinstance(curves, Curves):
        return curves[groups]
    tables = {f.name: getattr(curves, f.name) for f in fields(curves) if f.name != "betas"}
    return replace(curves, **{name: table[groups] for name, table in tables.items()})


def summed(curves: Curves | SoftmaxCurves, heads: int) -> Curves | SoftmaxCurves:
    """The heads of each query as one system: independent, so that F, U, S and C add.

    Other quantities are those of the first head, and mean nothing.
    """
    first = torch.arange(len(curves.sizes)) % heads == 0
    added = {name: getattr(curves, name) for name in ("log_Z", *EXTENSIVE)}
    total = {name: _over_heads(values, heads) for name, values in added.items()}
    sizes = _over_heads(curves.sizes, heads)
    if isinstance(curves, SoftmaxCurves):
        return replace(selected(curves, first), num_positions=sizes, **total)
    errors = {name: e.square() for name, e in curves.errors.items() if name in added}
    replicates = {n: r.movedim(0, -1) for n, r in curves.replicates.items() if n in added}
    return replace(
        selected(curves, first),
        num_spins=sizes,
        errors={name: _over_heads(e, heads).sqrt() for name, e in errors.items()},
        replicates={n: _over_heads(r, heads).movedim(-1, 0) for n, r in replicates.items()},
        **total,
    )


def _over_heads(values: Tensor, heads: int) -> Tensor:
    """The sum over the heads of each query; groups are heads, or sequences and then heads."""
    return values.unflatten(0, (-1, heads)).sum(1)


def _regimes(layer: LayerQueries, head: int) -> tuple[float, dict[str, float]]:
    """Median number of positions that hold 0.9 of the weight; shares of the regimes."""
    weights, present = layer.weights[head], layer.scores[head] > -torch.inf
    found = regimes(weights, present=present)
    known = max(int((found >= 0).sum()), 1)
    shares = {name: int((found == i).sum()) / known for i, name in enumerate(REGIMES)}
    return float(positions_held(weights).double().quantile(0.5)), shares


def _of_groups(batch: IsingBatch, groups: Tensor) -> IsingBatch:
    lengths = torch.from_numpy(batch.num_active.copy())[groups]
    beta = batch.beta
    beta = beta[groups] if isinstance(beta, Tensor) and beta.ndim else beta
    return IsingBatch(batch.h[groups], batch.J[groups], lengths, beta)


def _correlations(batch: IsingBatch) -> Average:
    return average(correlations_by_distance(batch))
