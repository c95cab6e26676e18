r"""Energy, partition function and free energy of attention; its output is minus a gradient.

A query meets n keys, which are the states of a small thermodynamic system with energies
E_μ = -q·k_μ. Softmax attention is its Boltzmann distribution, and with V = K its output is the mean
key, minus the gradient of the free energy by the query (Bal, "An Energy-Based Perspective on
Attention Mechanisms in Transformers", 2020). The arms with spins have the same identity: there the
states are the 2^n configurations, and attention weights are minus the derivatives of the free
energy by the scores.
"""

from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn import exact
from qattn.couplings.base import beta_like
from qattn.ising.batch import IsingBatch

Beta = float | Float[Tensor, "*#batch"]
"""Inverse temperature; a tensor has a value for each query, or fewer dimensions of size 1."""


def attention_energies(
    query: Float[Tensor, "*batch d"], key: Float[Tensor, "*#batch n d"]
) -> Float[Tensor, "*batch n"]:
    r"""Energies of the states, E_μ = -q·k_μ; nothing is divided by √d.

    Args:
        query: q, shape (…, d).
        key: k_μ, shape (n, d), or (…, n, d) where queries have keys of their own.
    """
    return -(key @ query.unsqueeze(-1)).squeeze(-1)


def attention_log_partition(
    query: Float[Tensor, "*batch d"],
    key: Float[Tensor, "*#batch n d"],
    beta: Beta = 1.0,
    mask: Bool[Tensor, "*#batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    r"""Logarithm of the partition function of a query.

    .. math:: \ln Z = \ln \sum_\mu e^{\beta q \cdot k_\mu} .

    Args:
        query: q, shape (…, d).
        key: k_μ, shape (…, n, d).
        beta: β; 1/√d is that of scaled dot-product attention.
        mask: False where a position is absent; a query without any has ln Z = -∞.
    """
    minus_energies = -attention_energies(query, key)
    if mask is not None:
        minus_energies = minus_energies.masked_fill(~mask, -torch.inf)
    beta = beta.unsqueeze(-1) if isinstance(beta, Tensor) else beta
    return (beta * minus_energies).logsumexp(-1)


def attention_free_energy(
    query: Float[Tensor, "*batch d"],
    key: Float[Tensor, "*#batch n d"],
    beta: Beta = 1.0,
    mask: Bool[Tensor, "*#batch n"] | None = None,
) -> Float[Tensor, "*batch"]:
    r"""Free energy of a query, :math:`F(q) = -\ln Z / \beta`.

    It lies between the lowest energy (β → ∞) and -ln(n)/β below the mean one (β → 0).

    Args:
        query: q, shape (…, d).
        key: k_μ, shape (…, n, d).
        beta: β, positive.
        mask: False where a position is absent; a query without any has F = ∞.

    Raises:
        ValueError: `beta` is not positive.

    Two keys, one along the query: the free energy is below the lower energy, -1.

    >>> query, key = torch.tensor([1.0, 0.0]), torch.eye(2)
    >>> attention_energies(query, key), attention_free_energy(query, key)
    (tensor([-1., -0.]), tensor(-1.3133))
    """
    _check_positive(beta)
    return -attention_log_partition(query, key, beta, mask) / beta


def attention_force(
    query: Float[Tensor, "*batch d"],
    key: Float[Tensor, "*#batch n d"],
    beta: Beta = 1.0,
    mask: Bool[Tensor, "*#batch n"] | None = None,
) -> Float[Tensor, "*batch d"]:
    r"""Attention with V = K as minus the gradient of the free energy, taken by autograd.

    .. math:: -\frac{\partial F}{\partial q} = \sum_\mu \operatorname{softmax}_\mu(\beta q \cdot
              k_\mu) \, k_\mu = \langle k \rangle .

    Differentiable again where an argument is: its gradient by q is β times the keys' covariance.

    Args:
        query: q, shape (…, d).
        key: k_μ, shape (…, n, d).
        beta: β, positive.
        mask: False where a position is absent; a query without any has NaN.

    Raises:
        ValueError: `beta` is not positive.

    >>> query, key = torch.tensor([1.0, 0.0]), torch.eye(2)
    >>> attention_force(query, key, beta=2.0), torch.softmax(2.0 * query, -1)
    (tensor([0.8808, 0.1192]), tensor([0.8808, 0.1192]))
    """
    inputs = [x for x in (query, key, beta) if isinstance(x, Tensor)]
    differentiable = torch.is_grad_enabled() and any(x.requires_grad for x in inputs)
    with torch.enable_grad():
        q = query if query.requires_grad else query.detach().requires_grad_()
        free_energy = attention_free_energy(q, key, beta, mask)
        (gradient,) = torch.autograd.grad(free_energy.sum(), q, create_graph=differentiable)
    return -gradient


def ising_free_energy(
    batch: IsingBatch, variables: Literal["spins", "occupations"] = "spins"
) -> Float[Tensor, "groups queries"]:
    r"""Free energy F = -ln Z/β of every query of an Ising batch, exact.

    With spins the energy is :math:`-\sum_j h_j s_j - \sum_{j<k} J_{jk} s_j s_k`, and the
    magnetisation is its response to the fields. In occupations n = (1 + s)/2 the fields' part is
    :math:`-\sum_j 2 h_j n_j`, nothing at the state that attends to no position, and the response is
    the attention weight w:

    .. math::
        -\frac{\partial F}{\partial h_j} = \langle s_j \rangle, \qquad
        -\frac{\partial F_n}{\partial h_j} = 2 \langle n_j \rangle = 2 w_j, \qquad
        F_n = F - \sum_j h_j .

    A query's field is h_j = (z_j + b)/2 with the score z_j = q·k_j/√d, so that
    :math:`w_j = -\partial F_n / \partial z_j`, as with softmax, and with V = K the output of
    Boltzmann attention is :math:`-\sqrt{d}\, \partial F_n / \partial q`.

    Args:
        batch: The models, β positive; differentiable in h, J and β.
        variables: "spins" for F, "occupations" for F_n.

    Raises:
        ValueError: β is not positive, or `variables` is another word.
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    One spin in a field: F = -ln(2 cosh h) at β = 1.

    >>> ising_free_energy(IsingBatch(torch.tensor([[[0.5]]]), torch.zeros(1, 1, 1)))
    tensor([[-0.8133]])
    """
    if variables not in ("spins", "occupations"):
        raise ValueError(
            f"Argument `variables` must be 'spins' or 'occupations', but is {variables!r}."
        )
    _check_positive(batch.beta)
    log_Z = exact.log_partition(batch)
    free_energy = -log_Z / beta_like(batch.beta, log_Z)
    if variables == "occupations":
        free_energy = free_energy - (batch.h * batch.active).sum(-1)
    return free_energy


def ising_force(
    batch: IsingBatch, variables: Literal["spins", "occupations"] = "spins"
) -> Float[Tensor, "groups queries spins"]:
    r"""Minus the gradient of the free energy by the fields, taken by autograd.

    ⟨s_j⟩ for "spins", twice the attention weights for "occupations"
    (:func:`ising_free_energy`); 0 at absent spins. What the moment engines compute directly
    (:func:`qattn.exact.mean_spins`), by way of the free energy.

    Args:
        batch: The models, β positive.
        variables: "spins" or "occupations".

    Raises:
        ValueError: β is not positive, or `variables` is another word.
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    >>> ising_force(IsingBatch(torch.tensor([[[0.5]]]), torch.zeros(1, 1, 1)))  # tanh(0.5)
    tensor([[[0.4621]]])
    """
    with torch.enable_grad():
        h = batch.h.detach().requires_grad_()
        moved = IsingBatch(h, batch.J, batch.lengths, batch.beta, validate=False)
        (gradient,) = torch.autograd.grad(ising_free_energy(moved, variables).sum(), h)
    return -gradient


def _check_positive(beta: float | Tensor) -> None:
    """Raise unless β > 0: at β = 0 the free energy is infinite."""
    least = float(torch.as_tensor(beta).detach().min())
    if not least > 0:
        raise ValueError(
            f"Argument `beta` must be positive for a free energy, but is {least:g}; ln Z itself "
            f"takes β = 0."
        )
