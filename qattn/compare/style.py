"""How samplers are told apart in pictures."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#000000", "#999999")
"""Okabe and Ito's palette, told apart by colour-blind eyes; markers and dashes differ too."""

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


def legend_above(figure: "Figure", axes: Any, entries: int) -> None:
    """The legend of these axes above the whole figure."""
    handles, labels = axes.get_legend_handles_labels()
    columns = 2 if max(map(len, labels)) > 24 else min(entries, 4)
    figure.legend(handles, labels, loc="outside upper center", ncols=columns, fontsize=8)
