"""Reads that keep a net from losing states: its own after Gibbs sweeps, and those of tempering.

No sweep raises the divergence of reads from the Boltzmann distribution p, so that reads of the net
are never nearer to p than they are after sweeps, and q = p stays a fixed point. They find again
what sweeps can reach; parallel tempering, which starts anew at β = 0 over and over, finds the rest.
"""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.chains import Tempering
from qattn.chains.sweeps import Chains
from qattn.fitting.settings import FitSettings
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive import AutoregressiveNet
from qattn.simulators.autoregressive.models import as_columns, as_reads

ADAPTATIONS, ADAPTATION_SWEEPS = 5, 50
"""How often the ladder of temperatures is spaced anew, and the sweeps before each."""


class Refined:
    """Where the reads come from; chains of parallel tempering go on from step to step.

    Args:
        settings: How many reads, and how many sweeps.
        generator: Source of all randomness.
    """

    def __init__(self, settings: FitSettings, generator: torch.Generator) -> None:
        self.settings, self.generator = settings, generator
        self._tempering: Tempering | None = None
        self._state: dict[str, Any] = {}

    @torch.no_grad()
    def reads(
        self,
        net: AutoregressiveNet,
        batch: IsingBatch,
        spins: Float[Tensor, "g n columns"],
        is_target: bool,
    ) -> Float[Tensor, "g n others"]:
        """Half of a step's reads after sweeps, and where β is the target those of tempering.

        Args:
            net: The net.
            batch: The models of the step, with their β.
            spins: Its reads, in the order of drawing.
            is_target: Whether β is the target.
        """
        own = as_reads(spins, net.plan, batch.num_queries)
        chains = Chains(batch, own[:, :, : max(1, own.shape[2] // 2)])
        chains.sweep(self.settings.distil_sweeps, self.generator)
        found = [chains.spins]
        if is_target and self.settings.tempering_reads:
            found.append(self._tempered(batch))
        return as_columns(torch.cat(found, 2), net.plan, spins.dtype)

    def state_dict(self) -> dict[str, Any]:
        """The chains of tempering, if there are any."""
        return {} if self._tempering is None else self._tempering.state_dict()

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        self._state = state

    def _tempered(self, batch: IsingBatch) -> Tensor:
        if self._tempering is None:
            shape = (*batch.h.shape[:2], self.settings.tempering_reads, batch.num_spins)
            starts = torch.ones(shape, dtype=torch.int8, device=batch.h.device)
            starts[:, :, 1::2] = -1
            self._tempering = Tempering(batch, starts, self.generator)
            if self._state:
                self._tempering.load_state_dict(self._state)
            else:
                for _ in range(ADAPTATIONS):
                    self._tempering.adapt(ADAPTATION_SWEEPS)
        self._tempering.run(1)
        return self._tempering.spins
