"""Attention weights, and the bias of position that goes into them."""

from typing import TYPE_CHECKING, Literal

import numpy as np
from jaxtyping import Float
from torch import Tensor

from qattn.training.plots.panels import LARGEST_NAMED, grid_of_axes, label_edges

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def attention_weights(
    weights: list[Float[Tensor, "heads n n"]], names: list[str], title: str
) -> "Figure":
    """Attention weights of one example: every layer (rows) and head (columns).

    Positions that a query cannot see are grey. The colours end at the 99th percentile of the
    weights, so that one outlier does not darken all others.
    """
    figure, grid = grid_of_axes(len(weights), len(weights[0]), 2.6, 2.6, layout="compressed")
    seen = np.tril(np.ones((len(names), len(names)), dtype=bool))
    values = np.concatenate([w.numpy()[:, seen].ravel() for w in weights])
    limit = float(np.quantile(values, 0.99)) or 1.0
    ticks, size = range(len(names)), 7 if len(names) <= 16 else 4
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            shown = np.ma.masked_where(~seen, weights[layer][head].numpy())
            image = axes.imshow(shown, cmap="viridis", vmin=0, vmax=limit)
            axes.set_facecolor("lightgrey")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            if len(names) <= LARGEST_NAMED:
                axes.set_xticks(ticks, names, fontsize=size)
                axes.set_yticks(ticks, names, fontsize=size)
    label_edges(grid, "key token", "query token")
    extend = "max" if values.max() > limit else "neither"
    figure.colorbar(image, ax=grid, label="attention weight $w_{ij}$", extend=extend)
    figure.suptitle(f"{title}\nvalidation example {''.join(names[:LARGEST_NAMED])}", fontsize=10)
    return figure


def position_biases(values: list[Tensor], title: str) -> "Figure":
    """Bias of the scores of every layer (rows) and head (columns).

    Against the distance of query and position; or by query and position, those that a causal query
    cannot see grey.
    """
    relative = values[0].ndim == 2
    limit = max(float(v.abs().max()) for v in values) or 1.0
    layout: Literal["constrained", "compressed"] = "constrained" if relative else "compressed"
    figure, grid = grid_of_axes(
        len(values), len(values[0]), 2.6, 2.2 if relative else 2.6, layout, share=relative
    )
    for layer, row in enumerate(grid):
        for head, axes in enumerate(row):
            bias = values[layer][head].numpy()
            if relative:
                axes.axhline(0, color="black", linewidth=0.5)
                axes.plot(bias, ".-", markersize=4)
                axes.grid(alpha=0.3)
            else:
                seen = np.tril(np.ones_like(bias, dtype=bool))
                shown = np.ma.masked_where(~seen, bias)
                image = axes.imshow(shown, cmap="RdBu_r", vmin=-limit, vmax=limit)
                axes.set_facecolor("lightgrey")
            axes.set_title(f"layer {layer}, head {head}", fontsize=9)
            axes.locator_params(integer=True, axis="x" if relative else "both")
    if relative:
        label_edges(grid, "distance i − j", "bias of the score")
    else:
        label_edges(grid, "position j", "query i")
        figure.colorbar(image, ax=grid, label="bias of the score")
    figure.suptitle(title, fontsize=10)
    return figure
