"""Errors of one process of a training, as the others raise them."""

from dataclasses import dataclass

import torch.distributed as dist

from qattn.backends import BackendStopped
from qattn.couplings.base import NotFinite

KINDS: tuple[type[Exception], ...] = (
    NotFinite,
    FloatingPointError,
    FileExistsError,
    FileNotFoundError,
    OSError,
    ImportError,
    MemoryError,
    ValueError,
    TypeError,
)
"""Errors that stay what they are in another process; the first that fits is raised there."""


class RankLost(ConnectionError):  # noqa: N818 - what happened to the other one
    """A process of the training is gone, so that the others cannot go on."""


class StoppedElsewhere(BackendStopped):
    """The backend of another process cannot go on."""

    def __init__(self, message: str, resume_flags: str | None) -> None:
        super().__init__(message)
        self.resume_flags = resume_flags  # type: ignore[misc]  # a class's, as a rule


@dataclass(frozen=True)
class Told:
    """What a process tells the others of its error.

    Attributes:
        kind: Index in :data:`KINDS`; None where none fits.
        text: What it says.
        flags: Of a backend that stopped, its `resume_flags`.
        stopped: Whether it is one.
    """

    kind: int | None
    text: str
    flags: str | None = None
    stopped: bool = False

    @classmethod
    def of(cls, error: Exception) -> "Told":
        """What is told of an error."""
        if isinstance(error, BackendStopped):
            return cls(None, str(error), error.resume_flags, stopped=True)
        kind = next((i for i, kind in enumerate(KINDS) if isinstance(error, kind)), None)
        return cls(kind, str(error) if kind is not None else f"{type(error).__name__}: {error}")

    def again(self, where: str) -> Exception:
        """The error for a process in which it did not happen; `where` it did comes first."""
        if self.stopped:
            return StoppedElsewhere(where + self.text, self.flags)
        kind = RuntimeError if self.kind is None else KINDS[self.kind]
        return kind(where + self.text)


def is_lost(error: RuntimeError) -> bool:
    """Whether an error is one of a connection: gloo has no type of its own for it."""
    return isinstance(error, dist.DistError) or "gloo" in str(error).lower()
