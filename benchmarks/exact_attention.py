r"""Exact causal moments, forward and backward, against brute force over the states.

Both sides compute ⟨s⟩ of every query of a batch of causal sequences, and the gradients in h and J
of a random linear function of it, in float32, in one process on one thread (or on a GPU with
``--device cuda``). Two brute forces, both vectorised: `all states` enumerates 2^T states for every
query, with the states that a query cannot see masked; `own states` loops over the lengths and
enumerates the 2^i states of the queries of length i. Times are medians; memory is the peak above
the start, measured in a fresh process for each case (VmHWM; of the allocator on a GPU).

`bare products` are the six matrix products alone that the engine is made of, by ``torch.bmm`` on
tensors of the same shapes, for the queries of each even number of spins: K v and Kᵀ u forward;
K v_f, Kᵀ u_f, u_f vᵀ and u v_fᵀ backward. Their share of the engine's time, both at their fastest,
says how near the engine is to what a library of matrix products allows; it can be above one.

    python benchmarks/exact_attention.py
"""

import argparse
import multiprocessing
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from qattn import IsingBatch, exact, kernels

Problem = tuple[Tensor, Tensor, Tensor, Tensor]


def problem(T: int, batch: int, heads: int, device: str) -> Problem:
    torch.manual_seed(0)
    upper = (0.2 * torch.randn(heads, T, T)).triu(1)
    h = torch.randn(heads, T * batch, T)
    lengths = torch.arange(1, T + 1).repeat_interleave(batch)
    to_mean = torch.randn(heads, T * batch, T)
    return h.to(device), (upper + upper.mT).to(device), lengths, to_mean.to(device)


def states(n: int, device: torch.device) -> Tensor:
    bits = torch.arange(2**n, device=device)[:, None] >> torch.arange(n, device=device) & 1
    return (2 * bits - 1).float()


def engine(h: Tensor, J: Tensor, lengths: Tensor) -> Tensor:
    return exact.mean_spins(IsingBatch(h, J, lengths, validate=False))


def all_states(h: Tensor, J: Tensor, lengths: Tensor) -> Tensor:
    n = h.shape[-1]
    S = states(n, h.device)
    energy = ((S @ J) * S).sum(-1) / 2
    absent = torch.arange(n) >= lengths[:, None]
    # An absent spin is fixed to -1 and its couplings to the present ones are taken out.
    J_to_absent = absent.float().to(h.device) @ J
    unseen = (absent.float() @ (states(n, torch.device("cpu")).mT > 0).float() > 0).to(h.device)
    weights = (h + J_to_absent) @ S.mT + energy.unsqueeze(1)
    p = weights.masked_fill(unseen, -torch.inf).softmax(-1)
    return (p @ S).masked_fill(absent.to(h.device), 0.0)


def own_states(h: Tensor, J: Tensor, lengths: Tensor) -> Tensor:
    n = h.shape[-1]
    parts = []
    for length, q in zip(*torch.unique_consecutive(lengths, return_counts=True), strict=True):
        i, start = int(length), sum(part.shape[1] for part in parts)
        S = states(i, h.device)
        energy = ((S @ J[:, :i, :i]) * S).sum(-1) / 2
        p = (h[:, start : start + int(q), :i] @ S.mT + energy.unsqueeze(1)).softmax(-1)
        parts.append(torch.nn.functional.pad(p @ S, (0, n - i)))
    return torch.cat(parts, 1)


METHODS: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "qattn": engine,
    "all states": all_states,
    "own states": own_states,
}


