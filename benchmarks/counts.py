r"""Potentials on counts: from sigmoid to softmax, how many positions are attended, and the speed.

The competitive family φ(c) = exp(-2λ(c - 1)²) is sigmoid attention at λ = 0 and softmax attention
at λ → ∞. Three tables: its distance to both at n = 12; the mean count, and the probability of the
largest count K = 16, at growing context T, with a bias 0 and with the bias -log T; and nanoseconds
of the engine for a causal pair of a query and a key, on one thread, of CPU time.

    python benchmarks/counts.py
"""

import contextlib
import math
import time

import torch
from rich.console import Console
from rich.table import Table

from qattn import IsingBatch, exact, kernels
from qattn.couplings import Cardinality
from qattn.exact import counts


def limits() -> Table:
    torch.manual_seed(0)
    scores = torch.randn(1, 64, 12)
    table = Table("λ", "max |w - sigmoid|", "max |w - softmax|", "mean count")
    for strength in (0.0, 0.25, 0.5, 1.0, 2.0, 4.0):
        potential = Cardinality.competitive(torch.tensor([strength]), 12)
        w = exact.occupations(IsingBatch(scores / 2, potential))
        far = [float((w - x).abs().max()) for x in (scores.sigmoid(), scores.softmax(-1))]
        table.add_row(f"{strength}", *(f"{x:.2g}" for x in far), f"{float(w.sum(-1).mean()):.2f}")
    return table


def attended(max_count: int = 16) -> Table:
    torch.manual_seed(0)
    strengths = 0.0, 0.25, 1.0
    names = [f"λ = {s}, bias {b}" for b in ("0", "-log T") for s in strengths]
    table = Table("T", *names, title=f"mean count / p(count = {max_count})")
    for context in (16, 64, 256, 1024, 4096):
        scores, row = torch.randn(1, 16, context), []
        for bias in (0.0, -math.log(context)):
            for strength in strengths:
                made = Cardinality.competitive(
                    torch.tensor([strength]), context, max_count=max_count
                )
                batch = IsingBatch(
                    (scores + bias) / 2, made.with_values(made.values.requires_grad_())
                )
                log_Z = exact.log_partition(batch).mean()
                (p,) = torch.autograd.grad(log_Z, batch.J.values)
                mean = float((p[0] * torch.arange(len(p[0]))).sum())
                row.append(f"{mean:.2f} / {float(p[0, -1]):.0e}")
        table.add_row(str(context), *row)
    return table


def nanoseconds() -> Table:
    table = Table(
        "T", "groups", "K", *(f"{x} {y}" for x in ("loops", "twin") for y in ("fwd", "both"))
    )
    for context, groups in ((64, 64), (256, 16), (1024, 4)):
        h = torch.randn(groups, context, context) - math.log(context) / 2
        g, lengths = torch.randn_like(h), torch.arange(1, context + 1)[None]
        for max_count in (4, 16, 32):
            strength = torch.full((groups,), 0.25)
            couplings = Cardinality.competitive(strength, context, max_count=max_count)
            row = []
            for off, times in ((False, 15), (True, 3)):
                with kernels.disabled() if off else contextlib.nullcontext():
                    best = [math.inf, math.inf]
                    for _ in range(times):
                        start = time.process_time()
                        solution = counts.forward(h, couplings, lengths)
                        middle = time.process_time()
                        counts.backward(g, None, h, couplings, lengths, solution)
                        end = time.process_time()
                        best = [min(best[0], middle - start), min(best[1], end - start)]
                pairs = groups * context * (context + 1) / 2
                row += [f"{seconds / pairs * 1e9:.1f}" for seconds in best]
            table.add_row(str(context), str(groups), str(max_count), *row)
    return table


if __name__ == "__main__":
    torch.set_num_threads(1)
    console = Console(width=120)
    for made in (limits, attended, nanoseconds):
        console.print(made())
    console.print(f"compiled loops: {kernels.level() or 'none'}")
