r"""Do couplings help at long contexts? Tiny Shakespeare, every arm with and without position bias.

Couplings between spins act first as a bias of position, so that each arm is trained with and
without the same learned bias, and with the control that has the bias of the couplings alone and no
interaction (``field``). The learning rate, and a factor of its own for couplings and biases, are
chosen for each arm by short trainings on seed 100, which is not used again; then every arm takes
the same number of steps, the rate decayed linearly to zero. Two layers, four heads, width 64, 1,024
tokens a step. Reported: validation perplexity, and its difference to softmax attention with the
same bias, paired over seeds, with the 95% interval of a t distribution.

Every training is a line in the file, and one that is there is not run again.

    python benchmarks/long_context_training.py --data input.txt --context 64 --out T64.jsonl
    python benchmarks/long_context_training.py --data input.txt --context 256 --rates T64.jsonl \
        --steps 600 --out T256.jsonl
"""

import argparse
import itertools
import json
import math
import multiprocessing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy import stats

from qattn import TrainConfig
from qattn.training import Learner

TOKENS = 1024
TUNING_SEED = 100
RATES = (1e-3, 3e-3)
FACTORS = (1.0, 10.0)
BAND = {"couplings": "banded", "coupling_width": 4, "relative": True}
ARMS: dict[str, dict[str, Any]] = {
    "softmax": {"attention": "softmax"},
    "sigmoid": {"attention": "sigmoid"},
    "cardinality": {"attention": "cardinality"},
    "band, spins": BAND | {"interaction": "spin"},
    "band, occupations": BAND | {"interaction": "occupation"},
    "band, field": BAND | {"interaction": "field"},
    "rank 1 +": {"couplings": "low_rank", "coupling_sign": 1},
    "rank 1 -": {"couplings": "low_rank", "coupling_sign": -1},
}
BIASES = ("none", "relative")


def trained(run: dict[str, Any]) -> dict[str, Any]:
    """A training and its validation perplexity; infinite where it diverged."""
    torch.set_num_threads(1)
    config = TrainConfig(
        task="shakespeare",
        data=run["data"],
        context=run["context"],
        batch_size=TOKENS // run["context"],
        steps=run["steps"],
        seed=run["seed"],
        lr=run["lr"],
        coupling_lr_factor=run["factor"],
        lr_decay="linear",
        position_bias=run["bias"],
        **ARMS[run["arm"]],
    )
    learner = Learner(config)
    perplexity = math.inf
    for step in range(config.steps):
        if not bool(learner.step(step).isfinite().all()):
            break
    else:
        perplexity = learner.evaluate()[0]["perplexity"]
    return run | {"perplexity": perplexity}


def tuning(arguments: argparse.Namespace) -> Iterator[dict[str, Any]]:
    """Short trainings of each arm and bias at each learning rate."""
    for arm, bias, lr, factor in itertools.product(arguments.arms, BIASES, RATES, FACTORS):
        if factor == 1.0 or (arm, bias) != ("softmax", "none"):  # which has nothing of its own
            yield _run(arguments, arm, bias, TUNING_SEED, lr, factor, arguments.tuning_steps)


def comparison(arguments: argparse.Namespace, done: list[dict[str, Any]]) -> Iterator[Any]:
    """The trainings that count, at each arm's best learning rate."""
    for seed, arm, bias in itertools.product(range(arguments.seeds), arguments.arms, BIASES):
        short = [
            r for r in done if r["seed"] == TUNING_SEED and (r["arm"], r["bias"]) == (arm, bias)
        ]
        best = min(short, key=lambda r: r["perplexity"])
        yield _run(arguments, arm, bias, seed, best["lr"], best["factor"], arguments.steps)


def _run(
    arguments: argparse.Namespace,
    arm: str,
    bias: str,
    seed: int,
    lr: float,
    factor: float,
    steps: int,
) -> dict[str, Any]:
    data = str(arguments.data.resolve())
    return {
        "data": data,
        "context": arguments.context,
        "arm": arm,
        "bias": bias,
        "seed": seed,
        "lr": lr,
        "factor": factor,
        "steps": steps,
    }


def completed(arguments: argparse.Namespace, runs: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The runs with their results, of which those that are not in the file are run now."""
    results = read(arguments.out)
    missing = [run for run in runs if all(run != key for key, _ in results)]
    with multiprocessing.get_context("spawn").Pool(arguments.jobs) as pool:
        for result in pool.imap_unordered(trained, missing):
            with arguments.out.open("a") as file:
                file.write(json.dumps(result) + "\n")
    results = read(arguments.out)
    return [key | {"perplexity": value} for key, value in results if key in runs]


def read(path: Path) -> list[tuple[dict[str, Any], float]]:
    """Runs and perplexities in the file."""
    lines = path.read_text().splitlines() if path.is_file() else []
    records = [json.loads(line) for line in lines]
    return [({k: v for k, v in r.items() if k != "perplexity"}, r["perplexity"]) for r in records]


def report(results: list[dict[str, Any]], context: int) -> Table:
    """Means over seeds, and differences to softmax with the same bias."""
    table = Table(
        "arm",
        "position bias",
        "perplexity",
        "minus softmax",
        "95% interval",
        "lr",
        "factor",
        title=f"T = {context}",
    )
    values: dict[tuple[str, str], dict[int, float]] = {}
    settings = {}
    for r in results:
        values.setdefault((r["arm"], r["bias"]), {})[r["seed"]] = r["perplexity"]
        settings[r["arm"], r["bias"]] = r["lr"], r["factor"]
    for (arm, bias), own in values.items():
        base = values[("softmax", bias)]
        seeds = sorted(own.keys() & base.keys())
        difference = np.array([own[s] - base[s] for s in seeds])
        interval = ""
        if arm != "softmax" and len(seeds) > 1:
            half = stats.sem(difference) * stats.t.ppf(0.975, len(seeds) - 1)
            interval = f"{difference.mean() - half:+.3f} to {difference.mean() + half:+.3f}"
        table.add_row(
            arm,
            bias,
            f"{np.mean(list(own.values())):.3f}",
            f"{difference.mean():+.3f}",
            interval,
            *(f"{x:g}" for x in settings[arm, bias]),
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--context", type=int, default=64)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--arms", nargs="+", choices=list(ARMS), default=list(ARMS))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--tuning-steps", type=int, default=400)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--rates", type=Path, help="Take the learning rates found in this file.")
    arguments = parser.parse_args()
    if arguments.rates is None:
        tuned = completed(arguments, list(tuning(arguments)))
    else:
        tuned = [key | {"perplexity": value} for key, value in read(arguments.rates)]
    results = completed(arguments, list(comparison(arguments, tuned)))
    Console(width=120).print(report(results, arguments.context))


if __name__ == "__main__":
    main()
