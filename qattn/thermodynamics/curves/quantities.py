r"""The thermodynamic quantities of an Ising batch, and how they follow from moments.

With E(s) = -Σ h s - Σ J s s of a batch's own h and J times its own β, the curves are those of
p(s) ∝ exp(-βE): at β = 1 they describe the batch itself.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

QUANTITIES = (
    "log_Z",
    "free_energy",
    "energy",
    "entropy",
    "heat_capacity",
    "magnetisation",
    "absolute_magnetisation",
    "susceptibility",
    "spin_glass_susceptibility",
    "cross_susceptibility",
    "binder",
    "overlap_binder",
)
"""Names of the quantities of :class:`Curves`."""

Table = Float[Tensor, "groups queries betas"]


@dataclass(frozen=True, eq=False, repr=False)
class Curves:
    r"""Thermodynamic quantities of every query of an Ising batch against β, in float64.

    With averages ⟨·⟩ over p(s) ∝ exp(-βE), m = Σ_j s_j / n, and the overlap q = Σ_j s_j s'_j / n
    of two independent states:

    ============================= =================================================================
    ``log_Z``                     ln Z = ln Σ_s exp(-βE)
    ``free_energy``               F = -ln Z/β, that is -∞ at β = 0
    ``energy``                    U = ⟨E⟩ = -∂ ln Z/∂β
    ``entropy``                   S = β(U - F), in nats
    ``heat_capacity``             C = β² Var(E), of all n spins
    ``magnetisation``             ⟨m⟩
    ``absolute_magnetisation``    ⟨\|m\|⟩
    ``susceptibility``            χ = β n (⟨m²⟩ - ⟨m⟩²); with ⟨\|m\|⟩ in place of ⟨m⟩ where the
                                  energy is the same with all spins flipped (h = 0)
    ``spin_glass_susceptibility`` χ_SG = (1/n) Σ_jk (⟨s_j s_k⟩ - ⟨s_j⟩⟨s_k⟩)²
    ``cross_susceptibility``      the part of χ_SG with j ≠ k: 0 for independent spins
    ``binder``                    1 - ⟨m⁴⟩/(3⟨m²⟩²)
    ``overlap_binder``            1 - ⟨q⁴⟩/(3⟨q²⟩²)
    ============================= =================================================================

    Attributes:
        betas: The inverse temperatures, in units that multiply the batch's own β.
        num_spins: Number n of spins of each query.
        method: How the curves came about, in words.
        errors: Standard errors of quantities by name: 0, or without an entry, where exact.
        replicates: Quantities by name, of reads without one of the blocks each (the delete-one
            jackknife behind the errors): shape (blocks, groups, queries, betas). Empty where all
            is exact.
    """

    betas: Float[Tensor, " betas"]
    num_spins: Int[Tensor, "groups queries"]
    log_Z: Table
    free_energy: Table
    energy: Table
    entropy: Table
    heat_capacity: Table
    magnetisation: Table
    absolute_magnetisation: Table
    susceptibility: Table
    spin_glass_susceptibility: Table
    cross_susceptibility: Table
    binder: Table
    overlap_binder: Table
    method: str
    errors: Mapping[str, Table] = field(default_factory=dict)
    replicates: Mapping[str, Float[Tensor, "blocks groups queries betas"]] = field(
        default_factory=dict
    )

    def __repr__(self) -> str:
        """What it is, in a line."""
        (groups, queries), betas = self.num_spins.shape, self.betas
        return (
            f"Curves({groups} x {queries} queries at {len(betas)} β from {float(betas[0]):g} to "
            f"{float(betas[-1]):g}, by {self.method})"
        )

    def __getitem__(self, groups: Any) -> "Curves":
        """Those of some of the groups: a slice, or a tensor of numbers."""
        return Curves(
            self.betas,
            self.num_spins[groups],
            **{name: getattr(self, name)[groups] for name in QUANTITIES},
            method=self.method,
            errors={name: error[groups] for name, error in self.errors.items()},
            replicates={name: values[:, groups] for name, values in self.replicates.items()},
        )

    @property
    def sizes(self) -> Int[Tensor, "groups queries"]:
        """What a heat capacity is divided by to be compared between queries: n."""
        return self.num_spins

    def error(self, name: str) -> Table:
        """Standard error of a quantity; zeros where it is exact."""
        return self.errors.get(name, torch.zeros_like(self.log_Z))


class Moments(NamedTuple):
    """Averages from which all quantities follow, each of shape (…, betas)."""

    log_Z: Tensor
    energy: Tensor
    energy_variance: Tensor
    m: Tensor
    m_variance: Tensor
    abs_m: Tensor
    m2: Tensor
    m4: Tensor
    spin_glass_susceptibility: Tensor
    cross_susceptibility: Tensor
    q2: Tensor
    q4: Tensor


def quantities(
    moments: Moments,
    betas: Float[Tensor, " betas"],
    num_spins: Int[Tensor, "*models"],
    symmetric: Bool[Tensor, "*models"],
) -> dict[str, Float[Tensor, "*any betas"]]:
    """All :data:`QUANTITIES` by name.

    Args:
        moments: The averages; they may have axes before those of the models.
        betas: The inverse temperatures.
        num_spins: Number of spins of each model.
        symmetric: Whether a model's energy is the same with all spins flipped.
    """
    U, n = moments.energy, num_spins.unsqueeze(-1).double()
    about_abs = moments.m2 - moments.abs_m.square()
    variance = torch.where(symmetric.unsqueeze(-1), about_abs, moments.m_variance)
    return {
        "log_Z": moments.log_Z,
        "free_energy": -moments.log_Z / betas,
        "energy": U,
        "entropy": moments.log_Z + betas * U,
        "heat_capacity": betas.square() * moments.energy_variance,
        "magnetisation": moments.m,
        "absolute_magnetisation": moments.abs_m,
        "susceptibility": betas * n * variance,
        "spin_glass_susceptibility": moments.spin_glass_susceptibility,
        "cross_susceptibility": moments.cross_susceptibility,
        "binder": 1 - moments.m4 / (3 * moments.m2.square()),
        "overlap_binder": 1 - moments.q4 / (3 * moments.q2.square()),
    }
