"""``qattn plot``: curves of several runs over each other."""

from pathlib import Path
from typing import Annotated, Literal

import typer
from rich.console import Console

from qattn.training.runs import overlay

console = Console(highlight=False, soft_wrap=True)


def plot(
    runs: Annotated[list[Path], typer.Argument(help="Folders of trainings.")],
    metric: Annotated[
        list[str] | None,
        typer.Option(
            help="Metric of metrics.jsonl; may be repeated (default: validation_loss, and the "
            "task's metric)."
        ),
    ] = None,
    x: Annotated[
        Literal["step", "seconds"], typer.Option(help="What curves are drawn against.")
    ] = "step",
    out: Annotated[
        Path | None,
        typer.Option(help="The picture, PNG and SVG (default: curves.png beside the first run)."),
    ] = None,
) -> None:
    """Draw learning curves of several runs over each other.

    Curves are called by the settings in which runs differ; those of ensembles are means with their
    95% interval.
    """
    figure = overlay(runs, metric or (), against=x)
    out = out or runs[0].parent / "curves"
    name = out.stem if out.suffix in (".png", ".svg") else out.name
    out.parent.mkdir(parents=True, exist_ok=True)
    for kind in ("png", "svg"):
        figure.savefig(out.with_name(f"{name}.{kind}"), dpi=120)
    console.print(f"{out.with_name(name)}.png (and .svg)")
