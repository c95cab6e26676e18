r"""Modern Hopfield networks: retrieval by repeated attention, with an energy that never rises.

Source: Ramsauer et al., "Hopfield Networks is All You Need" (ICLR 2021), equations 2 to 5.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from qattn.thermodynamics.attention_energy import attention_log_partition


class Retrieval(NamedTuple):
    """What repeated attention came to.

    Attributes:
        state: The states ξ after the last step.
        energies: E(ξ) at the start and after each step; they do not rise.
        converged: Whether the last step moved a state by less than the tolerance.
        num_steps: Steps after which a state moved less than that, or all of them.
    """

    state: Float[Tensor, "*batch d"]
    energies: Float[Tensor, "points ..."]
    converged: Bool[Tensor, "*batch"]
    num_steps: Int[Tensor, "*batch"]


def hopfield_energy(
    state: Float[Tensor, "*batch d"], memories: Float[Tensor, "*#batch n d"], beta: float | Tensor
) -> Float[Tensor, "*batch"]:
    r"""Energy of a modern Hopfield network.

    .. math::
        E(\xi) = -\frac1\beta \ln \sum_\mu e^{\beta x_\mu \cdot \xi} + \frac12 \xi \cdot \xi
                 + \frac{\ln n}{\beta} + \frac12 M^2, \qquad M = \max_\mu \|x_\mu\|

    The first term is the free energy of attention from ξ to the memories
    (:func:`~qattn.thermodynamics.attention_free_energy`); the constants make E ≥ 0, and E ≤ 2M² in
    the ball of radius M, which the update never leaves.

    Args:
        state: ξ, shape (…, d).
        memories: x_μ, shape (n, d), or (…, n, d) where states have memories of their own.
        beta: β, positive; a tensor has a value for each state.
    """
    log_n = torch.log(torch.tensor(memories.shape[-2], dtype=state.dtype, device=state.device))
    largest = memories.square().sum(-1).amax(-1)
    log_Z = attention_log_partition(state, memories, beta)
    return (log_n - log_Z) / beta + (state.square().sum(-1) + largest) / 2


def hopfield_update(
    state: Float[Tensor, "*batch d"], memories: Float[Tensor, "*#batch n d"], beta: float | Tensor
) -> Float[Tensor, "*batch d"]:
    r"""One step, attention from the state to the memories.

    .. math:: \xi' = \sum_\mu \operatorname{softmax}_\mu(\beta x_\mu \cdot \xi) \, x_\mu

    It minimises the convex part of the energy with the concave one replaced by its tangent at ξ
    (the concave-convex procedure), and so never raises :func:`hopfield_energy`.
    """
    scores = (memories @ state.unsqueeze(-1)).squeeze(-1)
    beta = beta.unsqueeze(-1) if isinstance(beta, Tensor) else beta
    return ((beta * scores).softmax(-1).unsqueeze(-2) @ memories).squeeze(-2)


def retrieve(
    state: Float[Tensor, "*batch d"],
    memories: Float[Tensor, "*#batch n d"],
    beta: float | Tensor,
    *,
    steps: int = 100,
    tolerance: float = 1e-6,
) -> Retrieval:
    r"""Repeat :func:`hopfield_update` until no state moves, or for as many steps as are allowed.

    At large β a state goes to the memory that is nearest to its start, in about one step; at small
    β all go to one mean of the memories; between, to means of memories that are near each other.
    One step is what an attention layer does. Differentiable through the steps that were taken.

    Args:
        state: Where retrieval starts, shape (…, d).
        memories: x_μ, shape (n, d) or (…, n, d).
        beta: β, positive.
        steps: Most steps; 1 is attention.
        tolerance: A state has converged when a step moves it by less than this, relative to the
            longest memory. A state near an edge between two basins can move slowly for long:
            look at `converged`.

    Raises:
        ValueError: `steps` or `beta` is not positive.

    >>> memories = torch.eye(3)
    >>> found = retrieve(torch.tensor([0.6, 0.3, 0.1]), memories, beta=20.0)
    >>> found.state, bool(found.converged), int(found.num_steps)
    (tensor([1.0000e+00, 2.0612e-09, 2.0612e-09]), True, 3)
    """
    if steps < 1:
        raise ValueError(f"Argument `steps` must be positive, but is {steps}.")
    least = float(torch.as_tensor(beta).detach().min())
    if not least > 0:
        raise ValueError(f"Argument `beta` must be positive, but is {least:g}.")
    longest = memories.norm(dim=-1).amax(-1)
    energies = [hopfield_energy(state, memories, beta)]
    converged = torch.zeros_like(energies[0], dtype=torch.bool)
    num_steps = torch.zeros_like(converged, dtype=torch.int64)
    while len(energies) <= steps and not bool(converged.all()):
        moved = hopfield_update(state, memories, beta)
        num_steps += ~converged
        converged = (moved - state).norm(dim=-1) <= tolerance * longest
        state = moved
        energies.append(hopfield_energy(state, memories, beta))
    return Retrieval(state, torch.stack(energies), converged, num_steps)
