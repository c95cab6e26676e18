r"""Variational autoregressive networks: Wu, Wang and Zhang, Phys. Rev. Lett. 122, 080602 (2019).

Masked layers turn all spins into all logits ℓ_i(s_{<i}) at once. Without fields q is made even,

.. math:: q(s) = \tfrac12 \big(\hat q(s) + \hat q(-s)\big), \qquad
          \hat q(s) = \prod_i \sigma\big(s_i \ell_i(s_{<i})\big).

As published a draw is one pass of the whole network for every spin, of which all logits but one are
thrown away. With a cache each layer computes at spin i what belongs to it, from what it computed
before: the same draws, for the work of one pass.

Layers are those of the paper: a masked layer that does not see the spin itself, then PReLU (0.5 at
the start) and masked layers that do; weights uniform as PyTorch's are, times
√(entries / entries in the mask). MADE (:class:`MADE`) has a number of units for each spin,
:class:`PixelCNN` channels on a square lattice, with zeros beyond its border. States are columns,
(spins, reads).
"""

import itertools
import math

import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, logsigmoid, prelu


class Masked(nn.Module):
    """A masked layer and, unless it is the last, its PReLU.

    Args:
        weight: Uniform weights, outputs first.
        mask: Which may differ from zero; of the same number of dimensions.
        bias: One of each unit or channel, or None.
        slopes: Number of slopes of PReLU; 0 for a last layer.
    """

    def __init__(self, weight: Tensor, mask: Tensor, bias: Tensor | None, slopes: int) -> None:
        super().__init__()
        mask = mask.expand_as(weight)
        self.register_buffer("mask", mask)
        self.weight = nn.Parameter(weight * mask * math.sqrt(mask.numel() / float(mask.sum())))
        self.bias = None if bias is None else nn.Parameter(bias)
        self.slopes = nn.Parameter(torch.full((slopes,), 0.5)) if slopes else None

    def masked(self) -> Tensor:
        """The weights, 0 where they may not be."""
        return self.weight * self.mask

    def at(self, weight: Tensor, x: Tensor, i: int) -> Tensor:
        """Outputs of spin i alone, (channels, reads), from inputs that are known up to it."""
        raise NotImplementedError

    def forward(self, weight: Tensor, x: Tensor) -> Tensor:
        """All outputs, (channels, spins, reads)."""
        raise NotImplementedError


class MaskedLinear(Masked):
    """Units for each of n spins, with weights of shape (out, n, in, n)."""

    def __init__(self, n: int, channels: tuple[int, int], *, first: bool, last: bool, bias: bool):
        before, after = channels
        bound = 1 / math.sqrt(before * n)
        weight = torch.empty(after, n, before, n).uniform_(-bound, bound)
        mask = torch.ones(n, n).tril(-1 if first else 0)[:, None]
        biases = torch.empty(after, n, 1).uniform_(-bound, bound) if bias else None
        super().__init__(weight, mask, biases, 0 if last else after * n)

    def forward(self, weight: Tensor, x: Tensor) -> Tensor:
        """All outputs: one product of matrices."""
        y = (weight.flatten(2).flatten(0, 1) @ x.flatten(0, 1)).unflatten(0, weight.shape[:2])
        y = y if self.bias is None else y + self.bias
        if self.slopes is None:
            return y
        return torch.where(y > 0, y, y * self.slopes.view(*y.shape[:2], 1))

    def at(self, weight: Tensor, x: Tensor, i: int) -> Tensor:
        """Outputs of spin i from the inputs up to it."""
        y = weight[:, i, :, : i + 1].flatten(1) @ x[:, : i + 1].flatten(0, 1)
        y = y if self.bias is None else y + self.bias[:, i]
        if self.slopes is None:
            return y
        return torch.where(y > 0, y, y * self.slopes.view(len(y), -1)[:, i, None])


class MaskedConvolution(Masked):
    """Channels on a lattice of L rows of L, with weights of shape (out, in, 2K + 1, 2K + 1).

    A site sees the rows above it, and its own up to itself.
    """

    def __init__(
        self, L: int, K: int, channels: tuple[int, int], *, first: bool, last: bool, bias: bool
    ):
        before, after = channels
        self.L, self.K = L, K
        bound = 1 / math.sqrt(before * (2 * K + 1) ** 2)
        weight = torch.empty(after, before, 2 * K + 1, 2 * K + 1).uniform_(-bound, bound)
        mask = torch.ones(2 * K + 1, 2 * K + 1)
        mask[K + 1 :] = 0
        mask[K, K + (0 if first else 1) :] = 0
        biases = torch.empty(after, 1, 1).uniform_(-bound, bound) if bias else None
        super().__init__(weight, mask, biases, 0 if last else after)

    def forward(self, weight: Tensor, x: Tensor) -> Tensor:
        """All outputs: a convolution of the whole lattice."""
        images = x.permute(2, 0, 1).unflatten(2, (self.L, self.L))
        bias = None if self.bias is None else self.bias.flatten()
        y = conv2d(images, weight, bias, padding=self.K)
        y = y if self.slopes is None else prelu(y, self.slopes)
        return y.flatten(2).permute(1, 2, 0)

    def at(self, weight: Tensor, x: Tensor, i: int) -> Tensor:
        """Outputs of site i from the window around it."""
        L, K = self.L, self.K
        row, col = divmod(i, L)
        # The part of the window that is on the lattice.
        up, left, right = max(0, row - K), max(0, col - K), min(L, col + K + 1)
        window = x.unflatten(1, (L, L))[:, up : row + 1, left:right]
        part = weight[:, :, up - row + K : K + 1, left - col + K : right - col + K]
        y = part.flatten(1) @ window.flatten(0, 2)
        y = y if self.bias is None else y + self.bias[:, 0]
        return y if self.slopes is None else torch.where(y > 0, y, y * self.slopes[:, None])


