r"""Which messages the logits need, each once.

Spin i asks for the messages into it after T steps, those for the messages into their sources after
T - 1 steps, and so on: what is T hops away or less, among spins that are not drawn at its level. A
message depends on its edge, on how many neighbours of its source are drawn, and on the messages
before; levels that agree in all that share it. Messages of a step stand in the order of the levels
that need them first, so that a draw finds those which are new at a level side by side.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple, cast

import torch
from jaxtyping import Bool, Int
from torch import Tensor, nn

from qattn.simulators.autoregressive.message_passing.bags import Bags, Part
from qattn.simulators.autoregressive.plan import Plan


class Step(nn.Module):
    """Messages of one step.

    Attributes:
        edge: Of each message its directed edge.
        field: The row of its source's field.
        is_open: Whether its steps end before the spins do: not where they come from a tree.
        before: The messages of the step before that it sums.
    """

    edge: Tensor
    field: Tensor
    is_open: Tensor

    def __init__(self, edge: Tensor, field: Tensor, is_open: Tensor, before: Bags) -> None:
        super().__init__()
        for name, x in (("edge", edge), ("field", field), ("is_open", is_open)):
            self.register_buffer(name, x, persistent=False)
        self.before = before


class New(NamedTuple):
    """What a level adds: fields, messages of each step, sums of messages into its spins, edges."""

    fields: Part
    steps: list[Part]
    into: Part
    edges: slice


class Schedule(nn.Module):
    """The messages of all positions of the core; edges, fields and messages are rows of matrices.

    Args:
        edges: Source and target of each directed edge, ascending, and the edges that enter its
            source, without its reverse.
        fields: Of each field its position, and the edges from drawn neighbours that it sums.
        steps: Messages, step by step.
        logits: Of each logit the row of its own field, and the messages of the last step it sums.
        levels: For each level, by its first position, the counts of fields and of messages of each
            step that are known with it.
    """

    source: Tensor
    target: Tensor
    spin: Tensor
    field: Tensor

    def __init__(
        self,
        edges: tuple[Int[Tensor, "2 edges"], Bags],
        fields: tuple[Int[Tensor, " fields"], Bags],
        steps: Sequence[Step],
        logits: tuple[Int[Tensor, " logits"], Bags],
        levels: dict[int, tuple[int, ...]],
    ) -> None:
        super().__init__()
        for name, x in (
            ("source", edges[0][0]),
            ("target", edges[0][1]),
            ("spin", fields[0]),
            ("field", logits[0]),
        ):
            self.register_buffer(name, x, persistent=False)
        self.before, self.drawn, self.into = edges[1], fields[1], logits[1]
        self.steps = nn.ModuleList(steps)
        self.levels = levels
        self._new: dict[int, New] = {}

    def __iter__(self) -> Iterator[Step]:
        """The steps."""
        return iter(cast(Sequence[Step], self.steps))

    def chosen(self, positions: Int[Tensor, " chosen"]) -> "Schedule":
        """The part of it that the logits of some positions need."""
        into, rows = self.into.chosen(positions)
        steps: list[Step] = []
        for step in reversed(list(self)):
            before, rows_before = step.before.chosen(rows)
            edge, field, is_open = step.edge[rows], step.field[rows], step.is_open[rows]
            steps.append(Step(edge, field, is_open, before))
            rows = rows_before
        edges = torch.stack([self.source, self.target]), self.before
        logits = self.field[positions], into
        return Schedule(edges, (self.spin, self.drawn), steps[::-1], logits, {})

    def new(self, level: slice) -> New:
        """What a level adds to those before it."""
        device = self.source.device
        if level.start not in self._new or self._new[level.start].into.rows.device != device:
            self._new[level.start] = self._found(level)
        return self._new[level.start]

    def _found(self, level: slice) -> New:
        known = self.levels[level.start]
        before = max((c for first, c in self.levels.items() if first < level.start), default=None)
        sizes = list(zip(before or [0] * len(known), known, strict=True))
        ends = torch.searchsorted(self.source, self.source.new_tensor([level.start, level.stop]))
        return New(
            self.drawn.part(*sizes[0]),
            [step.before.part(*size) for step, size in zip(self, sizes[1:], strict=True)],
            self.into.part(level.start, level.stop),
            slice(*ends.tolist()),
        )


def schedule_of(plan: Plan, adjacency: Bool[Tensor, "n n"], num_steps: int) -> Schedule:
    """The messages that a plan's logits need.

    Args:
        plan: The order of drawing.
        adjacency: Which positions are coupled, symmetric.
        num_steps: Steps T of message passing.
    """
    return _Builder(plan, adjacency, num_steps).schedule()


class _Builder:
    """Numbers fields and messages in the order in which levels ask for them."""

    def __init__(self, plan: Plan, adjacency: Tensor, num_steps: int) -> None:
        self.plan = plan
        self.neighbours: list[list[int]] = [[] for _ in range(plan.num_spins)]
        self.edges = [(a, b) for a, b in adjacency.nonzero().tolist()]
        for a, b in self.edges:
            self.neighbours[a].append(b)
        self.edge = {pair: k for k, pair in enumerate(self.edges)}
        self.fields: dict[tuple[int, int], int] = {}
        self.messages: list[dict[tuple[int, int, tuple[int, ...]], int]] = [
            {} for _ in range(num_steps)
        ]

    def schedule(self) -> Schedule:
        into: list[list[int]] = []
        field: list[int] = []
        levels: dict[int, tuple[int, ...]] = {}
        for level in self.plan.levels:
            first = level.start
            if first >= self.plan.num_core:
                break
            known: list[dict[int, int]] = [{} for _ in self.messages]  # of this level, by edge
            for i in range(level.start, level.stop):
                field.append(self._field(i, first))
                into.append(
                    [
                        self._message(len(self.messages) - 1, k, i, first, known)
                        for k in self._later(i, first)
                    ]
                )
            levels[first] = len(self.fields), *map(len, self.messages)
        sources = [[self.edge[j, v] for j in self.neighbours[v][:c]] for v, c in self.fields]
        edges = torch.tensor(self.edges, dtype=torch.int64).reshape(-1, 2).T.contiguous()
        before = [[self.edge[k, v] for k in self.neighbours[v] if k != to] for v, to in self.edges]
        return Schedule(
            (edges, Bags.of(before, len(self.edges))),
            (_ints(v for v, _ in self.fields), Bags.of(sources, len(self.edges))),
            self._steps(),
            (_ints(field), Bags.of(into, len(self.messages[-1]) if self.messages else 0)),
            levels,
        )

    def _steps(self) -> list[Step]:
        steps: list[Step] = []
        is_open: list[bool] = []
        fields = list(self.fields)
        for t, found in enumerate(self.messages):
            num_before = len(is_open)
            if t:
                is_open = [any(is_open[k] for k in before) for _, _, before in found]
            else:  # with no message before: a neighbour beside the target is not drawn
                sources = [fields[f] for _, f, _ in found]
                is_open = [len(self.neighbours[v]) - count > 1 for v, count in sources]
            before = Bags.of([b for _, _, b in found], num_before)
            edge, field = (_ints(x) for x in ([e for e, _, _ in found], [f for _, f, _ in found]))
            steps.append(Step(edge, field, torch.tensor(is_open, dtype=torch.bool), before))
        return steps

    def _later(self, v: int, first: int) -> list[int]:
        return [k for k in self.neighbours[v] if k >= first]

    def _field(self, v: int, first: int) -> int:
        count = sum(j < first for j in self.neighbours[v])
        return self.fields.setdefault((v, count), len(self.fields))

    def _message(self, t: int, v: int, to: int, first: int, known: list[dict[int, int]]) -> int:
        """The message v -> to of step t where positions from `first` on are not drawn."""
        edge = self.edge[v, to]
        if edge not in known[t]:
            before: tuple[int, ...] = ()
            if t:
                others = (k for k in self._later(v, first) if k != to)
                before = tuple(self._message(t - 1, k, v, first, known) for k in others)
            key = (edge, self._field(v, first), before)
            known[t][edge] = self.messages[t].setdefault(key, len(self.messages[t]))
        return known[t][edge]


def _ints(values: Iterable[int]) -> Tensor:
    return torch.tensor(list(values), dtype=torch.int64)
