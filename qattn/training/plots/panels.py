"""Grids of axes, one for each layer and head."""

from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from matplotlib.figure import Figure


LARGEST_NAMED = 64
"""Number of tokens up to which each is named."""


def grid_of_axes(
    rows: int,
    columns: int,
    width: float,
    height: float,
    layout: Literal["constrained", "compressed"] = "constrained",
    *,
    share: bool = False,
) -> tuple["Figure", Any]:
    """A figure, and its axes as an array; `width` and `height` are inches of one."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width * columns, height * rows), layout=layout)
    return figure, figure.subplots(rows, columns, squeeze=False, sharex=share, sharey=share)


def label_edges(grid: Any, x: str, y: str) -> None:
    """Label the x axes of the last row and the y axes of the first column."""
    for axes in grid[-1]:
        axes.set_xlabel(x, fontsize=9)
    for axes in grid[:, 0]:
        axes.set_ylabel(y, fontsize=9)
