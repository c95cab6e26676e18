"""The couplings of a model in a file beside it, whatever class the model is of."""

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn
from transformers import PreTrainedModel

from qattn._atomic import write_atomically
from qattn.integrations.transformers.attach import (
    attention_modules,
    install,
    installed,
    make_patterns,
    patterns,
    set_implementation,
)
from qattn.integrations.transformers.functions import IMPLEMENTATION
from qattn.integrations.transformers.pattern import AttachedPattern
from qattn.weights import CONVENTIONS

KIND = "couplings of attention modules"
"""What the file's header says that it is."""


def save_couplings(model: nn.Module, path: str | Path) -> None:
    """Write the couplings, field biases and β of a model's attention modules.

    The file is one of safetensors, as adapters are, beside a model that ``save_pretrained`` wrote:
    stock classes of transformers read their own weights only, and leave couplings out. Its header
    holds the structure, the context and the conventions; the backend is none of the model's, and
    left out.

    Args:
        model: A model with couplings.
        path: The file, ``couplings.safetensors`` say.

    Raises:
        ValueError: The model has no couplings.
    """
    found = patterns(model)
    tensors = {
        f"{name}.{part}": value.detach().contiguous()
        for name, pattern in found.items()
        for part, value in pattern.state_dict().items()
    }
    header = {
        "format": "pt",
        "kind": KIND,
        "conventions": CONVENTIONS,
        "modules": json.dumps({name: pattern.settings for name, pattern in found.items()}),
    }
    write_atomically(Path(path), save(tensors, header))


def load_couplings(model: PreTrainedModel, path: str | Path, **options: Any) -> None:
    """Give a model the couplings of a file; see :func:`attach`.

    Couplings that are attached already take the file's values if they have its settings.

    Args:
        model: A model of the class and size of the one whose couplings were saved.
        path: The file.
        options: Where mean spins come from: `backend`, `num_reads`, `estimator`.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is no file of couplings, or they do not fit this model.
    """
    settings, tensors = _read(Path(path))
    names, given = sorted(attention_modules(model)), sorted(settings)
    if names != given:
        raise ValueError(
            f"'{path}' has couplings of {', '.join(given)}, but this {type(model).__name__} has "
            f"the attention modules {', '.join(names)}."
        )
    found = installed(model)
    new = {} if found else make_patterns(model, **settings[names[0]], **options)
    for name, pattern in (found or new).items():
        _check(path, name, pattern, settings[name], tensors)
    for name, pattern in (found or new).items():
        pattern.load_state_dict({k: tensors[f"{name}.{k}"] for k in pattern.state_dict()})
        for option, value in options.items():
            setattr(pattern, option, value)
    set_implementation(model, IMPLEMENTATION)
    install(model, new)


def _read(path: Path) -> tuple[dict[str, dict[str, Any]], dict[str, Tensor]]:
    """The settings of each attention module, and the tensors."""
    if not path.is_file():
        raise FileNotFoundError(f"No couplings at '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged, or no safetensors file: {error}.") from None
    if header.get("kind") != KIND:
        raise ValueError(f"'{path}' holds no couplings: it was not written by save_couplings.")
    return json.loads(header["modules"]), tensors


def _check(
    path: str | Path,
    name: str,
    pattern: AttachedPattern,
    settings: dict[str, Any],
    tensors: dict[str, Tensor],
) -> None:
    """Raise a ValueError unless a module's couplings are of the kind and size of a file's."""
    own = pattern.settings
    for key in sorted(own | settings, key=lambda key: key != "couplings"):
        if own.get(key) != settings.get(key):
            raise ValueError(
                f"'{path}' has {key}={settings.get(key)!r} for {name}, but the model has "
                f"{own.get(key)!r}: detach(model) first, and load_couplings attaches the file's."
            )
    for key, value in pattern.state_dict().items():
        stored = tensors.get(f"{name}.{key}")
        if stored is None or stored.shape != value.shape:
            shape = None if stored is None else tuple(stored.shape)
            raise ValueError(
                f"'{path}' has {key} of shape {shape} for {name}, but the model has "
                f"{tuple(value.shape)}: its heads are others."
            )