class Van(nn.Module):
    """A variational autoregressive network over layers.

    Args:
        layers: Masked layers from 1 channel to 1.
        num_spins: Number of spins.
        cached: Whether draws keep what layers computed.
        even: Whether q(s) = q(-s).
    """

    def __init__(
        self, layers: list[Masked], num_spins: int, *, cached: bool = False, even: bool = True
    ) -> None:
        super().__init__()
        self.layers = nn.ModuleList(layers)
        self.num_spins, self.cached, self.even = num_spins, cached, even

    def logits(self, spins: Tensor, weights: list[Tensor] | None = None) -> Tensor:
        """All logits of states, (spins, reads)."""
        weights = [layer.masked() for layer in self.layers] if weights is None else weights
        x = spins.unsqueeze(0)
        for layer, weight in zip(self.layers, weights, strict=True):
            x = layer(weight, x)
        return x[0]

    def log_q(self, spins: Tensor, beta: float = 1.0) -> Tensor:
        """ln q of states (spins, reads), float64, differentiable; no function of β."""
        if not self.even:
            return logsigmoid(spins * self.logits(spins)).sum(0, dtype=torch.float64)
        both = torch.cat([spins, -spins], 1)
        one, other = logsigmoid(both * self.logits(both)).sum(0, dtype=torch.float64).chunk(2)
        return torch.logaddexp(one, other) - math.log(2)

    @torch.no_grad()
    def sample(self, num_reads: int, generator: torch.Generator, beta: float = 1.0) -> Tensor:
        """Reads, (spins, reads)."""
        weights = [layer.masked() for layer in self.layers]
        spins = torch.zeros(self.num_spins, num_reads)
        kept = [spins.unsqueeze(0)]
        if self.cached:
            widths = [len(weight) for weight in weights]
            kept += [spins.new_zeros(width, *spins.shape) for width in widths]
        for i in range(self.num_spins):
            if self.cached:
                pairs = itertools.pairwise(kept)
                for layer, weight, (x, y) in zip(self.layers, weights, pairs, strict=True):
                    y[:, i] = layer.at(weight, x, i)
                logit = kept[-1][0, i]
            else:
                logit = self.logits(spins, weights)[i]
            u = torch.rand(num_reads, generator=generator)
            spins[i] = torch.where(u < torch.sigmoid(logit), 1.0, -1.0)
        if self.even:
            spins *= 2 * torch.randint(2, (num_reads,), generator=generator) - 1
        return spins

    @torch.no_grad()
    def draw(
        self, num_reads: int, generator: torch.Generator, beta: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Reads and their ln q."""
        spins = self.sample(num_reads, generator)
        return spins, self.log_q(spins)


def _channels(depth: int, width: int) -> list[tuple[int, int]]:
    """Channels before and after each layer."""
    each = [1, *[width] * (depth - 1), 1]
    return list(itertools.pairwise(each))


class MADE(Van):
    """Dense masked layers, `width` units for each spin.

    Published for the model of Sherrington and Kirkpatrick: depth 1 (no hidden units) at 20 spins,
    depth 2 and width 5 for inverse problems, no biases; on lattices depth 3 and width 4, biases.
    """

    def __init__(
        self, num_spins: int, depth: int, width: int, *, bias: bool = False, **options: bool
    ) -> None:
        layers: list[Masked] = [
            MaskedLinear(num_spins, c, first=k == 0, last=k == depth - 1, bias=bias)
            for k, c in enumerate(_channels(depth, width))
        ]
        super().__init__(layers, num_spins, **options)


class PixelCNN(Van):
    """Masked convolutions on a square lattice of side `size`.

    Published: depth 3, width 64, windows of 13 × 13 (half 6), biases.
    """

    def __init__(
        self, size: int, depth: int, width: int, half: int, *, bias: bool = True, **options: bool
    ) -> None:
        layers: list[Masked] = [
            MaskedConvolution(size, half, c, first=k == 0, last=k == depth - 1, bias=bias)
            for k, c in enumerate(_channels(depth, width))
        ]
        super().__init__(layers, size * size, **options)
