"""Everything that defines a fit: one dataclass for Python, TOML and the command line."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tomli_w
from torch import Tensor

from qattn.fitting.settings import FitSettings
from qattn.ising.batch import IsingBatch
from qattn.problems import named
from qattn.simulators.autoregressive import NetSettings
from qattn.training.config import parse_settings
from qattn.training.folder import Folder
from qattn.training.sampler_settings import setting

CHECKPOINT = {"fit", "progress", "config", "environment"}
"""What a checkpoint holds."""


@dataclass(frozen=True, kw_only=True)
class FitConfig(FitSettings):
    """A fit: the problems, the net, and how to proceed.

    Raises:
        ValueError: A value is out of range, or there is not one of `problems` and `family`.

    Example:
        >>> config = FitConfig(problems="sk:spins=50,problems=1", beta=2.0, seconds=60.0)
        >>> config.net.parameters
        'couplings'
    """

    problems: str | None = setting(None, "Problems, one of which is fitted.")
    family: str | None = setting(
        None,
        "Fit a few numbers to whole sets of problems and all β up to --beta; names with options as "
        "in sk:spins=50, several between semicolons.",
    )
    problem: int = setting(0, "Which of the problems is fitted, from 0.")
    beta: float = setting(1.0, "Target β, in units of the problems'.")
    net: NetSettings | None = None
    log_every: int = setting(10, "Steps between lines of metrics.jsonl.")
    evaluations: int = setting(10, "How often the net is measured along the way.")
    num_reads: int = setting(10_000, "Reads by which it is measured at the end.")
    reference: Literal["auto", "exact", "tempering", "none"] = setting(
        "auto",
        "What it is measured against: auto (exact where possible, else parallel tempering up to "
        "256 spins), exact, tempering or none.",
    )
    threads: int | None = setting(None, "CPU threads (default: 1).", may_change=True)
    checkpoint_seconds: float = setting(
        60.0, "Seconds after which a checkpoint is due.", may_change=True
    )

    def __post_init__(self) -> None:
        super().__post_init__()
        if (self.problems is None) == (self.family is None):
            raise ValueError(
                "Argument `problems` must name problems one of which is fitted, or `family` sets "
                "of them that are fitted together: one of the two."
            )
        kind: Literal["scalars", "couplings"] = "scalars" if self.family else "couplings"
        net = NetSettings(parameters=kind) if self.net is None else self.net
        object.__setattr__(self, "net", net)
        if self.family and (net.parameters == "couplings" or net.head):
            raise ValueError(
                "Argument `parameters` must be scalars for a family, and `head` 0: others are "
                "those of one problem."
            )
        if self.family and self.distil:
            raise ValueError(
                "Argument `distil` must be 0 for a family: a few numbers cannot lose a mode."
            )

    @property
    def built(self) -> NetSettings:
        """What the net is made of."""
        assert self.net is not None
        return self.net

    def batches(self) -> list[IsingBatch]:
        """The problem, or the sets of a family.

        Raises:
            ValueError: There is no such set or problem, or it has no matrix J.
            FileNotFoundError: There is no such file or run.
        """
        if self.family:
            names = [name.strip() for name in self.family.split(";")]
            return [named(name, seed=self.seed).dense() for name in filter(None, names)]
        assert self.problems is not None
        batch = named(self.problems, seed=self.seed).dense()
        number = batch.num_groups * batch.num_queries
        if self.problem >= number:
            raise ValueError(
                f"Argument `problem` must be below {number}, the number of problems in "
                f"{self.problems!r}, but is {self.problem}."
            )
        group, query = divmod(self.problem, batch.num_queries)
        length = int(batch.num_active[group, query])
        beta = (
            batch.beta[group] if isinstance(batch.beta, Tensor) and batch.beta.ndim else batch.beta
        )
        h = batch.h[group, query, :length]
        J = batch.matrix[group, :length, :length]
        return [IsingBatch(h[None, None], J.unsqueeze(0), beta=beta, validate=False)]

    def as_values(self) -> dict[str, Any]:
        """All settings by name, those of the net too; without those that are None."""
        values = dataclasses.asdict(self)
        values |= values.pop("net")
        return {name: value for name, value in values.items() if value is not None}

    def to_toml(self) -> str:
        """All settings but those that are None, which TOML cannot say."""
        return tomli_w.dumps(self.as_values())

    @classmethod
    def of_settings(cls, values: Mapping[str, Any]) -> "FitConfig":
        """A fit from settings of all kinds by name."""
        names = {field.name for field in dataclasses.fields(NetSettings)}
        net = {name: value for name, value in values.items() if name in names}
        family = {"parameters": "scalars" if values.get("family") else "couplings"}
        rest = {name: value for name, value in values.items() if name not in names}
        return cls(net=NetSettings(**family | net), **rest)

    @classmethod
    def parse(cls, text: str, path: Path) -> "FitConfig":
        """A fit from the text of a TOML file at this path."""
        own = [field for field in dataclasses.fields(cls) if field.name != "net"]
        declared = [*own, *dataclasses.fields(NetSettings)]
        return cls.of_settings(parse_settings(text, path, declared))


class FitFolder(Folder[FitConfig]):
    """The files of a fit."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, FitConfig.parse, "fit-sampler", CHECKPOINT)
