"""Flags of the commands from what is declared elsewhere: settings, and options of backends."""

import dataclasses
import inspect
import re
from collections.abc import Callable, Iterable
from typing import Annotated, Any, TypeVar

import typer

from qattn.backends import Option, options_of
from qattn.backends.options import declared_options, described, members_of, words_of

Command = TypeVar("Command", bound=Callable[..., Any])


def flags_of(declared: Any, names: Iterable[str], *, prefix: str = "") -> list[inspect.Parameter]:
    """A flag for each of these settings, with the type, default and help of its declaration.

    Args:
        declared: The name of a backend, for its options, or a dataclass. The help of its fields is
            in their metadata, or else the first sentence that its docstring has on them.
        names: Names of the options or fields.
        prefix: Text before each help.
    """
    options = options_of(declared) if isinstance(declared, str) else declared_options(declared)
    if isinstance(declared, str):
        texts = {name: option.help for name, option in options.items()}
    else:
        fields = dataclasses.fields(declared)
        texts = _first_sentences(declared.__doc__ or "") | {
            field.name: field.metadata["help"] for field in fields if "help" in field.metadata
        }
    return [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=options[name].default,
            annotation=_annotation(options[name], prefix + texts[name]),
        )
        for name in names
    ]


def _annotation(option: Option, help: str) -> Any:
    """What typer makes a flag of; it knows no union, so one with words gets a parser."""
    words = words_of(option.type)
    if not words:
        return Annotated[option.type, typer.Option(help=help)]

    def parsed(text: Any) -> Any:
        if not isinstance(text, str):  # the default, which typer parses too
            return text
        try:
            return option.from_text(text)
        except ValueError:
            raise typer.BadParameter(f"{text!r} is not {described(option.type)}.") from None

    kinds = [kind.__name__ for kind in members_of(option.type) if isinstance(kind, type)]
    metavar = f"<{'|'.join([*kinds, *words])}>"
    return Annotated[str | None, typer.Option(help=help, parser=parsed, metavar=metavar)]


def with_flags(flags: Iterable[inspect.Parameter]) -> Callable[[Command], Command]:
    """The command takes these flags, after its own, as its keyword arguments ``**``."""

    def decorated(command: Command) -> Command:
        *own, _ = inspect.signature(command).parameters.values()
        command.__signature__ = inspect.Signature([*own, *flags])  # type: ignore[attr-defined]
        return command

    return decorated


def _first_sentences(docstring: str) -> dict[str, str]:
    """First sentence on each name that a docstring in Google's style describes."""
    entries = re.findall(r"^    (\w+): (.+?\.)(?=\s|$)", inspect.cleandoc(docstring), re.M | re.S)
    return {name: " ".join(text.split()) for name, text in entries}
