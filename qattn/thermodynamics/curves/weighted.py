r"""Averages of weighted reads at each β of a ladder, whose weights also say what ln Z is.

Reads s of a sampler whose ln q is known weigh w = e^(-βE)/q, and ⟨w⟩ = Z, whatever q is:

.. math:: Z = \langle w \rangle_q, \qquad \langle A \rangle_p = \langle w A \rangle_q / Z.

Reads of p itself are the case w = Z. Nothing is carried over from one β to the next, so that no
overlap is needed between them; averages over several independent states take reads of different
blocks, never the same read twice.
"""

from collections.abc import Sequence

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.thermodynamics.curves.function import curves_of, is_symmetric
from qattn.thermodynamics.curves.jackknife import (
    BLOCKS,
    kept_blocks,
    of_one_state,
    of_several_states,
)
from qattn.thermodynamics.curves.quantities import Curves, Moments
from qattn.thermodynamics.temperatures import as_betas


@torch.no_grad()
def curves_of_reads(
    batch: IsingBatch,
    betas: Float[Tensor, " betas"] | Sequence[float],
    spins: Int8[Tensor, "betas groups queries reads spins"],
    log_weights: Float[Tensor, "betas groups queries reads"],
) -> Curves:
    r"""All quantities from weighted reads at each β, with standard errors by the jackknife.

    Args:
        batch: The models.
        betas: Inverse temperatures, ascending, in units that multiply the batch's own β.
        spins: Reads at each β, a multiple of 23 of them, in blocks that are independent.
        log_weights: Ln of weights whose mean is Z: -βE - ln q of reads of q; ln Z, known from
            elsewhere, of reads of p.

    Raises:
        ValueError: The number of reads is not a multiple of 23, or shapes do not match.

    Coins that are thrown for a spin in a field h = 1, q = 1/2, have ln Z = ln 2 cosh β:

    >>> spins = torch.ones(1, 1, 1, 46, 1, dtype=torch.int8)
    >>> spins[..., ::2, :] = -1
    >>> batch = IsingBatch(torch.ones(1, 1, 1), torch.zeros(1, 1, 1))
    >>> curves_of_reads(batch, [1.0], spins, spins[..., 0] + 0.6931).log_Z
    tensor([[[1.1269]]], dtype=torch.float64)
    """
    betas = as_betas(betas)
    (G, Q, n), R = batch.h.shape, spins.shape[3]
    if R % BLOCKS or not R:
        raise ValueError(f"Argument `spins` must hold a multiple of {BLOCKS} reads, but holds {R}.")
    if spins.shape != (len(betas), G, Q, R, n) or log_weights.shape != spins.shape[:4]:
        raise ValueError(
            f"Arguments `spins` and `log_weights` must have shapes {(len(betas), G, Q, R, n)} and "
            f"{(len(betas), G, Q, R)}, but have {tuple(spins.shape)} and "
            f"{tuple(log_weights.shape)}."
        )
    h, J = batch.scaled_structure()
    models = IsingBatch(h.double(), J.to(torch.float64), batch.lengths, validate=False)
    num_spins = torch.from_numpy(batch.num_active.copy())
    shape = (BLOCKS + 1, G, Q, len(betas))
    values = torch.full((len(Moments._fields), *shape), torch.nan, dtype=torch.float64)
    for b in range(len(betas)):
        energies = models.energies(spins[b])
        for g in range(G):
            for q in range(Q):
                found = _moments(
                    spins[b, g, q], energies[g, q], log_weights[b, g, q], int(num_spins[g, q])
                )
                values[:, :, g, q, b] = torch.stack(found)
    method = f"{R} weighted reads at each β"
    return curves_of(Moments(*values), betas, num_spins, is_symmetric(batch), method)


def _moments(
    spins: Int8[Tensor, "reads n"],
    energies: Float[Tensor, " reads"],
    log_weights: Float[Tensor, " reads"],
    num_spins: int,
) -> tuple[Tensor, ...]:
    """Averages of every replicate, in the order of :class:`Moments`."""
    # Weights of each replicate, (replicates, blocks, reads of a block), and their sums.
    kept = kept_blocks()
    by_block = log_weights.double().unflatten(0, (BLOCKS, -1))
    top = by_block.max()
    weights = (by_block - top).exp() * kept[:, :, None]
    total, reads = weights.sum((1, 2)), kept.sum(1) * by_block.shape[1]
    weights = weights / total[:, None, None]
    one = of_one_state(spins, energies.double(), weights.flatten(1), num_spins)
    several = of_several_states(spins.unflatten(0, (BLOCKS, -1)), weights, num_spins)
    return top + (total / reads).log(), *one, *several
