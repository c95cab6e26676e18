"""Results of an experiment: what its trainings came to, as one compact JSON file."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from qattn._atomic import write_atomically
from qattn.experiments.experiment import Experiment, Training
from qattn.experiments.standing import Place, Standing
from qattn.experiments.store import Store
from qattn.training.sampler_settings import MARKED

DIGITS = 5
"""Significant digits of metrics and of what is measured."""


@dataclass(frozen=True)
class TrainingResult:
    """What a finished training came to; every list over members is in the order of `seeds`.

    Attributes:
        part: Name of the experiment's part.
        arm: Label of the arm.
        point: Values of the grid, by setting.
        settings: Settings that are not their defaults; of files the name alone.
        seeds: Seeds of the members.
        steps: Number of training steps.
        parameters: Number of parameters of one member.
        seconds: Time of all steps.
        metrics: Each metric at the end, one number per member.
        curves: "step", where the model was validated, and each metric there: one list over members
            per step; of sampled trainings that were compared with exact ones "gradient_step" and
            "gradient_error" likewise, the relative error of the step's gradient. Where β is not
            fixed also "beta", [step][member][layer][head], and of a critical one "beta_kept".
        measures: What else was measured of the trained models, by name.
        provenance: Versions, CPU, when it started, and whether a QPU was emulated.
    """

    part: str
    arm: str
    point: Mapping[str, Any]
    settings: Mapping[str, Any]
    seeds: list[int]
    steps: int
    parameters: int
    seconds: float
    metrics: Mapping[str, list[float]]
    curves: Mapping[str, list[Any]]
    measures: Mapping[str, Any] = field(default_factory=dict)
    provenance: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class MissingTraining:
    """A training that has not come to its end.

    Attributes:
        part: Name of the experiment's part.
        arm: Label of the arm.
        point: Values of the grid, by setting.
        seeds: Seeds of the members.
        steps: Number of training steps that it should have.
        steps_done: Steps whose loss was written.
        seconds_needed: What the rest takes, at its own pace or that of trainings like it; None
            where nothing is known.
        failure: The error that ended it, or "".
    """

    part: str
    arm: str
    point: Mapping[str, Any]
    seeds: list[int]
    steps: int
    steps_done: int
    seconds_needed: float | None = None
    failure: str = ""


@dataclass(frozen=True)
class Results:
    """Results of an experiment; of them alone, and of its definition, reports are made.

    Attributes:
        experiment: Name of the experiment.
        definition: Content of its TOML file.
        trainings: What is finished, in the experiment's order.
        missing: What is not.
    """

    experiment: str
    definition: Mapping[str, Any]
    trainings: list[TrainingResult]
    missing: list[MissingTraining] = field(default_factory=list)

    def select(
        self, part: str | None = None, arm: str | None = None, **where: Any
    ) -> list[TrainingResult]:
        """Trainings of a part, of an arm, at values of the grid, where these are given."""
        return [
            training
            for training in self.trainings
            if part in (None, training.part)
            and arm in (None, training.arm)
            and all(training.point.get(name) == value for name, value in where.items())
        ]

    def write(self, path: Path) -> None:
        """Write the file: a line for each training."""
        path.parent.mkdir(parents=True, exist_ok=True)
        tables = {
            "experiment": json.dumps(self.experiment),
            "definition": json.dumps(self.definition),
            "trainings": _lines(self.trainings),
            "missing": _lines(self.missing),
        }
        body = ",\n".join(f'"{name}": {text}' for name, text in tables.items())
        write_atomically(path, f"{{\n{body}\n}}\n".encode())

    @classmethod
    def read(cls, path: Path) -> "Results":
        """The results of a file.

        Raises:
            ValueError: It is not one of results.
        """
        try:
            table = json.loads(path.read_text(encoding="utf-8"))
            return cls(
                table["experiment"],
                table["definition"],
                [TrainingResult(**training) for training in table["trainings"]],
                [MissingTraining(**training) for training in table["missing"]],
            )
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(f"'{path}' is not a file of results: {error}.") from None


def collect(experiment: Experiment, trainings: Iterable[Training], store: Store) -> Results:
    """Results of these trainings of an experiment, as far as they are in the store."""
    trainings = list(trainings)
    standing = Standing(trainings, store)
    finished, missing = [], []
    for training in trainings:
        if (place := standing.places[training.name]).done:
            finished.append(_finished(training, store))
        else:
            missing.append(_missing(replace(place, training=training), standing))
    return Results(experiment.name, experiment.definition, finished, missing)


def rounded(value: Any, digits: int = DIGITS) -> Any:
    """A number, or the numbers in lists and tables, with this many significant digits.

    >>> rounded({"perplexity": [6.3087654, 12345.678], "step": 250})
    {'perplexity': [6.3088, 12346.0], 'step': 250}
    """
    if isinstance(value, float):
        return float(f"{value:.{digits}g}")
    if isinstance(value, Mapping):
        return {name: rounded(inner, digits) for name, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [rounded(inner, digits) for inner in value]
    return value


def _finished(training: Training, store: Store) -> TrainingResult:
    run = store.run(training)
    summary = json.loads(run.summary_file.read_text(encoding="utf-8"))
    records = run.read_metrics()
    evaluations = [record for record in records if "validation_loss" in record]
    compared = [record for record in records if "gradient_error" in record]
    curves = {
        name: [rounded(_members(e, name)) for e in evaluations]
        for name in evaluations[-1]
        if name != "step" and not name.endswith(("_interval", "_members"))
    }
    names = [name for name in curves if not name.startswith("beta")]
    curves |= {"step": [record["step"] for record in evaluations]}
    if compared:
        curves["gradient_step"] = [record["step"] for record in compared]
        curves["gradient_error"] = [rounded(_members(r, "gradient_error")) for r in compared]
        names.append("gradient_error")
    files = sorted((run.path / "measures").glob("*.json"))
    measures = {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in files}
    return TrainingResult(
        training.part,
        training.arm,
        dict(training.point),
        _portable(training.settings),
        list(training.seeds),
        summary["steps"],
        summary["parameters"],
        rounded(summary["seconds_per_step"] * summary["steps"]),
        {name: curves[name][-1] for name in names},
        curves,
        {name: measures[name] for name in training.measures if name in measures},
        _provenance(run.path / "provenance.json", summary),
    )


def _members(record: Mapping[str, Any], name: str) -> list[Any]:
    """The values of all members; a run of one writes its value alone."""
    members: list[Any] = record.get(f"{name}_members", [record[name]])
    return members


def _portable(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Settings without the folders of the machine that they were used on."""
    return {
        name: Path(value).name if name == "data" or name in MARKED else value
        for name, value in settings.items()
    }


def _provenance(file: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """When and with what it was trained; the machine's name is left out."""
    known = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    kept = {name: known[name] for name in ("started", "versions") if name in known}
    return kept | {name: summary[name] for name in ("solver", "emulated") if name in summary}


def _missing(place: Place, standing: Standing) -> MissingTraining:
    training, seconds = place.training, standing.seconds_left(place)
    return MissingTraining(
        training.part,
        training.arm,
        dict(training.point),
        list(training.seeds),
        training.config.steps,
        place.step,
        None if seconds is None else rounded(seconds, 3),
        place.failure.partition(". ")[0],
    )


def _lines(items: Iterable[Any]) -> str:
    each = ",\n".join(json.dumps(asdict(item), separators=(",", ":")) for item in items)
    return f"[\n{each}\n]" if each else "[]"
