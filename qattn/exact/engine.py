"""What an engine for couplings with a structure is: a module of three functions."""

from typing import NamedTuple, Protocol

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from qattn.couplings import Couplings


class Solution(NamedTuple):
    """What an engine's forward pass gives.

    Attributes:
        up: Occupations ⟨n_j⟩ as sums of positive terms; 0 at absent spins.
        log_Z: Logarithm of Z.
        accurate: Whether all of it holds to rounding; False asks for float64.
        saved: What the backward pass takes again, as the engine likes.
    """

    up: Float[Tensor, "groups n queries"]
    log_Z: Float[Tensor, "groups queries"]
    accurate: Bool[Tensor, ""]
    saved: tuple[Tensor, ...]


def underflows(total: Float[Tensor, "g q"], lengths: Int[Tensor, "#g q"]) -> bool:
    """Whether a sum of occupations is so small that terms below the range of its dtype matter."""
    limits = torch.finfo(total.dtype)
    return bool(((total < lengths * limits.tiny / limits.eps) & (lengths > 0)).any())


def present(
    num_spins: int, lengths: Int[Tensor, "#g q"], device: torch.device
) -> Bool[Tensor, "#g n q"]:
    """True where a query has a spin."""
    return (torch.arange(num_spins, device="cpu")[:, None] < lengths[:, None]).to(device)


def normalized(weights: Float[Tensor, "*shape"], dim: int = -1) -> Float[Tensor, "*shape"]:
    """Weights that sum to one along `dim`; zeros stay, without gradient."""
    total = weights.sum(dim, keepdim=True)
    return weights / total.masked_fill(total == 0, torch.inf)


class Engine(Protocol):
    """Functions of an engine. Lengths are on the CPU, (1 or groups, queries), in any order."""

    def forward(
        self,
        h: Float[Tensor, "groups n queries"],
        couplings: Couplings,
        lengths: Int[Tensor, "#groups queries"],
    ) -> Solution:
        """Occupations and log Z."""

    def backward(
        self,
        grad_up: Float[Tensor, "groups n queries"] | None,
        grad_log_Z: Float[Tensor, "groups queries"] | None,
        h: Float[Tensor, "groups n queries"],
        couplings: Couplings,
        lengths: Int[Tensor, "#groups queries"],
        solution: Solution,
    ) -> tuple[Float[Tensor, "groups n queries"], Tensor]:
        """Gradients in h and in the couplings' values; one of the first two is there."""

    def draw(
        self,
        h: Float[Tensor, "groups n queries"],
        couplings: Couplings,
        lengths: Int[Tensor, "#groups queries"],
        num_reads: int,
        generator: torch.Generator | None,
    ) -> Int8[Tensor, "groups queries reads n"]:
        """Independent reads; what stands at absent spins is ignored."""
