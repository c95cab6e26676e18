"""Gibbs sweeps in the compiled kernel: all sweeps of a call while the chains are in the cache."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn import kernels
from qattn.chains.neighbours import Sweepable, neighbours_of


class CompiledSweeper:
    """What :class:`qattn.chains.sweeps.Sweeper` is, for chains on the CPU, with noise of its own.

    Args:
        h: Local fields of each column at β = 1.
        J: Couplings at β = 1.
        active: Where a column has a spin, its first ones; None means everywhere.
    """

    def __init__(
        self,
        h: Float[Tensor, "g n columns"],
        J: Sweepable,
        active: Bool[Tensor, "g n columns"] | None = None,
    ) -> None:
        self.h = h.float().contiguous()
        self.lengths = None if active is None else active.sum(1, dtype=torch.int32).contiguous()
        neighbours = neighbours_of(J)
        if neighbours is not None:
            others, couplings = neighbours
            self.name = "gibbs_neighbours"
            self.couplings: tuple[Tensor | int, ...] = (
                couplings.float().contiguous(),
                others.contiguous(),
                others.shape[1],
            )
        elif isinstance(J, Tensor):
            self.name, self.couplings = "gibbs_dense", (J.float().contiguous(),)
        else:
            assert J.kind == "low_rank"
            self.name = "gibbs_product"
            self.couplings = J.values.float().contiguous(), *J.options

    def arrange(self, spins: Float[Tensor, "g n columns"]) -> Float[Tensor, "g n columns"]:
        """A copy of spins of the models."""
        return spins.clone(memory_format=torch.contiguous_format)

    def restored(self, s: Float[Tensor, "g n columns"]) -> Float[Tensor, "g n columns"]:
        """The spins: they are in the models' order."""
        return s

    def sweep(
        self,
        s: Float[Tensor, "g n columns"],
        generator: torch.Generator,
        temperature: Float[Tensor, "g 1 columns"] | None = None,
        num_sweeps: int = 1,
    ) -> None:
        """Draw every spin anew, in place; the generator gives the seed of the noise."""
        seed = int(torch.randint(2**63 - 1, (), generator=generator))
        self._call(s, None, temperature, num_sweeps, seed)

    def local_fields(self, s: Float[Tensor, "g n columns"]) -> Float[Tensor, "g n columns"]:
        """b_j = h_j + Σ_k J_jk s_k, at β = 1."""
        b = torch.empty_like(s)
        self._call(s, b, None, 0, 0)
        return b

    def _call(
        self, s: Tensor, b: Tensor | None, temperature: Tensor | None, num_sweeps: int, seed: int
    ) -> None:
        T = None if temperature is None else temperature.contiguous()
        sizes = (*s.shape, num_sweeps, seed)
        kernels.call(self.name, *self.couplings, s, b, self.h, self.lengths, T, *sizes)
