"""``qattn doctor``: what of the D-Wave set-up works, and what a training step would cost."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape

console = Console(highlight=False, soft_wrap=True)

COLOURS = {"ok": "green", "failed": "red", "skipped": "yellow"}


def doctor(
    credentials: Annotated[
        Path | None, typer.Option(help="File with the token (default: ./credentials.toml).")
    ] = None,
    endpoint: Annotated[str | None, typer.Option(help="URL of the solver API.")] = None,
    region: Annotated[str | None, typer.Option(help="Leap's region.")] = None,
    solver: Annotated[str | None, typer.Option(help="Name, or features as JSON.")] = None,
    qpu_budget: Annotated[str | None, typer.Option(help="Ceiling on QPU time: 30s, 2min.")] = None,
    calibration: Annotated[
        Path | None, typer.Option(help="File of `qattn calibrate --sampler dwave`, or a folder.")
    ] = None,
    annealing_time: Annotated[
        float | None, typer.Option(help="Duration of an anneal in ns.")
    ] = None,
    config: Annotated[
        Path | None, typer.Option(help="TOML file with a training's settings; flags win.")
    ] = None,
    context: Annotated[int | None, typer.Option(help="Number of positions T.")] = None,
    layers: Annotated[int | None, typer.Option(help="Number of blocks.")] = None,
    heads: Annotated[int | None, typer.Option(help="Number of heads in each.")] = None,
    batch_size: Annotated[int | None, typer.Option(help="Sequences per step.")] = None,
    num_reads: Annotated[int | None, typer.Option(help="Reads per query.")] = None,
    steps: Annotated[int | None, typer.Option(help="Number of training steps.")] = None,
    field_encoding: Annotated[
        str | None, typer.Option(help="How fields are programmed: ghost, ancilla, direct.")
    ] = None,
    pack: Annotated[bool, typer.Option(help="Make the packing now if there is none.")] = False,
) -> None:
    """Check the D-Wave set-up step by step; submits nothing and costs nothing.

    Packages, credentials and where they were found, service, token, solver, fast anneal, packing,
    calibration, and the estimated QPU access time of a training step. Exit status 1 if a step
    failed.
    """
    from qattn.hardware.doctor import Workload, diagnose

    settings: dict[str, Any] = {} if config is None else _settings(config)
    flags = {
        "context": context,
        "layers": layers,
        "heads": heads,
        "batch_size": batch_size,
        "num_reads": num_reads,
        "steps": steps,
        "field_encoding": field_encoding,
    }
    known = {each.name for each in dataclasses.fields(Workload)}
    workload = Workload(
        **{name: value for name, value in settings.items() if name in known}
        | {name: value for name, value in flags.items() if value is not None}
    )
    if calibration is None and settings.get("calibration"):
        calibration = Path(settings["calibration"])
    checks = diagnose(
        workload,
        credentials=credentials,
        service={
            "endpoint": endpoint,
            "region": region,
            "solver": solver,
            "qpu_budget": qpu_budget,
        },
        calibration=calibration,
        annealing_time=annealing_time or settings.get("annealing_time"),
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


def _settings(config: Path) -> dict[str, Any]:
    from qattn.training import read_settings

    return read_settings(config)
