"""The figures of the page, empty: its script fills their sources with what is chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from bokeh.document import Document
from bokeh.embed import components
from bokeh.events import DocumentReady
from bokeh.models import (
    BasicTickFormatter,
    BoxAnnotation,
    ColorBar,
    ColumnDataSource,
    CustomJS,
    CustomJSHover,
    FixedTicker,
    HoverTool,
    LinearColorMapper,
    Model,
    Range1d,
    Span,
)
from bokeh.plotting import figure
from bokeh.resources import Resources

from qattn.show.colours import ALONE, DOWN, INK, SIGNED, UNSEEN, UP, WEIGHT, WEIGHTS

LABELLED = 40
"""Positions up to which each is labelled with its token; of more, every second, fifth, …"""

HOVER = "window.qattn.point(Math.round(cb_obj.x), Math.round(cb_obj.y), MAP)"
CHOOSE = "window.qattn.choose(Math.round(cb_obj.x), Math.round(cb_obj.y), MAP)"


class Figures:
    """The figures by name, and the models that the script of the page changes.

    Args:
        names: The tokens, as they are shown.
        shown: Whether there are, beside the weights: "alone", those at J = 0; "couplings";
            "potential"; "fields", where scores are halved.
    """

    def __init__(self, names: Sequence[str], shown: Mapping[str, bool]) -> None:
        self.names, self.shown, T = names, shown, len(names)
        self.figures: dict[str, figure] = {}
        self.models: dict[str, Model] = {}
        columns = ("x", "name", "weight", "alone", "difference", "colour", "field", "sign", "pull")
        empty = {
            name: [name if name in ("name", "colour", "sign") else 0.0] * T for name in columns
        }
        self.bars = ColumnDataSource(empty)
        self.models["bars"] = self.bars
        self.ends = Range1d(-0.7, T - 0.3, bounds="auto")
        self.label = CustomJSHover(
            args={"names": list(names)},
            code="const i = Math.round(value); return `${i}  ${names[i] ?? ''}`",
        )
        self._weights()
        self._fields()
        self._maps()
        if shown["potential"]:
            self._potential()

    def _weights(self) -> None:
        tooltips = [("position", "@x  @name"), ("w", "@weight{0.000000}")]
        if self.shown["alone"]:
            tooltips += [
                ("w at J = 0", "@alone{0.000000}"),
                ("difference", "@difference{+0.000000}"),
            ]
        made = self._bars("weights", "weight w", 260, tooltips)
        if self.shown["alone"]:
            made.vbar("x", 0.9, "alone", source=self.bars, color=ALONE, legend_label="J = 0")
        label = "w"
        if self.shown["alone"]:
            label = "with φ" if self.shown["potential"] else "with J"
        made.vbar("x", 0.5, "weight", source=self.bars, color=WEIGHT, legend_label=label)
        made.y_range.start = 0
        self._legend(made)
        if self.shown["alone"]:
            made = self._bars("difference", "difference", 160, tooltips)
            made.vbar("x", 0.5, "difference", source=self.bars, color="colour")

    def _fields(self) -> None:
        is_field = self.shown["fields"]
        tooltips = [("position", "@x  @name"), ("h" if is_field else "score", "@field{+0.000000}")]
        if self.shown["couplings"]:
            tooltips.append(("pull", "@pull{+0.000000}"))
        made = self._bars("fields", "field h" if is_field else "score", 230, tooltips)
        label = {"legend_label": "h"} if self.shown["couplings"] else {}
        made.vbar("x", 0.5, "field", source=self.bars, color="sign", **label)
        if self.shown["couplings"]:
            made.scatter(
                "x",
                "pull",
                source=self.bars,
                marker="diamond",
                size=9,
                color=INK,
                legend_label="pull of the couplings",
            )
            self._legend(made)

    def _bars(self, name: str, title: str, height: int, tooltips: list[Any]) -> Any:
        """A figure over the positions, at the same places as the others."""
        made = figure(
            x_range=self.ends, height=height, sizing_mode="stretch_width", toolbar_location=None
        )
        made.yaxis.axis_label = title
        made.yaxis.formatter = BasicTickFormatter(use_scientific=False)
        made.add_tools(HoverTool(tooltips=tooltips, mode="vline"))
        self._positions(made.xaxis)
        made.xgrid.visible = False
        here = BoxAnnotation(left=0, right=0, fill_color=INK, fill_alpha=0.08)
        query = Span(dimension="height", line_color=INK, line_dash="dotted", location=0)
        made.add_layout(here)
        made.add_layout(query)
        made.add_layout(Span(dimension="width", line_color=INK, line_width=1, location=0))
        self.models |= {f"{name}_here": here, f"{name}_query": query}
        return self._listening(name, made, 84)

    def _legend(self, made: Any) -> None:
        """The legend in one line above a figure, clear of its bars."""
        legend = made.legend[0]
        legend.orientation, legend.border_line_color, legend.padding, legend.margin = (
            "horizontal",
            None,
            0,
            2,
        )
        legend.location = "right"
        made.add_layout(legend, "above")

    def _maps(self) -> None:
        weights = LinearColorMapper(WEIGHTS, low=0, high=1, nan_color=UNSEEN)
        self.models["weight_colours"] = weights
        self._map("pattern", "weights of all queries", weights, ("query", "position", "w"))
        if self.shown["alone"]:
            self._map("alone", "the same at J = 0", weights, ("query", "position", "w at J = 0"))
        if self.shown["couplings"]:
            signed = LinearColorMapper(SIGNED, low=-1, high=1, nan_color=UNSEEN)
            self.models["coupling_colours"] = signed
            made = self._map("couplings", "couplings J", signed, ("row", "column", "J"))
            # What the chosen query does not see is paler.
            for side in ("absent_rows", "absent_columns"):
                pale = BoxAnnotation(fill_color="white", fill_alpha=0.6, line_color=None)
                made.add_layout(pale)
                self.models[side] = pale

    def _map(self, name: str, title: str, colours: Any, labels: tuple[str, str, str]) -> Any:
        """A picture of T x T numbers, the first row at the top."""
        T = len(self.names)
        image = [np.zeros((T, T), np.float32)]  # whose place the script fills
        source = ColumnDataSource({"image": image, "x": [-0.5], "y": [-0.5], "dw": [T], "dh": [T]})
        made = figure(
            title=title,
            x_range=Range1d(-0.5, T - 0.5),
            y_range=Range1d(T - 0.5, -0.5),
            height=380,
            sizing_mode="stretch_width",
            toolbar_location=None,
        )
        picture = made.image("image", "x", "y", "dw", "dh", source=source, color_mapper=colours)
        row, column, value = labels
        formatters = {"$x": self.label, "$y": self.label}
        tooltips = [(row, "$y{custom}"), (column, "$x{custom}"), (value, "@image{0.000000}")]
        made.add_tools(HoverTool(tooltips=tooltips, formatters=formatters, renderers=[picture]))
        bar = ColorBar(color_mapper=colours, width=10, padding=2, major_label_text_font_size="11px")
        made.add_layout(bar, "right")
        self._positions(made.xaxis)
        self._positions(made.yaxis)
        made.xaxis.axis_label, made.yaxis.axis_label = column, row
        made.grid.visible = False
        made.min_border_right = 64  # for numbers of the colours that are longer than the first
        row_box = BoxAnnotation(fill_color=None, line_color=INK, line_alpha=1)
        made.add_layout(row_box)
        self.models |= {f"{name}_source": source, f"{name}_row": row_box}
        return self._listening(name, made, 60)

    def _potential(self) -> None:
        source = ColumnDataSource({"count": [0.0], "value": [0.0]})
        made = figure(
            title="potential on the number of positions",
            height=380,
            sizing_mode="stretch_width",
            toolbar_location=None,
            tooltips=[("count", "@count"), ("log φ", "@value{0.000000}")],
        )
        made.line("count", "value", source=source, color=INK)
        made.scatter("count", "value", source=source, color=UP, size=7)
        mean = Span(dimension="height", line_color=WEIGHT, line_dash="dashed", location=0)
        made.add_layout(mean)
        made.xaxis.axis_label, made.yaxis.axis_label = "attended positions", "log φ"
        made.axis.axis_label_text_font_style = "normal"
        self.models |= {"potential_source": source, "mean_count": mean}
        self.figures["potential"] = made

    def _positions(self, axis: Any) -> None:
        """Tokens as the labels of an axis."""
        T = len(self.names)
        step = next(s for s in (1, 2, 5, 10, 20, 50, 100, T) if s * LABELLED >= T)
        axis.ticker = FixedTicker(ticks=list(range(0, T, step)))
        axis.major_label_overrides = {
            i: self.names[i] if step == 1 else f"{i}" for i in range(0, T, step)
        }

    def _listening(self, name: str, made: Any, border: int) -> Any:
        """Note a figure; the mouse over it points at a position, a click chooses a query."""
        for event, code in (("mousemove", HOVER), ("tap", CHOOSE)):
            made.js_on_event(event, CustomJS(code=code.replace("MAP", f"{name!r}")))
        made.axis.axis_label_text_font_style = "normal"
        made.min_border_left = border
        self.figures[name] = made
        return made


def embedded(
    names: Sequence[str], shown: Mapping[str, bool]
) -> tuple[dict[str, str], str, dict[str, Any]]:
    """The figures' places in a page by name, the scripts that fill them, and the colours."""
    made = Figures(names, shown)
    document = Document()
    for part in made.figures.values():
        document.add_root(part)
    start = CustomJS(args=made.models, code=f"window.qattn.start({{{', '.join(made.models)}}})")
    document.js_on_event(DocumentReady, start)
    script, places = components(made.figures)
    library = Resources(mode="inline", components=["bokeh"]).render()
    palettes = {"weights": WEIGHTS, "signed": SIGNED, "up": UP, "down": DOWN}
    return places, f"{library}\n{script}", palettes
