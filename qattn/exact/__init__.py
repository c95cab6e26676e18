r"""Exact Boltzmann moments, probabilities and independent reads of an :class:`~qattn.IsingBatch`.

Dense couplings cost 2^(n/2) numbers per query and matrix products with one 2^(n/2) x 2^(n/2) table
per group, instead of 2^n states per query; see :mod:`qattn.exact.dense.factorised` for the algebra.
Couplings with a structure (:mod:`qattn.couplings`) have engines of their own, whose cost grows with
n and not with 2^n. float32 answers hold to about 1e-5 or are computed in float64; couplings too
strong for products of float64 are summed in log space. On CUDA the products follow PyTorch's TF32
setting: leave ``torch.backends.cuda.matmul.allow_tf32`` off (its default) where digits matter.

Models of more spins whose couplings are sparse: :mod:`qattn.exact.tree`.
"""

from types import ModuleType

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.couplings import Banded, Block
from qattn.exact import blocks, dense, structured, tree
from qattn.exact.memory import required_bytes
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples

__all__ = [
    "error_bound",
    "log_partition",
    "log_prob",
    "mean_spins",
    "occupations",
    "pair_correlations",
    "required_bytes",
    "sample",
    "tree",
]

WIDE, FEW = 8, 24
"""A band of more than WIDE distances among at most FEW spins is enumerated as a dense J."""


def log_partition(batch: IsingBatch) -> Float[Tensor, "groups queries"]:
    r"""Logarithm of the partition function of every query.

    .. math:: \log Z = \log \sum_s \exp\Big(\beta\big(\sum_j h_j s_j
              + \sum_{j<k} J_{jk} s_j s_k\big)\Big)

    Differentiable once in h, J and β: ∂ log Z/∂h_j = β⟨s_j⟩, and ∂ log Z/∂J_jk = β⟨s_j s_k⟩ for
    the pair, half of it in each of the two entries of the symmetric J.

    Raises:
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    A query whose h or J holds NaN or infinity has NaN, and no other query has.

    Three free spins have eight states of weight 1, and log 8 is:

    >>> log_partition(IsingBatch(torch.zeros(1, 1, 3), torch.zeros(1, 3, 3)))
    tensor([[2.0794]])
    """
    log_Z: Tensor = _engine(batch).moments(batch, wants_log_Z=True)
    return log_Z


def occupations(
    batch: IsingBatch, *, normalize: bool = False
) -> Float[Tensor, "groups queries spins"]:
    r"""Occupations ⟨n_j⟩ = p(s_j = +1), n_j = (1 + s_j)/2, of every query; 0 at absent spins.

    The attention weights, with a *relative* error of rounding however small they are: sums of
    positive terms, where (1 + ⟨s_j⟩)/2 would keep nothing of a weight below the rounding of 1. With
    :class:`qattn.couplings.LowRank`, where there are several modes, down to about 1e-22.
    Differentiable once in h, J and β, to the same accuracy: ∂⟨n_j⟩/∂h_k = 2β Cov(n_j, n_k) and
    ∂⟨n_i⟩/∂J_jk = β Cov(n_i, s_j s_k) for the pair, half of it in each entry of the symmetric J.

    Args:
        batch: The models.
        normalize: Divide by Σ_j ⟨n_j⟩ of the query, also where that is too small for a float; for
            couplings with a structure, a float32. A query without spins keeps zeros.

    Raises:
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    A query whose h or J holds NaN or infinity has NaN, and no other query has.

    Without couplings, sigmoid(2h), here of two scores of -40 and -41; and their softmax:

    >>> batch = IsingBatch(torch.tensor([[[-20.0, -20.5]]]), torch.zeros(1, 2, 2))
    >>> occupations(batch)
    tensor([[[4.2484e-18, 1.5629e-18]]])
    >>> occupations(batch, normalize=True)
    tensor([[[0.7311, 0.2689]]])
    """
    up: Tensor = _engine(batch).moments(batch, normalize=normalize)
    return up


def mean_spins(batch: IsingBatch) -> Float[Tensor, "groups queries spins"]:
    r"""Magnetisations ⟨s_j⟩ = Σ_s p(s) s_j = 2⟨n_j⟩ - 1 of every query; 0 at absent spins.

    Differentiable once in h, J and β: ∂⟨s_i⟩/∂h_j = β Cov(s_i, s_j) and
    ∂⟨s_i⟩/∂J_jk = β Cov(s_i, s_j s_k) for the pair, half of it in each entry of the symmetric J.
    For the small difference to -1 take :func:`occupations`.

    Raises:
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    A query whose h or J holds NaN or infinity has NaN, and no other query has.

    A field on the first spin magnetises the second through their coupling, to tanh(h) tanh(J):

    >>> h, J = torch.tensor([[[0.5, 0.0]]]), torch.tensor([[[0.0, 1.0], [1.0, 0.0]]])
    >>> mean_spins(IsingBatch(h, J))
    tensor([[[0.4621, 0.3519]]])
    """
    return 2 * occupations(batch) - batch.active.to(batch.h.dtype)


