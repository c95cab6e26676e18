"""``qattn train``: a training run from settings, flags, or a folder to continue."""

import dataclasses
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qattn.cli.terminal.flags import flags_of, with_flags
from qattn.training import RunFolder, TrainConfig, plots, read_settings
from qattn.training import train as run
from qattn.training.config import SETTINGS
from qattn.training.ranks import joined
from qattn.training.resuming import resume_command
from qattn.training.tasks import shakespeare

console = Console(highlight=False, soft_wrap=True)


@with_flags(flags_of(TrainConfig, [field.name for field in SETTINGS]))
def train(
    ctx: typer.Context,
    download: Annotated[
        bool, typer.Option(help="Fetch Tiny Shakespeare into the cache first.")
    ] = False,
    out: Annotated[
        Path | None,
        typer.Option(help="The run's folder (default: runs/ and a name from the settings)."),
    ] = None,
    resume: Annotated[Path | None, typer.Option(help="Continue the run in this folder.")] = None,
    buy_again: Annotated[
        bool,
        typer.Option(
            "--buy-again",
            help="With --resume: pay for QPU reads again where the journal's no longer match.",
        ),
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings; flags win.")] = None,
    **options: Any,
) -> None:
    """Train a small transformer with Boltzmann attention, or with one of its controls.

    Writes config.toml, metrics.jsonl, checkpoint.pt, summary.json and plots to the run's folder.
    With torchrun --nproc-per-node N -m qattn train ... N processes divide the members of an
    ensemble, or the batches of one model.
    """
    given = {name: value for name, value in options.items() if is_flag(ctx, name)}
    with joined() as ranks, ranks.said_by_rank_0():
        if download:
            ranks.first(shakespeare.download)
        settings = ranks.first(_settings, given, out, resume, config)
        if buy_again and resume is None:
            raise ValueError("--buy-again goes with --resume: a new run has bought nothing yet.")
        if "num_reads" in given and not settings.sampled:
            raise ValueError(
                "--num-reads has no effect on exact moments, which draw no reads: choose a "
                "--sampler or an --estimator, or leave it out."
            )
        folder = resume or out or Path("runs") / _default_name(settings)
        resumes = resume is not None
        summary = run(settings, folder, resume=resumes, buy_again=buy_again, ranks=ranks)
        if ranks.rank == 0:
            _say(summary, folder, ranks.size)


def _settings(
    given: dict[str, Any], out: Path | None, resume: Path | None, config: Path | None
) -> TrainConfig:
    """The settings: flags, over those of a file or of the run that goes on."""
    if resume is None:
        return TrainConfig(**(({} if config is None else read_settings(config)) | given))
    if out is not None or config is not None:
        raise ValueError("--resume takes the folder and its settings: drop --out and --config.")
    return dataclasses.replace(RunFolder(resume).read_config(), **given)


def _say(summary: dict[str, Any], out: Path, processes: int) -> None:
    """Draw the plots of a finished run, and say what came out and where it is."""
    with Console(stderr=True).status("drawing the plots"):
        try:
            pictures = plots.plot_run(out)
        except OSError as error:
            again = resume_command(out, processes=processes)
            raise OSError(f"{error}: the run is complete, and {again} draws its plots.") from error
    metric = summary["metric"]
    interval = summary.get(f"{metric}_interval")
    console.print(
        f"validation {metric} {summary[metric]:.4f}"
        + (f" (95% {interval[0]:.4f} to {interval[1]:.4f})" if interval else "")
        + f", {summary['seconds_per_step'] * 1e3:.1f} ms a step"
    )
    console.print(str(RunFolder(out).summary_file))
    for path in pictures:
        if path.suffix == ".png":
            console.print(f"{path} (and .svg)")


def is_flag(ctx: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and not in a default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _default_name(config: TrainConfig) -> str:
    members = f"-ensemble{config.ensemble}" if config.ensemble > 1 else ""
    arm = config.arm.replace(" (", "-").rstrip(")")
    return (
        f"{config.task}-{arm}-{config.sampler.partition(':')[0]}"
        f"-T{config.context}-seed{config.seed}{members}"
    )
