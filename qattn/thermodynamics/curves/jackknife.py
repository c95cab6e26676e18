r"""Averages over reads that come in blocks, and their standard errors by the jackknife.

Reads of a temperature are cut into :data:`BLOCKS` successive blocks, so that reads that follow each
other in a chain or on a device, and resemble each other, are in one block as a rule. The standard
error of whatever is computed from the reads comes from computing it again without each block,

.. math:: \sigma^2 = \frac{B - 1}{B} \sum_b (\theta_{(b)} - \bar\theta)^2

(Efron and Stein, Ann. Statist. 9, 586 (1981)).

Averages over several independent states take reads of different blocks. With four of them,

.. math:: \chi_{SG} = \frac{1}{4n} \Big\langle \Big(\sum_j (s^1_j - s^3_j)(s^2_j - s^4_j)\Big)^2
          \Big\rangle,

because half the mean of (s¹ - s³)(s¹ - s³)ᵀ is the covariance: without the bias that the square of
an estimated covariance has.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

BLOCKS = 23
"""Number of blocks, a prime: then a read, and those of one, two and three times some number of
blocks further on, are always of four different blocks."""


def whole_blocks(num_reads: int) -> int:
    """The least number of reads, not below `num_reads`, that is cut into blocks of one size."""
    return -(-num_reads // BLOCKS) * BLOCKS


def kept_blocks() -> Float[Tensor, "replicates blocks"]:
    """1 where a replicate has a block: first all of them, then all but one each."""
    one = torch.ones(1, BLOCKS, dtype=torch.float64)
    return torch.cat([one, 1 - torch.eye(BLOCKS, dtype=torch.float64)])


def standard_error(replicates: Tensor) -> Tensor:
    """From values without one block each, along the first axis."""
    return (replicates.var(0, correction=0) * (len(replicates) - 1)).sqrt()


def of_one_state(
    spins: Int8[Tensor, "reads n"],
    energies: Float[Tensor, " reads"],
    weights: Float[Tensor, "replicates reads"],
    num_spins: int,
) -> tuple[Tensor, ...]:
    """⟨E⟩, Var(E), ⟨m⟩, Var(m), ⟨|m|⟩, ⟨m²⟩ and ⟨m⁴⟩ of each replicate; weights sum to 1."""
    centre = energies.mean()
    E, m = energies - centre, spins.sum(1).double() / max(num_spins, 1)
    features = torch.stack([E, E.square(), m, m.abs(), m**2, m**4], 1)
    first, second, mean, *means = (weights @ features).unbind(1)
    variance = means[1] - mean.square()
    return first + centre, second - first.square(), mean, variance, *means


def of_several_states(
    spins: Int8[Tensor, "blocks reads n"],
    weights: Float[Tensor, "replicates blocks reads"],
    num_spins: int,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """χ_SG, its part with j ≠ k, ⟨q²⟩ and ⟨q⁴⟩ of each replicate; a block has no order."""
    n, s = max(num_spins, 1), spins.float()
    pairs = weights.new_zeros(len(weights), 3)
    fours = weights.new_zeros(len(weights), 3)
    for shift in range(1, (BLOCKS + 1) // 2):
        # Each read with those that are at its place one, two and three shifts on.
        s1, s2, s3 = (s.roll(-k * shift, 0) for k in (1, 2, 3))
        q = (s * s1).sum(2).double() / n
        of_pairs = weights * weights.roll(-shift, 1)
        pairs += of_pairs.flatten(1) @ torch.stack([torch.ones_like(q), q**2, q**4], 2).flatten(
            0, 1
        )
        products = (s - s2) * (s1 - s3)
        all_pairs = products.sum(2).square()
        cross = all_pairs - products.square().sum(2)
        squares = torch.stack([torch.ones_like(cross), all_pairs, cross], 2)
        of_fours = of_pairs * of_pairs.roll(-2 * shift, 1)
        fours += of_fours.flatten(1) @ squares.double().flatten(0, 1)
    total, q2, q4 = pairs.unbind(1)
    of_fours, glass, cross = fours.unbind(1)
    return glass / (4 * n * of_fours), cross / (4 * n * of_fours), q2 / total, q4 / total
