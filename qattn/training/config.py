"""Everything that defines a training run: one dataclass for Python, TOML and the command line."""

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import tomli_w
import torch

from qattn.backends import Backend, get_backend
from qattn.estimators import available_estimators
from qattn.exact.memory import check_memory
from qattn.layers import ATTENTION
from qattn.training.tasks import TASKS, make_task
from qattn.transformer import Transformer


def _setting(default: Any, description: str, *, may_change: bool = False) -> Any:
    """A setting; `may_change` when the run is resumed, because what is computed stays the same."""
    return field(default=default, metadata={"help": description, "may_change": may_change})


BACKEND_OPTIONS = (
    "schedule",
    "annealing_time",
    "field_encoding",
    "calibration",
    "chain_strength",
    "spin_reversal_transforms",
    "out_of_range",
    "solver",
    "endpoint",
    "region",
    "credentials",
    "failover",
    "qpu_budget",
    "journal",
)
"""Settings that are handed to the sampler, where they are given."""


@dataclass(frozen=True)
class TrainConfig:
    """Settings of a run: values, the same names in TOML files and, with dashes, as flags.

    Making one constructs nothing and looks at nothing outside it, so that the settings of a run
    that was trained elsewhere can be read anywhere; :meth:`check_here` is for those who train.

    Raises:
        ValueError: A value is out of range.

    Example:
        >>> config = TrainConfig(task="brackets", context=8, sampler="neal", num_reads=50)
        >>> config.sampler, config.attention
        ('neal', 'boltzmann')
    """

    task: str = _setting("brackets", f"Task: {', '.join(TASKS)}.")
    data: str | None = _setting(None, "Text file of the task shakespeare.")
    attention: str = _setting("boltzmann", f"Attention: {', '.join(ATTENTION)}.")
    sampler: str = _setting("exact", "Where the mean spins come from: see `qattn backends`.")
    num_reads: int = _setting(100, "Reads per query of a sampler.")
    estimator: str | None = _setting(None, "Estimator of mean spins and gradients from reads.")
    refine_sweeps: int = _setting(0, "Gibbs sweeps of the target over a sampler's reads.")
    schedule: str | None = _setting(None, "Anneal schedule: a name, or a file with A(s) and B(s).")
    annealing_time: float | None = _setting(None, "Duration of an anneal in ns.")
    field_encoding: str | None = _setting(
        None, "How an anneal carries fields: direct, ghost, ancilla (QPUs only)."
    )
    calibration: str | None = _setting(None, "File that `qattn calibrate` wrote.")
    chain_strength: float | None = _setting(None, "Coupling within a QPU's chains.")
    spin_reversal_transforms: int | None = _setting(
        None, "QPU submissions, under different gauges, that share a call's reads."
    )
    out_of_range: str | None = _setting(
        None, "What happens to biases a QPU cannot hold: error, clip."
    )
    solver: str | None = _setting(None, "QPU: its name, or features as JSON text.", may_change=True)
    endpoint: str | None = _setting(None, "URL of the solver API.", may_change=True)
    region: str | None = _setting(None, "Leap's region.", may_change=True)
    credentials: str | None = _setting(None, "File like credentials.example.toml.", may_change=True)
    failover: bool | None = _setting(
        None, "Go on with another QPU of the same features if one fails.", may_change=True
    )
    qpu_budget: str | None = _setting(
        None, "Ceiling on QPU access time, such as 30s or 2min.", may_change=True
    )
    journal: str | None = _setting(
        None, "Journal of QPU reads (default: in the run's folder); `replay` reads it."
    )
    eval_sampler: str = _setting("exact", "Sampler of validations.")
    context: int = _setting(12, "Number of positions T.")
    layers: int = _setting(2, "Number of blocks.")
    heads: int = _setting(4, "Number of heads in each.")
    width: int = _setting(64, "Width of the model, a multiple of heads.")
    ffn: bool = _setting(True, "Feed-forward network in each block.")
    qk_norm: bool = _setting(False, "Layer-normalise queries and keys.")
    relative: bool = _setting(False, "Couplings depend on the distance only.")
    normalize: bool = _setting(False, "Divide attention weights by their sum (not for softmax).")
    steps: int = _setting(1000, "Number of training steps.")
    batch_size: int = _setting(64, "Sequences per step.")
    lr: float = _setting(1e-3, "Learning rate of AdamW.")
    coupling_lr_factor: float = _setting(1.0, "Learning rate of the couplings over --lr.")
    weight_decay: float = _setting(0.0, "Weight decay of AdamW.")
    warmup: int = _setting(100, "Steps over which the learning rate rises linearly.")
    seed: int = _setting(0, "Seed of the weights and the data.")
    ensemble: int = _setting(1, "Train this many seeds (seed, seed + 1, ...) in one process.")
    device: str = _setting("cpu", "PyTorch device: cpu, cuda, ...")
    threads: int | None = _setting(
        None, "CPU threads (default: one for small models, else all cores).", may_change=True
    )
    log_every: int = _setting(50, "Steps between lines of the training loss in metrics.jsonl.")
    eval_every: int = _setting(500, "Steps between validations.")
    checkpoint_every: int = _setting(500, "Steps between checkpoints.")

    def __post_init__(self) -> None:
        _one_of("task", self.task, TASKS)
        _one_of("attention", self.attention, ATTENTION)
        if self.estimator is not None:
            _one_of("estimator", self.estimator, available_estimators())
        sampled = "exact" not in (self.sampler, self.estimator) or self.eval_sampler != "exact"
        if sampled and self.num_reads < 2:
            raise ValueError(
                f"Argument `num_reads` must be at least 2 for an estimator that needs a variance, "
                f"but is {self.num_reads}."
            )
        for setting in dataclasses.fields(self):
            value = getattr(self, setting.name)
            least = 0 if setting.name in ("warmup", "weight_decay", "seed", "refine_sweeps") else 1
            if setting.type in (int, int | None) and value is not None and value < least:
                raise ValueError(
                    f"Argument `{setting.name}` must be at least {least}, but is {value}."
                )
        for name in ("lr", "coupling_lr_factor"):
            if not 0 < getattr(self, name) < float("inf"):
                raise ValueError(
                    f"Argument `{name}` must be positive and finite, but is {getattr(self, name)}."
                )
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"Argument `weight_decay` must not be negative, but is {self.weight_decay}."
            )
        if self.width % self.heads:
            raise ValueError(
                f"Argument `width` must be a multiple of heads = {self.heads}, but is {self.width}."
            )

    def check_here(self) -> dict[str, Backend]:
        """Check that what training needs is here: device, data, memory, backends.

        Backends are made, but not connected; nothing is written.

        Returns:
            The backends of training and of validation by name, as yet not opened.

        Raises:
            ValueError: The device does not work here, there is no backend of that name, or it
                does not take an option that was given.
            ImportError: A package that a backend needs is missing.
            FileNotFoundError: The task's text, a calibration, a schedule or a journal is missing.
            MemoryError: The Ising models are too large for exact enumeration.
        """
        _check_device(self.device)
        make_task(self.task, self.context, self.seed, self.data_path)
        if self.attention in ("boltzmann", "couplings") and "exact" in (
            self.sampler,
            self.eval_sampler,
        ):
            queries = self.context * (1 if self.attention == "couplings" else self.batch_size)
            check_memory(self.ensemble * self.heads, queries, self.context, itemsize=4)
        return {name: self._backend(name) for name in (self.sampler, self.eval_sampler)}

    @property
    def data_path(self) -> Path | None:
        """The task's text file, if one was given."""
        return None if self.data is None else Path(self.data)

    def model(self, vocab_size: int) -> Transformer:
        """A new model, with weights from PyTorch's global generator."""
        options: dict[str, Any] = {"qk_norm": self.qk_norm, "normalize": self.normalize}
        if self.attention in ("boltzmann", "couplings"):
            options |= {"relative": self.relative}
        return Transformer(
            vocab_size,
            self.context,
            attention=self.attention,
            num_layers=self.layers,
            num_heads=self.heads,
            embed_dim=self.width,
            ffn=self.ffn,
            **options,
        )

    def _backend(self, name: str) -> Backend:
        """The backend of this name with the options that are addressed to it."""
        addressed = self.eval_sampler if self.sampler == "exact" else self.sampler
        options = {
            option: getattr(self, option)
            for option in BACKEND_OPTIONS
            if name == addressed and getattr(self, option) is not None
        }
        refine_sweeps = self.refine_sweeps if name == self.sampler else 0
        return get_backend(name, refine_sweeps=refine_sweeps, **options)

    def to_toml(self) -> str:
        """All settings but those that are None, which TOML cannot say."""
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return tomli_w.dumps(given)


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a TOML file, checked for names and types but not for values.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is not TOML, or has a setting that does not exist or of the wrong type.
    """
    if not path.is_file():
        raise FileNotFoundError(f"No configuration file at {path}.")
    try:
        settings = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} is not a TOML file: {error}.") from None
    known = {setting.name: setting for setting in dataclasses.fields(TrainConfig)}
    for name, value in settings.items():
        if name not in known:
            raise ValueError(f"{path} has an unknown setting `{name}`; known: {', '.join(known)}.")
        kind = known[name].type
        if kind is float and type(value) is int:
            settings[name] = float(value)
        elif not isinstance(value, kind) or (kind in (int, int | None) and value is True):  # type: ignore[arg-type]
            raise ValueError(
                f"Setting `{name}` in {path} must be of type {getattr(kind, '__name__', kind)}, "
                f"but is {value!r}."
            )
    return settings


def _one_of(name: str, value: str, known: Any) -> None:
    if value not in known:
        raise ValueError(f"Argument `{name}` must be one of {', '.join(known)}, but is {value!r}.")


def _check_device(name: str) -> None:
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"Argument `device` is {name!r}, which fails here: {reason}") from None
