"""Samplers by name and options, as they stand on a command line."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from qattn.backends.base import Backend
from qattn.backends.from_dimod import DimodBackend
from qattn.backends.options import Option
from qattn.backends.registry import find_option, get_backend, options_of

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
        """The sampler's name in tables and plots."""
        options = self.options
        name = self.name
        if name in ("dwave", "replay"):
            name, options = DEVICE_LABEL, {k: v for k, v in options.items() if k in LABELLED}
        parts = [self.variant] if self.variant else []
        parts += [f"{key}={_text(value)}" for key, value in options.items()]
        return name + (f":{','.join(parts)}" if parts else "")

    def takes(self, option: str) -> bool:
        """Whether the backend has an option of this name."""
        return not self.variant and option in options_of(self.name)

    def with_options(self, **options: Any) -> "SamplerSpec":
        """The same sampler with other options; a value of None removes the option."""
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
        return get_backend(self.name, **self.options)


def parse_sampler(text: str) -> SamplerSpec:
    """One sampler, such as ``diabatic:annealing_time=3,tolerance=1e-4``.

    >>> parse_sampler("diabatic:annealing_time=3,tolerance=1e-4").options
    {'annealing_time': 3.0, 'tolerance': 0.0001}

    Raises:
        ValueError: As for :func:`parse_samplers`, or there is more than one sampler.
    """
    specs = _parse(text, "sampler")
    if len(specs) > 1:
        raise ValueError(f"Argument `sampler` must name one sampler, but names {len(specs)}.")
    return specs[0]


def parse_samplers(text: str) -> list[SamplerSpec]:
    """Samplers of a list such as ``exact,neal:default,diabatic:annealing_time=3,tolerance=1e-4``.

    A comma begins another sampler unless ``key=value`` follows it, which is another option of the
    same sampler. Values are of the option's type: numbers, true, false, two numbers as
    ``betas=10.2/11.2``, or words.

    Raises:
        ValueError: The list is empty, names a sampler twice, begins with an option, or has a
            backend or an option that does not exist, or a value of the wrong type.
    """
    specs = _parse(text, "samplers")
    labels = [spec.label for spec in specs]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"Argument `samplers` must name each sampler once, but {label} twice.")
    return specs


def _parse(text: str, argument: str) -> list[SamplerSpec]:
    specs: list[SamplerSpec] = []
    for part in filter(None, (part.strip() for part in text.split(","))):
        head, colon, rest = part.partition(":")
        if "=" in head:
            if not specs:
                raise ValueError(f"Argument `{argument}` must begin with a name, but is {text!r}.")
            specs[-1] = _with_option(specs[-1], part)
        elif "=" in rest:
            specs.append(_with_option(SamplerSpec(head, "", {}), rest))
        else:
            if colon and not rest:
                raise ValueError(f"Argument `{argument}` must not end {part!r} with a colon.")
            specs.append(SamplerSpec(head, rest, {}))
    if not specs:
        raise ValueError(f"Argument `{argument}` must name a sampler, but is empty.")
    return specs


def _with_option(spec: SamplerSpec, text: str) -> SamplerSpec:
    """The sampler with an option that is given as ``key=value``."""
    key, _, value = (part.strip() for part in text.partition("="))
    # The options of a variant are those of the library's sampler, whose types are not known here.
    known = Option(key, Any, None) if spec.variant else find_option(spec.name, key)
    return spec.with_options(**{key: known.from_text(value)})


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "/".join(f"{x:g}" for x in value)
    if isinstance(value, float):
        return f"{value:.12g}"
    return Path(value).name if isinstance(value, str) else f"{value}"
