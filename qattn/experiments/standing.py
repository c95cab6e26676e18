"""How far trainings are, and how long the rest takes, read from their run folders."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from filelock import FileLock, Timeout

from qattn.experiments.experiment import Training
from qattn.experiments.store import Store

TAIL = 1 << 16
"""Bytes at the end of metrics.jsonl in which the last line of a training step is looked for."""

ALIKE = (
    ("task", "attention", "context", "couplings", "layers", "width", "ensemble", "sampler"),
    ("context", "couplings", "ensemble", "sampler"),
    ("context", "ensemble"),
)
"""Settings by which a training's pace is taken from others: the first that are known count."""


@dataclass(frozen=True)
class Place:
    """How far one training is.

    Attributes:
        training: The training.
        step: Its last step in metrics.jsonl.
        seconds: The time of the steps up to there.
        done: Whether it is at its end, and no other run is in its folder.
        failure: The error that ended it in a line, or what other run it is, or "".
    """

    training: Training
    step: int
    seconds: float
    done: bool
    failure: str

    @property
    def left(self) -> int:
        """Steps that remain."""
        return 0 if self.done else max(self.training.config.steps - self.step, 0)


class Standing:
    """How far trainings are.

    Args:
        trainings: The trainings.
        store: The folder of their runs.
    """

    def __init__(self, trainings: Iterable[Training], store: Store) -> None:
        self.store = store
        self.places = {t.name: self._place(t) for t in trainings}

    def refresh(self) -> None:
        """Look again at those that were not done."""
        for name, place in self.places.items():
            if not place.done:
                self.places[name] = self._place(place.training)

    @property
    def done(self) -> int:
        """Number of trainings at their ends."""
        return sum(place.done for place in self.places.values())

    @property
    def steps(self) -> int:
        """Number of steps of all trainings."""
        return sum(place.training.config.steps for place in self.places.values())

    @property
    def steps_made(self) -> int:
        """Number of steps that were made."""
        return self.steps - sum(place.left for place in self.places.values())

    def seconds_left(self, place: Place) -> float | None:
        """What a training still takes, at its own pace or that of those like it, if known."""
        if not place.left or place.step:
            return place.left * place.seconds / max(place.step, 1)
        for names in ALIKE:
            paces = [
                other.seconds / other.step
                for other in self.places.values()
                if other.step and _settings(other, names) == _settings(place, names)
            ]
            if paces:
                return place.left * fmean(paces)
        return None

    def time_left(self, workers: int = 1) -> str:
        """What the rest takes on that many cores, in words."""
        each = [self.seconds_left(place) for place in self.places.values() if place.left]
        known = [seconds for seconds in each if seconds is not None]
        if not each:
            return "nothing"
        if not known:
            return "not known yet"
        least = "" if len(known) == len(each) else "more than "
        return least + in_words(max(sum(known) / max(workers, 1), *known))

    def is_training(self, place: Place) -> bool:
        """Whether some process has its folder locked."""
        lock = Path(f"{self.store.run(place.training).path}.lock")
        if place.done or not lock.is_file():
            return False
        try:
            with FileLock(lock).acquire(blocking=False):
                return False
        except Timeout:
            return True

    def _place(self, training: Training) -> Place:
        step, seconds = last_step(self.store.run(training).metrics_file)
        failure = self.store.failure_file(training)
        lines = failure.read_text(encoding="utf-8").split("\n") if failure.is_file() else [""]
        last = next((line for line in reversed(lines) if line), "")
        done = self.store.is_done(training)
        try:
            if done:
                self.store.check(training)
        except ValueError as error:  # somebody went on with it to more steps, say
            done, last = False, str(error)
        return Place(training, step, seconds, done, last)


def last_step(metrics: Path) -> tuple[int, float]:
    """The last step that metrics.jsonl has the time of, and that time; zeros if there is none."""
    try:
        with metrics.open("rb") as file:
            file.seek(max(metrics.stat().st_size - TAIL, 0))
            lines = file.read().splitlines(keepends=True)
    except FileNotFoundError:
        return 0, 0.0
    for line in reversed(lines):
        if line.endswith(b"\n") and b'"seconds"' in line:
            try:
                record = json.loads(line)
                return record["step"], record["seconds"]
            except (ValueError, LookupError, TypeError):  # the training will say so
                continue
    return 0, 0.0


def in_words(seconds: float) -> str:
    """A time as "40 s", "12 min" or "3.4 h".

    >>> in_words(40.2), in_words(700), in_words(12345)
    ('40 s', '12 min', '3.4 h')
    """
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"


def _settings(place: Place, names: tuple[str, ...]) -> list[object]:
    return [getattr(place.training.config, name) for name in names]
