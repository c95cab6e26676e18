"""A run's folder: config.toml, metrics.jsonl, checkpoint.pt, summary.json and plots."""

import io
import json
from pathlib import Path
from typing import Any

import torch

from qattn._atomic import write_atomically
from qattn.training.config import TrainConfig, read_settings


class RunFolder:
    """The files of a run; each is whole at any moment, whenever the process is killed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.config_file = path / "config.toml"
        self.metrics_file = path / "metrics.jsonl"
        self.checkpoint_file = path / "checkpoint.pt"
        self.summary_file = path / "summary.json"

    def create(self, config: TrainConfig) -> None:
        """Make the folder and write the configuration.

        Raises:
            FileExistsError: There is something at the path already; it is left untouched.
            OSError: The folder cannot be made.
        """
        try:
            self.path.mkdir(parents=True)
        except FileExistsError:
            raise FileExistsError(
                f"The run's folder {self.path} exists: continue it with --resume {self.path}, "
                f"or choose another --out."
            ) from None
        except OSError as error:
            raise OSError(f"Cannot make the run's folder {self.path}: {error.strerror}.") from None
        self.write_config(config)

    def write_config(self, config: TrainConfig) -> None:
        """Write or replace config.toml."""
        write_atomically(self.config_file, config.to_toml().encode())

    def read_config(self) -> TrainConfig:
        """The configuration that the run was started with.

        Raises:
            FileNotFoundError: The folder is not one of a run.
        """
        if not self.config_file.is_file():
            raise FileNotFoundError(
                f"No run to resume in {self.path}: it has no {self.config_file.name}."
            )
        return TrainConfig(**read_settings(self.config_file))

    def write_checkpoint(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint."""
        content = io.BytesIO()
        torch.save(state, content)
        write_atomically(self.checkpoint_file, content.getvalue())

    def read_checkpoint(self) -> dict[str, Any] | None:
        """The last checkpoint, or None if the run was stopped before its first."""
        if not self.checkpoint_file.is_file():
            return None
        state: dict[str, Any] = torch.load(
            self.checkpoint_file, map_location="cpu", weights_only=True
        )
        return state

    def append_metrics(self, record: dict[str, Any]) -> None:
        """Add a line to metrics.jsonl."""
        with self.metrics_file.open("a", encoding="utf-8") as file:
            file.write(json.dumps(record) + "\n")

    def read_metrics(self) -> list[dict[str, Any]]:
        """The lines of metrics.jsonl; a last line that was cut off is left out."""
        if not self.metrics_file.is_file():
            return []
        lines = self.metrics_file.read_text(encoding="utf-8").splitlines(keepends=True)
        return [json.loads(line) for line in lines if line.endswith("\n")]

    def forget_metrics_after(self, step: int) -> None:
        """Drop the lines that a resumed run writes again."""
        kept = [record for record in self.read_metrics() if record["step"] <= step]
        lines = "".join(json.dumps(record) + "\n" for record in kept)
        write_atomically(self.metrics_file, lines.encode())

    def write_summary(self, summary: dict[str, Any]) -> None:
        """Write summary.json."""
        write_atomically(self.summary_file, (json.dumps(summary, indent=2) + "\n").encode())
