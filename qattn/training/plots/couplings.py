"""Couplings that were learned, each structure in a picture of its own."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.couplings import Banded, Block, Cardinality, Couplings, LowRank
from qattn.training.plots.panels import LARGEST_NAMED, grid_of_axes, label_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LOWEST_LOG_PHI = -15.0
"""log φ down to which a picture shows a potential: counts below are as good as forbidden, and on a
scale that held them the others would look alike."""

Layers = Sequence[Tensor | Couplings]


def coupling_figures(
    learned: Layers, first: Layers, title: str, names: list[str] | None = None
) -> dict[str, "Figure"]:
    """The pictures of couplings by name.

    Args:
        learned: The couplings of each layer, of one sequence if they depend on it.
        first: They as they were at the start.
        title: Title of every picture.
        names: The tokens, if couplings depend on them.
    """
    kind = learned[0]
    if isinstance(kind, LowRank | Cardinality):
        x, y = "position j" if names is None else "token at position j", "$U_j$"
        values, at_start = ([_numbers(J) for J in layers] for layers in (learned, first))
        if isinstance(kind, Cardinality):
            # A constant means nothing: the weight of one attended position is the unit.
            values, at_start = ([_shown(v - v[:, 1:2]) for v in p] for p in (values, at_start))
            x, y = "number of attended positions", r"$\log\varphi$, 1 position = 0"
        return {"couplings": lines(values, at_start, x, y, title, names)}
    values, at_start = ([_matrix(J) for J in layers] for layers in (learned, first))
    figures = {"couplings": coupling_matrices(values, at_start, title)}
    if not isinstance(kind, Block):
        width = kind.width if isinstance(kind, Banded) else None
        figures["couplings_by_distance"] = couplings_by_distance(values, title, width)
    return figures


def lines(
    learned: Sequence[Float[Tensor, "heads places"]],
    first: Sequence[Float[Tensor, "heads places"]],
    x: str,
    y: str,
    title: str,
    names: list[str] | None = None,
) -> "Figure":
    """Numbers of every layer (rows) and head (columns), learned and as they were at the start."""
    figure, grid = grid_of_axes(len(learned), len(learned[0]), 2.6, 2.2, share=True)
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            axes.axhline(0, color="black", linewidth=0.5)
            start = first[layer][head].numpy()
            axes.plot(start, color="grey", linestyle="--", zorder=3, label="at the start")
            axes.plot(learned[layer][head].numpy(), ".-", markersize=4, label="learned")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.grid(alpha=0.3)
            if names is not None and len(names) <= LARGEST_NAMED:
                axes.set_xticks(range(len(names)), names, fontsize=7 if len(names) <= 16 else 4)
            else:
                axes.locator_params(axis="x", integer=True)
    grid[0][0].legend(fontsize=8)
    label_edges(grid, x, y)
    figure.suptitle(title, fontsize=10)
    return figure


def coupling_matrices(
    couplings: list[Float[Tensor, "heads n n"]],
    first: list[Float[Tensor, "heads n n"]],
    title: str,
) -> "Figure":
    """J of every layer and head (columns), learned and below it as it was at the start.

    One symmetric colour scale, so that what was learned can be told from what was there.
    """
    rows = [
        (f"layer {layer}, {when}", heads)
        for layer, pair in enumerate(zip(couplings, first, strict=True))
        for when, heads in zip(("learned", "at the start"), pair, strict=True)
    ]
    limit = max(float(J.abs().max()) for J in couplings) or 1.0
    figure, grid = grid_of_axes(len(rows), len(couplings[0]), 2.5, 2.5, layout="compressed")
    for (name, heads), line in zip(rows, grid, strict=True):
        for head, axes in enumerate(line):
            J = heads[head].numpy()
            image = axes.imshow(J, cmap="RdBu_r", vmin=-limit, vmax=limit)
            axes.set_title(f"{name}, head {head}", fontsize=8)
            axes.locator_params(integer=True)
    label_edges(grid, "position k", "position j")
    figure.colorbar(image, ax=grid, label="coupling $J_{jk}$")
    figure.suptitle(title, fontsize=10)
    return figure


def couplings_by_distance(
    couplings: Sequence[Float[Tensor, "heads n n"]], title: str, width: int | None = None
) -> "Figure":
    """Mean of J_jk over the n - d pairs at each distance d, with its standard error.

    A picture for each layer (rows) and head (columns), on one scale, up to the distance `width`. A
    pair that is alone at its distance has no standard error and stands as an open circle.
    """
    n = couplings[0].shape[-1]
    distances = range(1, n if width is None else min(n, width + 1))
    figure, grid = grid_of_axes(len(couplings), len(couplings[0]), 2.6, 2.2, share=True)
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            pairs = {d: couplings[layer][head].diagonal(d).numpy() for d in distances}
            mean = {d: p.mean() for d, p in pairs.items()}
            error = {d: p.std(ddof=1) / len(p) ** 0.5 for d, p in pairs.items() if len(p) > 1}
            many, alone = [*error], [d for d in distances if d not in error]
            axes.axhline(0, color="black", linewidth=0.5)
            axes.errorbar(
                many,
                [mean[d] for d in many],
                [*error.values()],
                fmt="o-",
                markersize=3,
                capsize=2,
            )
            axes.plot(alone, [mean[d] for d in alone], "o", color="C0", fillstyle="none")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.locator_params(axis="x", integer=True)
            axes.grid(alpha=0.3)
    label_edges(grid, f"distance d ({n} − d pairs)", "mean J ± standard error")
    figure.suptitle(title, fontsize=10)
    return figure


def _numbers(J: Tensor | Couplings) -> Tensor:
    return J.values if isinstance(J, Couplings) else J


def _shown(log_phi: Tensor) -> Tensor:
    return log_phi.masked_fill(log_phi < LOWEST_LOG_PHI, torch.nan)


def _matrix(J: Tensor | Couplings) -> Tensor:
    return J.dense() if isinstance(J, Couplings) else J
