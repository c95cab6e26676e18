"""``qattn train``: a training run from settings, flags, or a folder to go on with."""

import dataclasses
import inspect
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console

from qattn.training import RunFolder, TrainConfig, plots, read_settings
from qattn.training import train as run
from qattn.training.sampler_settings import SamplerSettings
from qattn.training.tasks import shakespeare

console = Console()


def train(ctx: typer.Context, **options: Any) -> None:
    """Train a small transformer with Boltzmann attention, or with one of its controls.

    Writes config.toml, metrics.jsonl, checkpoint.pt, summary.json and plots to the run's folder.
    """
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


def _resumed(config: TrainConfig, given: dict[str, Any], folder: Path) -> TrainConfig:
    """The run's settings with what may change; what is computed must stay as it was."""
    may_change = [f.name for f in dataclasses.fields(config) if f.metadata["may_change"]]
    for name, value in given.items():
        old = getattr(config, name)
        grows = name == "steps" and value > old
        if value != old and name not in may_change and not grows:
            raise ValueError(
                f"Cannot resume {folder} with {name} = {value}: it was started with "
                f"{name} = {old}. Only --steps may grow, and these may change: "
                f"{', '.join(may_change)}; for other settings start a new run."
            )
    return dataclasses.replace(config, **given)


def _default_name(config: TrainConfig) -> str:
    members = f"-ensemble{config.ensemble}" if config.ensemble > 1 else ""
    return (
        f"{config.task}-{config.attention}-{config.sampler.partition(':')[0]}"
        f"-T{config.context}-seed{config.seed}{members}"
    )


def _train_signature() -> inspect.Signature:
    """One option per field of TrainConfig, so that names, defaults and help stand in one place."""
    parameters: list[tuple[str, Any, Any]] = [("ctx", typer.Context, inspect.Parameter.empty)]
    of_backends = {option.name for option in dataclasses.fields(SamplerSettings)}
    for setting in sorted(dataclasses.fields(TrainConfig), key=lambda f: f.name in of_backends):
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
