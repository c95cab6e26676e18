r"""The engine of dense couplings: enumeration by matrix products over two halves of the spins."""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import kernels
from qattn._clock import sampling_clock
from qattn._tracing import is_traced
from qattn.couplings.base import check_finite
from qattn.exact.dense import enumeration, operator, reads
from qattn.exact.dense.autograd import Moments, separate_models, solve
from qattn.exact.dense.factorised import Factors
from qattn.exact.dense.layout import Layout, arranged, cut, padded, restored
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import without_autocast
from qattn.ising.samples import SpinSamples
from qattn.ising.states import states

__all__: list[str] = []


def moments(batch: IsingBatch, *, wants_log_Z: bool = False, normalize: bool = False) -> Tensor:
    """Log Z, if requested, else occupations; differentiable in h, J and β."""
    h, J = batch.scaled()
    if is_traced(h):
        traced: Tensor = operator.moments(h, J, batch.lengths, wants_log_Z, normalize)
        return traced
    lay = cut(batch.lengths, *h.shape, by_loops=kernels.usable(h, J))
    n, log_Z, *_ = Moments.run(h, J, lay, wants_log_Z, normalize)
    moment: Tensor = log_Z if wants_log_Z else n
    return moment


def pair_correlations(batch: IsingBatch) -> Float[Tensor, "groups queries spins spins"]:
    """⟨s_j s_k⟩; diagonal 1, and 0 where a spin is absent."""
    h, J, lay = _arranged(batch)
    with sampling_clock.running(h.device), without_autocast(h.device):
        solution = solve(h, J, lay)
        dtype = solution.scale.dtype
        pairs = torch.zeros(*h.shape, lay.num_spins, dtype=dtype, device=h.device)
        for block, factors in zip(lay.blocks, solution.factors, strict=True):
            q, m = slice(block.start, block.end), block.num_spins
            pairs[:, q, :m, :m] = _factorised_pairs(factors, m)
        for models in separate_models(h, J, lay, solution.scale == 0):
            log_Z = enumeration.log_partition(models)
            pairs[models.group, models.query] = enumeration.pair_correlations(models, log_Z)
    n = batch.num_spins
    pairs = restored(pairs.to(h.dtype), lay)[..., :n, :n]
    return pairs * (batch.active.unsqueeze(-1) & batch.active.unsqueeze(-2))


def sample(batch: IsingBatch, num_reads: int, seed: int | None) -> SpinSamples:
    """Independent reads."""
    h, J, lay = _arranged(batch)
    for name, value in (("h", h), ("J", J)):
        check_finite(name, value)
    generator = None
    if seed is not None:
        generator = torch.Generator(h.device).manual_seed(seed)
    shape = (2, batch.num_groups, batch.num_queries, num_reads)
    uniforms = torch.rand(shape, generator=generator, dtype=torch.float64, device=h.device)
    with sampling_clock.running(h.device), without_autocast(h.device):
        spins = reads.draw(h, J, lay, solve(h, J, lay), uniforms)
    spins = restored(spins, lay)[..., : batch.num_spins]
    return SpinSamples(spins.masked_fill(~batch.active.unsqueeze(2), 0))


def _arranged(batch: IsingBatch) -> tuple[Tensor, Tensor, Layout]:
    """h and J of an even number of spins, with the queries in the order of the layout."""
    h, J = batch.scaled()
    lay = cut(batch.lengths, *h.shape)
    return arranged(h, lay), padded(J, lay), lay


def _factorised_pairs(factors: Factors, num_spins: int) -> Float[Tensor, "g q n n"]:
    """⟨s_j s_k⟩ of a block; absent spins count as -1."""
    uv, Kuv, inverse_Z, K, *_ = factors
    half = num_spins // 2
    S = states(half, uv.dtype, uv.device)
    # Pairs within a half from the marginal weights of its states.
    within = torch.einsum("ghsq,sj,sk->ghqjk", uv * Kuv, S, S)
    pairs = uv.new_empty(uv.shape[0], uv.shape[3], num_spins, num_spins)
    pairs[..., :half, :half] = within[:, 0]
    pairs[..., half:, half:] = within[:, 1]
    # Pairs across: Σ_ab u_a a_j K_ab v_b b_k, one spin j of the first half at a time.
    for j, spin in enumerate(S.mT):
        product = uv[:, 1] * (K.mT @ (uv[:, 0] * spin.unsqueeze(-1)))
        pairs[..., j, half:] = product.mT @ S
    pairs[..., half:, :half] = pairs[..., :half, half:].mT
    return pairs * inverse_Z[..., None, None]
