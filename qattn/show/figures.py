"""The figures of the page, empty: its script fills their sources with what is chosen."""

from collections.abc import Mapping, Sequence
from typing import Any

from bokeh.document import Document
from bokeh.embed import components
from bokeh.events import DocumentReady
from bokeh.models import CustomJS
from bokeh.resources import Resources

from qattn.show.bars import Bars
from qattn.show.canvas import Canvas
from qattn.show.colours import DOWN, SIGNED, UP, WEIGHTS
from qattn.show.maps import Maps


def embedded(
    names: Sequence[str], shown: Mapping[str, bool]
) -> tuple[dict[str, str], str, dict[str, Any]]:
    """The figures' places in a page by name, the scripts that fill them, and the colours.

    Args:
        names: The tokens, as they are shown.
        shown: What there is to show: see :class:`qattn.show.canvas.Canvas`.
    """
    canvas = Canvas(names, shown)
    Bars(canvas)
    Maps(canvas)
    document = Document()
    for made in canvas.figures.values():
        document.add_root(made)
    code = f"window.qattn.start({{{', '.join(canvas.models)}}})"
    document.js_on_event(DocumentReady, CustomJS(args=canvas.models, code=code))
    script, places = components(canvas.figures)
    library = Resources(mode="inline", components=["bokeh"]).render()
    palettes = {"weights": WEIGHTS, "signed": SIGNED, "up": UP, "down": DOWN}
    return places, f"{library}\n{script}", palettes
