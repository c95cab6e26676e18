"""What a run says of itself: a line of metrics, and summary.json at its end."""

import platform
from typing import Any

import torch
from scipy import stats
from torch import Tensor

from qattn._version import __version__
from qattn.training.config import TrainConfig
from qattn.training.learner import Learner

SUMMARISED = ("task", "attention", "sampler", "context", "seed", "ensemble", "device")
"""Settings that stand in the summary too."""


def described(name: str, values: list[float]) -> dict[str, Any]:
    """One number; of an ensemble the mean, the members and the 95% interval of the mean."""
    if len(values) == 1:
        return {name: values[0]}
    mean = sum(values) / len(values)
    error = float(stats.sem(values)) * float(stats.t.ppf(0.975, len(values) - 1))
    return {
        name: mean,
        f"{name}_interval": [mean - error, mean + error],
        f"{name}_members": values,
    }


def betas(learner: Learner) -> dict[str, Any]:
    """β of each layer and head, [layer][head], where it is not fixed.

    With "beta_kept" where it is critical: whether it stayed as it was when it was last to be set,
    for want of a peak. Of an ensemble means, and the members, [member][layer][head].
    """
    values: dict[str, Tensor | None] = {"beta": learner.betas()}
    if learner.beta_found is not None:
        values["beta_kept"] = learner.share.whole((~learner.beta_found).float())
    each: dict[str, Any] = {}
    for name, members in values.items():
        if members is not None:
            each[name] = members.mean(0).tolist()
            each |= {f"{name}_members": members.tolist()} if len(members) > 1 else {}
    return each


def validated(learner: Learner) -> dict[str, Any]:
    """Metrics of all members on their validation sets, and β where it is not fixed."""
    members = learner.evaluate()
    each = (described(name, [member[name] for member in members]) for name in members[0])
    return {name: value for metrics in each for name, value in metrics.items()} | betas(learner)


def summarised(
    config: TrainConfig, learner: Learner, made: dict[str, Any], validation: dict[str, Any]
) -> dict[str, Any]:
    """The summary: settings, the last validation, times, and where reads came from."""
    seconds = made["seconds"]
    return {
        **{name: getattr(config, name) for name in SUMMARISED},
        "metric": learner.tasks[0].metric,
        "steps": made["step"],
        **{name: value for name, value in validation.items() if name != "step"},
        "seconds_per_step": seconds / made["step"],
        "sampling_share": made["sampling_seconds"] / seconds,
        **learner.backend_provenance(),
        **learner.backend_metrics(),
        "parameters": sum(p.numel() for p in learner.model.parameters() if p.requires_grad),
        "threads": torch.get_num_threads(),
        **({"processes": learner.ranks.size} if learner.ranks.size > 1 else {}),
        "versions": {
            "qattn": __version__,
            "torch": torch.__version__,
            "python": platform.python_version(),
        },
    }
