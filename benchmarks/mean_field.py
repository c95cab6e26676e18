r"""Mean-field moments against exact ones: errors, estimates of errors, gradients.

100 models of each family (seeds 0 to 99, from which nothing was chosen) with fields of standard
deviation 1 and couplings of the size c/√n: `sk` independent and normal, `ferromagnet` and
`antiferromagnet` of one sign, `band` of three distances and the same sum of squares; `sk, beta 0.7`
at another temperature and `sk, h 0.1` in fields of a tenth. "trusted" is the share of solutions
that say `converged`; errors are rms over spins and models, of all and of the trusted ones; the ratio is
that of estimated to true error by model (2.5, 50 and 97.5% quantiles, and the share within a factor
of two), of the trusted ones. The last column is the relative error of a gradient in h.

    python benchmarks/mean_field.py [--spins 12 20] [--families sk band ...]
"""

import argparse
import math

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from qattn import IsingBatch, exact
from qattn.mean_field import METHODS, solve

FAMILIES = {
    "sk": (1.0, 1.0),
    "ferromagnet": (1.0, 1.0),
    "antiferromagnet": (1.0, 1.0),
    "band": (1.0, 1.0),
    "sk, beta 0.7": (1.0, 0.7),
    "sk, h 0.1": (0.1, 1.0),
}
"""Standard deviation of the fields, and β."""

SEEDS = range(100)


def models(family: str, c: float, n: int) -> IsingBatch:
    field_sd, beta = FAMILIES[family]
    fields, couplings = [], []
    for seed in SEEDS:
        generator = torch.Generator().manual_seed(seed)
        fields.append(field_sd * torch.randn(1, n, generator=generator, dtype=torch.float64))
        U = torch.randn(n, n, generator=generator, dtype=torch.float64) * c / math.sqrt(n)
        if family == "ferromagnet":
            U = U.abs()
        if family == "antiferromagnet":
            U = -U.abs()
        if family == "band":
            U = (U * math.sqrt(n / 6)).tril(3)
        couplings.append(U.triu(1))
    J = torch.stack(couplings)
    return IsingBatch(torch.stack(fields), J + J.mT, beta=beta)


def gradient(mean: Tensor, h: Tensor) -> Tensor:
    weights = torch.linspace(-1, 1, mean.shape[2], dtype=mean.dtype)
    return torch.autograd.grad((mean * weights).sum(), h)[0]


def row(method: str, batch: IsingBatch, true: Tensor, true_gradient: Tensor) -> list[str]:
    h = batch.h.detach().requires_grad_()
    solution = solve(IsingBatch(h, batch.J, beta=batch.beta), method)
    error = (solution.mean - true).square().mean(-1).sqrt().detach()
    relative = float((gradient(solution.mean, h) - true_gradient).norm() / true_gradient.norm())
    sound = solution.converged
    cells = [f"{float(sound.double().mean()):.2f}", f"{float(error.square().mean().sqrt()):.1e}"]
    if not bool(sound.any()):
        return [*cells, "-", "-", "-", f"{relative:.1e}"]
    ratio = (solution.error / error)[sound]
    low, middle, high = ratio.quantile(ratio.new_tensor([0.025, 0.5, 0.975])).tolist()
    within = float(((ratio > 0.5) & (ratio < 2)).double().mean())
    return [
        *cells,
        f"{float(error[sound].square().mean().sqrt()):.1e}",
        f"{low:.2f} {middle:.2f} {high:.2f}",
        f"{within:.2f}",
        f"{relative:.1e}",
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description="Mean-field moments against exact ones.")
    parser.add_argument("--spins", type=int, nargs="+", default=[12, 20])
    parser.add_argument("--families", nargs="+", default=list(FAMILIES), choices=FAMILIES)
    options = parser.parse_args()
    torch.set_num_threads(1)
    names = ("family", "n", "c", "method", "trusted", "error", "of trusted", "estimate/true")
    table = Table(*names, "within 2", "gradient")
    for family in options.families:
        for n in options.spins:
            for c in (0.1, 0.3, 1.0, 2.0):
                batch = models(family, c, n)
                h = batch.h.clone().requires_grad_()
                true = exact.mean_spins(IsingBatch(h, batch.J, beta=batch.beta))
                true_gradient = gradient(true, h)
                for method in METHODS:
                    cells = row(method, batch, true.detach(), true_gradient)
                    table.add_row(family, str(n), f"{c:g}", method, *cells)
    Console(width=120).print(table)


if __name__ == "__main__":
    main()
