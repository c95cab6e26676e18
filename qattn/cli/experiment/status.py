"""``qattn experiment status``: how far experiments are."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from qattn.cli.experiment.asked import Asked, Data, Names, Out, Seeds, Steps, asked
from qattn.experiments.standing import Place, Standing, in_words

console = Console(highlight=False)


def experiment_status(
    names: Names = None,
    out: Out = Path("experiments"),
    seeds: Seeds = None,
    steps: Steps = None,
    data: Data = None,
) -> None:
    """Say how far experiments are, and what the rest takes.

    Reads the folders of the trainings, so that it can be asked while they are trained. Of an
    experiment that is named, every training has a line. Times are those of one core.
    """
    table = Table("experiment", "trainings done", "steps done", "left, on one core")
    for each in asked(names, out, seeds, steps, data):
        standing = Standing(each.trainings, each.store)
        if names:
            console.print(_trainings(each, standing))
        table.add_row(
            each.experiment.name,
            f"{standing.done} of {len(standing.places)}",
            f"{standing.steps_made} of {standing.steps}",
            standing.time_left(),
        )
    console.print(table)


def _trainings(each: Asked, standing: Standing) -> Table:
    """A line for each training of an experiment."""
    table = Table("part", "arm", "point", "seeds", "steps", "left", "", title=each.experiment.name)
    for training in each.trainings:
        place = standing.places[training.name]
        left = standing.seconds_left(place)
        table.add_row(
            training.part,
            training.arm,
            ", ".join(f"{name} {value}" for name, value in training.point.items()),
            f"{training.seeds[0]}–{training.seeds[-1]}",
            f"{training.config.steps - place.left} of {training.config.steps}",
            "" if place.done else "?" if left is None else in_words(left),
            _state(place, standing),
        )
    return table


def _state(place: Place, standing: Standing) -> str:
    if place.done:
        return "done"
    if standing.is_training(place):
        return "in training"
    return f"failed: {place.failure}" if place.failure else "waiting"
