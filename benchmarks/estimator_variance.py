r"""Variance of the gradient estimators at equal reads, relative to `moment`.

Ten models of n = 10 spins with h of standard deviation 0.3 and J = randn·strength/√n; the gradients
of a random linear function of ⟨s⟩ in h and J, from 100 independent exact reads, 400 times over.
Variances are summed over the entries and the models.

    python benchmarks/estimator_variance.py
"""

import math

import torch
from rich.console import Console
from rich.table import Table

from qattn import IsingBatch
from qattn.backends import ExactBackend
from qattn.estimators import mean_spins

SPINS, MODELS, REPETITIONS, READS = 10, 10, 400, 100
ESTIMATORS = ("moment", "score", "callen")


def variance(estimator: str, strength: float) -> float:
    total = 0.0
    for seed in range(MODELS):
        generator = torch.Generator().manual_seed(seed)
        options = {"generator": generator, "dtype": torch.float64}
        weights = torch.randn(SPINS, **options)
        h = 0.3 * torch.randn(1, 1, SPINS, **options)
        upper = (torch.randn(1, SPINS, SPINS, **options) * strength / math.sqrt(SPINS)).triu(1)
        # A repetition is a group of its own, so that each has its own gradient in J.
        h = h.repeat(REPETITIONS, 1, 1).requires_grad_()
        J = (upper + upper.mT).repeat(REPETITIONS, 1, 1).requires_grad_()
        batch = IsingBatch(h, J, validate=False)
        mean = mean_spins(batch, ExactBackend(), num_reads=READS, estimator=estimator, seed=seed)
        grads = torch.autograd.grad((mean * weights).sum(), (h, J))
        total += sum(float(g.var(0).sum()) for g in grads)
    return total


def main() -> None:
    torch.set_num_threads(1)
    table = Table("strength", *ESTIMATORS)
    for strength in (0.3, 1.0, 2.0):
        found = [variance(name, strength) for name in ESTIMATORS]
        table.add_row(f"{strength:g}", *(f"{value / found[0]:.3f}" for value in found))
    Console().print(table)


if __name__ == "__main__":
    main()
