"""What a run's folder says at a glance, without its checkpoint."""

import contextlib
import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

from qattn.fitting import FitConfig, FitFolder
from qattn.training.config import TrainConfig
from qattn.training.folder import Folder, RunFolder

SIGNS = ("config.toml", "metrics.jsonl", "checkpoint.pt")
"""Files by which a folder is known as one of a run."""


@dataclass(frozen=True, kw_only=True)
class RunEntry:
    """A run as one line of a list.

    Attributes:
        folder: Its folder.
        kind: "train" or "fit-sampler", the command that made it; "" if that is not known.
        task: The task, or the problems that a sampler was fitted to.
        attention: The arm, with the structure of its couplings; "" of a fit.
        sampler: Where mean spins came from; "autoregressive" of a fit.
        context: Positions T; None of a fit.
        seed: The first seed.
        ensemble: Number of seeds.
        step: Step of the last line of metrics.
        steps: Steps that are to be made; None of a fit that ends by its time.
        finished: Whether it has come to its end.
        validation_loss: Of the last validation, nats; of an ensemble the mean.
        validation_loss_interval: 95% interval of that mean, or None.
        metric: The task's, "ess" of a fit; "" before the first validation.
        value: Its last value.
        interval: Its 95% interval, or None.
        seconds: Time of its steps.
        date: When it last wrote settings, metrics or a checkpoint: local time, ISO 8601.
        problem: Why the folder cannot be read, or "".
    """

    folder: Path
    kind: str = ""
    task: str = ""
    attention: str = ""
    sampler: str = ""
    context: int | None = None
    seed: int | None = None
    ensemble: int | None = None
    step: int | None = None
    steps: int | None = None
    finished: bool = False
    validation_loss: float | None = None
    validation_loss_interval: list[float] | None = None
    metric: str = ""
    value: float | None = None
    interval: list[float] | None = None
    seconds: float | None = None
    date: str = ""
    problem: str = ""


def find_runs(root: Path) -> list[Path]:
    """Folders of runs in a folder, at any depth, or the folder itself; in the order of names.

    Raises:
        FileNotFoundError: There is no such folder.
    """
    if not root.is_dir():
        raise FileNotFoundError(f"No folder {root}: runs are written to runs/, or to --out.")
    return sorted({file.parent for name in SIGNS for file in root.rglob(name)})


def read_entry(folder: Path) -> RunEntry:
    """The line of a run; of a folder that cannot be read one with the reason, no error."""
    date = ""
    try:
        date = _date(folder)
        run, config = read_run(folder)
        records, summary = run.read_metrics(), _summary(run)
        made = max((record["step"] for record in records), default=0)
        if isinstance(config, TrainConfig):
            found, wanted = _training(config, records), config.steps
        else:
            found, wanted = _fit(config, summary), made  # it may have ended by its time
        ended = int(summary.get("steps", -1))
        return RunEntry(
            folder=folder,
            seed=config.seed,
            step=max(made, ended),
            steps=config.steps,
            finished=ended >= wanted,
            seconds=next((r["seconds"] for r in reversed(records) if "seconds" in r), None),
            date=date,
            **found,
        )
    except (ValueError, LookupError, TypeError, OSError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        return RunEntry(folder=folder, date=date, problem=reason)


def read_run(folder: Path) -> tuple[Folder[Any], TrainConfig | FitConfig]:
    """A run with its settings: of a training, or else of a fit.

    Raises:
        FileNotFoundError: The folder is not one of a run.
        ValueError: Its settings cannot be read; the reason is that of a training.
    """
    training = RunFolder(folder)
    try:
        return training, training.read_config()
    except ValueError:
        fit = FitFolder(folder)
        with contextlib.suppress(ValueError):
            return fit, fit.read_config()
        raise


def metric_of(validation: dict[str, Any]) -> str:
    """Name of the task's metric, which a line of a validation has after the loss; "" without."""
    names = (name for name in validation if not name.startswith(("step", "validation_loss")))
    return next(names, "")


def _training(config: TrainConfig, records: list[dict[str, Any]]) -> dict[str, Any]:
    last: dict[str, Any] = next((r for r in reversed(records) if "validation_loss" in r), {})
    metric = metric_of(last)
    return {
        "kind": "train",
        "task": config.task,
        "attention": config.arm,
        "sampler": config.sampler,
        "context": config.context,
        "ensemble": config.ensemble,
        "validation_loss": last.get("validation_loss"),
        "validation_loss_interval": last.get("validation_loss_interval"),
        "metric": metric,
        "value": last.get(metric),
        "interval": last.get(f"{metric}_interval"),
    }


def _fit(config: FitConfig, summary: dict[str, Any]) -> dict[str, Any]:
    return {
        "kind": "fit-sampler",
        "task": config.problems or config.family,
        "sampler": "autoregressive",
        "metric": "ess" if "ess" in summary else "",
        "value": summary.get("ess"),
    }


def _summary(run: Folder[Any]) -> dict[str, Any]:
    """What a run says at its end, or nothing."""
    if not run.summary_file.is_file():
        return {}
    try:
        return dict(json.loads(run.summary_file.read_text()))
    except (ValueError, TypeError) as error:
        raise ValueError(f"Cannot read '{run.summary_file}': {error}.") from None


def _date(folder: Path) -> str:
    """When the newest of its files that tell a run was written."""
    files = [folder / name for name in SIGNS]
    newest = max(file.stat().st_mtime for file in files if file.is_file())
    return datetime.fromtimestamp(newest).isoformat(" ", "seconds")
