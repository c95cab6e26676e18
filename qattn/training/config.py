"""Everything that defines a training run: one dataclass for Python, TOML and the command line."""

import dataclasses
import difflib
import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tomli_w
import torch

from qattn.attention.models import check_moments
from qattn.backends import Backend, parse_sampler
from qattn.backends.options import FromFile, described, from_toml
from qattn.estimators import available_estimators
from qattn.exact.memory import check_memory
from qattn.integrations.trackers import TRACKERS, check_installed, trackers_of
from qattn.layers.beta import CRITICAL
from qattn.layers.structures import BlockStructure, CardinalityStructure
from qattn.training.attention_settings import AttentionSettings
from qattn.training.sampler_settings import MARKED, OF_BACKENDS, SamplerSettings, setting
from qattn.training.tasks.settings import TaskSettings
from qattn.transformer import Transformer

LR_DECAYS = ("none", "linear", "cosine")
"""How the learning rate falls to 0 at the end of the run."""

Fields = Iterable["dataclasses.Field[Any]"]
"""Settings as fields of a dataclass."""

LARGEST = 2**63 - 1
"""Largest whole number of a setting."""


@dataclass(frozen=True, kw_only=True)
class TrainConfig(SamplerSettings, AttentionSettings, TaskSettings):  # type: ignore[misc]  # SamplerSettings
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

    sampler: str = setting(
        "exact", "Where the mean spins come from: see `qattn backends`; or NAME:key=value,...."
    )
    num_reads: int = setting(100, "Reads per query of a sampler.")
    estimator: str | None = setting(None, "Estimator of mean spins and gradients from reads.")
    refine_sweeps: int = setting(0, "Gibbs sweeps of the target over a sampler's reads.")
    eval_sampler: str = setting(
        "exact", "Sampler of validations, with its own options: NAME:key=value,...."
    )
    emulate_qpu: bool = setting(
        False, "Run dwave on an emulated QPU, which has the betas 11.2 11.2 with the ghost spin."
    )
    layers: int = setting(2, "Number of blocks.")
    heads: int = setting(4, "Number of heads in each.")
    width: int = setting(64, "Width of the model, a multiple of heads.")
    ffn: bool = setting(True, "Feed-forward network in each block.")
    ffn_width: int | None = setting(None, "Hidden width of that network (default: 4 x width).")
    steps: int = setting(1000, "Number of training steps.")
    batch_size: int = setting(64, "Sequences per step.")
    lr: float = setting(1e-3, "Learning rate of AdamW.")
    coupling_lr_factor: float = setting(
        1.0, "Learning rate of couplings and biases of the scores over --lr."
    )
    weight_decay: float = setting(0.0, "Weight decay of AdamW.")
    warmup: int = setting(100, "Steps over which the learning rate rises linearly.")
    lr_decay: str = setting("none", f"How it falls to 0 at --steps: {', '.join(LR_DECAYS)}.")
    seed: int = setting(0, "Seed of the weights and the data.")
    ensemble: int = setting(1, "Train this many seeds (seed, seed + 1, ...) in one process.")
    device: str = setting("cpu", "PyTorch device: cpu, cuda, ...")
    threads: int | None = setting(
        None, "CPU threads (default: one for small models, else all cores).", may_change=True
    )
    log_every: int = setting(50, "Steps between lines of the training loss in metrics.jsonl.")
    eval_every: int = setting(500, "Steps between validations.")
    gradient_every: int | None = setting(
        None, "Steps between comparisons of a step's gradient with the exact one (default: never)."
    )
    track: str | None = setting(
        None,
        f"Send metrics to {', '.join(TRACKERS)} too; several with commas.",
        may_change=True,
    )
    checkpoint_every: int = setting(500, "Steps between checkpoints.")
    checkpoint_seconds: float | None = setting(
        None,
        "Seconds after which a checkpoint is due before that (default: 5 with a QPU, else 60).",
        may_change=True,
    )

    def __post_init__(self) -> None:
        self.check_task()
        _one_of("lr_decay", self.lr_decay, LR_DECAYS)
        self.check_attention()
        trackers_of(self.track)
        if self.estimator is not None:
            _one_of("estimator", self.estimator, available_estimators())
        check_moments(self.moments, self.sampler, self.estimator)
        if self.sampled and self.num_reads < 2:
            raise ValueError(
                f"Argument `num_reads` must be at least 2 for an estimator that needs a variance, "
                f"but is {self.num_reads}."
            )
        if self.emulate_qpu and self.sampler.partition(":")[0] != "dwave":
            raise ValueError(
                f"Argument `emulate_qpu` must be left out unless the sampler is dwave, but is True "
                f"with {self.sampler!r}."
            )
        for own in dataclasses.fields(self):
            value = getattr(self, own.name)
            least = 0 if own.name in ("warmup", "weight_decay", "seed", "refine_sweeps") else 1
            if own.name in (*OF_BACKENDS, "coupling_sign", "beta") or type(value) is not int:
                continue
            if value < least:
                raise ValueError(f"Argument `{own.name}` must be at least {least}, but is {value}.")
            if value > LARGEST:
                raise ValueError(
                    f"Argument `{own.name}` must be at most {LARGEST}, but is {value}."
                )
        for name in ("lr", "coupling_lr_factor", "checkpoint_seconds"):
            value = getattr(self, name)
            if value is not None and not 0 < value < float("inf"):
                raise ValueError(f"Argument `{name}` must be positive and finite, but is {value}.")
        if not 0 <= self.weight_decay < float("inf"):
            raise ValueError(
                f"Argument `weight_decay` must not be negative, but is {self.weight_decay}."
            )
        if self.ffn_width is not None and not self.ffn:
            raise ValueError(
                f"Argument `ffn_width` must be left out without a feed-forward network, but is "
                f"{self.ffn_width}."
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
                does not take an option or the couplings that were given.
            ImportError: A package that a backend or a tracker needs is missing.
            FileNotFoundError: The task's text, a calibration, a schedule or a journal is missing.
            MemoryError: The Ising models are too large for exact enumeration.
        """
        _check_device(self.device)
        check_installed(self.track)
        for name in ("sampler", "eval_sampler"):
            value = getattr(self, name)
            # It starts quadratic: a sampler would fail, or have been paid, only after a step.
            if not self.has_matrix and value.partition(":")[0] != "exact":
                raise ValueError(
                    f"Argument `{name}` must be 'exact' for cardinality, a potential that has no "
                    f"matrix J once it has learned, but is {value!r}; with `competitive`, and a "
                    f"`max_count` of at least the context, it keeps one."
                )
        self.make_task(self.seed)
        enumerated = self.structure in ("dense", "block") and self.interaction != "field"
        exactly = (self.sampler, self.moments) == ("exact", "exact")
        exactly |= (self.eval_sampler, self.eval_moments) == ("exact", "exact")
        if enumerated and (exactly or self.gradient_every is not None):
            self._check_memory()
        backends = {text: self._backend(text) for text in (self.sampler, self.eval_sampler)}
        if self.beta in CRITICAL and backends[self.eval_sampler].paid:
            raise ValueError(
                f"Argument `eval_sampler` must cost nothing where beta is {self.beta!r}, as its "
                f"mean spins go into each setting of beta, but is {self.eval_sampler!r}."
            )
        return backends

    @property
    def eval_moments(self) -> str:
        """How validations compute mean spins: exactly, or as training where memory is too small."""
        if self.eval_sampler != "exact" or self.moments == "exact":
            return "exact"
        if self.structure in ("dense", "block") and self.interaction != "field":
            try:
                self._check_memory()
            except MemoryError:
                return self.moments
        return "exact"

    @property
    def has_matrix(self) -> bool:
        """Whether the couplings stay a matrix J as they are learned, as samplers need it."""
        counts = self.max_count or CardinalityStructure.max_count
        return self.structure != "cardinality" or (self.competitive and counts >= self.context)

    @property
    def sampled(self) -> bool:
        """Whether reads are drawn, in training or in validations."""
        exactly = self.estimator == "exact" or (self.sampler, self.estimator) == ("exact", None)
        return not exactly or self.eval_sampler != "exact"

    def model(self, vocab_size: int) -> Transformer:
        """A new model, with weights from PyTorch's global generator."""
        return Transformer(
            vocab_size,
            self.context,
            attention=self.attention,
            num_layers=self.layers,
            num_heads=self.heads,
            embed_dim=self.width,
            ffn=self.ffn,
            ffn_width=self.ffn_width,
            **self.attention_options,
        )

    def _check_memory(self) -> None:
        """Raise a MemoryError if enumeration takes too much, of whole models or of their blocks."""
        sequences = 1 if self.attention == "couplings" else self.batch_size
        lengths = torch.arange(1, self.context + 1).repeat_interleave(sequences)
        groups, spins = self.ensemble * self.heads, self.context
        if self.structure == "block":
            spins = min(spins, self.block_size or BlockStructure.block_size)
            groups, lengths = groups * -(-self.context // spins), lengths.clamp_max(spins)
        check_memory(groups, len(lengths), spins, itemsize=4, lengths=lengths)

    def _backend(self, text: str) -> Backend:
        """The backend of this text, with the settings that are addressed to it."""
        spec = parse_sampler(text)
        if within := MARKED & spec.options.keys():  # a run's folder keeps the text
            raise ValueError(
                f"Setting `{min(within)}` must be given on its own, but is part of {text!r}."
            )
        if text == (self.eval_sampler if self.sampler == "exact" else self.sampler):
            values = {name: getattr(self, name) for name in OF_BACKENDS}
            given = {name: value for name, value in values.items() if value is not None}
            if twice := given.keys() & spec.options.keys():
                raise ValueError(
                    f"Setting `{min(twice)}` must be given once, but is part of {text!r} too."
                )
            spec = spec.with_options(**given)
        if self.refine_sweeps and text == self.sampler:
            spec = spec.with_options(refine_sweeps=self.refine_sweeps)
        return spec.build()

    def to_toml(self) -> str:
        """All settings but those that are None, which TOML cannot say."""
        given = {k: v for k, v in dataclasses.asdict(self).items() if v is not None}
        return tomli_w.dumps(given)


SETTINGS = sorted(dataclasses.fields(TrainConfig), key=lambda field: field.name in OF_BACKENDS)
"""The settings: first those of the training, then those that are options of backends."""


def read_settings(path: Path) -> dict[str, Any]:
    """Settings from a TOML file, checked for names and types but not for values.

    Raises:
        FileNotFoundError: The file is not there.
        ValueError: It is not TOML, or has a setting that does not exist or of the wrong type.
    """
    return parse_settings(toml_text(path, "configuration file"), path)


def toml_text(path: Path, what: str) -> str:
    """The text of a TOML file that is wanted as `what`; errors as in :func:`read_settings`."""
    if not path.is_file():
        raise FileNotFoundError(f"No {what} at {path}.")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"'{path}' is not a TOML file: {error}.") from None


def parse_settings(text: str, path: Path, declared: Fields | None = None) -> dict[str, Any]:
    """Settings from the text of a TOML file at this path; see :func:`read_settings`."""
    try:
        settings = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise ValueError(f"'{path}' is not a TOML file: {error}.") from None
    return typed_settings(settings, path, declared)


def typed_settings(
    table: Mapping[str, Any], path: Path, declared: Fields | None = None
) -> dict[str, Any]:
    """Settings of a table of TOML that is in the file at this path; see :func:`read_settings`."""
    known = {field.name: field for field in (SETTINGS if declared is None else declared)}
    settings: dict[str, Any] = {}
    for name, value in table.items():
        if name not in known:
            hint = _hint(name, value, known)
            raise ValueError(f"'{path}' has an unknown setting `{name}`{hint}")
        settings[name] = from_toml(known[name].type, value)
        if settings[name] is None:
            expected = described(known[name].type)
            raise ValueError(f"Setting `{name}` in '{path}' must be {expected}, but is {value!r}.")
        if name in MARKED:
            settings[name] = FromFile(value, path)
    return settings


def _hint(name: str, value: Any, known: Iterable[str]) -> str:
    """What may have been meant by a setting that there is not."""
    if isinstance(value, dict):
        return ": settings stand at the top level, not in tables."
    near = difflib.get_close_matches(name, known, 1, 0.75)
    return f": did you mean `{near[0]}`?" if near else "; the command's --help lists all."


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
