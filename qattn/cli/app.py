"""The command line: ``qattn train`` and its options."""

import dataclasses
import inspect
import logging
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.table import Table

from qattn._version import __version__
from qattn.cli.calibrate import calibrate
from qattn.cli.compare import compare
from qattn.cli.doctor import doctor
from qattn.cli.emulate_qpu import emulate_qpu

app = typer.Typer(
    add_completion=False,
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
    help="Boltzmann attention: Ising attention patterns, exact or sampled.",
)
console = Console()


def main() -> None:
    """Run the command line; an error that a user can fix is one line, without a traceback.

    Set QATTN_TRACEBACK=1 to see where it came from.
    """
    from rich.logging import RichHandler

    from qattn.backends import SamplerStopped
    from qattn.training import Interrupted

    notices = logging.getLogger("qattn")
    notices.setLevel(logging.INFO)
    handler = RichHandler(console=Console(stderr=True), show_path=False, show_level=False)
    notices.addHandler(handler)
    try:
        app()
    except Interrupted as stopped:
        sys.exit(_line(str(stopped), 130 if stopped.__cause__ is None else 1))
    except (
        SamplerStopped,
        ValueError,
        TypeError,
        OSError,
        MemoryError,
        FloatingPointError,
        ImportError,
    ) as error:
        if os.environ.get("QATTN_TRACEBACK"):
            raise
        sys.exit(_line(f"Error: {error}", 1))
    finally:
        notices.removeHandler(handler)


def _line(message: str, status: int) -> int:
    print(" ".join(message.split()), file=sys.stderr)
    return status


@app.callback(invoke_without_command=True)
def root(
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    """Boltzmann attention: Ising attention patterns, exact or sampled."""
    if version:
        console.print(__version__)
        raise typer.Exit


@app.command()
def backends() -> None:
    """List the backends: what each is, and whether it can run here."""
    from qattn.backends import available_backends

    table = Table("name", "what it is", "runs here", "what is missing")
    for info in available_backends():
        runs = "yes" if info.available else "no"
        table.add_row(info.name, info.description, runs, info.missing or "")
    console.print(table)


def train(ctx: typer.Context, **options: Any) -> None:
    """Train a small transformer with Boltzmann attention, or with one of its controls.

    Writes config.toml, metrics.jsonl, checkpoint.pt, summary.json and plots to the run's folder.
    """
    from qattn.training import RunFolder, TrainConfig, plots, read_settings
    from qattn.training import train as run
    from qattn.training.tasks import shakespeare

    out, resume, config_file = (options.pop(k) for k in ("out", "resume", "config"))
    if options.pop("download"):
        shakespeare.download()
    given = {k: v for k, v in options.items() if _is_flag(ctx, k)}
    if resume is not None:
        if out is not None or config_file is not None:
            raise ValueError("--resume takes the folder and its settings: drop --out and --config.")
        config = _resumed(RunFolder(resume).read_config(), given, resume)
    else:
        settings = {} if config_file is None else read_settings(config_file)
        config = TrainConfig(**(settings | given))
    out = resume or out or Path("runs") / _default_name(config)
    summary = run(config, out, resume=resume is not None)
    pictures = plots.plot_run(out)
    metric = "accuracy" if "accuracy" in summary else "perplexity"
    interval = summary.get(f"{metric}_interval")
    console.print(
        f"validation {metric} {summary[metric]:.4f}"
        + (f" (95% {interval[0]:.4f} to {interval[1]:.4f})" if interval else "")
        + f", {summary['seconds_per_step'] * 1e3:.1f} ms a step",
        highlight=False,
    )
    for path in (RunFolder(out).summary_file, *pictures):
        console.print(str(path), highlight=False, soft_wrap=True)


def _is_flag(ctx: typer.Context, name: str) -> bool:
    """Whether an option stands on the command line, and not in a default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def _resumed(config: Any, given: dict[str, Any], folder: Path) -> Any:
    """The run's settings with what may change; what is computed must stay as it was."""
    may_change = [f.name for f in dataclasses.fields(config) if f.metadata["may_change"]]
    for name, value in given.items():
        old = getattr(config, name)
        grows = name == "steps" and value > old
        if value != old and name not in may_change and not grows:
            raise ValueError(
                f"Cannot resume {folder} with {name} = {value}: it was started with "
                f"{name} = {old}. Only --steps may grow, and how a QPU is reached may change "
                f"({', '.join(may_change)}); for other settings start a new run."
            )
    return dataclasses.replace(config, **given)


def _default_name(config: Any) -> str:
    members = f"-ensemble{config.ensemble}" if config.ensemble > 1 else ""
    return (
        f"{config.task}-{config.attention}-{config.sampler}"
        f"-T{config.context}-seed{config.seed}{members}"
    )


def _train_signature() -> inspect.Signature:
    """One option per field of TrainConfig, so that names, defaults and help stand in one place."""
    from qattn.training.config import TrainConfig

    parameters: list[tuple[str, Any, Any]] = [("ctx", typer.Context, inspect.Parameter.empty)]
    for setting in dataclasses.fields(TrainConfig):
        option = typer.Option(help=setting.metadata["help"])
        parameters.append((setting.name, Annotated[setting.type, option], setting.default))
    path = Path | None
    for name, text, kind, default in (
        ("download", "Fetch Tiny Shakespeare into the cache first.", bool, False),
        ("out", "The run's folder (default: runs/ and a name from the settings).", path, None),
        ("resume", "Continue the run in this folder.", path, None),
        ("config", "TOML file with settings; flags win.", path, None),
    ):
        parameters.append((name, Annotated[kind, typer.Option(help=text)], default))
    return inspect.Signature(
        [
            inspect.Parameter(n, inspect.Parameter.KEYWORD_ONLY, annotation=a, default=d)
            for n, a, d in parameters
        ]
    )


train.__signature__ = _train_signature()  # type: ignore[attr-defined]
app.command()(train)
app.command()(calibrate)
app.command()(compare)
app.command()(doctor)
app.command()(emulate_qpu)
