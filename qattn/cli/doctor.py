"""``qattn doctor``: what of the D-Wave set-up works, and what a training step would cost."""

import json as json_format
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.hardware.doctor import Check, Workload, diagnose
from qattn.training import TrainConfig, read_settings

console = Console(highlight=False, soft_wrap=True)

COLOURS = {"ok": "green", "warn": "yellow", "failed": "red", "skipped": "yellow"}
SERVICE = ("endpoint", "region", "solver", "qpu_budget")
OF_BACKEND = ("credentials", *SERVICE, "calibration", "annealing_time", "field_encoding")
OF_TRAINING = (
    *("context", "layers", "heads", "batch_size", "num_reads", "steps"),
    *("couplings", "coupling_width"),
)


@with_flags(
    flag.replace(default=None)
    for flag in (*flags_of("dwave", OF_BACKEND), *flags_of(TrainConfig, OF_TRAINING))
)
def doctor(
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a training's settings; flags win.")
    ] = None,
    pack: Annotated[bool, typer.Option(help="Make the packing now if there is none.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of lines.")] = False,
    **options: Any,
) -> None:
    """Check the D-Wave set-up step by step; submits nothing and costs nothing.

    Packages, credentials and where they were found, service, token, solver, fast anneal, packing,
    calibration, and the estimated QPU access time of a training step. Exit status 1 if a step
    failed.
    """
    settings = {} if config is None else read_settings(config)
    settings |= {name: value for name, value in options.items() if value is not None}
    # A QPU does not see the width, so that of any number of heads will do.
    training = TrainConfig(**settings | {"width": settings.get("heads", TrainConfig.heads)})
    credentials, calibration = options["credentials"], training.calibration
    checks = diagnose(
        Workload(training),
        credentials=Path(credentials) if credentials else None,
        service={name: options[name] for name in SERVICE},
        calibration=Path(calibration) if calibration else None,
        annealing_time=training.annealing_time,
        pack=pack,
    )
    done: list[Check] = []
    for check in checks:
        done.append(check)
        if not json:
            _show(check)
    if json:
        found = {"checks": [asdict(check) for check in done]}
        print(json_format.dumps(found, indent=2, ensure_ascii=False))
    if any(check.status == "failed" for check in done):
        raise typer.Exit(1)


def _show(check: Check) -> None:
    """A line as long as it is, or, on a terminal, several under a hanging indent."""
    status = f"[{COLOURS[check.status]}]{check.status}[/]"
    hint = f"-> {escape(check.hint)}" if check.hint else ""
    if console.is_terminal:
        grid = Table.grid(padding=(0, 1))
        grid.add_column(width=7)
        grid.add_column(width=14)
        grid.add_column(overflow="fold")
        grid.add_row(status, check.name, escape(check.detail))
        if hint:
            grid.add_row("", "", hint)
        console.print(grid, soft_wrap=False)
        return
    console.print(f"{status}{'':<{8 - len(check.status)}}{check.name:<14} {escape(check.detail)}")
    if hint:
        console.print(f"{'':<22} {hint}")
