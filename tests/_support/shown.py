"""What a page of qattn show holds, read back."""

import base64
import html
import json
import re

import numpy as np
import torch

from qattn import Transformer


def a_model(**options):
    """A small model whose couplings are strong enough to be seen."""
    torch.manual_seed(0)
    sizes = {"vocab_size": 9, "context": 7, "num_heads": 2, "embed_dim": 8}
    model = Transformer(**sizes | options).eval()
    for name, parameter in model.named_parameters():
        if name.endswith("coupling_values"):
            parameter.data += 0.3 * torch.randn(parameter.shape)
    return model


def data_of(path):
    """The numbers of a page: what its script reads, with arrays of shape (heads, T, T)."""
    text = path.read_text(encoding="utf-8")
    found = re.findall(r'<script type="application/json" id="attention">(.*?)</script>', text, re.S)
    data = json.loads(html.unescape(found[0]))
    data["layers"] = [unpacked(layer, len(data["names"])) for layer in data["layers"]]
    return data


def unpacked(layer, T):
    """A layer as a page holds it, with arrays of shape (heads, T, T)."""
    arrays = {name: layer[name] for name in ("weights", "scores", "couplings") if name in layer}
    for name, text in arrays.items():
        values = np.frombuffer(base64.b64decode(text), dtype="<f4")
        arrays[name] = torch.tensor(values.reshape(-1, T, T))
    return layer | arrays
