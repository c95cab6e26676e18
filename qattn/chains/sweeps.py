r"""Gibbs sweeps over many chains of many models side by side.

A sweep draws every spin anew given the others, p(s_j = 1 | s) = σ(2β b_j) with
b_j = h_j + Σ_k J_jk s_k. With logistic noise ℓ = logit(u) that is

.. math:: s_j = \operatorname{sign}\big(2 b_j + \ell / \beta\big),

so that, in plain PyTorch, noise and fields of all spins are made in a few passes, and each spin
costs a row of a matrix product and a sign. Spins are taken in blocks: one product brings a block
the fields from outside it (two, where several blocks share the first), and within it only the
spins drawn before are added. Where couplings are sparse, a block is a set of spins that are not
coupled among themselves, and is drawn at once; its fields come from lists of neighbours where
these are short.
On the CPU a compiled kernel sweeps instead (:mod:`qattn.chains.compiled`).

float32 throughout: reads are signs, and a field's rounding is 1e-7 of it.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import accumulate
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int, Int8
from torch import Tensor

from qattn import kernels
from qattn.chains.compiled import CompiledSweeper
from qattn.chains.neighbours import Neighbours, Sweepable, neighbours_of, sweepable
from qattn.couplings import Banded, Couplings, LowRank
from qattn.ising.batch import IsingBatch

BLOCK = 8
"""Spins of a block of coupled spins; twice as many spins are still one block."""

SPAN = 32
"""Spins whose fields from outside them are one product; a multiple of a block."""

CHUNK_ELEMENTS = 1 << 19
"""Spins that are swept at a time: enough to spread the overhead of a call, few for the cache."""

SPARSE = 0.5
"""Share of the blocks of a dense J below which blocks of uncoupled spins are used."""

SHORT = 1 / 8
"""Neighbours of a spin, relative to all spins, up to which lists of them beat a matrix product."""

LEAST_UNIFORM = 2.0**-25
"""Bound of u and 1 - u: half the spacing of float32's uniform numbers."""


class _Block(NamedTuple):
    """Spins that are drawn at once, or one after the other if they are coupled.

    Attributes:
        rows: Spins to which a product brings fields before: the block's, or the whole span's.
        columns: Spins from which it brings them; or lists of each row's neighbours.
        couplings: Twice the couplings between them, 0 where the field comes later.
        first: Number of the first draw.
        earlier: For each draw twice the couplings to those before it in the block.
    """

    rows: slice
    columns: slice | Int[Tensor, "rows degree"]
    couplings: Float[Tensor, "g rows columns"]
    first: int
    earlier: list[tuple[Float[Tensor, "g 1 1"], ...]]


