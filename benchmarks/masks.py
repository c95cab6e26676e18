r"""What masks cost: weights and their gradients with a mask, and without one, on one thread.

Random queries and keys, four heads of width 16. Sequences of T = 12 with a dense J and padding of
0 to 7 positions; an encoder's of T = 64 with a band of 4 or blocks of 8; a window of the last 16
positions, where without it a query sees all before. Medians of the processor's time.

    python benchmarks/masks.py
"""

import math
import statistics
import time
from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from qattn import boltzmann_weights
from qattn.couplings import Banded, Block, Couplings, LowRank

HEADS, WIDTH, WINDOW = 4, 16, 16


class Case(NamedTuple):
    """Sequences, positions and couplings, and the options of the call with a mask and without."""

    name: str
    batch: int
    positions: int
    couplings: Tensor | Couplings
    masked: dict[str, Any]
    plain: dict[str, Any] | None


def values(*shape: int) -> Tensor:
    """Small couplings with a gradient."""
    return (0.02 * torch.randn(HEADS, *shape)).requires_grad_()


def dense(*shape: int) -> Tensor:
    """The same, symmetric."""
    upper = values(*shape).detach().triu(1)
    return (upper + upper.mT).requires_grad_()


def texts() -> Iterator[Case]:
    """Causal sequences of T = 12."""
    T, B = 12, 64
    position, padding = torch.arange(T), torch.randint(8, (B, 1))
    causal = torch.ones(T, T, dtype=torch.bool).tril()
    right = (position < T - padding)[:, None, None] & causal
    left = (position >= padding)[:, None, None] & causal
    for name, options in {
        "padding on the right": {"attn_mask": right},
        "padding on the left, rows of the text": {"attn_mask": left, "rows": position - padding},
        "padding on the left, rows of the slots": {"attn_mask": left},
        "holes of each query": {"attn_mask": causal & (torch.rand(B, 1, T, T) < 0.7)},
    }.items():
        yield Case(f"dense, T = 12, {name}", B, T, dense(T, T), options, {"is_causal": True})


def encoders() -> Iterator[Case]:
    """Sequences of T = 64 that see themselves."""
    T, B = 64, 16
    position, padding = torch.arange(T), torch.randint(40, (B, 1))
    for name, mask in {
        "padding on the right": (position < T - padding)[:, None, None],
        "padding on the left": (position >= padding)[:, None, None],
        "holes": torch.rand(B, 1, 1, T) < 0.8,
    }.items():
        structures = {"band of 4": Banded(values(T, 4)), "blocks of 8": Block(dense(8, 8, 8), T)}
        for structure, couplings in structures.items():
            yield Case(f"{structure}, T = 64, {name}", B, T, couplings, {"attn_mask": mask}, {})


def windows() -> Iterator[Case]:
    """Queries that see the last positions up to their own."""
    for T in (256, 1024):
        window = torch.ones(T, T, dtype=torch.bool).tril().triu(1 - WINDOW)
        structures = {
            "dense, by distance": Banded.relative(values(WINDOW - 1), T),
            "band of 4": Banded(values(T, 4)),
            "rank 1": LowRank(values(T)),
        }
        if T == 256:
            structures["dense"] = dense(T, T)
        for structure, couplings in structures.items():
            plain = None if structure.startswith("dense") else {"is_causal": True}
            yield Case(
                f"{structure}, T = {T}, window of {WINDOW}",
                1,
                T,
                couplings,
                {"attn_mask": window},
                plain,
            )


def milliseconds(case: Case, options: dict[str, Any], seconds: float = 1.0) -> float:
    """Median processor time of weights and gradients."""
    query, key = torch.randn(2, case.batch, HEADS, case.positions, WIDTH)
    J = case.couplings
    bias = -math.log(case.positions)  # as layers start
    inputs = query.requires_grad_(), J.values if isinstance(J, Couplings) else J
    taken: list[float] = []
    start = time.process_time()
    while len(taken) < 5 or time.process_time() - start < seconds:
        before = time.process_time()
        weights = boltzmann_weights(query, key, J, field_bias=bias, **options)
        torch.autograd.grad(weights.square().sum(), inputs)
        taken.append(1e3 * (time.process_time() - before))
    return statistics.median(taken)


def main() -> None:
    torch.manual_seed(0)
    torch.set_num_threads(1)
    table = Table("with, ms", "without, ms", "couplings and mask")
    for cases in (texts, encoders, windows):
        for case in cases():
            without = "" if case.plain is None else f"{milliseconds(case, case.plain):.1f}"
            table.add_row(f"{milliseconds(case, case.masked):.1f}", without, case.name)
    Console().print(table)


if __name__ == "__main__":
    main()
