"""Tasks to train on: what they have in common, and their registry."""

from collections.abc import Callable
from pathlib import Path
from typing import Protocol, runtime_checkable

from jaxtyping import Float, Int
from torch import Tensor

from qattn.training.tasks.brackets import Brackets
from qattn.training.tasks.named import TOKENIZER_PLACE, Place
from qattn.training.tasks.shakespeare import Shakespeare
from qattn.training.tasks.text import Text
from qattn.training.tasks.tokenizers import TOKENIZERS, Bytes, Characters, Tokenizer, Words

__all__ = [
    "TASKS",
    "TOKENIZERS",
    "Brackets",
    "Bytes",
    "Characters",
    "Shakespeare",
    "Task",
    "Text",
    "Tokenizer",
    "Words",
    "available_tasks",
    "available_tokenizers",
    "make_task",
]


@runtime_checkable
class Task(Protocol):
    """Sequences to predict: token t + 1 from tokens up to t."""

    vocab_size: int
    metric: str
    """Name of the metric that `metrics` returns first after the loss."""

    def batch(self, step: int, size: int) -> tuple[Int[Tensor, "size T"], Int[Tensor, "size T"]]:
        """Inputs and targets of a training step: a function of the task's seed and the step."""

    def validation(self) -> tuple[Int[Tensor, "words T"], Int[Tensor, "words T"]]:
        """Inputs and targets of the validation set."""

    def metrics(
        self, logits: Float[Tensor, "words T vocab"], targets: Int[Tensor, "words T"]
    ) -> dict[str, float]:
        """Validation loss (mean cross-entropy in nats) and the task's metric."""

    def references(self) -> dict[str, dict[str, float]]:
        """Levels to hold a metric against, such as chance, each with its name."""

    def token_names(self, tokens: Int[Tensor, " T"]) -> list[str]:
        """What to print for tokens."""

    def encode(self, text: str) -> Int[Tensor, " T"]:
        """The tokens that a model reads before it predicts what follows a text.

        Raises:
            ValueError: The vocabulary does not know a part of the text.
        """

    def decode(self, tokens: Int[Tensor, " T"]) -> str:
        """The text of tokens, so that ``decode(encode(text))`` is the text."""


def _brackets(context: int, *, seed: int, data: Path | None) -> Task:
    return Brackets(context, seed=seed)


TASKS: dict[str, Callable[..., Task]] = {
    "brackets": _brackets,
    "shakespeare": Shakespeare,
    "text": Text,
}
"""What makes each task of the command line: takes `context`, `seed` and `data`."""

TASK_PLACE = Place("task", "qattn.tasks", TASKS, Task)  # type: ignore[type-abstract]


def available_tasks() -> list[str]:
    """Names of the tasks: those of qattn, and those of installed packages, which are not loaded."""
    return TASK_PLACE.names()


def available_tokenizers() -> list[str]:
    """Names of what the tokens of a text may be, those of installed packages too."""
    return TOKENIZER_PLACE.names()


def make_task(
    name: str, context: int, seed: int, data: Path | None = None, **options: str | int | None
) -> Task:
    """A task by its name: a key of :data:`TASKS`, or an entry point of the group ``qattn.tasks``.

    Args:
        name: The name.
        context: Number of positions.
        seed: Seed of the data.
        data: The text file of tasks that read one.
        options: `tokens` and `vocab_size` of tasks on texts; None where one is left out.

    Raises:
        ValueError: There is no such task, the context does not suit it, or it takes no such option.
        FileNotFoundError: The task reads a text, and there is none.
        ImportError: The package of the task cannot be imported.
    """
    given = {option: value for option, value in options.items() if value is not None}
    return TASK_PLACE.make(name, context, seed=seed, data=data, **given)