class Sweeper:
    """Sweeps over the columns of models that share couplings within a group.

    Its spins are in the order in which they are drawn: :meth:`arrange` and :meth:`restored`.

    Args:
        h: Local fields of each column at β = 1.
        J: Couplings at β = 1.
        active: Where a column has a spin; None means everywhere.
    """

    def __init__(
        self,
        h: Float[Tensor, "g n columns"],
        J: Sweepable,
        active: Bool[Tensor, "g n columns"] | None = None,
    ) -> None:
        J = J.dense() if isinstance(J, LowRank) else J
        order, blocks, coupled = _plan(J)
        self.order = torch.tensor(order, device=h.device)
        self.h = h[:, self.order].float()
        # Lists of neighbours for spins that are drawn at once, if they are short.
        neighbours = None if coupled else neighbours_of(J)
        self.J: Tensor | Banded
        if isinstance(J, Tensor):
            self.J = J[:, self.order][:, :, self.order].float()
            if neighbours is not None and neighbours.others.shape[1] > SHORT * len(order):
                neighbours = None
        else:
            self.J = Banded(J.values.float())
        self.fields = 2 * self.h
        if neighbours is not None:
            self.blocks = _listed(neighbours.in_order(self.order), blocks)
        else:
            assert isinstance(self.J, Tensor)
            self.blocks = _prepared(2 * self.J, blocks, coupled)
        # Sizes of what is drawn at once, and whether its spins are there.
        self.sizes = [1] * len(order) if coupled else [end - start for start, end in blocks]
        self.active = None
        if active is not None:
            self.active = active[:, self.order].float().split(self.sizes, 1)
        self.one = self.h.new_ones(())

    def arrange(self, spins: Float[Tensor, "g n columns"]) -> Float[Tensor, "g n columns"]:
        """A copy of spins of the models, in the order of the sweeps."""
        return spins[:, self.order]

    def restored(self, s: Float[Tensor, "g n columns"]) -> Float[Tensor, "g n columns"]:
        """Arranged spins in the models' order."""
        return s[:, self.order.argsort()]

    def sweep(
        self,
        s: Float[Tensor, "g n columns"],
        generator: torch.Generator,
        temperature: Float[Tensor, "g 1 columns"] | None = None,
        num_sweeps: int = 1,
    ) -> None:
        """Draw every spin anew, in place.

        Args:
            s: Arranged spins in {-1, +1}, 0 where they are absent.
            generator: Source of the noise, on the device of the spins.
            temperature: 1/β of each column, relative to the β that h and J hold; None means 1.
            num_sweeps: How many times.
        """
        for _ in range(num_sweeps):
            self._sweep(s, generator, temperature)

    def _sweep(self, s: Tensor, generator: torch.Generator, temperature: Tensor | None) -> None:
        noise = torch.empty_like(s).uniform_(generator=generator).logit_(LEAST_UNIFORM)
        if temperature is not None:
            noise.mul_(temperature)
        noise.add_(self.fields)
        # Views of what is drawn at once, made together: one by one takes longer than drawing.
        drawn, fields = s.split(self.sizes, 1), noise.split(self.sizes, 1)
        for block in self.blocks:
            if isinstance(block.columns, slice):
                noise[:, block.rows].baddbmm_(block.couplings, s[:, block.columns])
            else:
                rows, couplings = noise[:, block.rows], block.couplings.unsqueeze(3).unbind(2)
                for others, coupling in zip(block.columns.unbind(1), couplings, strict=True):
                    rows.addcmul_(coupling, s.index_select(1, others))
            for i, earlier in enumerate(block.earlier, block.first):
                for k, coupling in enumerate(earlier, block.first):
                    fields[i].addcmul_(coupling, drawn[k])
                torch.copysign(self.one, fields[i], out=drawn[i])
                if self.active is not None:
                    drawn[i].mul_(self.active[i])

    def local_fields(self, s: Float[Tensor, "g n columns"]) -> Float[Tensor, "g n columns"]:
        """b_j = h_j + Σ_k J_jk s_k of arranged spins, at β = 1."""
        if isinstance(self.J, Tensor):
            return torch.baddbmm(self.h, self.J, s)
        return self.h + self.J.matvec(self.restored(s))[:, self.order]


def sweeper(
    h: Float[Tensor, "g n columns"],
    J: Tensor | Couplings,
    active: Bool[Tensor, "g n columns"] | None = None,
) -> Sweeper | CompiledSweeper:
    """Sweeps over columns of :func:`sweepable` models, compiled where these are on the CPU."""
    assert isinstance(J, (Tensor, Banded, LowRank))
    compiled = h.device.type == "cpu" and kernels.level() is not None
    return (CompiledSweeper if compiled else Sweeper)(h, J, active)


class Chains:
    """Chains of every query of a batch, which can be swept on and on.

    Args:
        batch: The models.
        spins: Where the chains start: values in {-1, +1}; what stands at absent spins is ignored.
    """

    def __init__(self, batch: IsingBatch, spins: Int8[Tensor, "g q chains n"]) -> None:
        models = sweepable(batch)
        self.h, self.J = models.h.mT, models.J
        G, n, Q = self.h.shape
        self.active = None if batch.lengths is None else batch.active.expand(G, Q, n).mT
        s = spins if self.active is None else spins * self.active.mT.unsqueeze(2)
        self._columns = s.permute(0, 3, 1, 2).float().contiguous()

    def sweep(self, num_sweeps: int, generator: torch.Generator) -> None:
        """Sweep over the spins of all chains."""
        G, n, Q, R = self._columns.shape
        for g, q in chunks(G, Q, n * R):
            h = self.h[g, :, q].repeat_interleave(R, -1)
            active = None if self.active is None else self.active[g, :, q].repeat_interleave(R, -1)
            sweeps = sweeper(h, self.J[g], active)
            s = sweeps.arrange(self._columns[g, :, q].flatten(2))
            sweeps.sweep(s, generator, num_sweeps=num_sweeps)
            self._columns[g, :, q] = sweeps.restored(s).unflatten(2, (-1, R))

    @property
    def spins(self) -> Int8[Tensor, "g q chains n"]:
        """Where the chains are; 0 at absent spins."""
        return self._columns.permute(0, 2, 3, 1).to(torch.int8).contiguous()


