"""``qattn experiment list``: what there is."""

from pathlib import Path

from rich.console import Console
from rich.table import Table

from qattn.cli.experiment.asked import Out, asked


def experiment_list(out: Out = Path("experiments")) -> None:
    """List the experiments, and how far each is."""
    table = Table("name", "what it is", "trainings", "seeds", "done")
    for each in asked(None, out, None, None, None):
        trainings = {training.name: training for training in each.trainings}
        seeds = sorted({len(training.seeds) for training in trainings.values()})
        done = sum(map(each.store.is_done, trainings.values()))
        table.add_row(
            each.experiment.name,
            each.experiment.title,
            str(len(trainings)),
            "–".join(str(number) for number in dict.fromkeys((seeds[0], seeds[-1]))),
            str(done),
        )
    Console().print(table)
