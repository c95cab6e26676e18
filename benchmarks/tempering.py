"""ln Z of Sherrington-Kirkpatrick glasses by two independent runs, and whether errors cover.

    python benchmarks/tempering.py --beta 1 --error 2e-3

Each instance is tempered twice with different seeds until the standard error of ln Z is small
enough; the difference of the two over their combined error is about Student's t.
"""

import argparse
import time

import torch

from qattn.ising.batch import IsingBatch
from qattn.problems import spin_glass
from qattn.quality.tempered.run import Run


def tempered(problem: IsingBatch, seed: int, error: float, num_sets: int) -> tuple[float, ...]:
    """ln Z, its standard error, round trips of a set, energies in millions, and seconds."""
    start = time.process_time()
    direction = torch.zeros_like(problem.h[:, 0])
    run = Run(problem, direction, torch.Generator().manual_seed(seed), num_sets)
    run.burn_in(100_000, lambda _: None)
    run.measure(512)
    # As many sweeps more as the error asks for, and a few.
    while (relative := float(run.free_energy().standard_error[0, -1]) / error) > 1:
        run.measure(int(run.record.num_sweeps * (1.05 * relative**2 - 0.95)))
    free = run.free_energy()
    energies = run.record.num_sweeps * num_sets * free.betas.shape[1] / 1e6
    (result,) = run.results()
    seconds = time.process_time() - start
    log_Z, standard_error = float(free.log_Z[0, -1]), float(free.standard_error[0, -1])
    return log_Z, standard_error, result.round_trips, energies, seconds


def main() -> None:
    """Print a line an instance, and how the differences compare with their errors."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--num-spins", type=int, default=100)
    parser.add_argument("--beta", type=float, default=1.0)
    parser.add_argument("--instances", type=int, default=10)
    parser.add_argument("--error", type=float, default=2e-3, help="standard error of ln Z")
    parser.add_argument("--num-sets", type=int, default=256)
    options = parser.parse_args()
    torch.set_num_threads(1)
    batch = spin_glass(options.instances, options.num_spins, seed=0)
    pulls = []
    print("instance  ln Z, run 1          run 2               pull  trips  1e6 energies  CPU s")
    for p in range(options.instances):
        problem = IsingBatch(batch.h[p : p + 1], options.beta * batch.J[p : p + 1])
        one, two = (
            tempered(problem, seed, options.error, options.num_sets) for seed in (2 * p, 2 * p + 1)
        )
        pull = (one[0] - two[0]) / (one[1] ** 2 + two[1] ** 2) ** 0.5
        pulls.append(pull)
        print(
            f"{p:8d}  {one[0]:.5f} ± {one[1]:.5f}  {two[0]:.5f} ± {two[1]:.5f}  {pull:6.2f}"
            f"  {one[2]:5.0f}  {one[3] + two[3]:12.0f}  {one[4] + two[4]:5.0f}",
            flush=True,
        )
    z = torch.tensor(pulls)
    print(f"mean square {float(z.square().mean()):.2f}, largest {float(z.abs().max()):.2f}")


if __name__ == "__main__":
    main()