def chunks(num_groups: int, num_queries: int, size: int) -> Iterator[tuple[slice, slice]]:
    """Slices of groups and queries, a query of `size` spins, to be swept at a time."""
    groups = max(1, CHUNK_ELEMENTS // (num_queries * size))
    queries = num_queries if groups > 1 else max(1, CHUNK_ELEMENTS // size)
    for g in range(0, num_groups, groups):
        for q in range(0, num_queries, queries):
            yield slice(g, g + groups), slice(q, q + queries)


Blocks = tuple[tuple[int, int], ...]


def _plan(J: Tensor | Banded) -> tuple[tuple[int, ...], Blocks, bool]:
    """An order of the spins, blocks of it as (start, end), and whether they are coupled within."""
    if isinstance(J, Banded):  # every (w + 1)-th spin
        classes = [list(range(c, J.num_spins, J.width + 1)) for c in range(J.width + 1)]
        return *_in_turn([c for c in classes if c]), False
    n = J.shape[-1]
    coupled = (J != 0).any(0)
    if float(coupled.float().mean()) < SPARSE:
        order, blocks = _colour_classes(coupled.cpu().numpy().tobytes(), n)
        if len(blocks) < SPARSE * n:
            return order, blocks, False
    size = n if n <= 2 * BLOCK else BLOCK
    return tuple(range(n)), tuple((j, min(j + size, n)) for j in range(0, n, size)), True


def _prepared(couplings: Float[Tensor, "g n n"], blocks: Blocks, coupled: bool) -> list[_Block]:
    """The blocks with their couplings, which are arranged and doubled."""
    outside = couplings.clone()
    prepared = []
    for number, (start, end) in enumerate(blocks):
        # The first block of a span gets all but what the span's spins get from those drawn before
        # them; the others then get that of the blocks before.
        span = start - start % SPAN if coupled else start
        rows, columns = slice(start, span + SPAN if coupled else end), slice(None)
        if start > span:
            rows, columns = slice(start, end), slice(span, start)
        matrix = (outside if start == span else couplings)[:, rows, columns]
        later = range(start + 1, end) if coupled else ()
        for j in range(start, end):
            outside[:, j, span : j if coupled else start] = 0
        earlier = [(), *(couplings[:, j, start:j, None].split(1, 1) for j in later)]
        prepared.append(_Block(rows, columns, matrix, start if coupled else number, earlier))
    return prepared


def _listed(neighbours: Neighbours, blocks: Blocks) -> list[_Block]:
    """Blocks of uncoupled spins, whose fields come from lists of neighbours."""
    parts = [slice(start, end) for start, end in blocks]
    return [
        _Block(part, neighbours.others[part], 2 * neighbours.J[:, part].float(), number, [()])
        for number, part in enumerate(parts)
    ]


@lru_cache(maxsize=64)
def _colour_classes(coupled: bytes, n: int) -> tuple[tuple[int, ...], Blocks]:
    """Classes of spins that are not coupled among themselves: greedy, most neighbours first."""
    neighbours = [{k for k in range(n) if coupled[j * n + k]} for j in range(n)]
    classes: list[list[int]] = []
    for j in sorted(range(n), key=lambda j: -len(neighbours[j])):
        home = next((c for c in classes if neighbours[j].isdisjoint(c)), None)
        if home is None:
            classes.append(home := [])
        home.append(j)
    return _in_turn(classes)


def _in_turn(classes: list[list[int]]) -> tuple[tuple[int, ...], Blocks]:
    """The spins of one class after the other, and where each class is."""
    ends = list(accumulate(map(len, classes)))
    blocks = tuple((end - len(c), end) for end, c in zip(ends, classes, strict=True))
    return tuple(j for c in classes for j in c), blocks
