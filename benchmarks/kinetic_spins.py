r"""Kinetic mean-field theories against simulated spins, across the transition of the model.

512 binary spins with parallel dynamics start with all spins up. Fields x are uniform in ±β/2,
couplings J_ij = β/n + 0.1 β z_ij/√n with z normal: asymmetric, so that there is no equilibrium
(Aguilera, Moosavi and Shimazaki, Nature Communications 12, 1197, 2021). The table has, for each β,
the mean magnetisation of the second half of 128 steps, simulated and by both theories, and the
root mean square error of each theory over the spins. Below it is the β at which each theory has
its transition for n → ∞: the whole of the normal part of a spin's field adds to its fluctuations
in time, which the simulation has, TAP has to second order, and naive mean field leaves out.

    python benchmarks/kinetic_spins.py
"""

import argparse

import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from scipy.optimize import brentq

from qattn.spin_models import binary_mean_spin, kinetic_step, simulate

BETAS = [0.8, 0.9, 1.0, 1.05, 1.1108, 1.15, 1.2, 1.3, 1.4, 1.6]
STEPS, SPREAD, HALF_WIDTH = 128, 0.1, 0.5


def model(n: int, beta: float, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Fields and couplings, β in both."""
    generator = torch.Generator().manual_seed(seed)
    # Uniform without a mean: one of every n-th part of the interval.
    x = beta * HALF_WIDTH * (2 * torch.randperm(n, generator=generator) + 1 - n) / n
    z = torch.randn(n, n, generator=generator)
    return x, beta / n + SPREAD * beta * z / n**0.5


def theory(x: torch.Tensor, J: torch.Tensor, mean_field: str) -> torch.Tensor:
    """Magnetisations at all steps."""
    m, found = torch.ones(len(x), 1), []
    for _ in range(STEPS):
        m = kinetic_step(x[:, None], J, m, spins="binary", mean_field=mean_field)
        found.append(m[:, 0])
    return torch.stack(found)


def transition(kind: str) -> float:
    """β of the transition for n → ∞: where a small mean magnetisation M reproduces itself."""
    nodes, of_z = np.polynomial.hermite_e.hermegauss(60)
    places, of_x = np.polynomial.legendre.leggauss(60)
    z, x = torch.as_tensor(nodes), torch.as_tensor(HALF_WIDTH * places)[:, None]
    weights = torch.as_tensor(of_x[:, None] / 2 * of_z / of_z.sum())

    def mean_spin(beta: float, q: float, M: float) -> torch.Tensor:
        # Of the normal part, of variance SPREAD², the share q is the same at all times. The exact
        # mean over the rest, which is normal and independent, is that over the whole.
        share = 1.0 if kind == "exact" else q
        theta = beta * (x + M + SPREAD * share**0.5 * z)
        variance = torch.full_like(theta, SPREAD**2 * beta**2 * (1 - q))
        return binary_mean_spin(theta, 1.0, variance if kind == "tap" else None)

    def excess(beta: float) -> float:
        q = 0.0
        for _ in range(100):
            q = float((weights * mean_spin(beta, q, 0.0).square()).sum())
        rise = mean_spin(beta, q, 1e-4) - mean_spin(beta, q, -1e-4)
        return float((weights * rise).sum()) / 2e-4 - 1

    return float(brentq(excess, 0.9, 1.4))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--replicas", type=int, default=400)
    parser.add_argument("--spins", type=int, default=512)
    arguments = parser.parse_args()
    table = Table("beta", "simulated", "naive", "TAP", "error of naive", "error of TAP")
    for beta in BETAS:
        x, J = model(arguments.spins, beta)
        options = {"num_steps": STEPS, "num_replicas": arguments.replicas, "seed": 1}
        paths = [simulate(x, J, **options), theory(x, J, "naive"), theory(x, J, "tap")]
        wanted, *found = (path[STEPS // 2 :].mean(0) for path in paths)
        errors = [f"{(m - wanted).square().mean().sqrt():.5f}" for m in found]
        table.add_row(f"{beta:.4f}", *(f"{m.mean():.4f}" for m in (wanted, *found)), *errors)
    console = Console()
    console.print(table)
    named = ", ".join(f"{kind} {transition(kind):.4f}" for kind in ("exact", "naive", "tap"))
    console.print(f"transition for n → ∞: {named}")


if __name__ == "__main__":
    main()
