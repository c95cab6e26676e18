r"""Memories of a classical Hopfield network as an Ising batch, and their recall by any backend.

Patterns ξ^μ ∈ {-1, +1}^n are stored in Hebb's couplings J_jk = (1/n) Σ_μ ξ^μ_j ξ^μ_k. Recall starts
from a cue, a pattern with errors. What a cue is depends on what recalls:

- A backend draws from equilibrium, which knows no start, and without fields equilibrium is
  symmetric: every pattern and its negative has the same share, and ⟨s⟩ = 0. So the cue is a weak
  **field** along it (:func:`recall`), which every backend can sample, and a QPU.
- Dynamics **starts** at the cue and goes downhill from there (:func:`recall_by_dynamics`): the
  network as Hopfield wrote it, by Gibbs sweeps. A pattern can be recalled where it is no more than
  metastable, to α = patterns/n = 0.138 for n → ∞, errors in a cue excepted. In equilibrium without
  a field patterns are below the glass to α = 0.051 only; the cue's field helps them beyond.

Sources: Hopfield, PNAS 79, 2554 (1982); Amit, Gutfreund and Sompolinsky, Phys. Rev. Lett. 55, 1530
(1985), who have 0.138 and 0.051.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Num
from torch import Tensor

from qattn import exact
from qattn.backends import Backend, check_num_reads, drawn_seed, get_backend
from qattn.chains import Chains
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

CAPACITY = 0.138
"""Load α = patterns/n above which random patterns are no longer metastable at T = 0, n → ∞."""


@dataclass(frozen=True, eq=False)
class Recall:
    r"""Overlaps m_μ = ⟨s⟩·ξ^μ/n of recalled states with all patterns.

    Attributes:
        overlaps: Mean overlap, in [-1, 1].
        standard_errors: Their standard errors from independent reads; 0 where exact.
        samples: The reads; None where moments are exact.
    """

    overlaps: Float[Tensor, "groups cues patterns"]
    standard_errors: Float[Tensor, "groups cues patterns"]
    samples: SpinSamples | None = None


def hebbian_couplings(patterns: Num[Tensor, "groups patterns n"]) -> Float[Tensor, "groups n n"]:
    r"""Hebb's couplings of ±1 patterns, :math:`J_{jk} = \frac1n \sum_\mu \xi^\mu_j \xi^\mu_k`.

    Zero on the diagonal; float64. The energy of a state is then
    :math:`-\frac n2 \sum_\mu m_\mu^2 + \frac p2` with its overlaps m_μ with p patterns.

    Raises:
        ValueError: A pattern has another value than -1 or +1.
    """
    _check_spins("patterns", patterns)
    xi = patterns.double()
    J = xi.mT @ xi / xi.shape[-1]
    return J - torch.diag_embed(J.diagonal(dim1=-2, dim2=-1))


def hopfield_batch(
    patterns: Num[Tensor, "groups patterns n"],
    cues: Num[Tensor, "groups cues n"],
    *,
    beta: float,
    field: float = 0.3,
) -> IsingBatch:
    r"""The network as Ising models, one for each cue: Hebb's J, and h = field · cue.

    A field much below 1/(βn) does not choose between the patterns; one of 1 or more overrules what
    they say of a wrong spin, so that the cue comes back with its errors.

    Args:
        patterns: ξ^μ, a network for each group.
        cues: States in {-1, +1}, or 0 where nothing is known of a spin.
        beta: β. At low load the network orders at β = 1.
        field: Strength of the cue, in units of the field that a recalled pattern has on a spin, 1.

    Raises:
        ValueError: A value is out of range, or shapes do not fit.
    """
    _check_fit(patterns, cues)
    return IsingBatch(field * cues.double(), hebbian_couplings(patterns), beta=beta)


def recall(
    patterns: Num[Tensor, "groups patterns n"],
    cues: Num[Tensor, "groups cues n"],
    *,
    beta: float,
    field: float = 0.3,
    backend: str | Backend = "exact",
    num_reads: int = 1000,
    seed: int | None = None,
) -> Recall:
    r"""Overlaps with the patterns in equilibrium, in the weak field of a cue.

    Args:
        patterns: ξ^μ.
        cues: Cues in {-1, 0, +1}.
        beta: β.
        field: Strength of the cue (:func:`hopfield_batch`).
        backend: A backend or the name of one. "exact" takes moments by enumeration (n up to about
            24) and no reads.
        num_reads: Reads of each cue.
        seed: Seed of the draw.

    Raises:
        ValueError: A value is out of range, or shapes do not fit.
        MemoryError: "exact" with more spins than can be enumerated.

    One pattern in eight spins, and a cue with two errors:

    >>> pattern = torch.tensor([[[1, 1, 1, -1, 1, -1, -1, 1]]])
    >>> cue = pattern * torch.tensor([-1, 1, 1, 1, 1, 1, -1, 1])
    >>> [round(float(recall(pattern, cue, beta=beta).overlaps), 3) for beta in (0.5, 2, 8)]
    [0.122, 0.891, 1.0]
    """
    batch = hopfield_batch(patterns, cues, beta=beta, field=field)
    if backend == "exact":
        overlaps = exact.mean_spins(batch) @ patterns.double().mT / batch.num_spins
        return Recall(overlaps, torch.zeros_like(overlaps))
    sampler = get_backend(backend) if isinstance(backend, str) else backend
    return _overlaps(sampler.sample(batch, num_reads=num_reads, seed=seed), patterns)


def recall_by_dynamics(
    patterns: Num[Tensor, "groups patterns n"],
    cues: Num[Tensor, "groups cues n"],
    *,
    beta: float,
    num_sweeps: int = 50,
    num_reads: int = 100,
    seed: int | None = None,
) -> Recall:
    r"""Overlaps with the patterns after Gibbs sweeps that start at a cue, without a field.

    Each read is a chain of its own. Long before equilibrium, which forgets the cue: chains stay in
    the basin in which the cue lies, for a time that grows as exp(n).

    Args:
        patterns: ξ^μ.
        cues: States in {-1, +1}.
        beta: β.
        num_sweeps: Sweeps of each chain.
        num_reads: Chains of each cue.
        seed: Seed of the draws.

    Raises:
        ValueError: A value is out of range, or shapes do not fit.
    """
    check_num_reads(num_reads)
    if num_sweeps < 1:
        raise ValueError(f"Argument `num_sweeps` must be positive, but is {num_sweeps}.")
    _check_spins("cues", cues)
    batch = hopfield_batch(patterns, cues, beta=beta, field=0.0)
    starts = cues.to(torch.int8).unsqueeze(2).expand(-1, -1, num_reads, -1)
    chains = Chains(batch, starts)
    chains.sweep(num_sweeps, torch.Generator(cues.device).manual_seed(drawn_seed(seed)))
    return _overlaps(SpinSamples(chains.spins), patterns)


def _overlaps(samples: SpinSamples, patterns: Num[Tensor, "groups patterns n"]) -> Recall:
    """Mean overlaps of reads, and their standard errors."""
    each = samples.spins.double() @ patterns.double().mT.unsqueeze(1) / patterns.shape[-1]
    share = samples.normalized_weights(torch.float64).unsqueeze(-1)
    overlaps = (share * each).sum(2)
    variance = (share * (each - overlaps.unsqueeze(2)).square()).sum(2)
    # One read says nothing about its error, which is then infinite.
    free = (samples.counts() - 1).clamp_min(0).unsqueeze(-1)
    errors = torch.where(free > 0, variance / free, torch.inf).sqrt()
    return Recall(overlaps, errors, samples)


def _check_spins(name: str, values: Tensor) -> None:
    wrong = values[values.abs() != 1]
    if wrong.numel():
        raise ValueError(
            f"Argument `{name}` must hold -1 and +1 only, but holds {wrong[0].item()}."
        )


def _check_fit(patterns: Tensor, cues: Tensor) -> None:
    if patterns.ndim != 3 or 0 in patterns.shape:
        raise ValueError(
            f"Argument `patterns` must have shape (groups, patterns, n) with at least one of each, "
            f"but has shape {tuple(patterns.shape)}."
        )
    groups, _, n = patterns.shape
    if cues.ndim != 3 or (cues.shape[0], cues.shape[2]) != (groups, n):
        raise ValueError(
            f"Argument `cues` must have shape ({groups}, cues, {n}) to match `patterns`, but has "
            f"shape {tuple(cues.shape)}."
        )
