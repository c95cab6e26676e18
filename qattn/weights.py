r"""Weights in a file that anybody can read: safetensors, with a header that says what they are.

The header (``__metadata__`` of the format) holds texts:

===============  ==========================================================
``format``       "pt": tensors of PyTorch, as Hugging Face's files say
``qattn``        the version that wrote the file
``layout``       number of this layout of the header, :data:`LAYOUT`
``class``        name of the class
``arguments``    its constructor's arguments by name, a JSON object
``changed``      attributes that were set since, a JSON object
``conventions``  what J means, :data:`CONVENTIONS`
===============  ==========================================================
"""

import contextlib
import inspect
import json
from collections.abc import Callable, Iterator
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save
from torch import Tensor, nn

from qattn._atomic import write_atomically
from qattn._version import __version__

LAYOUT = 1
"""Number of the header's layout; a file of another is refused."""

CONVENTIONS = (
    "p(s) ∝ exp(β (Σ_j h_j s_j + Σ_{j<k} J_jk s_j s_k)), s_j = ±1: positive J is cooperative; "
    "dimod and D-Wave: E = -Σ h s - Σ J s s, linear = -h, quadratic = -J"
)
"""What J means."""

WEIGHTS, CONFIG = "model.safetensors", "config.json"
"""Files of a model's folder."""

ELSEWHERE = ("backend", "estimator", "device", "dtype")
"""Arguments that loading leaves out: they are about where and how a model is trained."""

M = TypeVar("M", bound="Stored")


class Stored(nn.Module):
    """A module that knows how it was made, and so can be saved and loaded.

    A subclass has nothing to do: the arguments of its constructor are noted when it is called, and
    those that are numbers, words, None or booleans are stored.
    """

    _arguments: dict[str, Any]

    def __init_subclass__(cls, **options: Any) -> None:
        """Let the constructor note what it is called with."""
        super().__init_subclass__(**options)
        if "__init__" in vars(cls):
            cls.__init__ = _noting(cls.__init__)  # type: ignore[method-assign]

    def save(self, path: str | Path) -> None:
        """Write the weights, and how to make the module that they belong to.

        A safetensors file, which :meth:`load` reads, and so does anything else that reads the
        format. Of a backend the name alone is stored, and none that is an object. The file is
        whole at any moment; one that is there is replaced.

        Args:
            path: The file, ``layer.safetensors`` say.

        Raises:
            OSError: It cannot be written.
        """
        tensors = {name: value.detach().contiguous() for name, value in self.state_dict().items()}
        write_atomically(Path(path), save(tensors, metadata=self._header()))

    @classmethod
    def load(cls: type[M], path: str | Path, *, device: str | torch.device = "cpu") -> M:
        """The module that :meth:`save` wrote, of this class, with the dtype that it had.

        Neither the backend nor the device that trained it is needed: moments are exact, or those
        of its mean-field method; ``layer.backend = "neal"`` samples again, and is what a layer
        needs whose J is too large to be enumerated.

        Args:
            path: The file.
            device: Where the weights are put.

        Returns:
            The module in evaluation mode.

        Raises:
            FileNotFoundError: The file is not there.
            ValueError: It is damaged, of another class or layout, or its header describes no module
                of this version, or one of other tensors.
        """
        header = read_header(Path(path))
        if header["class"] != cls.__name__:
            raise ValueError(
                f"'{path}' holds a {header['class']} and no {cls.__name__}: take "
                f"{header['class']}.load."
            )
        try:
            made = cls._remade(json.loads(header["arguments"]))
        except TypeError as error:
            raise ValueError(
                f"'{path}', of qattn {header['qattn']}, does not fit: {error}."
            ) from None
        tensors = load_file(path, str(device))
        _check_tensors(path, made.state_dict(), tensors)
        made.load_state_dict(tensors, assign=True)
        for place, value in json.loads(header["changed"]).items():
            part, _, name = place.rpartition(".")
            setattr(made.get_submodule(part), name, value)
        return made.eval()

    def _header(self) -> dict[str, str]:
        """The header of the module's file."""
        return {
            "format": "pt",
            "qattn": __version__,
            "layout": str(LAYOUT),
            "class": type(self).__name__,
            "arguments": json.dumps(self._arguments),
            "changed": json.dumps(self._changed()),
            "conventions": CONVENTIONS,
        }

    def _changed(self) -> dict[str, Any]:
        """Arguments of the module and its parts that attributes hold, and that were set since."""
        fresh, changed = dict(self._remade(self._arguments).named_modules()), {}
        for place, part in self.named_modules():
            if isinstance(part, Stored) and place in fresh:
                own, before = vars(part), vars(fresh[place])
                for name in sorted(_parameters(type(part))):
                    key = name if name in own else f"_{name}"
                    if _is_plain(own.get(key)) and own.get(key) != before.get(key):
                        changed[f"{place}.{name}".lstrip(".")] = own[key]
        return changed

    @classmethod
    def _remade(cls: type[M], arguments: dict[str, Any]) -> M:
        """A module of these arguments on the CPU; random numbers are left as they were."""
        with unchanged_chance():
            return cls(**{k: v for k, v in arguments.items() if k not in ELSEWHERE})


