"""Settings of a training that choose its task."""

from dataclasses import dataclass
from pathlib import Path

from qattn.training.sampler_settings import setting
from qattn.training.tasks import (
    TASK_PLACE,
    Task,
    available_tasks,
    available_tokenizers,
    make_task,
)
from qattn.training.tasks.named import TOKENIZER_PLACE


@dataclass(frozen=True, kw_only=True)
class TaskSettings:
    """The task, and the text that it is on."""

    task: str = setting("brackets", f"Task: {', '.join(available_tasks())}.")
    data: str | None = setting(None, "Text file of the tasks text and shakespeare.")
    tokens: str | None = setting(
        None, f"Its tokens: {', '.join(available_tokenizers())} (default: characters)."
    )
    vocab_size: int | None = setting(None, "Largest number of words (default: 10000).")
    context: int = setting(12, "Number of positions T.")

    @property
    def data_path(self) -> Path | None:
        """The task's text file, if one was given."""
        return None if self.data is None else Path(self.data)

    def check_task(self) -> None:
        """Raise a ValueError unless there are such a task and such tokens."""
        TASK_PLACE.check(self.task)
        if self.tokens is not None:
            TOKENIZER_PLACE.check(self.tokens)

    def make_task(self, seed: int, data: Path | None = None) -> Task:
        """The task; errors as in :func:`~qattn.training.tasks.make_task`.

        Args:
            seed: Seed of its data.
            data: The text, where it is no longer where the settings have it.
        """
        text = self.data_path if data is None else data
        options = {"tokens": self.tokens, "vocab_size": self.vocab_size}
        return make_task(self.task, self.context, seed, text, **options)
