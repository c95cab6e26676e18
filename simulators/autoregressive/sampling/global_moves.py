r"""Global moves inside parallel tempering: every replica may jump to a draw of q at its own β.

.. math::
    \min\Big(1, \frac{e^{-\beta_k E(s')}\, q_{\beta_k}(s)}{e^{-\beta_k E(s)}\, q_{\beta_k}(s')}
    \Big)

is the probability of the jump from s to s', which leaves the distribution of each replica, and with
it the joint one, as it is. At β = 0 every draw is taken.
"""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn.chains.tempering import Moves
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.sampling.sampler import Sampler, as_groups, at, selected

CHUNK_ELEMENTS = 1 << 24
"""Numbers in the couplings and spins of replicas that are moved at a time."""


class GlobalMoves(Moves):
    """What :class:`qattn.chains.Tempering` takes as `moves`.

    Args:
        sampler: Where proposals come from.
        batch: The models that are tempered.
        every: Sweeps from one proposal to the next.

    Attributes:
        proposed: Number of proposals at the target β; ...
        accepted: ... and how many were accepted.
    """

    def __init__(self, sampler: Sampler, batch: IsingBatch, every: int = 10) -> None:
        self.sampler, self.batch, self.every = sampler, batch.dense(), every
        self.proposed, self.accepted = 0, 0.0

    @torch.no_grad()
    def __call__(
        self,
        g: slice,
        q: slice,
        betas: Float[Tensor, "g q temperatures"],
        spins: Int8[Tensor, "g q temperatures sets n"],
        generator: torch.Generator,
    ) -> Int8[Tensor, "g q temperatures sets n"]:
        """Where the replicas of some groups and queries are after a proposal to each.

        Args:
            g: The groups.
            q: Their queries.
            betas: Inverse temperatures, relative to the target's.
            spins: Configurations by temperature.
            generator: Source of randomness.
        """
        G, Q, n = self.batch.h.shape
        # Every replica's temperature is a group of one query.
        problems = torch.cartesian_prod(torch.arange(G)[g], torch.arange(Q)[q])
        problems = problems.repeat_interleave(betas.shape[2], 0)
        models = at(as_groups(self.batch, problems), betas.flatten().double())
        now = spins.flatten(0, 2).unsqueeze(1)
        size = max(1, CHUNK_ELEMENTS // (n * (n + spins.shape[3])))
        moved = [
            self._moved(selected(models, part), now[part], generator)
            for part in torch.arange(len(now)).split(size)
        ]
        found = torch.cat(moved).view(spins.shape)
        jumps = (found != spins)[:, :, -1].any(-1)
        self.proposed += jumps.numel()
        self.accepted += float(jumps.sum())
        return found

    def _moved(
        self, models: IsingBatch, spins: Int8[Tensor, "g 1 sets n"], generator: torch.Generator
    ) -> Int8[Tensor, "g 1 sets n"]:
        before = self.sampler.log_q(models, spins)
        after = self.sampler.draw(models, spins.shape[2], generator)
        gain = after.log_weights - before.log_weights
        u = torch.rand(gain.shape, generator=generator, dtype=gain.dtype, device=gain.device)
        return torch.where((u < gain.exp()).unsqueeze(-1), after.spins, spins)
