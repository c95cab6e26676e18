r"""What reads are compared with: moments, energies and gradients of each problem, and how known."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn import exact
from qattn.couplings import Couplings, put_together, taken_apart
from qattn.estimators import DEFAULT_ESTIMATOR, mean_spins_from
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import EnergyDistribution

Kind = Literal[
    "enumeration",
    "enumeration of blocks",
    "tree decomposition",
    "transfer matrices",
    "quadrature",
    "recursion over counts",
    "parallel tempering",
]
"""How the values of a reference were found: all but the last are exact."""


@dataclass(frozen=True, eq=False)
class Reference:
    r"""The problems of a batch, one by one, with what is known about each.

    Attributes:
        batch: The problems, split: one query a group, β = 1, float64.
        kind: How the values were found.
        mean: ⟨s_j⟩.
        pairs: ⟨s_j s_k⟩, 0 where it is not known.
        known_pairs: Pairs j ≠ k whose ⟨s_j s_k⟩ and derivative in J_jk are known, symmetric: all
            pairs of present spins, or those that are coupled, by tree decomposition and in a band.
        energies: Distribution of the energy of each problem.
        direction: Random gradients g ~ N(0, 1) that arrive at ⟨s⟩, 0 at absent spins.
        gradient_h: Derivatives of g·⟨s⟩ in h.
        gradient_J: Derivatives of g·⟨s⟩ in the two entries of each J, 0 where they are not known;
            or in the values of its structure.
        log_Z: Logarithms of the partition functions; None where they are not known.
        draw: Makes independent reads, given their number and a seed: exact ones, or such that are
            drawn with replacement from a long run.
        mean_error: Standard error of ⟨s_j⟩; None where it is exact.
        pairs_error: That of ⟨s_j s_k⟩.
        log_Z_error: That of log Z.
        not_in_equilibrium: Numbers of the problems whose long run is not known to be in
            equilibrium, counted from 0.
    """

    batch: IsingBatch
    kind: Kind
    mean: Float[Tensor, "problems n"]
    pairs: Float[Tensor, "problems n n"]
    known_pairs: Bool[Tensor, "problems n n"]
    energies: tuple[EnergyDistribution, ...] = field(repr=False)
    direction: Float[Tensor, "problems n"]
    gradient_h: Float[Tensor, "problems n"]
    gradient_J: Float[Tensor, "problems ..."]
    log_Z: Float[Tensor, " problems"] | None
    draw: Callable[[int, int], SpinSamples] = field(repr=False)
    mean_error: Float[Tensor, "problems n"] | None = None
    pairs_error: Float[Tensor, "problems n n"] | None = None
    log_Z_error: Float[Tensor, " problems"] | None = None
    not_in_equilibrium: tuple[int, ...] = ()

    @property
    def is_exact(self) -> bool:
        """Whether the values are exact, or those of a long run with error bars of its own."""
        return self.kind != "parallel tempering"

    @property
    def num_problems(self) -> int:
        """Number of problems that have spins."""
        return self.batch.num_groups

    @property
    def effective_states(self) -> Float[Tensor, " problems"]:
        """Effective number of states, e to the entropy, of each problem; nan without log Z."""
        if self.log_Z is None:
            return torch.full((self.num_problems,), torch.nan, dtype=torch.float64)
        return (self.log_Z + self.mean_energy).exp()

    @property
    def mean_energy(self) -> Float[Tensor, " problems"]:
        """Mean of the energy of each problem, from its moments; or as -∂ log Z/∂β."""
        if isinstance(self.batch.J, Couplings):
            beta = torch.ones(self.num_problems, dtype=torch.float64, requires_grad=True)
            with torch.enable_grad():
                log_Z = exact.log_partition(replace(self.batch, beta=beta, validate=False))
                return -torch.autograd.grad(log_Z.sum(), beta)[0]
        linear = (self.batch.h[:, 0] * self.mean).sum(-1)
        return -linear - (self.batch.J * self.pairs).sum((-1, -2)) / 2


def is_quadratic(problems: IsingBatch) -> bool:
    """Whether the interaction is that of a matrix."""
    if isinstance(problems.J, Couplings):
        try:
            problems.J.matvec(problems.h.mT)  # makes no matrix
        except ValueError:
            return False
    return True


def present_pairs(problems: IsingBatch) -> Bool[Tensor, "problems n n"]:
    """Pairs j ≠ k of present spins, of problems with one query a group."""
    active = problems.active.expand_as(problems.h)[:, 0]
    apart = ~torch.eye(problems.num_spins, dtype=torch.bool)
    return active.unsqueeze(1) & active.unsqueeze(2) & apart


@torch.enable_grad()
def estimated_gradients(
    samples: SpinSamples,
    reference_batch: IsingBatch,
    direction: Float[Tensor, "problems n"],
    estimator: str = DEFAULT_ESTIMATOR,
) -> tuple[Float[Tensor, "problems n"], Float[Tensor, "problems ..."]]:
    """Derivatives of g·⟨s⟩ in h and in J, or its structure's values, as an estimator makes them."""
    h = reference_batch.h.clone().requires_grad_()
    values, kind, options = taken_apart(reference_batch.J)
    values = values.clone().requires_grad_()
    J = put_together(values, kind, options)
    batch = IsingBatch(h, J, reference_batch.lengths, validate=False)
    mean = mean_spins_from(samples, batch, estimator=estimator)
    value = (mean[:, 0] * direction).sum()
    of_h, of_J = torch.autograd.grad(value, (h, values), materialize_grads=True)
    return of_h[:, 0], of_J
