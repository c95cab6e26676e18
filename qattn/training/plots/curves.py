"""Learning curves."""

from typing import TYPE_CHECKING, Any

from qattn.training.plots.panels import grid_of_axes
from qattn.training.tasks import Task

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


def learning_curves(records: list[dict[str, Any]], task: Task, title: str) -> "Figure":
    """Training loss, and validation loss and metric, against steps.

    The loss is drawn against QPU time too, where a QPU was used. Of an ensemble the mean with its
    95% interval as a band, and the members as thin lines. Dotted lines are the task's references.
    """
    paid = [r for r in records if "loss" in r and "qpu_seconds" in r]
    figure, (row,) = grid_of_axes(1, 3 if paid else 2, 4.6, 3.6)
    left, right = row[:2]
    _curve(left, records, "loss", "training")
    _curve(left, records, "validation_loss", "validation")
    _curve(right, records, task.metric, "validation")
    left.set_ylabel("cross-entropy (nats)")
    right.set_ylabel(f"validation {task.metric}")
    for axes, name in ((left, "loss"), (right, task.metric)):
        axes.set_xlabel("step")
        for label, level in task.references().get(name, {}).items():
            axes.axhline(level, color="black", linestyle=":", linewidth=1, label=label)
    if paid:
        _curve(row[2], paid, "loss", "training", against="qpu_seconds")
        row[2].set_xlabel("QPU access time (s)")
        row[2].set_ylabel("cross-entropy (nats)")
    for axes in row:
        axes.grid(alpha=0.3)
        axes.locator_params(axis="x", integer=axes is not row[-1] or not paid)
        axes.legend(fontsize=8)
    figure.suptitle(title, fontsize=10)
    return figure


def _curve(
    axes: "Axes", records: list[dict[str, Any]], name: str, label: str, against: str = "step"
) -> None:
    rows = [r for r in records if name in r]
    x = [r[against] for r in rows]
    (line,) = axes.plot(x, [r[name] for r in rows], label=label, marker=".", markersize=4)
    if rows and f"{name}_members" in rows[0]:
        low, high = zip(*(r[f"{name}_interval"] for r in rows), strict=True)
        axes.fill_between(x, low, high, color=line.get_color(), alpha=0.2, linewidth=0)
        members = [r[f"{name}_members"] for r in rows]
        axes.plot(x, members, color=line.get_color(), linewidth=0.5, alpha=0.5)
