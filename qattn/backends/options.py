"""Options of backends: each is declared once, in a dataclass, from which all else derives."""

import dataclasses
import difflib
import inspect
import tomllib
import typing
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Any


class FromFile(str):
    """A text that a file of settings gave, and not the user of the moment.

    It is a text like any other, but for options that only count where the user gives them.

    Attributes:
        file: The file.
    """

    file: Path

    def __new__(cls, text: str, file: Path) -> "FromFile":
        """The text, and its file."""
        made = super().__new__(cls, text)
        made.file = file
        return made

    def __deepcopy__(self, memo: object) -> str:
        """The bare text, for what is written down."""
        return str(self)


def option(
    default: Any,
    help: str,
    *,
    python_only: bool = False,
    may_change: bool = False,
    marked: bool = False,
) -> Any:
    """A field of a backend's ``Options`` dataclass.

    Args:
        default: Value of the option where none is given.
        help: The option in one line, for command lines and documentation.
        python_only: No text can give the option: its values are objects of Python.
        may_change: A training that is resumed may change it: it says how reads are obtained, and
            not what they are.
        marked: A file of settings gives it as :class:`FromFile`.
    """
    metadata = {
        "help": help,
        "python_only": python_only,
        "may_change": may_change,
        "marked": marked,
    }
    return dataclasses.field(default=default, metadata=metadata)


@dataclass(frozen=True)
class Option:
    """An option of a backend, as command lines, files and documentation see it.

    Attributes:
        name: Its name.
        type: Type of its values where text gives them: ``str`` in place of a union that has it
            (a ``Path`` is given as its text), ``Any`` where the type is not known.
        default: Value of the option where none is given.
        help: The option in one line, or "".
        python_only: No text can give the option.
        may_change: A training that is resumed may change it.
        marked: A file of settings gives it as :class:`FromFile`.
    """

    name: str
    type: Any
    default: Any
    help: str = ""
    python_only: bool = False
    may_change: bool = False
    marked: bool = False

    def from_text(self, text: str) -> Any:
        """The value that a text such as ``7``, ``1e-4``, ``true`` or ``10.2/11.2`` stands for.

        Raises:
            ValueError: The text is not of the option's type, or only Python can give the option.
        """
        if self.python_only:
            raise ValueError(f"Option `{self.name}` can be given in Python only, not as text.")
        types = members_of(self.type)
        if str in types or text in words_of(self.type):
            return text
        value = _guessed(text)
        if type(value) is int and float in types and int not in types:
            return float(value)
        if any(kind is Any or type(value) is (typing.get_origin(kind) or kind) for kind in types):
            return value
        raise ValueError(f"Option `{self.name}` must be {described(self.type)}, but is {text!r}.")


def declared_options(factory: Callable[..., Any]) -> dict[str, Option]:
    """Options of a backend class, from its ``Options``; else parameters of a callable, by name."""
    if has_dataclass(factory):
        types = typing.get_type_hints(factory.Options)  # type: ignore[attr-defined]
        fields = dataclasses.fields(factory.Options)  # type: ignore[attr-defined]
        return {
            field.name: Option(
                field.name, _plain(types[field.name]), field.default, **field.metadata
            )
            for field in fields
        }
    named = (inspect.Parameter.KEYWORD_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return {
        p.name: Option(p.name, _plain(p.annotation), p.default)
        for p in _signature(factory).parameters.values()
        if p.kind in named
    }


def takes_any_option(factory: Callable[..., Any]) -> bool:
    """Whether a callable takes keyword arguments of every name."""
    parameters = _signature(factory).parameters.values()
    return any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters)


def has_dataclass(factory: Callable[..., Any]) -> bool:
    """Whether the constructor of a backend class takes the fields of its ``Options``.

    It does unless a class that is nearer in the order of inheritance has its own ``__init__``.
    """
    for kind in getattr(factory, "__mro__", ()):
        if "Options" in vars(kind):
            return dataclasses.is_dataclass(vars(kind)["Options"])
        if "__init__" in vars(kind):
            return False
    return False


def check_words(options: Any) -> None:
    """Raise a ValueError for a field of an ``Options`` that must be one of some words, and is not.

    Backends whose options are words call it in ``__post_init__``.
    """
    types = typing.get_type_hints(type(options))
    for field in dataclasses.fields(options):
        kind, value = types[field.name], getattr(options, field.name)
        if typing.get_origin(kind) is typing.Literal and value not in typing.get_args(kind):
            raise ValueError(
                f"Argument `{field.name}` must be {described(kind)}, but is {value!r}."
            )


def from_toml(type_: Any, value: Any) -> Any:
    """A value of TOML as one of this type, which may be a union; None if it is not one."""
    if value in words_of(type_):
        return value
    members = members_of(type_)
    if type(value) is int and float in members and int not in members:
        return float(value)
    if isinstance(value, list):
        for member in members:
            if typing.get_origin(member) is tuple and len(value) == len(typing.get_args(member)):
                numbers = tuple(from_toml(float, number) for number in value)
                return None if None in numbers else numbers
        return None
    return value if type(value) in members else None


def members_of(type_: Any) -> tuple[Any, ...]:
    """Members of a union other than None; a type that is no union by itself."""
    if typing.get_origin(type_) in (UnionType, typing.Union):
        return tuple(member for member in typing.get_args(type_) if member is not NoneType)
    return (type_,)


def words_of(type_: Any) -> tuple[str, ...]:
    """Words that are values of a type: ``("auto",)`` for ``int | Literal["auto"]``."""
    literals = [kind for kind in members_of(type_) if typing.get_origin(kind) is typing.Literal]
    return tuple(word for kind in literals for word in typing.get_args(kind))


def described(type_: Any) -> str:
    """What a value must be: "of type int", "of type int or 'auto'", or "'auto' or 'never'"."""
    if words := words_of(type_):
        kinds = [kind.__name__ for kind in members_of(type_) if isinstance(kind, type)]
        return f"{'of type ' * bool(kinds)}{' or '.join([*kinds, *map(repr, words)])}"
    return f"of type {getattr(type_, '__name__', str(type_))}"


def nearest(name: str, names: Iterable[str], *, count: int = 1) -> str:
    """``did you mean 'X'?``, or "" where no name is similar."""
    similar = difflib.get_close_matches(name, list(names), n=count, cutoff=0.5)
    return f"did you mean {quoted(similar)}?" if similar else ""


def quoted(names: Iterable[str]) -> str:
    """Names in quotation marks, separated by commas."""
    return ", ".join(repr(name) for name in names)


def _signature(factory: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(factory, eval_str=True)
    except NameError:  # an annotation that is imported for type checkers only
        return inspect.signature(factory)


def _plain(annotation: Any) -> Any:
    """The annotation as text can give it; ``Any`` for a missing or unresolved one."""
    if annotation is inspect.Parameter.empty or isinstance(annotation, str):
        return Any
    if {str, Path} & set(members_of(annotation)):
        return str | None if NoneType in typing.get_args(annotation) else str
    return annotation


def _guessed(text: str) -> Any:
    """Two numbers around a slash, a value of TOML, or the text itself."""
    first, slash, second = text.partition("/")
    try:
        if slash:
            return float(first), float(second)
        return tomllib.loads(f"value = {text}")["value"]
    except ValueError:
        return text
