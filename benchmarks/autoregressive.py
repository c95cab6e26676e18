r"""How good TAP's logits are without any training: effective reads, ln Z, time.

One model for each seed (0 to 99, from which nothing was chosen); couplings of standard deviation
b/√n, in fields of standard deviation 1 (`synthetic`, as in attention) or none (`sk`);
`ferromagnet` and `antiferromagnet` have couplings ±b/√n for all pairs, `shifted up` and `shifted
down` those of `synthetic` at b = 1 and ±b/√n on top, all in fields of standard deviation 1. T = 0
is the logit of pairs.

ESS is the effective share of reads, its median and the worst of all seeds; "bound" by how much the
variational ln Z for each spin is too low; "ln Z" the rms error of ln ⟨e^(-βE)/q⟩, up to 16 spins
against enumeration, then as the reads themselves state it; µs the time of a read on one core, by
the compiled kernel if there is one.

    python benchmarks/autoregressive.py [--families sk ...] [--spins 24 100] [--strengths 1 2]
        [--iterations 0 2 4 6 8] [--reads 1000] [--seeds 100]
"""

import argparse
import math
import time

import torch
from rich.console import Console
from rich.table import Table

from qattn import IsingBatch, exact
from qattn.simulators.autoregressive import AutoregressiveNet, Plan, importance
from qattn.simulators.autoregressive.tap import Tap

FAMILIES = {
    "synthetic": (1.0, 1.0, 0.0, 0.0),
    "sk": (0.0, 1.0, 0.0, 0.0),
    "ferromagnet": (1.0, 0.0, 1.0, 0.0),
    "antiferromagnet": (1.0, 0.0, -1.0, 0.0),
    "shifted up": (1.0, 0.0, 1.0, 1.0),
    "shifted down": (1.0, 0.0, -1.0, 1.0),
}
"""Standard deviation of fields; random and uniform couplings in b/√n; random ones in 1/√n."""

ENUMERATED = 16
"""Spins up to which ln Z is exact."""


def models(family: str, n: int, b: float, seeds: range) -> IsingBatch:
    field_sd, random, uniform, unit = FAMILIES[family]
    fields, couplings = [], []
    for seed in seeds:
        generator = torch.Generator().manual_seed(seed)
        fields.append(field_sd * torch.randn(1, n, generator=generator))
        noise = torch.randn(n, n, generator=generator)
        J = ((random * b + unit) * noise + uniform * b) / math.sqrt(n)
        couplings.append(J.triu(1))
    J = torch.stack(couplings)
    return IsingBatch(torch.stack(fields), J + J.mT)


def row(batch: IsingBatch, iterations: int, reads: int) -> list[str]:
    n = batch.num_spins
    net = AutoregressiveNet(Plan.dense(n), [Tap(n, iterations)])
    arranged = net.arranged(batch)
    net.draw(arranged, 1, torch.Generator().manual_seed(1))
    start = time.process_time()
    spins, log_q = net.draw(arranged, reads, torch.Generator().manual_seed(0))
    microseconds = (time.process_time() - start) / log_q.numel() * 1e6
    found = importance(log_q, arranged.energies(spins))
    log_Z, error = found.log_Z, found.log_Z_error
    if n <= ENUMERATED:
        log_Z = exact.log_partition(IsingBatch(batch.h.double(), batch.matrix.double()))[:, 0]
        error = found.log_Z - log_Z
    return [
        f"{float(found.ess.median()):.3f}",
        f"{float(found.ess.min()):.3f}",
        f"{float((log_Z - found.log_Z_bound).mean()) / n:.1e}",
        f"{float(error.square().mean().sqrt()):.1e}",
        f"{microseconds:.2f}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="TAP's logits without training.")
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    parser.add_argument("--spins", type=int, nargs="+", default=[12, 24, 50])
    parser.add_argument("--strengths", type=float, nargs="+", default=[0.5, 1.0, 1.5, 2.4])
    parser.add_argument("--iterations", type=int, nargs="+", default=[0, 2, 4, 6, 8])
    parser.add_argument("--reads", type=int, default=1000)
    parser.add_argument("--seeds", type=int, default=100)
    options = parser.parse_args()
    torch.set_num_threads(1)
    table = Table("family", "n", "b", "T", "ESS", "worst", "bound", "ln Z", "µs")
    for family in options.families:
        for n in options.spins:
            for b in options.strengths:
                batch = models(family, n, b, range(options.seeds))
                for T in options.iterations:
                    cells = row(batch, T, options.reads)
                    table.add_row(family, str(n), f"{b:g}", str(T), *cells)
    Console(width=100).print(table)


if __name__ == "__main__":
    main()
