r"""Simulated kinetic Ising models: what mean-field theories are measured against."""

import torch
from jaxtyping import Float
from torch import Tensor


def simulate(
    x: Float[Tensor, " spins"],
    J: Float[Tensor, "spins spins"],
    *,
    num_steps: int,
    num_replicas: int,
    seed: int,
    beta: float = 1.0,
) -> Float[Tensor, "steps spins"]:
    r"""Magnetisations of binary spins with parallel dynamics, step by step.

    .. math:: P(s_i(t) = 1) = \sigma\Big(2\beta\big(x_i + \sum_j J_{ij} s_j(t-1)\big)\Big)

    Independent replicas start with all spins up. m_i(t) is the mean over them of
    :math:`\tanh\beta\theta_i(t)`, the exact mean of s_i(t) given the step before: less noise than
    the mean of s_i.

    Raises:
        ValueError: A number is not positive.

    >>> m = simulate(torch.tensor([0.5]), torch.zeros(1, 1), num_steps=2, num_replicas=1, seed=0)
    >>> torch.equal(m, torch.tensor([[0.5], [0.5]]).tanh())
    True
    """
    for name, value in (("num_steps", num_steps), ("num_replicas", num_replicas)):
        if value < 1:
            raise ValueError(f"Argument `{name}` must be positive, but is {value}.")
    generator = torch.Generator(x.device).manual_seed(seed)
    s = x.new_ones(num_replicas, len(x))
    means = []
    for _ in range(num_steps):
        m = torch.tanh(beta * (x + s @ J.mT))
        means.append(m.mean(0))
        # s = 1 with probability (1 + m)/2.
        uniform = torch.rand(m.shape, dtype=m.dtype, device=m.device, generator=generator)
        s = torch.where(2 * uniform < 1 + m, 1.0, -1.0).to(m.dtype)
    return torch.stack(means)