def bare_products(h: Tensor, lengths: Tensor) -> Callable[[], None]:
    """The matrix products of the engine, without what is between them."""
    factors = []
    for half in range(1, (h.shape[2] + 1) // 2 + 1):
        queries = int(((lengths + 1) // 2 == half).sum())
        K = torch.rand(len(h), 2**half, 2**half, device=h.device)
        factors.append((K, *torch.rand(4, len(h), 2**half, queries, device=h.device)))

    def multiply() -> None:
        for K, u, v, u_f, v_f in factors:
            for table, vectors in ((K, v), (K.mT, u), (K, v_f), (K.mT, u_f)):
                torch.bmm(table, vectors)
            torch.bmm(u_f, v.mT)
            torch.bmm(u, v_f.mT)
        if h.is_cuda:
            torch.cuda.synchronize()

    return multiply


def run(method: str, data: Problem) -> list[Tensor]:
    h, J, lengths, to_mean = data
    h, J = h.clone().requires_grad_(), J.clone().requires_grad_()
    mean = METHODS[method](h, J, lengths)
    mean.backward(to_mean)
    if h.is_cuda:
        torch.cuda.synchronize()
    assert h.grad is not None
    assert J.grad is not None
    return [mean.detach(), h.grad, (J.grad + J.grad.mT) / 2]


def seconds(methods: list[str], data: Problem, turns: int) -> dict[str, list[float]]:
    """Seconds of each method and of the products; they take turns: a machine's speed drifts."""
    calls = {method: partial(run, method, data) for method in methods}
    calls["bare products"] = bare_products(data[0], data[2])
    times: dict[str, list[float]] = {method: [] for method in calls}
    for turn in range(turns + 1):
        for method, call in calls.items():
            start = time.perf_counter()
            call()
            if turn:
                times[method].append(time.perf_counter() - start)
    return times


def peak_bytes(method: str, size: tuple[int, int, int], device: str) -> int:
    """Peak memory of one pass in a fresh process, without what the process had at its start."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_peak_bytes, (method, size, device))


def _peak_bytes(method: str, size: tuple[int, int, int], device: str) -> int:
    torch.set_num_threads(1)
    run(method, problem(4, 2, 2, device))
    data = problem(*size, device)
    if device == "cuda":
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        run(method, data)
        return torch.cuda.max_memory_allocated() - before
    before = _status("VmRSS")
    run(method, data)
    return _status("VmHWM") - before


def _status(name: str) -> int:
    with open("/proc/self/status") as file:
        return next(int(line.split()[1]) * 1024 for line in file if line.startswith(name))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("T", "batch", "heads", "method", "ms", "times slower", "MB", "times more memory")
    shares = Table("T", "batch", "heads", "bare products, ms", "qattn, ms", "share of products")
    for size, methods, turns in (
        ((12, 32, 4), list(METHODS), 41),
        ((16, 32, 4), list(METHODS), 5),
        ((20, 8, 2), ["qattn"], 21),  # 320 queries x 2^20 states do not fit
    ):
        data = problem(*size, arguments.device)
        check(methods, data)
        times = seconds(methods, data, turns)
        medians = {method: statistics.median(values) for method, values in times.items()}
        memory = {method: peak_bytes(method, size, arguments.device) for method in methods}
        for method in methods:
            table.add_row(
                *map(str, size),
                method,
                f"{medians[method] * 1e3:.1f}",
                f"{medians[method] / medians['qattn']:.0f}",
                f"{memory[method] / 2**20:.0f}",
                f"{memory[method] / memory['qattn']:.0f}",
            )
        fastest = [min(times[name]) for name in ("bare products", "qattn")]
        share = f"{fastest[0] / fastest[1]:.2f}"
        shares.add_row(*map(str, size), *(f"{t * 1e3:.2f}" for t in fastest), share)
    Console().print(table)
    print(f"Compiled loops: {kernels.level() or 'none'}")
    Console().print(shares)


def check(methods: list[str], data: Problem) -> None:
    """All methods give the same ⟨s⟩ and gradients (J's diagonal means nothing)."""
    off_diagonal = 1 - torch.eye(data[1].shape[-1], device=data[1].device)
    wanted_mean, wanted_h, wanted_J = run("qattn", data)
    for method in methods:
        mean, grad_h, grad_J = run(method, data)
        assert (mean - wanted_mean).abs().max() < 1e-5
        for found, wanted in ((grad_h, wanted_h), (grad_J * off_diagonal, wanted_J)):
            assert (found - wanted).abs().max() < 1e-4 * wanted.abs().max()


if __name__ == "__main__":
    main()
