r"""Independence Metropolis with proposals from q, between Gibbs sweeps.

A state s goes to a fresh draw s' of q with probability

.. math:: \min\Big(1, \frac{e^{-\beta E(s')} / q(s')}{e^{-\beta E(s)} / q(s)}\Big),

which leaves p as it is (Hastings, Biometrika 57, 97 (1970)), and so does a sweep: draws cross what
sweeps cannot, and sweeps mend what draws get wrong. Each read is the end of a chain of its own.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.chains import Chains
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.sampling.sampler import Sampler
from qattn.simulators.autoregressive.settings import NetSettings


@torch.no_grad()
def metropolis(
    sampler: Sampler,
    batch: IsingBatch,
    spins: Int8[Tensor, "g q reads n"],
    num_steps: int,
    generator: torch.Generator,
    settings: list[NetSettings] | None = None,
) -> tuple[Int8[Tensor, "g q reads n"], Float[Tensor, "g q"]]:
    """Chains from given states: a sweep, then a proposal, so many times.

    Args:
        sampler: Where proposals come from.
        batch: The models.
        spins: Where the chains start.
        num_steps: How many times.
        generator: Source of randomness, on the device of the batch.
        settings: What the net of each group is made of; None means the sampler's own.

    Returns:
        Where the chains are, and the share of the proposals that were accepted.
    """
    reads, accepted = spins.shape[2], torch.zeros(spins.shape[:2], device=spins.device).double()
    for _ in range(num_steps):
        chains = Chains(batch, spins)
        chains.sweep(1, generator)
        swept = sampler.log_q(batch, chains.spins, settings)
        proposed = sampler.draw(batch, reads, generator, settings)
        gain = proposed.log_weights - swept.log_weights
        u = torch.rand(gain.shape, generator=generator, dtype=gain.dtype, device=gain.device)
        taken = u < gain.exp()
        spins = torch.where(taken.unsqueeze(-1), proposed.spins, swept.spins)
        accepted += taken.double().mean(-1) / num_steps
    return spins, accepted
