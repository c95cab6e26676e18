r"""A token of a text at T = 256, by the pass over all of it and by a cache of keys and values.

Models of the README's size (two layers, width 64, four heads) and of GPT-2 small's width (two
layers, width 768, twelve heads), of 65 characters. With a cache the last token is computed, behind
255 that are there already. The two ways take turns; medians of the processor's time and of the
clock, and the largest difference of the logits between them.

    python benchmarks/decoding.py --threads 1
"""

import argparse
import statistics
import time
from collections.abc import Callable

import torch
from rich.console import Console
from rich.table import Table

from qattn.transformer import Transformer

T, VOCABULARY = 256, 65

ARMS = {
    "banded, width 4": {"couplings": "banded"},
    "rank 1": {"couplings": "low_rank"},
    "cardinality, 16": {"couplings": "cardinality"},
    "sigmoid": {"attention": "sigmoid"},
    "softmax": {"attention": "softmax"},
}

SIZES = {
    "README": {"embed_dim": 64, "num_heads": 4, "num_layers": 2},
    "GPT-2 small, 2 layers": {"embed_dim": 768, "num_heads": 12, "num_layers": 2},
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=3.0, help="for each row")
    parser.add_argument("--sizes", nargs="+", default=list(SIZES), choices=SIZES)
    parser.add_argument("--arms", nargs="+", default=list(ARMS), choices=ARMS)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    columns = "whole, ms", "cached, ms", "ratio", "by the clock", "tokens/s", "difference"
    table = Table("model", "arm", "batch", *columns)
    for size in arguments.sizes:
        for arm in arguments.arms:
            for batch in (1, 8):
                table.add_row(size, arm, str(batch), *measured(size, arm, batch, arguments.seconds))
    Console(width=110).print(table)


@torch.no_grad()
def measured(size: str, arm: str, batch: int, seconds: float) -> list[str]:
    """Times of a token in the two ways, and what they differ by."""
    torch.manual_seed(0)
    model = Transformer(VOCABULARY, T, **SIZES[size], **ARMS[arm]).eval()
    tokens, cache = torch.randint(VOCABULARY, (batch, T)), model.new_cache()
    model(tokens, cache)

    def one() -> torch.Tensor:
        for kept in cache:
            kept.length = T - 1
        return model(tokens[:, -1:], cache)

    difference = (one()[:, 0] - model(tokens)[:, -1]).abs().max().item()
    ways: list[Callable[[], torch.Tensor]] = [lambda: model(tokens), one]
    times: list[list[tuple[float, float]]] = [[], []]
    start = time.perf_counter()
    while time.perf_counter() - start < seconds or len(times[0]) < 5:
        for way, taken in zip(ways, times, strict=True):
            for _ in range(1 if way is ways[0] else 10):
                before = time.process_time(), time.perf_counter()
                way()
                taken.append((time.process_time() - before[0], time.perf_counter() - before[1]))
    (whole, clock), (cached, clock_cached) = (
        [1e3 * statistics.median(values) for values in zip(*taken, strict=True)] for taken in times
    )
    return [
        f"{whole:.2f}",
        f"{cached:.3f}",
        f"1/{whole / cached:.0f}",
        f"1/{clock / clock_cached:.0f}",
        f"{batch / clock_cached * 1e3:.0f}",
        f"{difference:.0e}",
    ]


if __name__ == "__main__":
    main()
