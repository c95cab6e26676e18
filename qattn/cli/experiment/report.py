"""``qattn experiment report``: the reports of what is done."""

from pathlib import Path

from rich.console import Console

from qattn.cli.experiment.asked import Asked, Data, Names, Out, Seeds, Steps, asked

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
    """Write an experiment's results and report, and print their paths."""
    for path in _written(each):
        console.print(str(path))


def _written(each: Asked) -> list[Path]:
    return []
