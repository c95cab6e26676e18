"""A head at once: weights, those at J = 0, and couplings, or the potential in their place."""

from typing import Any

import numpy as np
from bokeh.models import (
    BoxAnnotation,
    ColorBar,
    ColumnDataSource,
    CustomJSHover,
    HoverTool,
    LinearColorMapper,
    Range1d,
    Span,
)

from qattn.show.canvas import Canvas
from qattn.show.colours import INK, SIGNED, UNSEEN, UP, WEIGHT, WEIGHTS

HEIGHT = 380


class Maps:
    """The figures of a head, side by side.

    Args:
        canvas: Where they belong.
    """

    def __init__(self, canvas: Canvas) -> None:
        self.canvas = canvas
        weights = LinearColorMapper(palette=WEIGHTS, low=0, high=1, nan_color=UNSEEN)
        canvas.models["weight_colours"] = weights
        self.map("pattern", "weights of all queries", weights, ("query", "position", "w"))
        if canvas.shown["alone"]:
            self.map("alone", "the same at J = 0", weights, ("query", "position", "w at J = 0"))
        if canvas.shown["couplings"]:
            self.couplings()
        if canvas.shown["potential"]:
            self.potential()

    def map(self, name: str, title: str, colours: Any, labels: tuple[str, str, str]) -> Any:
        """A picture of T x T numbers, the first row at the top.

        Args:
            name: Its name.
            title: Its title.
            colours: Colours of numbers.
            labels: What a row, a column and a number are.
        """
        T = len(self.canvas.names)
        image = [np.zeros((T, T), np.float32)]  # whose place the script fills
        source = ColumnDataSource({"image": image, "x": [-0.5], "y": [-0.5], "dw": [T], "dh": [T]})
        ranges = {"x_range": Range1d(start=-0.5, end=T - 0.5)}
        ranges |= {"y_range": Range1d(start=T - 0.5, end=-0.5)}
        made = self.canvas.figure(name, height=HEIGHT, border=60, title=title, **ranges)
        picture = made.image("image", "x", "y", "dw", "dh", source=source, color_mapper=colours)
        row, column, value = labels
        token = CustomJSHover(
            args={"names": list(self.canvas.names)},
            code="const i = Math.round(value); return `${i}  ${names[i] ?? ''}`",
        )
        tooltips = [(row, "$y{custom}"), (column, "$x{custom}"), (value, "@image{0.000000}")]
        formatters = {"$x": token, "$y": token}
        made.add_tools(HoverTool(tooltips=tooltips, formatters=formatters, renderers=[picture]))
        made.add_layout(ColorBar(color_mapper=colours, width=10, padding=2), "right")
        made.min_border_right = 64  # for numbers of the colours that are longer than the first
        for axis, label in ((made.xaxis[0], column), (made.yaxis[0], row)):
            self.canvas.label_positions(made, axis, room=24)
            axis.axis_label = label
        made.grid.visible = False
        frame = BoxAnnotation(fill_color=None, line_color=INK, line_alpha=1)
        made.add_layout(frame)
        self.canvas.models |= {f"{name}_source": source, f"{name}_row": frame}
        return made

    def couplings(self) -> None:
        """J; what the chosen query does not see is paler."""
        colours = LinearColorMapper(palette=SIGNED, low=-1, high=1, nan_color=UNSEEN)
        self.canvas.models["coupling_colours"] = colours
        made = self.map("couplings", "couplings J", colours, ("row", "column", "J"))
        for side in ("absent_rows", "absent_columns"):
            pale = BoxAnnotation(fill_color="white", fill_alpha=0.6, line_color=None)
            made.add_layout(pale)
            self.canvas.models[side] = pale

    def potential(self) -> None:
        """Log φ of counts, and the mean count of the chosen query."""
        source = ColumnDataSource({"count": [0.0], "value": [0.0]})
        made = self.canvas.figure(
            "potential",
            height=HEIGHT,
            border=60,
            title="potential on the number of positions",
            tooltips=[("count", "@count"), ("log φ", "@value{0.000000}")],
        )
        made.line("count", "value", source=source, color=INK)
        made.scatter("count", "value", source=source, color=UP, size=7)
        mean = Span(dimension="height", line_color=WEIGHT, line_dash="dashed", location=0)
        made.add_layout(mean)
        made.xaxis.axis_label, made.yaxis.axis_label = "attended positions", "log φ"
        self.canvas.models |= {"potential_source": source, "mean_count": mean}
