"""Small trainings, and how their ends are compared."""

import json

import torch

from qattn.training import RunFolder

SMALL = {"context": 6, "width": 8, "heads": 2, "layers": 1, "batch_size": 8, "threads": 1}
EVERY = {"log_every": 7, "eval_every": 20, "checkpoint_every": 10}
TIMES = {"seconds", "sampling_seconds", "seconds_per_step", "sampling_share"}


def timeless(records):
    return [{k: v for k, v in r.items() if k not in TIMES} for r in records]


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
