"""Small trainings, and how their ends are compared."""

import json

import torch

from qattn.training import RunFolder
from qattn.training.learner import Learner

SMALL = {"context": 6, "width": 8, "heads": 2, "layers": 1, "batch_size": 8, "threads": 1}
EVERY = {"log_every": 7, "eval_every": 20, "checkpoint_every": 10}
TIMES = {"seconds", "sampling_seconds", "seconds_per_step", "sampling_share"}


def timeless(records):
    return [{k: v for k, v in r.items() if k not in TIMES} for r in records]


def assert_members_train_alone(config_of, arm, atol=1e-5):
    """Losses of an ensemble of two and of separate runs agree; returns their learners."""
    together = Learner(config_of(arm, ensemble=2, seed=4))
    alone = [Learner(config_of(arm, seed=4 + i)) for i in range(2)]
    for number in range(4):
        losses = together.step(number)
        expected = torch.cat([learner.step(number) for learner in alone])
        torch.testing.assert_close(losses, expected, atol=atol, rtol=0)
    assert losses[0] != losses[1]
    return together, alone


def assert_same_end(one, other):
    """Equal weights, optimiser and metrics, to the bit."""
    states = [RunFolder(path).read_checkpoint()["learner"] for path in (one, other)]
    flat = [torch.utils._pytree.tree_leaves(s) for s in states]
    for a, b in zip(*flat, strict=True):
        assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b
    metrics = [timeless(RunFolder(path).read_metrics()) for path in (one, other)]
    assert metrics[0] == metrics[1]
    summaries = [timeless([json.loads((p / "summary.json").read_text())]) for p in (one, other)]
    assert summaries[0] == summaries[1]