def error_bound(batch: IsingBatch) -> Float[Tensor, "groups queries"]:
    r"""How far occupations and log Z of a query can be from exact, besides rounding.

    0 for all couplings but :class:`qattn.couplings.LowRank`, whose moments are integrals by the
    trapezoid rule: there it is a bound from the step and from the nodes that are left out, without
    an estimate (:mod:`qattn.exact.quadrature`). Takes about the time of the moments themselves in
    float64. NaN where a moment is.

    >>> from qattn.couplings import LowRank
    >>> h, U = torch.zeros(1, 1, 100), torch.full((1, 100), 0.3)
    >>> bool(error_bound(IsingBatch(h, LowRank(U))) < 1e-6)
    True
    """
    if isinstance(batch.J, Tensor | Block):
        return batch.h.new_zeros(batch.h.shape[:2])
    return structured.error_bound(batch)


def pair_correlations(batch: IsingBatch) -> Float[Tensor, "groups queries spins spins"]:
    r"""Correlations ⟨s_j s_k⟩ = Σ_s p(s) s_j s_k of every query; diagonal 1, 0 at absent spins.

    Not differentiable: for the gradient of a loss in J, differentiate :func:`log_partition` or
    :func:`mean_spins`.

    Raises:
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.
    """
    with torch.no_grad():
        pairs: Tensor = _engine(batch).pair_correlations(batch)
    return pairs


def log_prob(batch: IsingBatch, spins: Tensor) -> Float[Tensor, "groups queries reads"]:
    r"""Log p(s) of configurations, ``-β·batch.energies(spins) - log_partition(batch)``.

    Differentiable once in h, J and β.

    Args:
        batch: The models.
        spins: Values in {-1, +1}, shape (groups, queries, reads, spins), any dtype; values at
            absent spins are ignored.

    Raises:
        ValueError: `spins` has another shape, or an active spin is neither -1 nor +1.
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.
    """
    # At β = 1, also where β is 0: an energy may be infinite.
    scaled = IsingBatch(*batch.scaled_structure(), batch.lengths, validate=False)
    energies = scaled.energies(spins)
    wrong = (spins.abs() != 1) & batch.active.unsqueeze(2)
    if bool(wrong.any()):
        raise ValueError(
            f"Argument `spins` must be -1 or +1 at active spins, "
            f"but holds {spins[wrong][0].item()}."
        )
    log_Z = log_partition(batch).unsqueeze(-1)
    # Where no state is allowed, all spins are up: see Cardinality.
    all_up = torch.where(((spins > 0) | ~batch.active.unsqueeze(2)).all(-1), 0.0, -torch.inf)
    return torch.where(log_Z == -torch.inf, all_up, -energies - log_Z)


@torch.no_grad()
def sample(batch: IsingBatch, num_reads: int, seed: int | None = None) -> SpinSamples:
    r"""Independent reads from the exact Boltzmann distribution of every query.

    Args:
        batch: The models.
        num_reads: Number of reads per query.
        seed: Seed of the draw; None means PyTorch's global generator. The same seed gives
            the same reads on one device type.

    Raises:
        ValueError: `num_reads` is not positive, or h or J holds NaN or infinity.
        MemoryError: The batch needs more than ``qattn.exact.memory.MEMORY_LIMIT``.

    >>> samples = sample(IsingBatch(torch.ones(1, 1, 2), torch.zeros(1, 2, 2)), 1000, seed=0)
    >>> samples.spins.shape  # groups, queries, reads, spins
    torch.Size([1, 1, 1000, 2])
    >>> bool((samples.mean_spins() - torch.tensor(1.0).tanh()).abs().max() < 0.1)
    True
    """
    if num_reads < 1:
        raise ValueError(f"Argument `num_reads` must be positive, but is {num_reads}.")
    samples: SpinSamples = _engine(batch).sample(batch, num_reads, seed)
    return samples


def _engine(batch: IsingBatch) -> ModuleType:
    """The engine for the structure of the batch's couplings."""
    if isinstance(batch.J, Block):
        return blocks
    if isinstance(batch.J, Banded) and batch.J.width > WIDE and batch.num_spins <= FEW:
        return dense  # 2^(n/2) is less than n 2^w
    return dense if isinstance(batch.J, Tensor) else structured
