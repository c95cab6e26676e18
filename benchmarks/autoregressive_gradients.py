"""Gradients of a Boltzmann attention layer at 32 positions: reads of `autoregressive` and `gibbs`.

One step of a layer without a causal mask, with a dense random J: reads, the estimator `callen`, and
dL/dh and dL/dJ for a random dL/d<s>. Numbers of reads are chosen so that all samplers take the CPU
seconds of `gibbs` with 100 reads (the estimator counts). Prints the error of the gradients over the
gradient, rms over repetitions, and its standard error; the last column is the squared error in J
times the seconds, over gibbs': by how much longer it must draw for the same error. The reference
at 32 positions is the mean of steps with 320 Gibbs sweeps, whose own error is in its row, and z² of
its chains from two starts (1 in equilibrium); with `--spins 20` it is exact:
`python benchmarks/autoregressive_gradients.py`.
"""

import argparse
import time
import warnings

import torch

from qattn import IsingBatch, exact, get_backend
from qattn.backends import Backend
from qattn.estimators import mean_spins

HEADS, QUERIES, READS = 2, 32, 100
SAMPLERS = {
    "gibbs": ("gibbs", {}),
    "gibbs, 10 sweeps": ("gibbs", {"num_sweeps": 10}),
    "autoregressive": ("autoregressive", {}),
    "autoregressive, resampled": ("autoregressive", {"resample": True}),
    "autoregressive, without weights": ("autoregressive", {"weighted": False}),
}


def problem(spins, strength):
    """Fields as scores of random queries and keys give them, and J of this β_eff."""
    generator = torch.Generator().manual_seed(0)
    h = 0.5 * torch.randn(HEADS, QUERIES, spins, generator=generator)
    J = torch.randn(HEADS, spins, spins, generator=generator).triu(1) * strength / spins**0.5
    direction = torch.randn(HEADS, QUERIES, spins, generator=generator)
    return IsingBatch(h, J + J.mT), direction


def gradients(batch, direction, sampler: Backend | None, num_reads=0, seed=0):
    """DL/dh and dL/dJ, and the CPU seconds that they took."""
    start = time.process_time()
    h, J = batch.h.clone().requires_grad_(), batch.J.clone().requires_grad_()
    asked = IsingBatch(h, J)
    if sampler is None:
        mean = exact.mean_spins(asked)
    else:
        mean = mean_spins(asked, sampler, num_reads=num_reads, seed=seed)
    found = torch.autograd.grad((mean * direction).sum(), (h, J))
    return found, time.process_time() - start


def repeated(batch, direction, sampler, num_reads, repetitions, first=0):
    """Gradients of each repetition, and the mean seconds of one."""
    found, seconds = zip(
        *[
            gradients(batch, direction, sampler, num_reads, first + seed)
            for seed in range(repetitions)
        ],
        strict=True,
    )
    of_h, of_J = (torch.stack(each).double() for each in zip(*found, strict=True))
    return of_h, of_J, sum(seconds) / repetitions


def reads_for(seconds, batch, direction, sampler):
    """Reads whose step takes so long."""
    reads = READS
    for _ in range(4):
        *_, taken = repeated(batch, direction, sampler, reads, 3)
        reads = max(2, round(reads * min(4.0, seconds / taken)))
    return reads


def error(values, reference):
    """Rms error over the size of the gradient, and its standard error."""
    squares = (values - reference).flatten(1).square().sum(1) / reference.square().sum()
    rms = squares.mean().sqrt()
    return float(rms), float(squares.std() / len(squares) ** 0.5 / 2 / rms)


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--spins", type=int, default=32)
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0, 1.25, 1.5])
    parser.add_argument("--repetitions", type=int, default=12)
    parser.add_argument("--reference-steps", type=int, default=25, help="of 400 reads each")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print(
        "β_eff  sampler                          reads  ms a step   error of dL/dh    of dL/dJ",
        end="",
    )
    print("     cost")
    for strength in arguments.strengths:
        batch, direction = problem(arguments.spins, strength)
        if arguments.spins <= 20:
            known, _ = gradients(IsingBatch(batch.h.double(), batch.J.double()), direction, None)
        else:
            steps = repeated(
                batch,
                direction,
                get_backend("gibbs", num_sweeps=320),
                400,
                arguments.reference_steps,
                10**6,
            )
            known = tuple(x.mean(0) for x in steps[:2])
            own = [error(x, y)[0] / len(x) ** 0.5 for x, y in zip(steps, known, strict=False)]
            sweeps = get_backend("gibbs", num_sweeps=320)
            z2 = sweeps.sample(batch, num_reads=1000, seed=0).info["z2"]
            name = f"reference, z² = {z2:.2f}"
            print(f"{strength:5.2f}  {name:51s}{own[0]:.4f}           {own[1]:.4f}")
        budget = cost = 0.0  # those of the first, gibbs
        for name, (backend, options) in SAMPLERS.items():
            sampler = get_backend(backend, **options)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                reads = READS
                if name != "gibbs":
                    reads = reads_for(budget, batch, direction, sampler)
                *found, taken = repeated(
                    batch, direction, sampler, reads, arguments.repetitions, 100
                )
            of_h, of_J = (error(x, y) for x, y in zip(found, known, strict=True))
            if name == "gibbs":
                budget, cost = taken, of_J[0] ** 2 * taken
            print(
                f"{strength:5.2f}  {name:32s} {reads:5d}  {1000 * taken:9.1f}   "
                f"{of_h[0]:.4f} ± {of_h[1]:.4f}  {of_J[0]:.4f} ± {of_J[1]:.4f}  "
                f"{of_J[0] ** 2 * taken / cost:5.2f}"
            )


if __name__ == "__main__":
    main()
