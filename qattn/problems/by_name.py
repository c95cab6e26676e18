r"""Sets of Ising problems to judge samplers on, also by name.

A name is a set and its options, ``sk:spins=10,beta=0.5``; every set takes ``problems`` (how many),
``beta`` and ``seed``:

=============== ============================================= ===========================
set             what it is                                    options
=============== ============================================= ===========================
``synthetic``   attention-like, Gaussian fields and couplings spins, field_sd, coupling_sd
``ferromagnet`` all coupled alike, in random fields           spins, coupling, field_sd
``sk``          Sherrington and Kirkpatrick's spin glass      spins, field_sd
``banded``      Gaussian couplings in a band, any length      spins, width, field_sd, coupling_sd
``ring``        frustrated ring                               spins, coupling, field_sd
``planted``     frustrated loops around a known ground state  spins, coupling, loops_per_spin
``ea``          Edwards and Anderson's spin glass, a lattice  size, dimensions, periodic
``regular``     spin glass on random regular graphs           spins, degree
``native``      spin glass on a QPU's whole graph             size, topology
``run:DIR``     queries of a trained run                      problems, beta, seed only
``file:PATH``   BQMs in dimod's serializations                beta only
=============== ============================================= ===========================

``n`` stands for ``spins``. The three on sparse graphs also take ``couplings`` (binary or gaussian),
``coupling`` and ``field_sd``; ``periodic`` is true or false, ``topology`` chimera, pegasus or
zephyr:
``ea:size=6,dimensions=3,periodic=false,couplings=gaussian``.
"""

import inspect
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar, get_args

from qattn.ising.batch import IsingBatch
from qattn.problems.files import from_bqms, read_bqms
from qattn.problems.graphs import edwards_anderson, qpu_native, random_regular
from qattn.problems.standard import (
    banded,
    ferromagnet,
    frustrated_ring,
    planted,
    spin_glass,
    synthetic,
)

N = TypeVar("N", int, float)

SETS: dict[str, Callable[..., IsingBatch]] = {
    "synthetic": synthetic,
    "ferromagnet": ferromagnet,
    "sk": spin_glass,
    "banded": banded,
    "ring": frustrated_ring,
    "planted": planted,
    "ea": edwards_anderson,
    "regular": random_regular,
    "native": qpu_native,
}
"""Generated sets by name."""

RUN_PROBLEMS = 40
"""Default number of queries that are taken from a run."""


def named(name: str, *, seed: int = 0) -> IsingBatch:
    """The problems of a name such as ``sk:spins=10,beta=0.5``, ``run:DIR`` or ``file:PATH``.

    Args:
        name: See this module's docstring.
        seed: Seed of the problems, unless the name has one.

    Raises:
        ValueError: There is no such set or option, or a value is wrong.
        FileNotFoundError: There is no such run or file.

    >>> batch = named("sk:problems=3,spins=6,beta=0.5")
    >>> batch.h.shape, batch.beta  # three groups of one query, as each problem has its own J
    (torch.Size([3, 1, 6]), 0.5)
    """
    kind, _, rest = name.partition(":")
    source = ""
    if kind in ("run", "file"):
        source, _, rest = rest.partition(",")
        if not source:
            raise ValueError(f"Argument `problems` must be {kind}:PATH, but is {name!r}.")
    options = _options(name, rest)
    beta = _number(float, "beta", options.pop("beta", "1"), name)
    if kind == "file":
        _refuse(name, options, ["beta"])
        return from_bqms(read_bqms(source), beta)
    seed = _number(int, "seed", options.pop("seed", str(seed)), name)
    if kind == "run":
        from qattn.problems.run import from_run  # a run needs the training stack

        number = options.pop("problems", str(RUN_PROBLEMS))
        _refuse(name, options, ["problems", "beta", "seed"])
        return with_strength(
            from_run(Path(source), _number(int, "problems", number, name), seed=seed), beta
        )
    if kind not in SETS:
        raise ValueError(
            f"Argument `problems` must start with one of {', '.join(SETS)}, run:DIR or file:PATH, "
            f"but is {name!r}."
        )
    parameters = {
        p.name.removeprefix("num_"): p
        for p in inspect.signature(SETS[kind]).parameters.values()
        if p.name != "seed"
    }
    unknown = {key: value for key, value in options.items() if key not in parameters}
    _refuse(name, unknown, [*parameters, "beta", "seed"])
    given = {
        parameters[key].name: _value(parameters[key].annotation, key, value, name)
        for key, value in options.items()
    }
    return with_strength(SETS[kind](seed=seed, **given), beta)


def with_strength(batch: IsingBatch, strength: float) -> IsingBatch:
    """The same problems at `strength` times their β: fields and couplings that much stronger."""
    return batch if strength == 1.0 else replace(batch, beta=batch.beta * strength, validate=True)


def _value(kind: Any, key: str, value: str, name: str) -> Any:
    """The value that a text stands for: a number, true or false, or one of some words."""
    words = {"true": True, "false": False} if kind is bool else {w: w for w in get_args(kind)}
    if not words:
        return _number(kind, key, value, name)
    if value not in words:
        raise ValueError(
            f"Option {key!r} of problems {name!r} must be {' or '.join(words)}, but is {value!r}."
        )
    return words[value]


def _number(kind: type[N], key: str, value: str, name: str) -> N:
    try:
        return kind(value)
    except ValueError:
        raise ValueError(
            f"Option {key!r} of problems {name!r} must be a number, but is {value!r}."
        ) from None


def _options(name: str, text: str) -> dict[str, str]:
    options = {}
    for part in filter(None, text.split(",")):
        key, equals, value = part.partition("=")
        if not equals:
            raise ValueError(
                f"Options of problems {name!r} must be key=value, but one is {part!r}."
            )
        key = key.strip()
        options["spins" if key == "n" else key] = value.strip()
    return options


def _refuse(name: str, unknown: dict[str, str], known: list[str]) -> None:
    if unknown:
        raise ValueError(
            f"Problems {name!r} have no option {', '.join(map(repr, unknown))}; "
            f"the options are {', '.join(known)}."
        )
