r"""A whole training step of every arm against softmax, and an ensemble against separate runs.

T = 12, batch 64, two layers, width 64, four heads; the arms take turns in one process, and the
ratios are those of the medians. The ensemble of ten is compared with ten learners that take their
steps one after another with all threads, and its losses with theirs.

    python benchmarks/training_step.py --threads 2
"""

import argparse
import statistics
import time

import torch
from rich.console import Console
from rich.table import Table

from qattn.layers import ATTENTION
from qattn.training import Learner, TrainConfig

MEMBERS = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--steps", type=int, default=60)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    arms = {
        name: Learner(TrainConfig(attention=name, device=arguments.device)) for name in ATTENTION
    }
    times: dict[str, list[float]] = {name: [] for name in arms}
    for number in range(arguments.steps):
        for name, learner in arms.items():
            start = time.perf_counter()
            learner.step(number).cpu()
            times[name].append(time.perf_counter() - start)
    median = {name: statistics.median(values[5:]) for name, values in times.items()}
    table = Table("arm", "ms a step", "times softmax")
    for name, value in median.items():
        table.add_row(name, f"{value * 1e3:.1f}", f"{value / median['softmax']:.2f}")
    console = Console()
    console.print(table)

    table = Table("arm", f"ensemble of {MEMBERS}, ms", "separate, ms", "ratio", "loss difference")
    for name in ("boltzmann", "softmax"):
        settings = {"attention": name, "device": arguments.device}
        together = Learner(TrainConfig(ensemble=MEMBERS, **settings))
        alone = [Learner(TrainConfig(seed=seed, **settings)) for seed in range(MEMBERS)]
        pairs, difference = [], 0.0
        for number in range(max(8, arguments.steps // 3)):
            start = time.perf_counter()
            losses = together.step(number).cpu()
            middle = time.perf_counter()
            wanted = torch.cat([learner.step(number) for learner in alone]).cpu()
            pairs.append((middle - start, time.perf_counter() - middle))
            difference = max(difference, (losses - wanted).abs().max().item())
        ensemble, separate = (statistics.median(values) for values in zip(*pairs[3:], strict=True))
        table.add_row(
            name,
            f"{ensemble * 1e3:.1f}",
            f"{separate * 1e3:.1f}",
            f"{ensemble / separate:.2f}",
            f"{difference:.0e}",
        )
    console.print(table)


if __name__ == "__main__":
    main()