class Pretrained(Stored):
    """A model that is passed on as a folder, in the manner of Hugging Face's."""

    def save_pretrained(self, folder: str | Path) -> None:
        """Write ``model.safetensors``, as :meth:`save` does, and ``config.json``.

        Args:
            folder: Where to; it is made if it is not there.

        Raises:
            OSError: They cannot be written.
        """
        Path(folder).mkdir(parents=True, exist_ok=True)
        self.save(Path(folder) / WEIGHTS)
        config = json.dumps(_readable(self._header()), indent=2, ensure_ascii=False) + "\n"
        write_atomically(Path(folder) / CONFIG, config.encode())

    @classmethod
    def from_pretrained(
        cls: type[M], folder: str | Path, *, device: str | torch.device = "cpu"
    ) -> M:
        """The model of a folder on this machine; nothing is ever fetched.

        The header of the weights says how the model is made, as in :meth:`load`, so that the
        folder of a finished training is one too. ``config.json`` says the same to readers and may
        be missing; one that says something else is refused, since it would be ignored.

        Args:
            folder: The folder.
            device: Where the weights are put.

        Returns:
            The model in evaluation mode.

        Raises:
            FileNotFoundError: The folder has no ``model.safetensors``.
            ValueError: As in :meth:`load`; or ``config.json`` is not that of the weights.
        """
        weights, config = Path(folder) / WEIGHTS, Path(folder) / CONFIG
        if not weights.is_file():
            others = ", ".join(sorted(path.name for path in Path(folder).glob("*.safetensors")))
            hint = f": it has {others}, each to be read with {cls.__name__}.load" if others else ""
            raise FileNotFoundError(f"No {WEIGHTS} in '{folder}' on this machine{hint}.")
        said = json.loads(config.read_text(encoding="utf-8")) if config.is_file() else None
        if said is not None and said != _readable(read_header(weights)):
            raise ValueError(
                f"'{config}' is not that of the weights beside it, whose header has the "
                f"arguments: delete it, or write both anew with save_pretrained."
            )
        return cls.load(weights, device=device)


def _noting(constructor: Callable[..., None]) -> Callable[..., None]:
    """A constructor that notes its arguments, unless that of a subclass has done so."""
    signature = inspect.signature(constructor)
    further = {p.name for p in signature.parameters.values() if p.kind is p.VAR_KEYWORD}

    @wraps(constructor)
    def noted(self: Stored, *args: Any, **options: Any) -> None:
        with contextlib.suppress(TypeError):  # wrong arguments are the constructor's to refuse
            if "_arguments" not in vars(self):
                bound = signature.bind(self, *args, **options)
                bound.apply_defaults()
                named = dict(bound.arguments)
                for name in further:
                    named |= named.pop(name)
                vars(self)["_arguments"] = {k: v for k, v in named.items() if _is_plain(v)}
        constructor(self, *args, **options)

    return noted


@contextlib.contextmanager
def unchanged_chance() -> Iterator[None]:
    """Make modules on the CPU without a trace in its random numbers.

    The meta device would need no numbers, but there PyTorch loads its compiler to draw them.
    """
    with torch.random.fork_rng(devices=[]), torch.device("cpu"):
        yield


def read_header(path: Path) -> dict[str, str]:
    """The header of a file of :meth:`Stored.save`, which is whole; errors as in `Stored.load`."""
    if not path.is_file():
        raise FileNotFoundError(f"No weights at '{path}'.")
    try:
        with safe_open(path, framework="pt") as file:
            header = dict(file.metadata() or {})
    except SafetensorError as error:
        raise ValueError(f"'{path}' is damaged, or no safetensors file: {error}.") from None
    if "class" not in header or "layout" not in header:
        raise ValueError(f"'{path}' has no header of qattn: it was not written by `save`.")
    if header["layout"] != str(LAYOUT):
        raise ValueError(
            f"'{path}' has layout {header['layout']}, of qattn {header.get('qattn')}, where this "
            f"version, {__version__}, reads {LAYOUT}: take a version that wrote it."
        )
    return header


def _readable(header: dict[str, str]) -> dict[str, Any]:
    """A header as config.json has it."""
    return header | {name: json.loads(header[name]) for name in ("arguments", "changed")}


def _check_tensors(path: str | Path, own: dict[str, Tensor], found: dict[str, Tensor]) -> None:
    """Raise a ValueError unless a file has the tensors of a module."""
    missing, unknown = sorted(own.keys() - found.keys()), sorted(found.keys() - own.keys())
    other = [k for k in own.keys() & found.keys() if own[k].shape != found[k].shape]
    for names, what in (
        (missing, "lacks"),
        (unknown, "has tensors that the module does not have"),
        (sorted(other), "has tensors of other shapes than the module's"),
    ):
        if names:
            raise ValueError(f"'{path}' does not fit its header: it {what}: {', '.join(names)}.")


def _parameters(cls: type) -> set[str]:
    """Names that the constructors of a class and its bases take, but for :data:`ELSEWHERE`."""
    own = (inspect.signature(c.__init__).parameters for c in cls.__mro__ if issubclass(c, Stored))
    return {name for names in own for name in names} - {*ELSEWHERE, "self"}


def _is_plain(value: Any) -> bool:
    """Whether JSON can say it."""
    return value is None or isinstance(value, bool | int | float | str)
