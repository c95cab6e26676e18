r"""A layer of the transformer: streams that know the sign of the spins, and streams that do not.

A position has an *even* stream e and an *odd* stream o: when all spins (and fields) change their
sign, e stays and o changes its sign. Neither sees the position's own spin s, which enters only the
key and the value that later positions read: so that what is drawn never sees itself, which takes
two-stream attention (Yang et al., arXiv 1906.08237) two passes. With x̂ = x/√(1 + mean x²),

.. math::
    \mathrm{query} = A\hat e, \quad
    \mathrm{key} = K\hat e + s\,K'\hat o, \quad
    \mathrm{value} = V\hat o + s\,V'\hat e, \\
    o \leftarrow o + C\,\mathrm{attention}, \quad
    o \leftarrow o + D\big(\tanh(U\hat o) \odot G\hat e\big), \quad
    e \leftarrow e + D'\big(U\hat o \tanh(U\hat o) \odot G\hat e\big).

Queries and keys are even, values odd, and so is every sum: no average over s and -s is needed.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from qattn.simulators.autoregressive.head.scopes import BUCKETS


def matrix(rows: int, columns: int, generator: torch.Generator, scale: float = 1.0) -> nn.Parameter:
    """A matrix that keeps the scale of what it multiplies, times `scale`."""
    return nn.Parameter(scale * torch.randn(rows, columns, generator=generator) / columns**0.5)


def times(weight: Tensor, x: Tensor) -> Tensor:
    """A matrix times the embeddings of positions, (positions, embedding, columns)."""
    return torch.bmm(weight.expand(len(x), *weight.shape), x)


def normed(x: Tensor) -> Tensor:
    """x/√(1 + mean x²): odd, and what is small stays small."""
    return x * torch.rsqrt(1 + x.square().mean(1, keepdim=True))


class Layer(nn.Module):
    """See the module. Streams have shape (positions, width, columns)."""

    def __init__(self, width: int, heads: int, depth: int, generator: torch.Generator) -> None:
        super().__init__()
        small, self.heads = (2 * depth) ** -0.5, heads
        self.query = matrix(width, width, generator)
        self.key = matrix(width, 2 * width, generator)
        self.value = matrix(width, 2 * width, generator)
        self.out = matrix(width, width, generator, small)
        self.up = matrix(2 * width, width, generator)
        self.gate = matrix(2 * width, width, generator)
        self.down_odd = matrix(width, 2 * width, generator, small)
        self.down_even = matrix(width, 2 * width, generator, small)
        self.first_key = nn.Parameter(torch.zeros(heads, width // heads, 1))
        # Biases of the scores, for each head: times βJ, times |βJ|, and of each distance.
        self.of_coupling = nn.Parameter(torch.zeros(2, heads))
        self.of_distance = nn.Parameter(torch.zeros(BUCKETS + 2, heads))

    def queries(self, even: Float[Tensor, "m d c"]) -> Float[Tensor, "m h e c"]:
        """Queries of positions, scaled."""
        found = times(self.query, normed(even)).unflatten(1, (self.heads, -1))
        return found * found.shape[2] ** -0.5

    def keys_and_values(
        self,
        even: Float[Tensor, "m d c"],
        odd: Float[Tensor, "m d c"],
        spins: Float[Tensor, "m c"],
    ) -> tuple[Float[Tensor, "m h e c"], Float[Tensor, "m h e c"]]:
        """What later positions read of positions whose spins are drawn."""
        even, odd, spins = normed(even), normed(odd), spins.unsqueeze(1)
        keys = times(self.key, torch.cat([even, spins * odd], 1))
        values = times(self.value, torch.cat([odd, spins * even], 1))
        return keys.unflatten(1, (self.heads, -1)), values.unflatten(1, (self.heads, -1))

    def updated(
        self,
        even: Float[Tensor, "m d c"],
        odd: Float[Tensor, "m d c"],
        attention: Float[Tensor, "m h e c"],
    ) -> tuple[Float[Tensor, "m d c"], Float[Tensor, "m d c"]]:
        """Both streams after the attention."""
        odd = odd + times(self.out, attention.flatten(1, 2))
        up, gate = times(self.up, normed(odd)), times(self.gate, normed(even))
        inner = up.tanh() * gate
        return even + times(self.down_even, inner * up), odd + times(self.down_odd, inner)

    def biases(
        self, J: Float[Tensor, "m w g"], bucket: Tensor, valid: Tensor
    ) -> Float[Tensor, "m w h g 1"]:
        """Biases of the scores of keys, from βJ and graph distance; -∞ at padding."""
        J = J.unsqueeze(2)
        of_J, of_size = self.of_coupling[:, :, None]
        bias = of_J * J + of_size * J.abs() + self.of_distance[bucket].unsqueeze(3)
        return bias.masked_fill(~valid[:, :, None, None], -torch.inf).unsqueeze(4)
