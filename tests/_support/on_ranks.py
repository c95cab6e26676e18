"""What tests have done in several processes: ``torchrun on_ranks.py FUNCTION FOLDER``."""

import os
import signal
import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))  # as under pytest

from _support.trainings import EVERY, SMALL

from qattn.backends import BackendStopped
from qattn.couplings.base import NotFinite
from qattn.simulators import neal
from qattn.training import Learner, TrainConfig, train
from qattn.training.ranks import joined

ENSEMBLE = SMALL | EVERY | {"ensemble": 4, "steps": 25, "gradient_every": 9, "beta": "learnable"}
SAMPLED = SMALL | EVERY | {
    "sampler": "neal", "eval_sampler": "neal:num_sweeps=1", "num_reads": 2, "num_sweeps": 2,
    "steps": 30, "checkpoint_seconds": 1e6, "batch_size": 12,
}  # fmt: skip
ARMS = {
    "boltzmann": {},
    "softmax": {"attention": "softmax", "beta": "learnable"},
    "frozen": {"coupling_constraint": "frozen", "layers": 2},
    "couplings": {"attention": "couplings", "position_bias": "absolute"},
    "cardinality": {"attention": "cardinality", "competitive": True},
    "critical": {"attention": "softmax", "beta": "critical-tracked", "beta_every": 2},
}
"""Arms that are trained with parts of batches."""


class Spent(BackendStopped):
    """A backend that can go on if more is given."""

    resume_flags = "--more"

    def __init__(self, seconds):  # which pickle could not make again
        super().__init__(f"{seconds} s are spent.")


ERRORS = [
    Spent(3.0),
    NotFinite("Fields must be finite."),
    FileNotFoundError(2, "No such file", "x"),
    ValueError("Argument `x` must be y."),
    KeyError("a defect"),
]


def words(ranks):
    """Everything that processes tell each other."""
    own = {"qpu_seconds": 2.0, "rate": float(ranks.rank)} | ({"late": 5.0} if ranks.rank else {})
    return {
        "gather": ranks.gather(f"of {ranks.rank}"),
        "collect": ranks.collect(ranks.rank),
        "any": ranks.any(ranks.rank == 1, False),
        "union": ranks.union([3, 1] if ranks.rank else [1, 2]),
        "mean": ranks.mean(torch.tensor([1.0, 2.0 * ranks.rank])),
        "figures": ranks.figures(own),
        "first": ranks.first(lambda: f"of {ranks.rank}"),
        "stream": ranks.stream(7),
    }


def caught(ranks, *failing, errors=ERRORS):
    """Type, text and flags of what each rank meets where these fail."""
    found = []
    for error in errors:
        try:
            with ranks.together():
                if ranks.rank in failing:
                    raise error
        except Exception as met:
            kinds = [kind.__name__ for kind in type(met).__mro__]
            found.append((kinds, str(met), getattr(met, "resume_flags", None)))
    return found


def gradients(config, ranks, steps=4):
    """Gradient, loss, exact gradient and β of every step of a learner."""
    learner, found = Learner(TrainConfig(**config), ranks), []
    for number in range(steps):
        exact = learner.exact_gradient(number)
        loss = learner.step(number)
        followed = {k: p.grad for k, p in learner.learned.items() if p.grad is not None}
        found.append([loss, exact, followed, learner.betas()])
    return found


def parts_of_batches(ranks):
    """For each arm what two processes find, and what one does."""
    torch.set_default_dtype(torch.float64)
    try:
        found = {}
        for arm, options in ARMS.items():
            config = SMALL | {"warmup": 1, "lr": 0.05} | options
            found[arm] = gradients(config, ranks), gradients(config, None)
        return found
    finally:
        torch.set_default_dtype(torch.float32)


def seeds(ranks):
    """Seeds of all draws of a few steps, of an ensemble and of one model."""
    found, real = {}, neal.drawn_seed
    for name, config in (("ensemble", SAMPLED | {"ensemble": 2}), ("one model", SAMPLED)):
        drawn = found[name] = []

        def recorded(seed, drawn=drawn):
            drawn.append(real(seed))
            return drawn[-1]

        neal.drawn_seed = recorded
        learner = Learner(TrainConfig(**config), ranks)
        for number in range(3):
            learner.step(number)
    neal.drawn_seed = real
    return found


def all_checks(ranks, folder):
    """All of the above, a run of an ensemble, and one that is killed."""
    found = {
        "words": words(ranks),
        "one": caught(ranks, 1),
        "both": caught(ranks, 0, 1),
        "seeds": seeds(ranks),
        "parts": parts_of_batches(ranks),
    }
    train(TrainConfig(**ENSEMBLE), folder / "ensemble", quiet=True)
    torch.save(found, folder / f"rank-{ranks.rank}.pt")
    killed(ranks, folder, 3)


def killed(ranks, folder, ensemble):
    """A whole run, and one of which rank 1 is killed."""
    config = TrainConfig(**SAMPLED, ensemble=int(ensemble))
    train(config, folder / "whole", quiet=True, ranks=ranks)
    step = Learner.step

    def dies(learner, number):
        if number == 27 and ranks.rank == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return step(learner, number)

    Learner.step = dies
    train(config, folder / "parts", quiet=True, ranks=ranks)


def resumed(ranks, folder, ensemble):
    """That one to its end."""
    config = TrainConfig(**SAMPLED, ensemble=int(ensemble))
    train(config, folder / "parts", resume=True, quiet=True, ranks=ranks)


if __name__ == "__main__":
    name, folder, *rest = sys.argv[1:]
    with joined() as ranks:
        globals()[name](ranks, Path(folder), *rest)
    threads = [path.read_text() for path in Path("/proc/self/task").glob("*/comm")]
    assert not [name for name in threads if "gloo" in name]  # they abort a process that ends
