"""Experiments as data: which trainings, on which seeds, and what is asked of them."""

import dataclasses
import hashlib
import itertools
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from qattn.training.config import TrainConfig, typed_settings
from qattn.training.tasks import shakespeare

MAY_CHANGE = frozenset(f.name for f in dataclasses.fields(TrainConfig) if f.metadata["may_change"])
"""Settings on which no result depends."""


@dataclass(frozen=True)
class Training:
    """One training: an arm at one point of a grid, on a range of seeds.

    Attributes:
        part: Name of the experiment's part.
        arm: Label of the arm.
        point: Values of the grid, by setting.
        config: All settings.
        measures: What is measured of the trained models, beside the metrics.
    """

    part: str
    arm: str
    point: Mapping[str, Any]
    config: TrainConfig
    measures: tuple[str, ...] = ()

    @property
    def seeds(self) -> range:
        """The seeds of its members."""
        return range(self.config.seed, self.config.seed + self.config.ensemble)

    @cached_property
    def settings(self) -> dict[str, Any]:
        """The settings that are not their defaults, but for those on which nothing depends."""
        return {
            f.name: getattr(self.config, f.name)
            for f in dataclasses.fields(self.config)
            if f.name not in MAY_CHANGE and getattr(self.config, f.name) != f.default
        }

    @cached_property
    def name(self) -> str:
        """Name of its folder: what it is in short, and a digest of all that it depends on.

        Two experiments that ask for the same training share the folder. A text counts by its
        content, not by its path.
        """
        of = {name: value for name, value in self.settings.items() if name != "data"}
        path = self.config.data_path
        if path is not None and (text := shakespeare.other_text(path)) is not None:
            of["data"] = text
        digest = hashlib.sha256(json.dumps(of, sort_keys=True).encode()).hexdigest()[:10]
        config = self.config
        first, last = self.seeds[0], self.seeds[-1]
        seeds = f"seed{first}" if first == last else f"seeds{first}-{last}"
        return f"{config.task}-{config.attention}-T{config.context}-{seeds}-{digest}"


@dataclass(frozen=True)
class Part:
    """Arms that are trained at every point of a grid.

    Attributes:
        name: "" for the only part of an experiment.
        arms: Settings of each arm, by its label.
        grid: Values of settings, of which all combinations are trained.
        settings: Settings of all its trainings.
        seeds: Number of seeds, the first being the setting `seed`.
        measures: What is measured of the trained models, beside the metrics.
    """

    name: str
    arms: Mapping[str, Mapping[str, Any]]
    grid: Mapping[str, list[Any]]
    settings: Mapping[str, Any]
    seeds: int
    measures: tuple[str, ...] = ()

    def trainings(self, **changes: Any) -> Iterator[Training]:
        """All of them, the points of the grid in order, with these settings changed."""
        changes = {"ensemble": self.seeds, "threads": 1} | changes
        for values in itertools.product(*self.grid.values()):
            point = dict(zip(self.grid, values, strict=True))
            for label, arm in self.arms.items():
                settings = typed_settings({**self.settings, **point, **arm}, Path(label))
                config = TrainConfig(**settings | changes)
                yield Training(self.name, label, point, config, self.measures)


@dataclass(frozen=True)
class Experiment:
    """What is trained, measured, drawn and asked.

    Attributes:
        name: Its name.
        title: A line on it.
        paper: What the paper reports, in our words; "" where it has nothing like it.
        parts: What is trained.
        figures: Names of the figures.
        claims: What is claimed, each a table of the file.
        definition: The file's content.
    """

    name: str
    title: str
    paper: str
    parts: tuple[Part, ...]
    figures: tuple[str, ...]
    claims: tuple[Mapping[str, Any], ...]
    definition: Mapping[str, Any] = field(repr=False)

    def trainings(
        self, *, seeds: int | None = None, data: Path | None = None, **changes: Any
    ) -> list[Training]:
        """All trainings.

        Args:
            seeds: Number of seeds in place of the experiment's.
            data: Text file of the task shakespeare.
            changes: Settings in place of the experiment's.

        Raises:
            ValueError: `seeds` is not positive, or a setting is out of range.
        """
        if seeds is not None and seeds < 1:
            raise ValueError(f"Argument `seeds` must be at least 1, but is {seeds}.")
        parts = (p if seeds is None else replace(p, seeds=seeds) for p in self.parts)
        found = []
        for part in parts:
            for training in part.trainings(**changes):
                if data is not None and training.config.task == "shakespeare":
                    config = replace(training.config, data=str(data))
                    training = replace(training, config=config)
                found.append(training)
        return found
