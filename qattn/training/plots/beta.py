"""The path of β along a training."""

from typing import TYPE_CHECKING, Any

import numpy as np

from qattn.training.plots.panels import grid_of_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def beta_paths(records: list[dict[str, Any]], title: str) -> "Figure":
    """β against the step, an axes for each layer and a line for each head.

    Of an ensemble the mean over members, in a band of one standard deviation. A ring is where a
    critical β stayed as it was for want of a peak, in one member at least. The dotted line is 1,
    the scale 1/√d of attention.
    """
    by_step = {record["step"]: record for record in records if "beta" in record}
    steps, rows = [*by_step], [*by_step.values()]
    paths = np.array([row.get("beta_members", [row["beta"]]) for row in rows])
    kept = np.array([row.get("beta_kept", np.zeros(paths.shape[2:])) for row in rows]) > 0
    figure, grid = grid_of_axes(1, paths.shape[2], 3.6, 3.2, share=True)
    for layer, axes in enumerate(grid[0]):
        for head in range(paths.shape[3]):
            members = paths[:, :, layer, head]
            mean, stays = members.mean(1), kept[:, layer, head]
            (line,) = axes.plot(steps, mean, ".-", markersize=4, label=f"head {head}")
            colour = line.get_color()
            if members.shape[1] > 1:
                sd = members.std(1, ddof=1)
                axes.fill_between(steps, mean - sd, mean + sd, color=colour, alpha=0.15)
            axes.plot(np.array(steps)[stays], mean[stays], "o", color=colour, fillstyle="none")
        axes.axhline(1, color="black", linestyle=":", linewidth=1)
        axes.set(xlabel="step", title=f"layer {layer}")
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", integer=True)
    grid[0][0].set_ylabel("inverse temperature β")
    grid[0][0].legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure
