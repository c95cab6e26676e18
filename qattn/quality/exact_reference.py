"""The reference of small problems: exact moments, gradients and energies by enumeration."""

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import exact
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.quality.energy import exact_distribution
from qattn.quality.reference import Reference, present_pairs
from qattn.quality.split import pieces


def exact_reference(problems: IsingBatch, direction: Float[Tensor, "problems n"]) -> Reference:
    """The reference by enumeration of all states.

    Args:
        problems: The problems, one query a group, β = 1, float64.
        direction: Gradients that arrive at ⟨s⟩.

    Raises:
        MemoryError: One problem exceeds ``qattn.exact.memory.MEMORY_LIMIT``.
    """
    means, pairs, log_Z, of_h, of_J = [], [], [], [], []
    for part, piece in pieces(problems):
        h, J = piece.h.clone().requires_grad_(), piece.matrix.clone().requires_grad_()
        mean = exact.mean_spins(IsingBatch(h, J, piece.lengths, validate=False))[:, 0]
        (mean * direction[part]).sum().backward()
        assert h.grad is not None
        assert J.grad is not None
        means.append(mean.detach())
        pairs.append(exact.pair_correlations(piece)[:, 0])
        log_Z.append(exact.log_partition(piece)[:, 0])
        of_h.append(h.grad[:, 0])
        of_J.append(J.grad)
    energies = tuple(
        exact_distribution(h[0, :n], J[:n, :n])
        for h, J, n in zip(
            problems.h, problems.matrix, problems.num_active[:, 0].tolist(), strict=True
        )
    )

    def draw(num_reads: int, seed: int) -> SpinSamples:
        seeds = torch.Generator().manual_seed(seed)
        parts = [
            exact.sample(piece, num_reads, int(torch.randint(2**31, (), generator=seeds)))
            for _, piece in pieces(problems)
        ]
        return SpinSamples(torch.cat([part.spins for part in parts]))

    return Reference(
        problems,
        "enumeration",
        torch.cat(means),
        torch.cat(pairs),
        present_pairs(problems),
        energies,
        direction,
        torch.cat(of_h),
        torch.cat(of_J),
        torch.cat(log_Z),
        draw,
    )
