"""What all figures of a page share: sources, tokens on the axes, and what the mouse does."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.models import CustomJS, FixedTicker, Model
from bokeh.plotting import figure

LONGEST = 12
"""Letters of a label."""

STEPS = (2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000, 5000)
"""Distances of positions that are labelled, where not all of them are."""

EVENTS = {"mousemove": "point", "tap": "choose"}
"""What the page's script does at an event of the mouse on a figure."""


class Canvas:
    """The figures of a page by name, and the models that its script changes.

    Args:
        names: The tokens, as they are shown.
        shown: Whether there are, beside the weights: "alone", those at J = 0; "couplings";
            "potential"; "fields", where scores are halved.
    """

    def __init__(self, names: Sequence[str], shown: Mapping[str, bool]) -> None:
        self.names, self.shown = names, shown
        self.figures: dict[str, Any] = {}
        self.models: dict[str, Model] = {}

    def figure(self, name: str, *, height: int, border: int, **options: Any) -> Any:
        """A new figure as wide as its place, which tells the script of the mouse.

        Args:
            name: Its name.
            height: Its height.
            border: Room at the left for the labels.
            options: Further ones of Bokeh's figure.
        """
        made = figure(height=height, sizing_mode="stretch_width", toolbar_location=None, **options)
        made.min_border_left = border
        made.axis.axis_label_text_font_style = "normal"
        for event, function in EVENTS.items():
            place = "Math.round(cb_obj.x), Math.round(cb_obj.y)"
            code = f"window.qattn.{function}({place}, {name!r})"
            made.js_on_event(event, CustomJS(code=code))
        self.figures[name] = made
        return made

    def label_positions(self, made: Any, axis: Any, *, room: int) -> None:
        """Tokens as the labels of an axis, if it has room for all; else numbers of positions."""
        T = len(self.names)
        step = 1 if room >= T else next(s for s in STEPS if s * room >= 3 * T)
        axis.ticker = FixedTicker(ticks=list(range(0, T, step)))
        labels = self.names if step == 1 else [f"{i}" for i in range(T)]
        axis.major_label_overrides = {
            i: name if len(name) <= LONGEST else f"{name[: LONGEST - 1]}…"
            for i, name in enumerate(labels)
        }
        if axis is made.xaxis[0] and step == 1 and max(map(len, labels)) > 2:
            axis.major_label_orientation = "vertical"
            made.height += 60
