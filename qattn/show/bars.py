"""A query over the positions: weights, their difference from those at J = 0, and fields."""

from typing import Any

from bokeh.models import (
    BasicTickFormatter,
    BoxAnnotation,
    ColumnDataSource,
    HoverTool,
    Range1d,
    Span,
)

from qattn.show.canvas import Canvas
from qattn.show.colours import ALONE, INK, WEIGHT

COLUMNS = ("x", "weight", "alone", "difference", "field", "pull")
WORDS = ("name", "colour", "sign")
"""Columns of the source that all three have: of numbers, and of words."""


class Bars:
    """The figures of a query, one above the other.

    Args:
        canvas: Where they belong.
    """

    def __init__(self, canvas: Canvas) -> None:
        T = len(canvas.names)
        self.canvas, self.shown = canvas, canvas.shown
        self.ends = Range1d(start=-0.7, end=T - 0.3)
        zeros = {name: [0.0] * T for name in COLUMNS}
        self.source = ColumnDataSource(zeros | {name: [""] * T for name in WORDS})
        canvas.models["bars"] = self.source
        self.weights()
        if self.shown["alone"]:
            self.difference()
        self.fields()

    def weights(self) -> None:
        """The weights, before those at J = 0 where there are couplings."""
        tooltips, label = [("w", "@weight{0.000000}")], ""
        if self.shown["alone"]:
            tooltips.append(("w at J = 0", "@alone{0.000000}"))
            label = "with φ" if self.shown["potential"] else "with J"
        made = self._figure("weights", "weight w", 260, tooltips)
        if self.shown["alone"]:
            self._bar(made, "alone", ALONE, "J = 0", width=0.9)
        self._bar(made, "weight", WEIGHT, label)
        made.y_range.start = 0
        if label:
            self._legend(made)

    def difference(self) -> None:
        """What couplings do to the weights."""
        tooltips = [("difference", "@difference{+0.000000}")]
        self._bar(self._figure("difference", "difference", 160, tooltips), "difference", "colour")

    def fields(self) -> None:
        """The fields, or scores where there are none, and the pull of the couplings."""
        name, title = ("h", "field h") if self.shown["fields"] else ("score", "score")
        tooltips = [(name, "@field{+0.000000}")]
        if not self.shown["couplings"]:
            self._bar(self._figure("fields", title, 230, tooltips), "field", "sign")
            return
        made = self._figure("fields", title, 230, [*tooltips, ("pull", "@pull{+0.000000}")])
        self._bar(made, "field", "sign", name)
        made.scatter(
            "x",
            "pull",
            source=self.source,
            marker="diamond",
            size=9 if len(self.canvas.names) <= 40 else 4,
            color=INK,
            legend_label="pull of the couplings",
        )
        self._legend(made)

    def _figure(self, name: str, title: str, height: int, tooltips: list[Any]) -> Any:
        made = self.canvas.figure(name, height=height, border=84, x_range=self.ends)
        made.add_tools(HoverTool(tooltips=[("position", "@x  @name"), *tooltips], mode="vline"))
        made.yaxis.axis_label = title
        made.yaxis.formatter = BasicTickFormatter(use_scientific=False)
        made.xgrid.visible = False
        self.canvas.label_positions(made, made.xaxis[0], room=40)
        here = BoxAnnotation(left=0, right=0, fill_color=INK, fill_alpha=0.08)
        query = Span(dimension="height", line_color=INK, line_dash="dotted", location=0)
        for mark in (here, query, Span(dimension="width", line_color=INK, location=0)):
            made.add_layout(mark)
        self.canvas.models |= {f"{name}_here": here, f"{name}_query": query}
        return made

    def _bar(
        self, made: Any, name: str, colour: str, label: str = "", *, width: float = 0.5
    ) -> None:
        legend = {"legend_label": label} if label else {}
        made.vbar("x", width, name, source=self.source, color=colour, **legend)

    def _legend(self, made: Any) -> None:
        """The legend in one line above a figure, clear of its bars."""
        legend = made.legend[0]
        legend.orientation, legend.location = "horizontal", "right"
        legend.border_line_color, legend.padding, legend.margin = None, 0, 2
        made.add_layout(legend, "above")
