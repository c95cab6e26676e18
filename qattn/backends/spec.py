"""Samplers by name and options, as they stand on a command line."""

import inspect
import tomllib
import typing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qattn.backends import Backend, DimodBackend
from qattn.backends.registry import get_backend, load_backend

DEVICE_LABEL = "dwave"
"""Label of reads of a D-Wave QPU, whether fresh or recorded: they are the same reads."""

LABELLED = ("annealing_time", "field_encoding", "chain_strength", "refine_sweeps")
"""Options that belong to the label of a QPU; the others say how to reach it."""


@dataclass(frozen=True)
class SamplerSpec:
    """A sampler to compare.

    Attributes:
        name: Name of a backend.
        variant: "" or, for neal, "default": the library's own schedule.
        options: Options of the backend.
    """

    name: str
    variant: str
    options: dict[str, Any]

    @property
    def label(self) -> str:
        """What tables and plots call it."""
        options = self.options
        name = self.name
        if name in ("dwave", "replay"):
            name, options = DEVICE_LABEL, {k: v for k, v in options.items() if k in LABELLED}
        parts = [self.variant] if self.variant else []
        parts += [f"{key}={_text(value)}" for key, value in options.items()]
        return name + (f":{','.join(parts)}" if parts else "")

    def takes(self, option: str) -> bool:
        """Whether the backend has an option of this name."""
        return not self.variant and self._parameter(option) is not None

    def with_options(self, **options: Any) -> "SamplerSpec":
        """The same sampler with other options; None removes one."""
        merged = self.options | options
        return replace(self, options={k: v for k, v in merged.items() if v is not None})

    def build(self) -> Backend:
        """The backend.

        Raises:
            ValueError: There is no such backend, variant or option.
            ImportError: A package that it needs is missing.
        """
        if self.variant == "default" and self.name == "neal":
            from dwave.samplers import SimulatedAnnealingSampler

            return DimodBackend(SimulatedAnnealingSampler(), union=False, **self.options)
        if self.variant:
            raise ValueError(
                f"Sampler {self.name!r} has no variant {self.variant!r}; "
                f"neal:default is the only one. Options are key=value."
            )
        return get_backend(self.name, **{k: self._typed(k, v) for k, v in self.options.items()})

    def _parameter(self, option: str) -> inspect.Parameter | None:
        """Where the backend's class, or one that it passes options on to, names an option."""
        factory: Any = load_backend(self.name)
        for kind in getattr(factory, "__mro__", [factory]):
            function = kind.__dict__.get("__init__") if isinstance(kind, type) else kind
            if function is not None and kind is not object:
                parameters = inspect.signature(function).parameters
                if option in parameters:
                    return parameters[option]
        return None

    def _typed(self, option: str, value: Any) -> Any:
        """An integer as the floating-point number that the option is."""
        parameter = self._parameter(option)
        if type(value) is int and parameter is not None:
            types = typing.get_args(parameter.annotation) or (parameter.annotation,)
            if float in types and int not in types:
                return float(value)
        return value


def parse_samplers(text: str) -> list[SamplerSpec]:
    """Samplers of a list such as ``exact,neal:default,diabatic:annealing_time=3,tolerance=1e-4``.

    A comma begins another sampler unless ``key=value`` follows it, which goes on with the options.
    Values are numbers, true, false, two numbers as ``betas=10.2/11.2``, or words.

    Raises:
        ValueError: The list is empty, names a sampler twice, or begins with an option.
    """
    found: list[SamplerSpec] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        head, colon, rest = part.partition(":")
        if "=" in head:
            if not found:
                raise ValueError(f"Argument `samplers` must begin with a name, but is {text!r}.")
            found[-1] = found[-1].with_options(**_option(part))
        elif "=" in rest:
            found.append(SamplerSpec(head, "", _option(rest)))
        else:
            if colon and not rest:
                raise ValueError(f"Argument `samplers` must not end {part!r} with a colon.")
            found.append(SamplerSpec(head, rest, {}))
    if not found:
        raise ValueError("Argument `samplers` must name a sampler, but is empty.")
    labels = [spec.label for spec in found]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"Argument `samplers` must name each sampler once, but {label} twice.")
    return found


def _option(text: str) -> dict[str, Any]:
    key, _, value = text.partition("=")
    return {key.strip(): _value(value.strip())}


def _value(text: str) -> Any:
    first, slash, second = text.partition("/")
    try:
        if slash:
            return float(first), float(second)
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(f"{x:g}" for x in value)
    return Path(value).name if isinstance(value, str) else f"{value}"
