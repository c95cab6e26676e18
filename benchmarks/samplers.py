"""Samplers side by side in one run: `python benchmarks/samplers.py [a] [b] [c] [--threads 1]`.

a  gibbs and neal, batches at a time, against D-Wave's PyTorch plugin (`pip install --no-deps
   dwave-pytorch-plugin`), whose Ising layer samples problem by problem with the sampler of neal:
   the same reads, sweeps and problems, forward and backward.
b  Independent exact reads against neal at the same error of ⟨s⟩.
c  gibbs against neal, sampling only, at the same reads and sweeps.

Contenders take turns; a figure is the best of the turns, which other processes disturb least.
"""

import argparse
import time
from collections.abc import Callable
from functools import partial
from itertools import product

import torch

from qattn import IsingBatch, exact
from qattn.backends import Backend, get_backend
from qattn.estimators import mean_spins

TURNS = 5
SPINS = 12
SWEEPS = 20


def problems(groups: int, queries: int, spins: int = SPINS, seed: int = 0) -> IsingBatch:
    """Fields of standard deviation 1, couplings of 0.3 at 12 spins, and falling as 1/√spins."""
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(groups, queries, spins, generator=generator)
    J = torch.randn(groups, spins, spins, generator=generator).triu(1) * 0.3 * (12 / spins) ** 0.5
    return IsingBatch(h, J + J.mT)


def best_of_turns(contenders: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Least seconds of each contender, taking turns; the first turn is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(TURNS + 1):
        for name, run in contenders.items():
            start = time.perf_counter()
            run()
            if turn:
                seconds[name].append(time.perf_counter() - start)
    return {name: min(values) for name, values in seconds.items()}


def plugin_step(batch: IsingBatch, num_reads: int) -> Callable[[], object]:
    """Forward and backward through the plugin's Ising layer, in dimod's signs."""
    from dwave.plugins.torch.nn.modules.ising import Ising
    from dwave.samplers import SimulatedAnnealingSampler

    row, col = torch.triu_indices(SPINS, SPINS, 1)
    layer = Ising(
        range(SPINS),
        list(zip(row.tolist(), col.tolist(), strict=True)),
        SimulatedAnnealingSampler(),
        {
            "num_reads": num_reads,
            "beta_schedule_type": "custom",
            "beta_schedule": [1.0] * SWEEPS,
            "proposal_acceptance_criteria": "Gibbs",
            "seed": 1,
        },
        beta=1.0,
    )
    linear = (-batch.h[:, 0]).requires_grad_()
    quadratic = (-batch.J[:, row, col]).requires_grad_()

    def step() -> None:
        layer(linear, quadratic).square().sum().backward()

    return step


def qattn_step(batch: IsingBatch, backend: Backend, num_reads: int, estimator: str) -> object:
    """Forward and backward through qattn's estimator."""
    h, J = batch.h.clone().requires_grad_(), batch.J.clone().requires_grad_()
    means = mean_spins(IsingBatch(h, J), backend, num_reads=num_reads, estimator=estimator, seed=1)
    means.square().sum().backward()
    return h.grad, J.grad


def part_a() -> None:
    batch, num_reads = problems(groups=1024, queries=1), 100
    contenders: dict[str, Callable[[], object]] = {
        f"{name}, {estimator}": partial(
            qattn_step, batch, get_backend(name, num_sweeps=SWEEPS), num_reads, estimator
        )
        for name, estimator in product(("gibbs", "neal"), ("callen", "moment"))
    }
    print(f"(a) 1,024 problems of {SPINS} spins, {num_reads} reads, {SWEEPS} sweeps, both ways")
    try:
        contenders["plugin's Ising layer"] = plugin_step(batch, num_reads)
    except ImportError as error:
        print(f"    {error}: pip install --no-deps dwave-pytorch-plugin")
    seconds = best_of_turns(contenders)
    slowest = seconds.get("plugin's Ising layer")
    for name, value in seconds.items():
        ratio = f"{slowest / value:6.2f} x the plugin's throughput" if slowest else ""
        print(f"    {name:24} {value / 1024 * 1e3:7.3f} ms a problem {ratio}")


def part_b() -> None:
    for num_reads in (100, 1000):
        batch = problems(groups=8, queries=32)
        count = batch.num_groups * batch.num_queries
        expected = exact.mean_spins(batch)
        backends = {"exact": get_backend("exact"), "neal": get_backend("neal", num_sweeps=SWEEPS)}
        seconds = best_of_turns(
            {
                name: partial(backend.sample, batch, num_reads=num_reads, seed=1)
                for name, backend in backends.items()
            }
        )
        print(f"(b) {count} problems of {SPINS} spins, {num_reads} reads")
        cost = {}
        for name, backend in backends.items():
            samples = backend.sample(batch, num_reads=num_reads, seed=2)
            error = float((samples.mean_spins() - expected).square().mean().sqrt())
            cost[name] = seconds[name] * error**2
            print(
                f"    {name:6} {seconds[name] / count * 1e3:7.3f} ms a problem, error {error:.4f}"
            )
        print(f"    neal takes {cost['neal'] / cost['exact']:.1f} times as long at the same error")


def part_c() -> None:
    num_reads = 96
    backends = {name: get_backend(name, num_sweeps=SWEEPS) for name in ("gibbs", "neal")}
    print(f"(c) {num_reads} reads, {SWEEPS} sweeps, each problem with couplings of its own")
    for spins, count in ((12, 1024), (64, 128), (256, 16)):
        batch = problems(groups=count, queries=1, spins=spins)
        seconds = best_of_turns(
            {
                name: partial(backend.sample, batch, num_reads=num_reads, seed=1)
                for name, backend in backends.items()
            }
        )
        updates = count * spins * num_reads * SWEEPS
        times = ", ".join(f"{name} {s / updates * 1e9:.1f}" for name, s in seconds.items())
        print(
            f"    {count} problems of {spins} spins: {times} ns a spin update; "
            f"gibbs {seconds['neal'] / seconds['gibbs']:.2f} times as fast"
        )


PARTS = {"a": part_a, "b": part_b, "c": part_c}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("parts", nargs="*", default=list(PARTS), help="which parts (default: all)")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    for part in arguments.parts:
        PARTS[part]()


if __name__ == "__main__":
    main()
