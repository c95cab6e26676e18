r"""A layer of the transformer: a stream that knows the signs of the spins, and one that does not.

A position has an *even* stream e and an *odd* stream o: when all spins (and fields) change their
sign, e stays and o changes its sign. With x̂ = x/√(1 + mean x²), e⁰ what is known of a site whatever
the spins, and the scope of w earlier spins s_j,

.. math::
    a_j \propto \exp\Big(\frac{Q\hat e \cdot K\hat e^0_j}{\sqrt{d_\text{head}}} + b_j\Big), \qquad
    o \leftarrow o + C \sqrt{w} \sum_j a_j (1 + c\,x_j)\, s_j V \hat e^0_j, \\
    o \leftarrow o + D\big(\tanh(U\hat o) \odot G\hat e\big), \qquad
    e \leftarrow e + D'\big(U\hat o \tanh(U\hat o) \odot G\hat e\big),

x_j the coupling βJ_ij times √degree, b_j learned from x_j, \|x_j\| and the distance in the graph,
for each head. Queries and keys are even, values odd, and so is every sum: no average over s and -s
is needed. Values have the signs of spins and add up at random: √w keeps their scale.

Keys and values are those of sites; a spin enters as the sign of its value. So they are computed
once, not for each read; a position depends on its scope alone however many layers there are; and
attention is products of small matrices, over all reads at once. (A fused kernel such as
scaled_dot_product_attention has no place for signs between the softmax and the values.) Keys and
values from the streams of drawn spins, as in two-stream attention (Yang et al., arXiv 1906.08237),
were tried: a draw takes several times as long, spins outside the scope have an influence from the
second layer on, and glasses of Sherrington and Kirkpatrick were fitted no better in equal time.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from qattn.simulators.autoregressive.head.scopes import BUCKETS


class Table(NamedTuple):
    """What a layer's attention needs beside the spins: keys and values of slots, of positions more.

    Attributes:
        keys: Of every slot, over √d_head.
        values: Of every slot, 0 for slot 0.
        bias: Of the score of each key of a position, -∞ for padding.
        factor: (1 + c x) √w of each key of a position.
    """

    keys: Float[Tensor, "slots h e"]
    values: Float[Tensor, "slots h e"]
    bias: Float[Tensor, "m h keys g"]
    factor: Float[Tensor, "m h keys g"]

    def of(self, rows: slice, width: int) -> "Table":
        """Of some positions, the first keys."""
        return self._replace(bias=self.bias[rows, :, :width], factor=self.factor[rows, :, :width])


class Layer(nn.Module):
    """See the module. Streams have shape (positions, width, columns)."""

    def __init__(
        self, width: int, heads: int, depth: int, last: bool, generator: torch.Generator
    ) -> None:
        super().__init__()
        small, self.heads = (2 * depth) ** -0.5, heads
        self.query = matrix(width, width, generator)
        self.key = matrix(width, width, generator)
        self.value = matrix(width, width, generator)
        self.out = matrix(width, width, generator, small)
        self.up = matrix(2 * width, width, generator)
        self.gate = matrix(2 * width, width, generator)
        self.down_odd = matrix(width, 2 * width, generator, small)
        # Nothing reads the even stream of the last layer.
        self.down_even = None if last else matrix(width, 2 * width, generator, small)
        self.first_key = nn.Parameter(torch.zeros(1, width))
        # Of each head: b from x and |x|, b from the distance, and c.
        self.of_coupling = nn.Parameter(torch.zeros(2, heads, 1, 1))
        self.of_distance = nn.Parameter(torch.zeros(BUCKETS + 2, heads))
        self.sign = nn.Parameter(torch.zeros(heads, 1, 1))

    def table(
        self,
        sites: Float[Tensor, "n d"],
        x: Float[Tensor, "m keys g"],
        bucket: Int[Tensor, "m keys"],
        valid: Bool[Tensor, "m keys"],
    ) -> Table:
        """Keys and values of all sites, biases and factors of some positions."""
        sites = normed(sites)
        keys = torch.cat([self.first_key, sites @ self.key.mT]).unflatten(1, (self.heads, -1))
        values = nn.functional.pad(sites @ self.value.mT, (0, 0, 1, 0))
        x = x.unsqueeze(1)
        of_x, of_size = self.of_coupling
        bias = of_x * x + of_size * x.abs() + self.of_distance[bucket].transpose(1, 2).unsqueeze(3)
        size = (valid.sum(1) - 1).to(x.dtype).sqrt().view(-1, 1, 1, 1)
        return Table(
            keys * keys.shape[2] ** -0.5,
            values.unflatten(1, (self.heads, -1)),
            bias.masked_fill(~valid[:, None, :, None], -torch.inf),
            (1 + self.sign * x) * size,
        )

    def forward(
        self,
        streams: tuple[Float[Tensor, "m d c"], Float[Tensor, "m d c"]],
        table: Table,
        index: Int[Tensor, "m keys"],
        spins: Float[Tensor, "m keys c"],
        absent: Bool[Tensor, "m keys c"] | None,
    ) -> tuple[Float[Tensor, "m d c"], Float[Tensor, "m d c"]]:
        """Both streams of positions after the layer.

        Args:
            streams: Even and odd.
            table: Of these positions.
            index: Slots of their keys.
            spins: Of their keys; 0 for slot 0.
            absent: Keys that a column does not have.
        """
        even, odd = streams
        odd = odd + times(self.out, self._attention(even, table, index, spins, absent))
        up, gate = times(self.up, normed(odd)), times(self.gate, normed(even))
        inner = up.tanh() * gate
        odd = odd + times(self.down_odd, inner)
        if self.down_even is not None:
            even = even + times(self.down_even, inner * up)
        return even, odd

    def _attention(
        self, even: Tensor, table: Table, index: Tensor, spins: Tensor, absent: Tensor | None
    ) -> Tensor:
        m, width, columns = even.shape
        groups = (table.bias.shape[3], -1)
        query = times(self.query, normed(even)).reshape(m * self.heads, -1, columns)
        keys = table.keys[index].transpose(1, 2).flatten(0, 1)
        values = table.values[index].permute(0, 2, 3, 1).flatten(0, 1)
        # Scores of (positions, heads, keys, groups, columns of a group).
        scores = torch.bmm(keys, query).view(m, self.heads, -1, columns)
        scores = scores.unflatten(3, groups) + table.bias.unsqueeze(4)
        if absent is not None:
            scores = scores.masked_fill(absent.unflatten(2, groups).unsqueeze(1), -torch.inf)
        signed = scores.softmax(2) * table.factor.unsqueeze(4)
        signed = signed * spins.unflatten(2, groups).unsqueeze(1)
        return torch.bmm(values, signed.view(m * self.heads, -1, columns)).view(m, width, columns)


def matrix(rows: int, columns: int, generator: torch.Generator, scale: float = 1.0) -> nn.Parameter:
    """A matrix that keeps the scale of what it multiplies, times `scale`."""
    return nn.Parameter(scale * torch.randn(rows, columns, generator=generator) / columns**0.5)


def times(weight: Tensor, x: Tensor) -> Tensor:
    """A matrix times the embeddings of positions, (positions, embedding, columns)."""
    if x.shape[2] < 8:  # one product is quicker than many with few columns
        found = weight @ x.transpose(0, 1).flatten(1)
        return found.view(len(weight), len(x), -1).transpose(0, 1)
    return torch.bmm(weight.expand(len(x), *weight.shape), x)


def normed(x: Tensor) -> Tensor:
    """x/√(1 + mean x²) over the embedding, dimension 1: odd, and what is small stays small."""
    return x * torch.rsqrt(1 + x.square().mean(1, keepdim=True))
