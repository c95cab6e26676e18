"""Tasks and tokenisers by name: those of qattn, and those of installed packages."""

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar

from qattn.training.tasks.tokenizers import TOKENIZERS, Tokenizer

T = TypeVar("T")


@dataclass(frozen=True)
class Place(Generic[T]):
    """Where to look up what makes something of a kind.

    Attributes:
        setting: The setting that names it.
        group: Group of the entry points with which packages add to it.
        own: What is there without them, which they cannot hide.
        kind: The protocol that all that is made keeps.
    """

    setting: str
    group: str
    own: Mapping[str, Callable[..., T]]
    kind: type[T]

    def names(self) -> list[str]:
        """All names; loads nothing."""
        return [*self.own, *sorted({e.name for e in entry_points(group=self.group)} - {*self.own})]

    def check(self, name: str) -> None:
        """Raise a ValueError unless there is this name."""
        if name not in self.own and name not in (known := self.names()):
            raise ValueError(
                f"Argument `{self.setting}` must be one of {', '.join(known)}, but is {name!r}: "
                f"packages add others by entry points of the group {self.group}."
            )

    def find(self, name: str) -> Callable[..., T]:
        """What makes it.

        Raises:
            ValueError: There is no such name.
            ImportError: Its package cannot be imported.
        """
        self.check(name)
        if name in self.own:
            return self.own[name]
        (entry, *_) = entry_points(group=self.group, name=name)
        try:
            found: Callable[..., T] = entry.load()
        except (ImportError, AttributeError) as error:
            raise ImportError(f"{self.setting} {name!r} ({entry.value}) fails: {error}") from error
        return found

    def make(self, name: str, *args: Any, **options: Any) -> T:
        """Make it; options that it does not take are refused.

        Raises:
            ValueError: There is no such name, or it does not take an option.
            TypeError: What was made lacks something that all of its kind have.
        """
        factory = self.find(name)
        taken = inspect.signature(factory).parameters
        for option, value in options.items():
            if option not in taken:
                raise ValueError(
                    f"Argument `{option}` must be left out for {self.setting} {name!r}, but is "
                    f"{value!r}."
                )
        made = factory(*args, **options)
        if not isinstance(made, self.kind):
            needed = [n for n in (*self.kind.__annotations__, *vars(self.kind)) if n[0] != "_"]
            lacks = ", ".join(n for n in needed if not hasattr(made, n))
            raise TypeError(f"{self.setting} {name!r} lacks {lacks}: see {self.kind.__name__}.")
        return made


TOKENIZER_PLACE = Place("tokens", "qattn.tokenizers", TOKENIZERS, Tokenizer)  # type: ignore[type-abstract]
"""Tokenisers."""
