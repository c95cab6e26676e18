"""The page: numbers, figures and script in one file that needs no network."""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from jaxtyping import Int
from markupsafe import Markup
from torch import Tensor, nn

from qattn.compare import page
from qattn.show.capture import layers_of
from qattn.show.layer import LayerAttention
from qattn.show.legend import PARTNERS, TOKENS, legend
from qattn.show.numbers import arrays, plain, visible

FIELDS = ("ising", "sigmoid")
"""Kinds of layers whose scores are twice the fields of spins."""

LARGEST = 50e6
"""Bytes of numbers that a page may hold: 12 layers of 4 heads at 256 positions, say."""


def write_page(
    model: nn.Module,
    tokens: Int[Tensor, " positions"],
    names: Sequence[str],
    path: str | Path,
    *,
    layers: Sequence[int] | None = None,
    **options: Any,
) -> None:
    """Write a page that shows the attention of a model on one sequence.

    Args:
        model: The model: see :func:`layers_of`.
        tokens: The sequence.
        names: What its tokens are called.
        path: The page, one HTML file that needs no other, and no network.
        layers: Which layers are shown, by number; None means all.
        options: Further arguments of :func:`write_layers`.

    Raises:
        ValueError: The model has no attention layers of qattn, there are not as many names as
            tokens, or the page would be too large.
        ImportError: Bokeh is missing.

    Example:
        >>> model, task = qattn.load("runs/first")  # doctest: +SKIP
        >>> tokens = task.encode("([]")  # doctest: +SKIP
        >>> write_page(model, tokens, task.token_names(tokens), "page.html")  # doctest: +SKIP
    """
    if tokens.ndim != 1 or len(tokens) == 0:
        raise ValueError(
            f"Argument `tokens` must be one sequence of at least 1 token, but has shape "
            f"{tuple(tokens.shape)}."
        )
    check_bokeh()
    found = layers_of(model, tokens)
    asked = range(len(found)) if layers is None else layers
    if wrong := [number for number in asked if not 0 <= number < len(found)]:
        raise ValueError(
            f"Argument `layers` must have numbers from 0 to {len(found) - 1}, but has {wrong[0]}."
        )
    write_layers([found[number] for number in asked], names, path, numbers=asked, **options)


def write_layers(
    layers: Sequence[LayerAttention],
    names: Sequence[str],
    path: str | Path,
    *,
    numbers: Sequence[int] | None = None,
    text: str | None = None,
    title: str = "Attention",
    about: Mapping[str, object] | None = None,
    **context: Any,
) -> None:
    """Write a page that shows the attention of layers on one sequence, of whatever model.

    Args:
        layers: The layers in order.
        names: What the tokens are called.
        path: The page.
        numbers: The numbers of the layers; None means 0, 1, ….
        text: The sequence as a text; None means the names.
        title: Its title.
        about: What else its head says, by name.
        context: The command that made it, and when.

    Raises:
        ValueError: There are no layers, not as many names as positions, or too many numbers.
        ImportError: Bokeh is missing.
    """
    check_bokeh()
    check(layers, names)
    from qattn.show.figures import embedded  # it loads Bokeh

    names = [visible(name) for name in names]
    shown = {
        "alone": any(layer.is_coupled for layer in layers),
        "couplings": any(layer.couplings is not None for layer in layers),
        "potential": any(layer.potential is not None for layer in layers),
        "fields": any(layer.kind in FIELDS for layer in layers),
    }
    figures, bokeh, palettes = embedded(names, shown)
    heads = max(len(layer.weights) for layer in layers)
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    page.write_page(
        path,
        package="qattn.show",
        template="show.html.j2",
        title=title,
        text="".join(names) if text is None else text,
        about={name: value for name, value in (about or {}).items() if value is not None},
        legend=legend(layers),
        shown=shown,
        data={
            "names": names,
            "numbers": list(range(len(layers)) if numbers is None else numbers),
            "layers": [plain(layer) for layer in layers],
            "palettes": palettes,
        },
        figures={name: Markup(figure) for name, figure in figures.items()},
        bokeh=Markup(bokeh),
        script=Markup((files("qattn.show") / "templates" / "show.js").read_text("utf-8")),
        tokens_legend=TOKENS + (PARTNERS if shown["couplings"] else ""),
        thumbnail=max(16, min(48 if len(layers) <= 4 else 28, 280 // heads - 10)),
        **{"command": "", "created": "", "emulated": False} | context,
    )


def check_bokeh() -> None:
    """Raise an ImportError unless Bokeh is there, before anything is computed."""
    if find_spec("bokeh") is None:
        raise ImportError("The page needs Bokeh: pip install 'boltzmann-attention[show]'.")


def check(layers: Sequence[LayerAttention], names: Sequence[str]) -> None:
    """Raise a ValueError unless a page can show these layers."""
    if not layers:
        raise ValueError("Argument `layers` must have at least 1 layer, but has 0.")
    T = layers[0].weights.shape[1]
    if any(layer.weights.shape[1] != T for layer in layers) or len(names) != T:
        raise ValueError(
            f"Argument `names` must have a name for each of the {T} positions of every layer, but "
            f"has {len(names)}."
        )
    size = sum(4 * values.numel() for layer in layers for values in arrays(layer).values())
    if size > LARGEST:
        raise ValueError(
            f"A page of {len(layers)} layers at {T} positions would hold {size / 1e6:.0f} MB of "
            f"numbers, more than {LARGEST / 1e6:.0f}: show fewer of the layers, or a shorter text."
        )
