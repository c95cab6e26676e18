"""A GPT-2 of Hugging Face transformers with couplings against itself with softmax attention.

Four layers, four heads, width 128, made from a configuration. A training step of eight texts, and
a generated token behind T others with a dynamic cache; one model of each arm, the arms taking
turns; medians of the processor's time, and in brackets the ratio to PyTorch's own attention.

    python benchmarks/transformers_models.py --threads 1
"""

import argparse
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from transformers import GPT2Config, GPT2LMHeadModel

from qattn.integrations.transformers import attach

VOCABULARY, BATCH = 65, 8

ARMS = {
    "softmax (sdpa)": None,
    "dense": {},
    "banded, width 4": {"couplings": "banded"},
    "rank 1": {"couplings": "low_rank"},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=5.0, help="for each length")
    parser.add_argument("--lengths", type=int, nargs="+", default=[12, 64, 256])
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    table = Table("T", "arm", "training step, ms", "token, ms")
    for T in arguments.lengths:
        arms = [arm for arm in ARMS if arm != "dense" or T <= 12]
        models = [model_of(arm, T) for arm in arms]
        steps = in_turns([partial(step, model, T) for model in models], arguments.seconds / 2)
        tokens = in_turns([token_of(model, T) for model in models], arguments.seconds / 2)
        for arm, *times in zip(arms, steps, tokens, strict=True):
            table.add_row(str(T), arm, *(f"{t:.2f} ({r:.2f})" for t, r in times))
    Console().print(table)


def model_of(arm: str, T: int) -> GPT2LMHeadModel:
    """A model for texts of T + 1 positions."""
    torch.manual_seed(0)
    words = {"vocab_size": VOCABULARY, "bos_token_id": 0, "eos_token_id": 0}
    model = GPT2LMHeadModel(GPT2Config(n_layer=4, n_head=4, n_embd=128, n_positions=T + 1, **words))
    if (options := ARMS[arm]) is not None:
        attach(model, T + 1, **options)
    return model


def step(model: GPT2LMHeadModel, T: int) -> None:
    """A pass and its gradients."""
    tokens = torch.randint(VOCABULARY, (BATCH, T))
    model.train()(tokens, labels=tokens).loss.backward()


def token_of(model: GPT2LMHeadModel, T: int) -> Callable[[], None]:
    """What computes one token more behind T that are in the cache."""
    model.eval()
    with torch.no_grad():
        found = model(torch.randint(VOCABULARY, (1, T)), use_cache=True)
    name = "cache" if "cache" in found else "past_key_values"

    @torch.no_grad()
    def one() -> None:
        model(torch.zeros(1, 1, dtype=torch.long), use_cache=True, **{name: found[name]})
        found[name].crop(-1)

    return one


def in_turns(ways: list[Callable[[], None]], seconds: float) -> list[tuple[float, float]]:
    """Median milliseconds of each way, and their ratio to the first."""
    times: list[list[float]] = [[] for _ in ways]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times[0]) < 5:
        for way, taken in zip(ways, times, strict=True):
            before = time.process_time()
            way()
            taken.append(1e3 * (time.process_time() - before))
    medians = [statistics.median(taken) for taken in times]
    return [(median, median / medians[0]) for median in medians]


if __name__ == "__main__":
    main()
