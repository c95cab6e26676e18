"""``qattn experiment run``: an experiment from one command."""

import shlex
import sys
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from qattn.cli.experiment import report
from qattn.cli.experiment.asked import Asked, Data, Out, Seeds, Steps
from qattn.cli.experiment.progress import Watch
from qattn.experiments import Training, read_experiment
from qattn.experiments.dask_runner import run_trainings
from qattn.experiments.standing import Standing
from qattn.training import Interrupted
from qattn.training.tasks import shakespeare

console = Console(stderr=True, highlight=False, soft_wrap=True)


def experiment_run(
    name: Annotated[str, typer.Argument(help="An experiment, or a TOML file with one.")],
    out: Out = Path("experiments"),
    seeds: Seeds = None,
    steps: Steps = None,
    data: Data = None,
    download: Annotated[
        bool, typer.Option("--download", help="Fetch Tiny Shakespeare into the cache first.")
    ] = False,
    only: Annotated[
        list[str] | None,
        typer.Option(help="ARM or PART/ARM, * for anything; may be repeated (default: all)."),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Processes on this machine (default: one for each core).")
    ] = None,
    scheduler: Annotated[
        str | None, typer.Option(help="Address of a Dask scheduler, as tcp://host:8786.")
    ] = None,
) -> None:
    """Run an experiment, or go on with it; ends by writing its report.

    Trainings that are done are not repeated, those that were interrupted go on from their last
    checkpoints. One that fails does not stop the others. With --scheduler, its workers must share
    the folder --out. A trial with other --seeds or --steps does not mix with the experiment.
    """
    if download:
        shakespeare.download()
    each = Asked(read_experiment(name), out, seeds, steps, data)
    chosen = [training for training in each.trainings if _is_chosen(training, only)]
    if not chosen:
        raise ValueError(
            f"Argument `only` must name trainings of {each.experiment.name}, but is {only}; its "
            f"arms: {', '.join(sorted({_full_name(t) for t in each.trainings}))}."
        )
    _check_text(chosen)
    standing = Standing(chosen, each.store)
    if standing.done < len(standing.places):
        console.print(
            f"{each.experiment.name}: {len(standing.places)} trainings, {standing.done} of them "
            f"done, in '{each.store.root / 'runs'}'"
        )
    try:
        with Watch(standing) as watch:
            failed = run_trainings(
                chosen, each.store, scheduler=scheduler, workers=workers, watch=watch
            )
    except (Interrupted, ConnectionError) as stop:
        standing.refresh()
        text = f"{stop} {standing.done} of {len(standing.places)} trainings are done."
        command = shlex.join(["qattn", *sys.argv[1:]])
        raise type(stop)(f"{text} Go on with: {command}") from stop.__cause__
    report.write(each)
    for training, reason in failed.items():
        console.print(f"Failed: '{each.store.root / 'runs' / training}': {reason}", markup=False)
    if failed:
        raise typer.Exit(1)


def _full_name(training: Training) -> str:
    return f"{training.part}/{training.arm}"


def _is_chosen(training: Training, only: list[str] | None) -> bool:
    names = (training.arm, _full_name(training))
    return not only or any(fnmatchcase(name, pattern) for name in names for pattern in only)


def _check_text(trainings: list[Training]) -> None:
    """Check that the text of Shakespeare is here before anything is begun."""
    for training in trainings:
        if training.config.task == "shakespeare":
            shakespeare.Shakespeare(1, data=training.config.data_path)
            return
