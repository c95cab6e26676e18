r"""Does the sampler matter? Short trainings from the same seeds, one for each sampler.

Every training is evaluated exactly, whatever drew its reads, so that the curves differ by what
was learned alone. Along the way the gradient that a step followed is compared with the exact one on
the same batch at the same weights,

.. math:: \frac{|g_\text{reads} - g_\text{exact}|}{|g_\text{exact}|}.
"""

import json
import re
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from qattn._clock import sampling_clock
from qattn.backends import BackendStopped
from qattn.backends.spec import SamplerSpec
from qattn.compare.results import shown_label
from qattn.training.config import TrainConfig, read_settings
from qattn.training.environment import choose_threads, using_threads
from qattn.training.learner import Learner

SHORT_TRAINING: dict[str, Any] = {
    "task": "brackets",
    "context": 8,
    "layers": 1,
    "heads": 2,
    "width": 32,
    "batch_size": 16,
    "steps": 200,
    "lr": 5e-3,
    "warmup": 20,
    "eval_every": 20,
}
"""A short training, unless a configuration says otherwise."""


@dataclass(frozen=True)
class TrainingCurve:
    """One training.

    Attributes:
        sampler: Label of the sampler, which says so if its QPU was an emulator.
        seed: Seed of weights and data.
        metric: "accuracy" or "perplexity".
        steps: Steps at which the model was evaluated.
        values: The metric there, on the validation set, with exact moments.
        losses: Validation loss there, nats.
        gradient_errors: Relative error of the gradient of the step before; nan at step 0.
        seconds: Time of all steps.
        sampling_seconds: The part of it that went into sampling, or into exact moments.
        qpu_seconds: QPU access time; nan without a QPU.
        emulated: Whether the QPU was an emulator.
        stopped: Why it ended early, or "".
    """

    sampler: str
    seed: int
    metric: str
    steps: list[int] = field(default_factory=list)
    values: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    gradient_errors: list[float] = field(default_factory=list)
    seconds: float = 0.0
    sampling_seconds: float = 0.0
    qpu_seconds: float = float("nan")
    emulated: bool = False
    stopped: str = ""


def compare_trainings(
    specs: Sequence[SamplerSpec],
    base: TrainConfig,
    *,
    seeds: int,
    folder: Path,
    progress: Callable[[str], object] = lambda text: None,
) -> list[TrainingCurve]:
    """Train with each sampler from the seeds base.seed, base.seed + 1 and so on.

    Each training becomes a line of ``curves.jsonl`` in the folder as soon as it ends. A sampler
    that cannot go on ends its training, with the reason, and not the others.

    Args:
        specs: The samplers; their options must be settings of a training.
        base: Settings of all trainings; evaluated at every ``base.eval_every`` steps.
        seeds: Number of seeds.
        folder: Where curves, and the journals of QPUs, are kept.
        progress: Called with a line before each training and after each step.

    Raises:
        ValueError: `seeds` is not positive, or a sampler has an option that is no setting.
    """
    if seeds < 1:
        raise ValueError(f"Argument `seeds` must be positive, but is {seeds}.")
    configs = {spec.label: training_config(spec, base) for spec in specs}
    folder.mkdir(parents=True, exist_ok=True)
    curves = []
    for label, config in configs.items():
        for seed in range(base.seed, base.seed + seeds):

            def at_step(step: int, label: str = label, seed: int = seed) -> None:
                progress(f"training with {label}, seed {seed}: step {step} of {base.steps}")

            name = re.sub(r"[^A-Za-z0-9.=-]+", "_", label)
            run = folder / "trainings" / f"{name}-seed{seed}"
            with using_threads(config.threads or choose_threads(config)):
                curves.append(_trained(label, replace(config, seed=seed), run, at_step))
            with (folder / "curves.jsonl").open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(curves[-1])) + "\n")
    return curves


def compared_training(config: Path | None, **defaults: Any) -> TrainConfig:
    """The training of a TOML file, or else a short one; `defaults` stand where it says nothing."""
    settings = SHORT_TRAINING if config is None else read_settings(config)
    return TrainConfig(**(defaults | settings))


def training_config(spec: SamplerSpec, base: TrainConfig) -> TrainConfig:
    """Settings of a training with this sampler.

    Raises:
        ValueError: The sampler has a variant, or an option that is no setting of a training.
    """
    known = {setting.name for setting in fields(TrainConfig)}
    unknown = sorted(set(spec.options) - known)
    if spec.variant or unknown:
        what = f"the variant {spec.variant!r}" if spec.variant else f"options {unknown}"
        raise ValueError(
            f"Sampler {spec.label} has {what}, which `qattn train` does not take: leave it out of "
            f"a comparison of trainings."
        )
    return replace(base, sampler=spec.name, eval_sampler="exact", **spec.options)


def _trained(
    label: str, config: TrainConfig, run: Path, at_step: Callable[[int], None]
) -> TrainingCurve:
    at_step(0)
    learner = Learner(config)
    metric = learner.tasks[0].metric
    made: dict[str, Any] = {"seconds": 0.0, "sampling_seconds": 0.0}
    curve = TrainingCurve(label, config.seed, metric)

    def evaluate(step: int, error: float) -> None:
        (metrics,) = learner.evaluate()
        curve.steps.append(step)
        curve.values.append(metrics[metric])
        curve.losses.append(metrics["validation_loss"])
        curve.gradient_errors.append(error)

    try:
        learner.open_backends(run)
        evaluate(0, float("nan"))
        for number in range(config.steps):
            due = (number + 1) % config.eval_every == 0 or number + 1 == config.steps
            exact = learner.exact_gradient(number) if due else None
            sampling_clock.take()
            start = time.perf_counter()
            learner.step(number)
            made["seconds"] += time.perf_counter() - start
            at_step(number + 1)
            made["sampling_seconds"] += sampling_clock.take()
            if exact is not None:
                evaluate(number + 1, learner.gradient_errors(exact).item())
    except BackendStopped as stopped:
        made["stopped"] = str(stopped)
    finally:
        reported = learner.backend_metrics()
        provenance = learner.backend_provenance()
        learner.close_backends()
    made["qpu_seconds"] = reported.get("qpu_seconds", float("nan"))
    made["emulated"] = bool(provenance.get("emulated", False))
    return replace(curve, sampler=shown_label(label, provenance), **made)
