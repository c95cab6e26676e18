"""``qattn experiment report``: the reports of what is done."""

from pathlib import Path

from rich.console import Console

from qattn.cli.experiment.asked import Asked, Data, Names, Out, Seeds, Steps, asked
from qattn.cli.terminal.report import called
from qattn.experiments import collect
from qattn.experiments.report import write_report

console = Console(highlight=False, soft_wrap=True)


def experiment_report(
    names: Names = None,
    out: Out = Path("experiments"),
    seeds: Seeds = None,
    steps: Steps = None,
    data: Data = None,
) -> None:
    """Write the reports of experiments, of what is done of them.

    Of all experiments, those of which something is done.
    """
    for each in asked(names, out, seeds, steps, data):
        if names or any(map(each.store.is_done, each.trainings)):
            write(each)


def write(each: Asked) -> None:
    """Write an experiment's results and report, and print the paths of the first three files."""
    results = collect(each.experiment, each.trainings, each.store)
    for path in write_report(results, each.folder, **called())[:3]:
        console.print(str(path))
