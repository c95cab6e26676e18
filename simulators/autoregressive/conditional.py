"""Parts of the logits of an autoregressive sampler."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qattn.simulators.autoregressive.models import Models


class Conditional(nn.Module, ABC):
    r"""A part of the logit ℓ_i = ln q(s_i = +1 | s_{<i}) - ln q(s_i = -1 | s_{<i}); parts add up.

    It is asked in two ways, which must agree: level by level while spins are drawn, with a state of
    its own (fields, caches), without gradients; and for all positions of given states at once, in
    PyTorch and differentiable in its parameters. What it says of position i depends on the spins
    of ``plan.scopes[i]`` only (on all earlier ones, where the graph is dense), and it is odd: where
    h = 0 and all spins change their sign, so does the logit.
    """

    @abstractmethod
    def begin(self, models: Models, num_reads: int) -> Any:
        """A state before the first draw of `num_reads` columns for each query."""

    @abstractmethod
    def logits(
        self, state: Any, level: slice, spins: Float[Tensor, "g n columns"]
    ) -> Float[Tensor, "g level columns"]:
        """The logits of a level.

        Args:
            state: What :meth:`begin` made; it may change.
            level: Positions that are drawn next.
            spins: Spins drawn so far in {-1, +1}, in the order of drawing; 0 where they are not
                drawn yet, or absent.
        """

    def drawn(self, state: Any, level: slice, spins: Float[Tensor, "g n columns"]) -> None:
        """A level was drawn: bring the state up to date. Does nothing unless overridden."""
        return

    def draw_all(
        self, models: Models, num_reads: int, generator: torch.Generator
    ) -> tuple[Float[Tensor, "g n columns"], Float[Tensor, "g columns"]] | None:
        """States and ln q as :meth:`AutoregressiveNet.draw` returns them, of this part alone.

        For a part that is quicker at once than level by level; None, unless overridden, means
        that it is not.
        """
        return None

    @abstractmethod
    def of_states(
        self,
        models: Models,
        spins: Float[Tensor, "g n columns"],
        positions: Int[Tensor, " chosen"],
    ) -> Float[Tensor, "g chosen columns"]:
        """The logits of some positions, each given the spins before it.

        Args:
            models: The models.
            spins: Whole states, in the order of drawing; 0 where a spin is absent.
            positions: Of which positions, ascending.
        """
