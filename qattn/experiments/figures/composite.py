"""How much the energies of heads say of each other."""

from typing import TYPE_CHECKING

import numpy as np

from qattn.experiments.figures.style import note_missing, place
from qattn.experiments.results import Results
from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def composite(results: Results) -> "Figure | None":
    """Size of the correlations over inputs of the energies of all heads, averaged over seeds.

    A panel for each training; lines part the layers.
    """
    shown = [t for t in results.trainings if t.measures.get("composite")]
    if not shown:
        return None
    figure, (row,) = grid_of_axes(1, len(shown), 3.4, 3.4, layout="compressed")
    for training, axes in zip(shown, row, strict=True):
        measured = training.measures["composite"]
        matrix = np.array(measured["correlations"], dtype=float)
        heads = len(matrix) // len(measured["correlation"][0])
        image = axes.imshow(matrix, cmap="Reds", vmin=0, vmax=1)
        for edge in range(heads, len(matrix), heads):
            for line in (axes.axhline, axes.axvline):
                line(edge - 0.5, color="black", linewidth=0.8)
        axes.set_title(", ".join(filter(None, (place(training), training.arm))), fontsize=9)
        axes.set(xlabel="head", ylabel="head")
        axes.locator_params(integer=True)
    figure.colorbar(image, ax=row, label="|correlation| of energies", shrink=0.8)
    note_missing(figure, results)
    return figure
