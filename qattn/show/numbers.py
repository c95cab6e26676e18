"""The numbers and names of a page, as its script reads them."""

import base64
from math import isfinite
from typing import Any

import torch
from torch import Tensor

from qattn.show.layer import LayerAttention

SIGNS = {" ": "␣", "\n": "↵", "\t": "⇥", "": "∅"}
"""What is shown of tokens that would not be seen."""


def arrays(layer: LayerAttention) -> dict[str, Tensor]:
    """The T x T numbers of a layer that its page holds."""
    found = {"weights": layer.weights, "scores": layer.scores, "couplings": layer.couplings}
    return {name: values for name, values in found.items() if values is not None}


def plain(layer: LayerAttention) -> dict[str, Any]:
    """A layer as the page's script reads it: large arrays are float32 in base64."""
    heads = len(layer.weights)
    values: dict[str, Any] = {name: packed(array) for name, array in arrays(layer).items()}
    if layer.potential is not None:
        rows = layer.potential.tolist()
        values["potential"] = [[v if isfinite(v) else None for v in row] for row in rows]
    if layer.field_bias is not None:
        values["field_bias"] = layer.field_bias.tolist()
    return values | {
        "beta": [1.0] * heads if layer.beta is None else layer.beta.tolist(),
        "kind": layer.kind,
        "interaction": layer.interaction,
        "normalize": layer.normalize,
        "coupled": layer.is_coupled,
        "source": layer.source,
    }


def packed(values: Tensor) -> str:
    """Numbers as float32, lowest byte first, in base64.

    >>> packed(torch.tensor([1.0, -2.0]))
    'AACAPwAAAMA='
    """
    array = values.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False)
    return base64.b64encode(array.tobytes()).decode("ascii")


def visible(name: str) -> str:
    r"""The name of a token, with signs for what would not be seen.

    >>> visible("to be"), visible("\n"), visible("\x07")
    ('to␣be', '↵', '\\x07')
    """
    if name == "":
        return SIGNS[name]
    shown = (SIGNS.get(c) or (c if c.isprintable() else ascii(c)[1:-1]) for c in name)
    return "".join(shown)
