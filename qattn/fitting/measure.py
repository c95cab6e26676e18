r"""How good a net is: free energies from its own reads, and what reads of p say of it.

Free energies are F = -ln Z/β, a spin. F_q ≥ F is variational, F_IS importance-weighted. Where a
reference has ln Z and reads of the Boltzmann distribution p, the *forward* ESS, 1/⟨p/q⟩_p, sees
what the net never draws; its own ESS does not.
"""

import warnings
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from qattn.chains import EquilibriumWarning
from qattn.ising.batch import IsingBatch
from qattn.quality import Reference, reference_of
from qattn.quality.choose_reference import EXACT_SPINS
from qattn.quality.drawn_reference import is_sparse
from qattn.quality.split import one_group_per_problem
from qattn.simulators.autoregressive import AutoregressiveNet, forward_ess, importance
from qattn.simulators.autoregressive.models import Models, as_columns

READS_AT_A_TIME = 2000
"""Reads of each query that are drawn, or rescored, side by side."""

FORWARD_READS = 2000
"""Reads of the reference that are rescored."""

EXACT_WIDTH = 25
"""Largest treewidth of an exact reference."""

TEMPERED_SPINS = 256
"""Largest number of spins that are tempered without being asked for it."""


@dataclass(frozen=True)
class Figures:
    """Figures of a net on the problems of a batch, which is at their β; averaged over problems.

    Attributes:
        F_q: Variational free energy a spin.
        F_q_error: Its standard error.
        F_IS: Importance-weighted free energy a spin.
        F_IS_error: Its standard error.
        ess: Effective share of reads.
        worst_ess: The smallest of a problem.
        spread: Standard deviation of ln q + βE.
        num_reads: Reads of each problem.
        forward_ess: 1/⟨p/q⟩_p; None without a reference.
        F: Free energy a spin of the reference.
        F_error: Its standard error; 0 if it is exact.
        reference: Its kind.
        in_equilibrium: Whether it is known to be in equilibrium.
    """

    F_q: float
    F_q_error: float
    F_IS: float
    F_IS_error: float
    ess: float
    worst_ess: float
    spread: float
    num_reads: int
    forward_ess: float | None = None
    F: float | None = None
    F_error: float | None = None
    reference: str | None = None
    in_equilibrium: bool | None = None

    def as_values(self) -> dict[str, Any]:
        """Those that are known, by name."""
        return {name: value for name, value in vars(self).items() if value is not None}


def reference_for(
    batch: IsingBatch, kind: str, seed: int, progress: Any = lambda _: None
) -> Reference | None:
    """What a net is measured against.

    Args:
        batch: The problems, at their β.
        kind: "auto", "exact", "tempering" or "none".
        seed: Seed of a long run, which is kept on disk.
        progress: Called with a line before the work.

    Raises:
        ValueError: Exact values are asked for, and the problems are too large and too dense.
    """
    if kind == "none":
        return None
    problems = one_group_per_problem(batch)
    exact = problems.num_spins <= EXACT_SPINS or is_sparse(problems, EXACT_WIDTH)
    if kind == "exact" and not exact:
        raise ValueError(
            f"Argument `reference` must be auto, tempering or none for {problems.num_spins} spins "
            f"whose couplings are too dense for exact values, but is 'exact'."
        )
    if kind == "auto" and not exact and problems.num_spins > TEMPERED_SPINS:
        return None
    tempered = {"exact_spins": 0, "max_width": 0} if kind == "tempering" else {}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EquilibriumWarning)  # Figures.in_equilibrium says it
        return reference_of(batch, seed=seed, progress=progress, **tempered)


@torch.no_grad()
def measure(
    net: AutoregressiveNet,
    batch: IsingBatch,
    num_reads: int,
    generator: torch.Generator,
    reference: Reference | None = None,
) -> Figures:
    """Draw reads, and rescore those of the reference.

    Args:
        net: The net.
        batch: The problems, at their β.
        num_reads: Reads of each.
        generator: Source of the reads.
        reference: What is known of the problems.
    """
    models = net.arranged(batch)
    shape = (models.num_queries, -1)
    log_q, energies = [], []
    for part in torch.arange(num_reads).split(READS_AT_A_TIME):
        spins, of_part = net.draw(models, len(part), generator)
        log_q.append(of_part.unflatten(1, shape))
        energies.append(models.energies(spins).unflatten(1, shape))
    all_log_q, all_energies = torch.cat(log_q, 2), torch.cat(energies, 2)
    found = importance(all_log_q, all_energies)
    # Of each query F = -ln Z/(β n), and the error of the mean over queries.
    beta = torch.as_tensor(batch.beta, dtype=torch.float64, device=all_log_q.device)
    per_spin = 1 / (beta.reshape(-1, 1) * torch.from_numpy(batch.num_active.copy()).to(beta))

    def mean(x: Tensor) -> float:
        return float((x * per_spin).mean())

    def error(x: Tensor) -> float:
        return float((x * per_spin).square().sum().sqrt() / x.numel())

    return Figures(
        -mean(found.log_Z_bound),
        error(found.log_Z_bound_error),
        -mean(found.log_Z),
        error(found.log_Z_error),
        float(found.ess.mean()),
        float(found.ess.min()),
        float((all_log_q + all_energies).var(-1).mean().sqrt()),
        num_reads,
        **(_against(net, models, reference, per_spin) if reference is not None else {}),
    )


def _against(
    net: AutoregressiveNet, models: Models, reference: Reference, per_spin: Tensor
) -> dict[str, Any]:
    """What reads of the reference and its ln Z say."""
    if reference.log_Z is None:
        return {}
    shape = (models.num_groups, models.num_queries, -1, models.num_spins)
    reads = reference.draw(FORWARD_READS, 0).spins.to(models.h.device).view(shape)
    log_q, energies = [], []
    for part in reads.split(READS_AT_A_TIME, 2):
        spins = as_columns(part, net.plan, models.h.dtype)
        log_q.append(net.log_q(models, spins).unflatten(1, (models.num_queries, -1)))
        energies.append(models.energies(spins).unflatten(1, (models.num_queries, -1)))
    log_Z = reference.log_Z.to(per_spin).view(shape[:2])
    forward = forward_ess(torch.cat(log_q, 2), torch.cat(energies, 2), log_Z)
    error = torch.zeros_like(log_Z)
    if reference.log_Z_error is not None:
        error = reference.log_Z_error.to(per_spin).view(shape[:2])
    return {
        "forward_ess": float(forward.mean()),
        "F": -float((log_Z * per_spin).mean()),
        "F_error": float((error * per_spin).square().sum().sqrt() / error.numel()),
        "reference": reference.kind,
        "in_equilibrium": not reference.not_in_equilibrium,
    }
