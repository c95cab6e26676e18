r"""A whole training step at long contexts, every arm against softmax attention, and its memory.

Two layers, four heads, width 128; sequences of T tokens, T·batch tokens a step. The arms take turns
in one process on one thread, and the ratios are those of the medians; softmax is PyTorch's fused
``F.scaled_dot_product_attention``. Peak memory is that of a fresh process (VmHWM, less what it had
before the model was made); ``--no-memory`` leaves it out. ``--kernels off`` runs the plain PyTorch
twins instead of the compiled loops.

    python benchmarks/long_context.py
    python benchmarks/long_context.py --contexts 4096 --turns 3
"""

import argparse
import multiprocessing
import os
import statistics
import time
from typing import Any

import torch
from rich.console import Console
from rich.table import Table
from torch.nn import functional as F

from qattn import Transformer, kernels

VOCABULARY = 65
TOKENS = 1024
ARMS: dict[str, dict[str, Any]] = {
    "softmax": {"attention": "softmax"},
    "sigmoid": {"attention": "sigmoid"},
    "banded w=1": {"couplings": "banded", "width": 1, "relative": True},
    "banded w=2": {"couplings": "banded", "width": 2, "relative": True},
    "banded w=4": {"couplings": "banded", "width": 4, "relative": True},
    "banded w=8": {"couplings": "banded", "width": 8, "relative": True},
    "rank 1 +": {"couplings": "low_rank", "sign": 1},
    "rank 1 -": {"couplings": "low_rank", "sign": -1},
    "cardinality": {"attention": "cardinality"},
}


class Training:
    """A model with an optimiser and one batch."""

    def __init__(self, arm: str, context: int) -> None:
        torch.manual_seed(0)
        self.model = Transformer(
            VOCABULARY, context, num_layers=2, num_heads=4, embed_dim=128, **ARMS[arm]
        )
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=1e-3, fused=True)
        shape = (max(1, TOKENS // context), context + 1)
        self.tokens = torch.randint(VOCABULARY, shape)

    def step(self) -> float:
        """Seconds of a step."""
        start = time.perf_counter()
        self.optimizer.zero_grad(set_to_none=True)
        logits = self.model(self.tokens[:, :-1])
        F.cross_entropy(logits.flatten(0, 1), self.tokens[:, 1:].flatten()).backward()
        self.optimizer.step()
        return time.perf_counter() - start


def peak_bytes(arm: str, context: int) -> int:
    """Peak memory of two steps in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_bytes, (arm, context))


def _peak_bytes(arm: str, context: int) -> int:
    torch.set_num_threads(1)
    Training(arm, 16).step()
    before = _status("VmRSS")
    training = Training(arm, context)
    for _ in range(2):
        training.step()
    return _status("VmHWM") - before


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--contexts", type=int, nargs="+", default=[64, 256, 1024])
    parser.add_argument("--arms", nargs="+", default=[a for a in ARMS if a != "banded w=8"])
    parser.add_argument("--turns", type=int, default=15)
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--kernels", choices=["on", "off"], default="on")
    arguments = parser.parse_args()
    if arguments.kernels == "off":
        os.environ["QATTN_KERNELS"] = "off"  # here, and in the processes that measure memory
    torch.set_num_threads(1)
    table = Table("T", "batch", "arm", "ms a step", "times softmax", "peak MB")
    for context in arguments.contexts:
        trainings = {arm: Training(arm, context) for arm in ["softmax", *arguments.arms]}
        times: dict[str, list[float]] = {arm: [] for arm in trainings}
        for turn in range(arguments.turns + 2):
            for arm, training in trainings.items():
                seconds = training.step()
                if turn > 1:
                    times[arm].append(seconds)
        median = {arm: statistics.median(values) for arm, values in times.items()}
        for arm, value in median.items():
            table.add_row(
                str(context),
                str(max(1, TOKENS // context)),
                arm,
                f"{value * 1e3:.1f}",
                f"{value / median['softmax']:.2f}",
                f"{peak_bytes(arm, context) / 2**20:.0f}" if arguments.memory else "",
            )
        table.add_section()
    console = Console()
    console.print(table)
    console.print(f"compiled loops: {kernels.level() or 'none'}")


if __name__ == "__main__":
    main()
