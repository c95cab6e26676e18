"""``qattn doctor``: what of the D-Wave set-up works, and what a training step would cost."""

from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

from qattn.cli._flags import flags_of, with_flags
from qattn.hardware.doctor import Workload, diagnose
from qattn.training import TrainConfig, read_settings

console = Console(highlight=False, soft_wrap=True)

COLOURS = {"ok": "green", "warn": "yellow", "failed": "red", "skipped": "yellow"}
SERVICE = ("endpoint", "region", "solver", "qpu_budget")
OF_BACKEND = ("credentials", *SERVICE, "calibration", "annealing_time", "field_encoding")
OF_TRAINING = ("context", "layers", "heads", "batch_size", "num_reads", "steps")


@with_flags(
    flag.replace(default=None)
    for flag in (*flags_of("dwave", OF_BACKEND), *flags_of(TrainConfig, OF_TRAINING))
)
def doctor(
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a training's settings; flags win.")
    ] = None,
    pack: Annotated[bool, typer.Option(help="Make the packing now if there is none.")] = False,
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
    failed = False
    for check in checks:
        colour = COLOURS[check.status]
        console.print(f"[{colour}]{check.status:<7}[/] {check.name:<14} {escape(check.detail)}")
        if check.hint:
            console.print(f"{'':<22} -> {escape(check.hint)}")
        failed |= check.status == "failed"
    if failed:
        raise typer.Exit(1)
