"""Claims as tables of an experiment's file, checked when they are read."""

import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from types import UnionType
from typing import Any, Literal, TypeVar

from qattn.backends.options import described, nearest
from qattn.experiments.claims.difference import Difference, NoWorse
from qattn.experiments.claims.measured_value import MeasuredValue
from qattn.experiments.claims.question import BETTER, Question
from qattn.experiments.claims.selection import Side, values
from qattn.experiments.claims.slope import Slope
from qattn.experiments.experiment import Part
from qattn.training.config import TrainConfig
from qattn.training.tasks import Brackets, Shakespeare

KINDS: dict[str, type[Question]] = {
    kind.kind: kind for kind in (Difference, NoWorse, Slope, MeasuredValue)
}
"""The kinds of tests by name."""

METRIC = {"brackets": Brackets.metric, "shakespeare": Shakespeare.metric}
"""The metric of each task, beside the loss."""

Built = TypeVar("Built")

PLACES = range(1, 10**9)
"""Places of a table."""

SOURCES = ("paper", "control", "ours")
"""Who says it: the paper, the wording of a fair control, or we."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and what decides whether it holds.

    Attributes:
        id: Its name, which no other claim of the catalogue has.
        says: The sentence.
        test: The test that decides.
        source: "paper", "control" or "ours".
        beside: Of a control, the claim beside which its verdict stands.
    """

    id: str
    says: str
    test: Question
    source: str = "paper"
    beside: str = ""


def read_claim(table: Mapping[str, Any]) -> Claim:
    """A claim from its table.

    Raises:
        ValueError: The table has a key that there is not, lacks one, or has a wrong value.

    Example:
        >>> test = {"kind": "difference", "arm": "boltzmann", "than": "softmax"}
        >>> read_claim({"id": "gain", "says": "It is better.", "test": test})
        Traceback (most recent call last):
        ...
        ValueError: Claim 'gain' lacks the key `test.metric`.
    """
    name = f"Claim {table['id']!r}" if isinstance(table.get("id"), str) else "A claim"
    test = table.get("test", {})
    if not isinstance(test, Mapping):
        raise ValueError(f"{name}: key `test` must be a table, but is {test!r}.")
    if test.get("kind") not in KINDS:
        raise ValueError(
            f"{name}: key `test.kind` must be one of {', '.join(KINDS)}, but is "
            f"{test.get('kind')!r}."
        )
    of_test = {key: value for key, value in test.items() if key != "kind"}
    question = _built(KINDS[test["kind"]], of_test, name, "test.")
    claim: Claim = _built(Claim, {**table, "test": question}, name)
    _one_of(name, "source", claim.source, SOURCES)
    if (claim.source == "control") != bool(claim.beside):
        raise ValueError(
            f"{name}: key `beside` must name a claim where `source` is 'control', and only there."
        )
    if isinstance(question, (Difference, Slope)):
        _one_of(name, "test.metric", question.metric, BETTER)
    if isinstance(question, NoWorse) and not 0 < question.margin < float("inf"):
        raise ValueError(f"{name}: key `test.margin` must be positive, but is {question.margin}.")
    if isinstance(question, (Slope, MeasuredValue)):
        _one_of(name, "test.sign", question.sign, (1, -1))
    if isinstance(question, MeasuredValue) and not all(
        type(place) is int and place > 0 for place in question.at
    ):
        raise ValueError(
            f"{name}: key `test.at` must be places counted from 1, but is {list(question.at)}."
        )
    return claim


def check_claim(claim: Claim, parts: Sequence[Part]) -> None:
    """Check that an experiment of these parts has the trainings that a claim needs.

    Raises:
        ValueError: A part, an arm, a setting of the grid, a value of it, the metric or the measure
            is not there; or `where` leaves several trainings open.
    """
    name, test = f"Claim {claim.id!r}", claim.test
    known = {part.name: part for part in parts}
    for side in test.sides:
        _one_of(name, "test.part", side.part, known)
        part = known[side.part]
        _one_of(name, "test.arm", side.arm, part.arms)
        for setting, wanted in side.where.items():
            _one_of(name, "test.where", setting, part.grid)
            for value in values(wanted):
                _one_of(name, f"test.where.{setting}", value, part.grid[setting])
        _check_one_point(name, side, part, test.over)
        if isinstance(test, (Difference, Slope)):
            task = {**part.settings, **part.arms[side.arm]}.get("task", TrainConfig.task)
            metrics = ("validation_loss", "gradient_error", METRIC[task])
            _one_of(name, "test.metric", test.metric, metrics)
        if isinstance(test, MeasuredValue):
            _one_of(name, "test.measure", test.measure, part.measures)


def _check_one_point(name: str, side: Side, part: Part, over: str) -> None:
    """One training a side, or one for each value of `over`."""
    for setting, grid in part.grid.items():
        chosen = values(side.where.get(setting, grid))
        if setting != over and len(chosen) > 1:
            raise ValueError(
                f"{name}: key `test.where` must choose one value of `{setting}` for the arm "
                f"{side.arm!r}, but leaves {', '.join(map(str, chosen))}."
            )
    if over and over not in part.grid and over != "context":
        raise ValueError(f"{name}: key `test.best` must be of the grid, but is {over!r}.")


def _built(kind: type[Built], table: Mapping[str, Any], name: str, prefix: str = "") -> Built:
    """An object of a dataclass from a table that has its fields as keys."""
    known = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    types = typing.get_type_hints(kind)
    given = {}
    for key, value in table.items():
        if key not in known:
            hint = nearest(key, known) or f"there are {', '.join(known)}."
            raise ValueError(f"{name} has an unknown key `{prefix}{key}`: {hint}")
        given[key] = tuple(value) if isinstance(value, list) else value
        if types[key] is float and type(value) is int:
            given[key] = float(value)
        if typing.get_origin(types[key]) is Literal:
            _one_of(name, f"{prefix}{key}", value, typing.get_args(types[key]))
        elif not _is_of(types[key], given[key]):
            raise ValueError(
                f"{name}: key `{prefix}{key}` must be {described(types[key])}, but is {value!r}."
            )
    for key, field in known.items():
        if key not in given and field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"{name} lacks the key `{prefix}{key}`.")
    return kind(**given)


def _is_of(kind: Any, value: Any) -> bool:
    """Whether a value is of an annotated type, looking no deeper than its outermost layer."""
    members = typing.get_args(kind) if isinstance(kind, UnionType) else (kind,)
    types = tuple(typing.get_origin(member) or member for member in members)
    return type(value) is not bool and isinstance(value, types)


def _one_of(name: str, key: str, value: Any, known: Iterable[Any]) -> None:
    known = list(known)
    if value not in known:
        raise ValueError(
            f"{name}: key `{key}` must be one of {', '.join(map(repr, known)) or 'none at all'}, "
            f"but is {value!r}."
        )
