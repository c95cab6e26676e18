"""Colours, markers, axes and legends that the figures of a comparison share."""

import math
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Okabe and Ito's palette, safe for colour-blind readers; markers and dashes differ too."""

MARKERS = "osD^vPX*<"
"""One more than colours, so that their pairs repeat late."""


def style(index: int) -> dict[str, Any]:
    """Colour and marker of the sampler at this place."""
    return {"color": COLOURS[index % len(COLOURS)], "marker": MARKERS[index % len(MARKERS)]}


def wrapped(label: str) -> str:
    """A long label on several lines, for the title of a panel."""
    lines, line = [], ""
    for piece in label.replace(":", ":\n", 1).replace(" + ", "\n+ ").splitlines():
        for part in piece.split(","):
            if line and len(line) + len(part) > 24:
                lines.append(line)
                line = ""
            line += ("," if line else "") + part
        lines.append(line)
        line = ""
    return "\n".join(lines)


def logarithmic(axes: Any, name: str) -> None:
    """A logarithmic axis, "x" or "y", with ticks at 1, 2 and 5."""
    from matplotlib.ticker import LogLocator, NullFormatter

    axes.set(**{f"{name}scale": "log"})
    axis = getattr(axes, f"{name}axis")
    axis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    axis.set_major_formatter("{x:g}")
    axis.set_minor_formatter(NullFormatter())


def legend_above(figure: "Figure", axes: Any) -> None:
    """The legend of these axes above the whole figure, in rows of about equal length."""
    handles, labels = axes.get_legend_handles_labels()
    fitting = max(1, int(13 * figure.get_figwidth() / (max(map(len, labels)) + 7)))
    columns = math.ceil(len(labels) / math.ceil(len(labels) / fitting))
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)
