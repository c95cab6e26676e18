"""A run's folder: config.toml, metrics.jsonl, checkpoint.pt, summary.json and plots."""

import contextlib
import errno
import io
import json
import logging
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, runtime_checkable

import torch

from qattn._atomic import write_atomically
from qattn.integrations.trackers import Trackers
from qattn.training.config import TrainConfig, parse_settings, toml_text
from qattn.training.resuming import resume_command

log = logging.getLogger("qattn.training")

CHECKPOINT = {"learner", "progress", "pending", "config", "environment"}
"""What a checkpoint holds."""


@runtime_checkable
class Settings(Protocol):
    """Settings that a run's folder can keep."""

    def to_toml(self) -> str:
        """All settings."""


S = TypeVar("S", bound=Settings)


class Folder(Generic[S]):
    """The files of a run; each is whole at any moment, whenever the process is killed.

    Args:
        path: The folder.
        parse: Makes settings of the text of a TOML file at a path.
        command: The command that makes the run.
        keys: What a checkpoint holds.
    """

    def __init__(
        self, path: Path, parse: Callable[[str, Path], S], command: str, keys: set[str]
    ) -> None:
        self.path, self.parse, self.command, self.keys = path, parse, command, keys
        self.config_file = path / "config.toml"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint.pt"
        self.previous_file = path / "checkpoint.previous.pt"
        self.summary_file = path / "summary.json"
        self.trackers: Trackers | None = None

    def create(self, config: S) -> None:
        """Make the folder and write the configuration.

        Raises:
            FileExistsError: There is something at the path already; it is left untouched.
            OSError: The folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            if self.config_file.is_file():
                command = resume_command(self.path, command=self.command)
                what = f"A run is in '{self.path}': {command} continues it"
            else:
                kind = "folder that is not one of a run" if self.path.is_dir() else "file"
                what = f"There is a {kind} at '{self.path}'"
            raise FileExistsError(f"{what}; for a new run choose another --out.") from None
        except OSError as error:
            raise OSError(
                f"Cannot make the run's folder '{self.path}': {error.strerror}."
            ) from None
        self.write_config(config)

    def write_config(self, config: S) -> None:
        """Write or replace config.toml."""
        write_atomically(self.config_file, config.to_toml().encode())

    def read_config(self) -> S:
        """The settings of config.toml, or if it is gone those of the checkpoint.

        Raises:
            FileNotFoundError: The folder is not one of a run.
            ValueError: It is not as a run has written it.
        """
        if self.config_file.is_file():
            try:
                return self.parse(
                    toml_text(self.config_file, "configuration file"), self.config_file
                )
            except ValueError as error:
                if not self.checkpoint_file.is_file():
                    raise
                raise ValueError(
                    f"{error} Put it right, or delete '{self.config_file}' to go on with the "
                    f"settings of the checkpoint."
                ) from None
        state = self.read_checkpoint()
        if state is None:
            raise FileNotFoundError(f"No run in '{self.path}': it has no {self.config_file.name}.")
        return self.trained_config(state)

    def trained_config(self, state: dict[str, Any] | None) -> S:
        """The settings with which a checkpoint was trained, whatever config.toml says by now.

        Raises:
            FileNotFoundError: There is no checkpoint, and the folder is not one of a run.
            ValueError: There is no checkpoint, and config.toml cannot be used.
        """
        if state is None:
            return self.read_config()
        return self.parse(state["config"], self.checkpoint_file)

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, and keep the one before."""
        content = io.BytesIO()
        torch.save(state, content)
        if self.checkpoint_file.is_file():
            write_atomically(self.previous_file, self.checkpoint_file.read_bytes())
        write_atomically(self.checkpoint_file, content.getvalue())

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint that can be read, or None if the run has none.

        Raises:
            ValueError: There are checkpoints, and none can be read.
        """
        damaged = []
        for file in (self.checkpoint_file, self.previous_file):
            if not file.is_file():
                continue
            content = io.BytesIO(file.read_bytes())
            try:
                state = torch.load(content, map_location="cpu", weights_only=True)
                if not isinstance(state, dict) or state.keys() != self.keys:
                    raise ValueError("it is not one of this version")
            except Exception as error:  # the unpickler's, the archive's, or PyTorch's own
                reason = " ".join(str(error).split()).partition(". ")[0] or type(error).__name__
                damaged.append(f"'{file}' ({reason})")
                continue
            if damaged:
                log.warning("Cannot read %s: going back to %s.", damaged[0], file.name)
            return dict(state)
        if damaged:
            raise ValueError(
                f"Cannot read the checkpoint {' nor '.join(damaged)}: delete it to resume from "
                f"step 0. Reads of a QPU that the journal holds are not paid for again."
            )
        return None

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl, or nothing if it cannot be written in full."""
        line = f"{json.dumps(record)}\n".encode()
        with self.metrics_file.open("ab", buffering=0) as file:
            whole = file.tell()
            try:
                if file.write(line) < len(line):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.metrics_file))
            except OSError:
                file.truncate(whole)
                raise
        if self.trackers is not None:
            self.trackers.add(record)

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that was cut off is left out.

        Raises:
            ValueError: Another line is damaged.
        """
        if not self.metrics_file.is_file():
            return []
        lines = self.metrics_file.read_bytes().splitlines(keepends=True)
        records = []
        for number, line in enumerate(lines, 1):
            try:
                if line.endswith(b"\n"):
                    records.append(json.loads(line))
                    _ = records[-1]["step"]
            except (ValueError, LookupError, TypeError):
                raise ValueError(
                    f"Line {number} of '{self.metrics_file}' is not one of a run: delete it."
                ) from None
        return records

    def forget_metrics_after(self, step: int) -> list[dict[str, Any]]:
        """Drop the lines that a resumed run writes again; returns those that stay."""
        records = self.read_metrics()
        kept = [record for record in records if record["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.metrics_file, lines.encode())
        if self.trackers is not None:
            self.trackers.resumed(kept, [record for record in records if record["step"] > step])
        return kept

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        write_atomically(self.summary_file, (json.dumps(summary, indent=2) + "\n").encode())

    def discard(self) -> None:
        """Take away the folder of a run that has trained nothing, unless others put files there."""
        own = (self.config_file, self.metrics_file, self.checkpoint_file)
        tracked = [self.path / "tracked.json", *self.path.glob("tensorboard/*")]
        for file in (*own, *tracked, *self.path.glob("*.partial")):
            file.unlink(missing_ok=True)
        for folder in (self.path / "tensorboard", self.path):
            with contextlib.suppress(OSError):
                folder.rmdir()


class RunFolder(Folder[TrainConfig]):
    """The files of a training."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, _train_config, "train", CHECKPOINT)

    @contextlib.contextmanager
    def tracked(self, config: TrainConfig) -> Iterator[None]:
        """Lines of metrics go to the trackers of these settings too."""
        self.trackers = Trackers(config.track, self.path, config.to_toml())
        try:
            yield
        finally:
            self.trackers.finish()


def _train_config(text: str, file: Path) -> TrainConfig:
    return TrainConfig(**parse_settings(text, file))
