"""TAP's logits in the compiled kernel: all spins of a call, a tile of reads at a time."""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qattn import kernels
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.tap.spectrum import Spectrum


@dataclass(frozen=True)
class Compiled:
    """What the kernel takes: float32 on the CPU.

    Attributes:
        models: The models.
        spectrum: What their J asks for.
        rings: Whether to add the rings of the mode that stands out.
        couplings: J of each step and of Φ, (g, T + 1, n, n); None means that of the models.
        alpha: α, (T, n).
        gamma: γ of each step and of Φ, (T + 1, n).
        readout: Factors of the difference of two Φ, (n).
        residual: g and v, (n, n) each; None means none.
    """

    models: Models
    spectrum: Spectrum
    rings: bool
    couplings: Tensor | None
    alpha: Tensor
    gamma: Tensor
    readout: Tensor
    residual: tuple[Tensor, Tensor] | None

    @staticmethod
    def takes(models: Models, *parameters: Tensor) -> bool:
        """Whether there is a kernel for these; present spins must be the first of a query."""
        active = models.active
        return (
            models.h.numel() > 0
            and kernels.usable(models.h, models.J, *parameters)
            and (active is None or not bool((active[:, 1:] & ~active[:, :-1]).any()))
        )

    def draw(
        self, num_reads: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "g n columns"], Float[Tensor, "g columns"]]:
        """Draw reads, with the uniform numbers that drawing level by level would take."""
        g, n, q = self.models.h.shape
        uniform = torch.rand(n, g, q * num_reads, generator=generator)
        spins = torch.empty(g, n, q * num_reads)
        return spins, self._call(spins, uniform, None, None)

    def logits(self, spins: Tensor, positions: Tensor) -> Float[Tensor, "g chosen columns"]:
        """The logits of some positions of given states."""
        wanted = torch.zeros(self.models.num_spins, dtype=torch.uint8)
        wanted[positions] = 1
        logits = torch.empty_like(spins, memory_format=torch.contiguous_format)
        self._call(spins.contiguous(), None, wanted, logits)
        return logits[:, positions]

    def _call(
        self, spins: Tensor, uniform: Tensor | None, wanted: Tensor | None, logits: Tensor | None
    ) -> Tensor:
        """Fills spins, where uniform numbers are given, and logits; returns ln q."""
        models, lengths = self.models, None
        if models.active is not None:
            lengths = models.active.sum(1, dtype=torch.int32)
        g, n, columns = spins.shape
        log_q = torch.empty(g, columns, dtype=torch.float64)
        J = models.J.contiguous()
        of_net = [J, J.square(), self.couplings, self.alpha, self.gamma, self.readout]
        of_net += self.residual or (None, None)
        step, mode = self.spectrum
        of_reads = [models.h, step, mode if self.rings else None, lengths]
        inputs = [None if x is None else x.detach().contiguous() for x in (*of_net, *of_reads)]
        sizes = (g, n, models.num_queries, columns // models.num_queries)
        steps = len(self.alpha)
        outputs = (uniform, wanted, spins, logits, log_q)
        kernels.call("tap", *inputs[:8], steps, *inputs[8:], *outputs, *sizes)
        return log_q
