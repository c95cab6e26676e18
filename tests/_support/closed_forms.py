"""Systems whose thermodynamics is known in closed form, as batches and as formulas."""

import math

import torch

from qattn import IsingBatch
from qattn.couplings import Banded, Cardinality


def chain(n, field=0.0):
    """An open chain, J = 1."""
    J = Banded(torch.ones(1, n, 1, dtype=torch.float64))
    return IsingBatch(torch.full((1, 1, n), field, dtype=torch.float64), J)


def curie_weiss(n):
    """J_jk = 1/n for all pairs, as a function of the number of spins up."""
    total = 2 * torch.arange(n + 1, dtype=torch.float64) - n
    return IsingBatch(
        torch.zeros(1, 1, n, dtype=torch.float64),
        Cardinality(((total**2 - n) / (2 * n)).unsqueeze(0), n),
    )


def sherrington_kirkpatrick(n, samples, generator):
    """Couplings of standard deviation 1/√n, a group for each sample."""
    J = torch.randn(samples, n, n, generator=generator, dtype=torch.float64).triu(1) / n**0.5
    return IsingBatch(torch.zeros(samples, 1, n, dtype=torch.float64), J + J.mT)


def torus(L):
    """A periodic L x L lattice, J = 1."""
    J = torch.zeros(L * L, L * L, dtype=torch.float64)
    for x in range(L):
        for y in range(L):
            for a, b in (((x + 1) % L, y), (x, (y + 1) % L)):
                J[x * L + y, a * L + b] += 1
    return IsingBatch(torch.zeros(1, 1, L * L, dtype=torch.float64), (J + J.mT).unsqueeze(0))


def kaufman(L, betas):
    """Ln Z and C of the torus (B. Kaufman, Phys. Rev. 76, 1232 (1949))."""
    K = betas.clone().requires_grad_()
    r = torch.arange(1, 2 * L, dtype=torch.float64)
    cosh = torch.cosh(2 * K) / torch.tanh(2 * K)
    gamma = torch.acosh(cosh[:, None] - torch.cos(math.pi * r / L))
    gamma = torch.cat([(2 * K + torch.tanh(K).log())[:, None], gamma], 1)
    # ln(Π 2 cosh x + Π 2 sinh x) for odd and even numbers.
    sums = []
    for x in (L * gamma[:, 1::2] / 2, L * gamma[:, ::2] / 2):
        small = torch.exp(-2 * x.abs())
        rest = (1 + small).prod(1) + x.sign().prod(1) * (1 - small).prod(1)
        sums.append(x.abs().sum(1) + rest.log())
    log_Z = L * L / 2 * (2 * torch.sinh(2 * K)).log() + torch.logaddexp(*sums) - math.log(2)
    (minus_U,) = torch.autograd.grad(log_Z.sum(), K, create_graph=True)
    (variance,) = torch.autograd.grad(minus_U.sum(), K)
    return log_Z.detach(), K.detach() ** 2 * variance


def random_energies(n, betas):
    """Mean ln Z of n independent standard normal energies, as Derrida's integral over t.

    E ln Z = ∫ (e^-t - E e^(-tZ)) dt/t, in u = ln t; E e^(-tZ) is the n-th power of one energy's.
    """
    x = torch.linspace(-8, 8, 201, dtype=torch.float64)
    density = (-x.square() / 2).exp() / (-x.square() / 2).exp().sum()
    u = torch.linspace(-60, 10, 1751, dtype=torch.float64)
    means = []
    for beta in betas:
        one = torch.exp(-(u[:, None] + beta * x).exp()) @ density
        means.append(torch.trapezoid(torch.exp(-u.exp()) - one**n, u))
    return torch.stack(means)
