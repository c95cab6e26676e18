r"""Errors of a sampler's moments over the noise of as many independent exact reads, by family.

A draw is a seed: couplings of 12 spins that 128 problems share, normal with a standard deviation
(`sd=0.3`) or all alike (`uniform=0.2`), and fields h ~ N(0, 1), which are shifted by -1 in every
second problem. It is sampled with 1,000 reads at the sampler's own settings. Error/floor is the rms
error of ⟨s⟩ (of ⟨s s⟩) over spins (pairs) and problems, over the rms √((1 - m²)/reads) that
independent reads have. A draw exceeds where either is above 1.15; it is announced where the sampler
gave an EquilibriumWarning. A line a family: medians and maxima, draws within 1.15, warnings,
exceedances that nothing announced, sweeps, seconds a draw; every draw on standard error.

    python benchmarks/equilibrium.py --sampler neal
    python benchmarks/equilibrium.py --sampler gibbs --families sd=1,sd=2,uniform=0.5 --seeds 0:20
"""

import argparse
import sys
import time
import warnings
from dataclasses import dataclass

import numpy as np
import torch

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import Backend, parse_sampler

SPINS, LIMIT = 12, 1.15
FAMILIES = "sd=0.3,sd=0.45,sd=0.6,uniform=0.15,uniform=0.2,uniform=-0.5"


@dataclass
class Draw:
    """What a draw showed; sweeps is nan for a sampler that does not report them."""

    spins: float
    pairs: float
    warned: bool
    sweeps: float
    seconds: float

    @property
    def exceeds(self) -> bool:
        """Whether an error is beyond the limit."""
        return max(self.spins, self.pairs) > LIMIT


def problems_of(family: str, seed: int, problems: int) -> IsingBatch:
    """The problems of a draw, in one group."""
    kind, _, value = family.partition("=")
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(1, problems, SPINS, generator=generator, dtype=torch.float64)
    h[:, 1::2] -= 1
    J = torch.randn(1, SPINS, SPINS, generator=generator, dtype=torch.float64)
    if kind == "uniform":
        J.fill_(1)
    elif kind != "sd":
        raise ValueError(f"A family must be sd=NUMBER or uniform=NUMBER, but is {family!r}.")
    return IsingBatch(h, float(value) * (J.triu(1) + J.triu(1).mT))


def error_over_floor(samples: SpinSamples, batch: IsingBatch) -> tuple[float, float]:
    """Of ⟨s⟩ and of ⟨s s⟩."""
    row, col = torch.triu_indices(SPINS, SPINS, 1)
    found = samples.mean_spins(torch.float64), samples.pair_correlations(torch.float64)
    wanted = exact.mean_spins(batch), exact.pair_correlations(batch)
    ratios = []
    for m, value in ((wanted[0], found[0]), (wanted[1][..., row, col], found[1][..., row, col])):
        floor = ((1 - m**2) / samples.counts().unsqueeze(-1)).mean().sqrt()
        ratios.append(float((value - m).square().mean().sqrt() / floor))
    return ratios[0], ratios[1]


def drawn(backend: Backend, family: str, seed: int, problems: int, reads: int) -> Draw:
    batch = problems_of(family, seed, problems)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        start = time.perf_counter()
        samples = backend.sample(batch, num_reads=reads, seed=seed)
        seconds = time.perf_counter() - start
    warned = any(w.category.__name__ == "EquilibriumWarning" for w in caught)
    sweeps = float(samples.info.get("num_sweeps", float("nan")))
    return Draw(*error_over_floor(samples, batch), warned, sweeps, seconds)


def line(draws: list[Draw]) -> str:
    """A family's row of the table."""
    spins, pairs, sweeps, seconds = (
        np.array([getattr(draw, name) for draw in draws])
        for name in ("spins", "pairs", "sweeps", "seconds")
    )
    unannounced = sum(draw.exceeds and not draw.warned for draw in draws)
    return (
        f"{np.median(spins):6.2f} /{spins.max():6.2f} {np.median(pairs):6.2f} /{pairs.max():6.2f}"
        f" {sum(not draw.exceeds for draw in draws):6d}/{len(draws):<4d}"
        f"{sum(draw.warned for draw in draws):8d}{unannounced:12d}"
        f"{np.median(sweeps):9.0f} /{sweeps.max():6.0f}"
        f"{np.median(seconds):8.2f} /{seconds.max():7.2f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sampler", default="neal", help="name with options: neal:num_sweeps=20")
    parser.add_argument("--families", default=FAMILIES)
    parser.add_argument("--seeds", default="0:100", help="first seed, and the one after the last")
    parser.add_argument("--problems", type=int, default=128)
    parser.add_argument("--reads", type=int, default=1000)
    given = parser.parse_args()
    torch.set_num_threads(1)
    backend = parse_sampler(given.sampler).build()
    seeds = range(*map(int, given.seeds.split(":")))
    print(
        f"{given.sampler}, seeds {given.seeds}, {given.problems} problems, {given.reads} reads\n"
        f"{'family':13s}   ⟨s⟩ med/max     ⟨ss⟩ med/max  ≤ {LIMIT}     warned unannounced"
        "  sweeps med/max  seconds med/max"
    )
    for family in given.families.split(","):
        draws = []
        for seed in seeds:
            draw = drawn(backend, family, seed, given.problems, given.reads)
            print(f"{family} {seed}: {draw}", file=sys.stderr, flush=True)
            draws.append(draw)
        print(f"{family:13s} {line(draws)}", flush=True)


if __name__ == "__main__":
    main()
