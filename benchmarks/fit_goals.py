r"""How near fitted autoregressive samplers come in a given time, against references with errors.

Each row is a fit through the public API: free energies a spin less the reference's, the effective
share of reads (ESS), the forward ESS, from reads of the reference, and what a read costs. Seconds
are CPU time of this process; references are kept on disk and do not count.

    python benchmarks/fit_goals.py --threads 1
    python benchmarks/fit_goals.py --only "SK 50, β 1" "SK 50, β 2" --instances 1 --share 0.2
"""

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

import torch
from rich.console import Console

from qattn.fitting import FitConfig, fit_sampler
from qattn.simulators.autoregressive import load_sampler

console = Console(highlight=False, soft_wrap=True)

TIMED_READS = 2000
"""Reads that are drawn to see what one costs."""


class Case(NamedTuple):
    """Problems, β, CPU-seconds; the goals for |F_q - F| a spin and for the ESS."""

    problems: str
    beta: float
    seconds: float
    error: float
    ess: float | None


CASES = {
    "SK 50, β 1": Case("sk:spins=50,problems=1", 1.0, 60.0, 1e-4, 0.98),
    "SK 50, β 2": Case("sk:spins=50,problems=1", 2.0, 60.0, 2e-4, 0.9),
    "SK 100, β 1": Case("sk:spins=100,problems=1", 1.0, 600.0, 5e-4, None),
    "EA 8², β 1": Case("ea:size=8,problems=1", 1.0, 60.0, 2e-3, 0.8),
    "EA 16², β 1": Case("ea:size=16,problems=1", 1.0, 900.0, 2e-3, 0.3),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--only", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--instances", type=int, default=3)
    parser.add_argument("--share", type=float, default=1.0, help="of the seconds")
    parser.add_argument("--out", type=Path, help="folder of the runs, to be kept")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    head = "problem | seed | s | steps | F_q − F | F_IS − F | ± fit | ± ref | ESS | forward | µs"
    console.print(f"| {head} | goals |\n|{'---|' * 12}")
    with tempfile.TemporaryDirectory() as scratch:
        for name in arguments.only:
            for seed in range(arguments.instances):
                folder = (arguments.out or Path(scratch)) / f"{name}, {seed}".replace(" ", "-")
                config = FitConfig(
                    problems=CASES[name].problems,
                    beta=CASES[name].beta,
                    seconds=CASES[name].seconds * arguments.share,
                    seed=seed,
                    reference="auto",
                    threads=arguments.threads,
                )
                summary = fit_sampler(config, folder, clock=time.process_time)
                console.print(row(name, seed, summary, time_a_read(config, folder)))


def row(name: str, seed: int, found: dict[str, Any], microseconds: float) -> str:
    """A row of the table."""
    case = CASES[name]
    bound = found["F_q"] - found["F"]
    reached = abs(bound) < case.error and (case.ess is None or found["ess"] >= case.ess)
    doubt = "" if found["in_equilibrium"] else " (reference not in equilibrium)"
    cells = [
        name,
        seed,
        f"{found['seconds']:.0f}",
        found["steps"],
        f"{bound:.1e}",
        f"{found['F_IS'] - found['F']:.1e}",
        f"{found['F_IS_error']:.0e}",
        f"{found['F_error']:.0e}",
        f"{found['ess']:.3f}",
        f"{found['forward_ess']:.3f}",
        f"{microseconds:.0f}",
        ("reached" if reached else "missed") + doubt,
    ]
    return f"| {' | '.join(map(str, cells))} |"


def time_a_read(config: FitConfig, folder: Path) -> float:
    """CPU time of a read of the fitted sampler, in microseconds."""
    (batch,) = config.batches()
    net = load_sampler(folder).net_for(batch)
    models, generator = net.arranged(batch), torch.Generator().manual_seed(0)
    net.draw(models, 10, generator)
    start = time.process_time()
    net.draw(models, TIMED_READS, generator)
    return (time.process_time() - start) / TIMED_READS * 1e6


if __name__ == "__main__":
    main()
