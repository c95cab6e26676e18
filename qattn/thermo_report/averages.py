"""Averages of curves over queries, and heads as one system."""

from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn.thermo_report.quantities import EXTENSIVE, ISING, SOFTMAX
from qattn.thermo_report.results import Average, System
from qattn.thermodynamics import Curves, SoftmaxCurves, critical_beta

AnyCurves = Curves | SoftmaxCurves


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
    more: Tensor = torch.cat([betas[~near], betas.new_ones(1)]).unique()
    return more


def system(name: str, curves: AnyCurves, peaks: tuple[str, ...] | None = None) -> System:
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
        method="sums over positions" if isinstance(curves, SoftmaxCurves) else curves.method,
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


def selected(curves: AnyCurves, groups: Bool[Tensor, " groups"]) -> AnyCurves:
    """The curves of some of the groups."""
    if isinstance(curves, Curves):
        return curves[groups]
    tables = {f.name: getattr(curves, f.name) for f in fields(curves) if f.name != "betas"}
    return replace(curves, **{name: table[groups] for name, table in tables.items()})


def summed(curves: AnyCurves, heads: int) -> AnyCurves:
    """The heads of each query as one system: independent, so that F, U, S and C add.

    Other quantities are those of the first head, and mean nothing.
    """
    first = selected(curves, torch.arange(len(curves.sizes)) % heads == 0)
    added: dict[str, Tensor] = {name: getattr(curves, name) for name in ("log_Z", *EXTENSIVE)}
    total: dict[str, Any] = {name: _over_heads(values, heads) for name, values in added.items()}
    sizes = _over_heads(curves.sizes, heads)
    if not isinstance(curves, Curves) or not isinstance(first, Curves):
        assert isinstance(first, SoftmaxCurves)
        return replace(first, num_positions=sizes, **total)
    squares = {name: e.square() for name, e in curves.errors.items() if name in added}
    blocks_last = {n: r.movedim(0, -1) for n, r in curves.replicates.items() if n in added}
    return replace(
        first,
        num_spins=sizes,
        errors={name: _over_heads(e, heads).sqrt() for name, e in squares.items()},
        replicates={n: _over_heads(r, heads).movedim(-1, 0) for n, r in blocks_last.items()},
        **total,
    )


def _over_heads(values: Tensor, heads: int) -> Tensor:
    """The sum over the heads of each query; groups are heads, or sequences and then heads."""
    return torch.unflatten(values, 0, (-1, heads)).sum(1)
