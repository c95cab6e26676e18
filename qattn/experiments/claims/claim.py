"""Claims as tables of an experiment's file."""

import typing
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import UnionType
from typing import Any, Literal, TypeVar

from qattn.backends.options import described, members_of, nearest
from qattn.experiments.claims.comparison import Comparison
from qattn.experiments.claims.difference import Difference, NoWorse
from qattn.experiments.claims.measured_value import MeasuredValue
from qattn.experiments.claims.question import BETTER, Question
from qattn.experiments.claims.slope import Slope
from qattn.experiments.claims.sooner import Sooner

KINDS: dict[str, type[Question]] = {
    kind.kind: kind for kind in (Difference, NoWorse, Slope, MeasuredValue, Sooner)
}
"""The kinds of tests by name."""

Built = TypeVar("Built")

SOURCES = {
    "paper": "the paper",
    "chuang": "Chuang",
    "bal": "Bal",
    "ramsauer": "Ramsauer et al.",
    "control": "fair control",
    "ours": "ours",
}
"""Who says it, as tables name them: authors of a paper, the wording of a fair control, or we."""


@dataclass(frozen=True)
class Claim:
    """A sentence, and what decides whether it holds.

    Attributes:
        id: Its name, which no other claim of the catalogue has.
        says: The sentence.
        test: The test that decides.
        source: Whose it is, a key of :data:`SOURCES`.
        beside: Of a control, the claim beside which its verdict stands.
        headline: Whether it stands in the shortest table, as that of a README.
    """

    id: str
    says: str
    test: Question
    source: str = "paper"
    beside: str = ""
    headline: bool = False


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
    one_of(name, "source", claim.source, SOURCES)
    if (claim.source == "control") != bool(claim.beside):
        raise ValueError(
            f"{name}: key `beside` must name a claim where `source` is 'control', and only there."
        )
    if isinstance(question, (Comparison, Slope)):
        one_of(name, "test.metric", question.metric, BETTER)
    if isinstance(question, Sooner):
        if (question.threshold is None) == (question.share is None):
            raise ValueError(f"{name} must have one of the keys `test.threshold`, `test.share`.")
        if question.share is not None and not 0 < question.share < 1:
            raise ValueError(
                f"{name}: key `test.share` must be between 0 and 1, but is {question.share}."
            )
    if isinstance(question, NoWorse) and not 0 < question.margin < float("inf"):
        raise ValueError(f"{name}: key `test.margin` must be positive, but is {question.margin}.")
    if isinstance(question, (Slope, MeasuredValue)):
        one_of(name, "test.sign", question.sign, (1, -1))
    if isinstance(question, MeasuredValue) and not abs(question.bound) < float("inf"):
        raise ValueError(f"{name}: key `test.bound` must be finite, but is {question.bound}.")
    if isinstance(question, MeasuredValue) and not all(
        type(place) is int and place > 0 for place in question.at
    ):
        raise ValueError(
            f"{name}: key `test.at` must be places counted from 1, but is {list(question.at)}."
        )
    return claim


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
        if float in members_of(types[key]) and type(value) is int:
            given[key] = float(value)
        if typing.get_origin(types[key]) is Literal:
            one_of(name, f"{prefix}{key}", value, typing.get_args(types[key]))
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
    return isinstance(value, types) and (type(value) is not bool or bool in types)


def one_of(name: str, key: str, value: Any, known: Iterable[Any]) -> None:
    """Raise a ValueError that names claim and key, if a value is not known."""
    known = list(known)
    if value not in known:
        raise ValueError(
            f"{name}: key `{key}` must be one of {', '.join(map(repr, known)) or 'none at all'}, "
            f"but is {value!r}."
        )
