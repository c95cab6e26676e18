"""What the commands on experiments are asked for: experiments, with changes for small trials."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Annotated

import typer

from qattn.experiments import Experiment, Store, Training, available_experiments, read_experiment
from qattn.training.tasks.shakespeare import other_text

Out = Annotated[Path, typer.Option(help="The folder of all experiments.")]
Names = Annotated[
    list[str] | None,
    typer.Argument(help="Experiments, or their TOML files (default: all that come with qattn)."),
]
Seeds = Annotated[int | None, typer.Option(help="Number of seeds in place of the experiment's.")]
Steps = Annotated[int | None, typer.Option(help="Training steps in place of the experiment's.")]
Data = Annotated[Path | None, typer.Option(help="Text file of the task shakespeare.")]


@dataclass(frozen=True)
class Asked:
    """An experiment in a folder, with the changes of a trial.

    A trial's trainings have other names, and its results a folder of their own, so that it never
    mixes with the experiment. A text other than Tiny Shakespeare makes a trial too.
    """

    experiment: Experiment
    out: Path
    seeds: int | None = None
    steps: int | None = None
    data: Path | None = None

    @property
    def store(self) -> Store:
        """The folder of all trainings."""
        return Store(self.out)

    @property
    def folder(self) -> Path:
        """Where its results go."""
        changes = {"seeds": self.seeds, "steps": self.steps}
        given = "".join(f"-{name}{value}" for name, value in changes.items() if value is not None)
        texts = (t.config.data_path for t in self.trainings if t.config.task == "shakespeare")
        path = next(texts, None) if self.data else None
        if path is not None and (digest := other_text(path)) is not None:
            given += f"-text{digest[:8]}"
        return self.out / f"{self.experiment.name}{given}"

    @cached_property
    def trainings(self) -> list[Training]:
        """Its trainings."""
        changes = {} if self.steps is None else {"steps": self.steps}
        data = None if self.data is None else self.data.absolute()
        return self.experiment.trainings(seeds=self.seeds, data=data, **changes)


def asked(
    names: list[str] | None, out: Path, seeds: int | None, steps: int | None, data: Path | None
) -> list[Asked]:
    """Experiments by name or file; all of the catalogue where none is named."""
    experiments = [read_experiment(name) for name in names or available_experiments()]
    return [Asked(experiment, out, seeds, steps, data) for experiment in experiments]
