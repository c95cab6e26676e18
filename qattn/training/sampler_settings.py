"""Settings of a training that its backend takes, as the backends declare them."""

from dataclasses import field, make_dataclass
from typing import Any

from qattn.backends import Option, options_of

BACKENDS = ("gibbs", "neal", "diabatic", "qutip", "dwave", "replay")
"""Backends whose options are settings; those of others are part of ``sampler``, behind a colon."""


def setting(default: Any, description: str, *, may_change: bool = False) -> Any:
    """A setting; `may_change` when the run is resumed, because what is computed stays the same."""
    return field(default=default, metadata={"help": description, "may_change": may_change})


def _declared() -> dict[str, list[tuple[str, Option]]]:
    """Each option that text can give, with the backends that take it."""
    declared: dict[str, list[tuple[str, Option]]] = {}
    for backend in BACKENDS:
        for name, option in options_of(backend).items():
            if not option.python_only and name != "refine_sweeps":  # every sampler takes that
                declared.setdefault(name, []).append((backend, option))
    return declared


def _help(takers: list[tuple[str, Option]]) -> str:
    """What the option is for each of the backends that take it."""
    backends: dict[str, list[str]] = {}
    for backend, option in takers:
        backends.setdefault(option.help, []).append(backend)
    return " ".join(f"({', '.join(names)}) {text}" for text, names in backends.items())


SamplerSettings: Any = make_dataclass(
    "SamplerSettings",
    [
        (
            name,
            takers[0][1].type | None,
            setting(None, _help(takers), may_change=all(option.may_change for _, option in takers)),
        )
        for name, takers in _declared().items()
    ],
    frozen=True,
    kw_only=True,
)
"""A field for each option, None where the backend's own default stands."""

OF_BACKENDS = tuple(SamplerSettings.__dataclass_fields__)
"""Names of these fields: the settings of a training that are options of backends."""

MARKED = frozenset(
    name for name, takers in _declared().items() if any(option.marked for _, option in takers)
)
"""Those of them that a file gives as :class:`~qattn.backends.options.FromFile`."""
