"""``qattn runs``: what is in a folder of runs."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.console import Console
from rich.table import Table

from qattn.training.runs import RunEntry, find_runs, read_entry

Order = Literal["name", "date", "loss", "value", "step", "seconds"]

COLUMN = {"name": "folder", "loss": "validation_loss"}
"""Words of --sort for fields of other names."""


def runs(
    folder: Annotated[Path, typer.Argument(help="A folder of runs, at any depth.")] = Path("runs"),
    sort: Annotated[
        Order, typer.Option(help="Order: by name, or by one of the others, upwards.")
    ] = "name",
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """List runs: what was trained, how far each is, and how well it does.

    Checkpoints are not read. A folder that cannot be read is a line with the reason.
    """
    found = [read_entry(path) for path in find_runs(folder)]
    field = COLUMN.get(sort, sort)
    found.sort(key=lambda entry: _last_if_missing(getattr(entry, field)))
    if json:
        entries = [asdict(entry) | {"folder": str(entry.folder)} for entry in found]
        print(json_format.dumps(entries, indent=2, ensure_ascii=False))
        return
    if not found:
        print(f"No runs in {folder}.")
        return
    table = Table()
    for column in ("run", "trained", "step", "validation loss", "metric", "time", "date"):
        table.add_column(column, overflow="fold")  # nothing is cut off where it is narrow
    for entry in found:
        name = str(entry.folder.relative_to(folder)) if entry.folder != folder else str(folder)
        table.add_row(name, *_cells(entry))
    Console().print(table)
    for entry in found:
        if entry.problem:
            print(f"{entry.folder}: {entry.problem}")


def _cells(entry: RunEntry) -> list[str]:
    if entry.problem:
        return ["cannot be read", *[""] * 4, entry.date]
    of = "" if entry.finished or entry.steps is None else f" of {entry.steps}"
    return [
        _trained(entry),
        f"{entry.step}{of}" + (", done" if entry.finished else ""),
        _measured(entry.validation_loss, entry.validation_loss_interval),
        f"{entry.metric} {_measured(entry.value, entry.interval)}".strip(),
        "" if entry.seconds is None else f"{entry.seconds:.3g} s",
        entry.date,
    ]


def _trained(entry: RunEntry) -> str:
    """Task, attention, sampler, T and seeds."""
    said = [entry.task, entry.attention, entry.sampler]
    if entry.context is not None:
        said.append(f"T = {entry.context}")
    if entry.seed is not None:
        last = entry.seed + (entry.ensemble or 1) - 1
        said.append(f"seed {last}" if last == entry.seed else f"seeds {entry.seed} to {last}")
    return ", ".join(each for each in said if each)


def _measured(value: float | None, interval: list[float] | None) -> str:
    """A value, and half of its 95% interval."""
    if value is None:
        return ""
    half = "" if interval is None else f" ± {(interval[1] - interval[0]) / 2:.2g}"
    return f"{value:.4f}{half}"


def _last_if_missing(value: Any) -> tuple[bool, Any]:
    missing = value is None or value == ""
    return missing, 0 if missing else value
