"""Global moves in parallel tempering: do draws of an autoregressive sampler shorten the way?

Glasses at beta = 2: Sherrington and Kirkpatrick's with 64 spins, and the torus of 8 x 8 spins with
Gaussian couplings. Tempering on an adapted ladder, sweeps alone and with a proposal to each replica
every 10 sweeps. Prints, with standard errors over instances, round trips of a set in 100 sweeps;
which share of the proposals is accepted at the target; how far <E> of two halves of the sets, which
started up and down, is apart, in their standard errors (1 in equilibrium), after some sweeps; and
CPU milliseconds of 100 sweeps: `python benchmarks/autoregressive_tempering.py`.
"""

import argparse
import time

import torch

from qattn.chains import Tempering
from qattn.ising import IsingBatch
from qattn.simulators.autoregressive.sampling import GlobalMoves, Sampler
from qattn.simulators.autoregressive.settings import NetSettings

SETS, EVERY, CHECKS = 32, 10, (25, 50, 100, 500)


def sk(generator, n=64):
    """Couplings of variance 1/n."""
    J = torch.randn(n, n, generator=generator).triu(1) / n**0.5
    return J + J.mT


def torus(generator, side=8):
    """Gaussian couplings between neighbours of a square lattice with periodic ends."""
    site = torch.arange(side * side).view(side, side)
    J = torch.zeros(side * side, side * side)
    for dim in range(2):
        J[site.flatten(), site.roll(1, dim).flatten()] = torch.randn(
            side * side, generator=generator
        )
    return J + J.mT


def starts(batch):
    """Half of the sets up, half down."""
    signs = 1 - 2 * (torch.arange(SETS) % 2)
    shape = (batch.num_groups, 1, SETS, batch.num_spins)
    return signs.view(1, 1, -1, 1).expand(shape).to(torch.int8)


def measured(batch, betas, moves):
    """Round trips a set, halves apart at each check, and seconds; all for 100 sweeps."""
    tempering = Tempering(
        batch, starts(batch), torch.Generator().manual_seed(1), betas.clone(), moves
    )
    begin, done, apart = time.process_time(), 0, []
    for sweeps in CHECKS:
        tempering.run(sweeps - done)
        done = sweeps
        E = batch.energies(tempering.spins)[:, 0]
        gap = E[:, ::2].mean(1) - E[:, 1::2].mean(1)
        noise = (E[:, ::2].var(1) + E[:, 1::2].var(1)) * 2 / SETS
        apart.append((gap.square() / noise).mean().sqrt())
    trips = tempering.round_trips.mean((1, 2)) * 100 / done
    return trips, torch.stack(apart), (time.process_time() - begin) * 100 / done


def main():
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--instances", type=int, default=6)
    parser.add_argument("--beta", type=float, default=2.0)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    checks = " ".join(f"{sweeps:5d}" for sweeps in CHECKS)
    print(f"problem      moves   round trips   accepted   apart after {checks}   ms")
    for name, make in (("SK 64", sk), ("torus 8 x 8", torus)):
        generator = torch.Generator().manual_seed(0)
        J = torch.stack([make(generator) for _ in range(arguments.instances)])
        batch = IsingBatch(arguments.beta * J.new_zeros(len(J), 1, J.shape[1]), arguments.beta * J)
        ladder = Tempering(batch, starts(batch), torch.Generator().manual_seed(0))
        for sweeps in (20, 40, 80):
            ladder.adapt(sweeps)
        for kind in ("none", "tap" if make is sk else "bp"):
            moves = None
            if kind != "none":
                moves = GlobalMoves(Sampler(NetSettings(logit=kind)), batch, EVERY)
            trips, apart, seconds = measured(batch, ladder.betas, moves)
            accepted = "" if moves is None else f"{moves.accepted / moves.proposed:.3f}"
            print(
                f"{name:12s} {kind:5s}   {float(trips.mean()):.2f} ± "
                f"{float(trips.std()) / len(trips) ** 0.5:.2f}   {accepted:>8s}   {'':11s} "
                f"{' '.join(f'{float(x):5.2f}' for x in apart)}   {1000 * seconds:7.0f}"
            )


if __name__ == "__main__":
    main()
