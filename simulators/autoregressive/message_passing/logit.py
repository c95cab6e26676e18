r"""The logit from belief propagation among the spins that are not drawn, for sparse couplings.

.. math::
    u^t_{l \to m} = \operatorname{artanh}\big(\tanh J_{lm} \tanh(\xi_l + \textstyle\sum_k
    u^{t-1}_{k \to l})\big), \qquad \ell_i = 2 \big(\xi_i + \textstyle\sum_l u^T_{l \to i}\big),

where k runs over the neighbours of l except m, and k, l over spins that are not drawn; ξ_l is h_l
and the field of its drawn neighbours, and u⁰ = 0 (Mézard and Montanari, "Information, Physics, and
Computation", 2009, section 14.2.5). Exact where these spins form trees of depth T or less. What is
more than T hops away has no influence, though it may be in the scope.

Where loops amplify messages by λ > 1, those that do not come from a tree have a factor 1/√λ
(:mod:`qattn.simulators.autoregressive.message_passing.gain`).
"""

from typing import Literal, NamedTuple

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.message_passing.gain import attenuation_of
from qattn.simulators.autoregressive.message_passing.messages import message, ratio, squared_exp
from qattn.simulators.autoregressive.message_passing.schedule import Schedule, Step, schedule_of
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.plan import Plan


class MessagePassing(Conditional):
    r"""Belief propagation, with parameters that start as factors 1 and terms 0.

    A message is b u(a J_lm, ·), the sum of messages in the logit has a factor r, and a term
    2β Σ_j A_ij s_j over the scope is added to it, for what loops make. All are odd.

    Args:
        plan: The order of drawing.
        adjacency: Which spins are coupled, in the order of the models; symmetric.
        num_steps: Steps T, at least 1.
        parameters: What can be fitted, for all groups and queries alike: nothing; a and b of each
            step, and r ("scalars"); or a and b of each step and directed edge, r of each spin, and
            A ("couplings").
    """

    def __init__(
        self,
        plan: Plan,
        adjacency: Bool[Tensor, "n n"],
        num_steps: int = 6,
        parameters: Literal["none", "scalars", "couplings"] = "none",
    ) -> None:
        super().__init__()
        self.plan = plan
        self.schedule = schedule_of(plan, adjacency.cpu()[plan.index][:, plan.index], num_steps)
        self.couplings: nn.Parameter | None = None
        self.messages: nn.Parameter | None = None
        self.readout: nn.Parameter | None = None
        self.terms: nn.Parameter | None = None
        self._chosen: tuple[torch.device, list[int], Schedule] | None = None
        if parameters != "none":
            each = parameters == "couplings"
            edges, spins = (len(self.schedule.source), plan.num_core) if each else (1, 1)
            self.couplings = nn.Parameter(torch.ones(num_steps, edges))
            self.messages = nn.Parameter(torch.ones(num_steps, edges))
            self.readout = nn.Parameter(torch.ones(spins, 1))
            if each:
                self.terms = nn.Parameter(torch.zeros(sum(map(len, plan.scopes[: plan.num_core]))))

    def begin(self, models: Models, num_reads: int) -> "_State":
        """Room for all fields and messages, each of which is computed once."""
        given, schedule = _Given.of(models, self.schedule, num_reads), self.schedule
        rows = [len(schedule.source), len(schedule.spin), *(len(s.edge) for s in schedule)]
        edges, fields, *messages = (given.h.new_empty(k, given.h.shape[1]) for k in rows)
        of_steps = [self._of_step(given, t, step) for t, step in enumerate(schedule)]
        of_steps = [(squared_exp(K), factor) for K, factor in of_steps]
        return _State(given, edges, fields, messages, of_steps, self._matrix())

    def logits(self, state: "_State", level: slice, spins: Tensor) -> Tensor:
        """Logits of a level, from the fields and messages that are new with it."""
        given, schedule, new = state.given, self.schedule, self.schedule.new(level)
        own = new.fields.own
        if own.stop > own.start:
            h = given.h.index_select(0, schedule.spin[own])
            state.fields[own] = h.add_(new.fields.sums(state.edges))
        for t, (step, bags) in enumerate(zip(schedule, new.steps, strict=True)):
            own = bags.own
            if own.stop == own.start:
                continue
            H = state.fields.index_select(0, step.field[own])
            if t:
                H += bags.sums(state.messages[t - 1])
            a, factor = state.of_steps[t]
            P, S = ratio(a[own], given.by_group(H))
            u = P.div_(S).log_().mul_(given.by_group(H.sign_().mul_(0.5)))
            state.messages[t][own] = u.mul_(factor[own]).flatten(1)
        xi = state.fields.index_select(0, schedule.field[level])
        logit = self._logit(xi, new.into.sums(state.messages[-1]), level)
        if state.matrix is not None:
            logit = logit + given.scaled(state.matrix[level] @ _rows(spins))
        return given.columns(logit)

    def drawn(self, state: "_State", level: slice, spins: Tensor) -> None:
        """The fields of the drawn spins along their edges."""
        edges = self.schedule.new(level).edges
        state.edges[edges] = state.given.along(self.schedule.source[edges], edges, _rows(spins))

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of positions: all fields, then the messages step by step."""
        schedule, s = self._schedule_of(positions), _rows(spins)
        given = _Given.of(models, schedule, spins.shape[2] // models.num_queries)
        along = given.along(schedule.source, slice(None), s)
        fields = given.h[schedule.spin] + schedule.drawn(along)
        u = s[:0]
        for t, step in enumerate(schedule):
            H = fields[step.field]
            if t:
                H = H + step.before(u)
            K, factor = self._of_step(given, t, step)
            u = (message(K, given.by_group(H)) * factor).flatten(1)
        logit = self._logit(fields[schedule.field], schedule.into(u), positions)
        matrix = self._matrix()
        if matrix is not None:
            logit = logit + given.scaled(matrix[positions] @ s)
        return given.columns(logit)

    def _of_step(self, given: "_Given", t: int, step: Step) -> tuple[Tensor, Tensor]:
        """a J of messages of step t, and their factor: b, 1/√λ, 0 where the source is absent."""
        K = given.J[step.edge]
        factor = torch.where(step.is_open.view(-1, 1, 1), given.attenuation, 1)
        if self.couplings is not None and self.messages is not None:
            K = K * _of_edges(self.couplings[t], step.edge)
            factor = factor * _of_edges(self.messages[t], step.edge)
        if given.active is not None:
            factor = factor * given.by_group(given.active[self.schedule.source[step.edge]])
        return K, factor

    def _logit(self, xi: Tensor, into: Tensor, positions: slice | Tensor) -> Tensor:
        """2 (ξ + r Σ u)."""
        if self.readout is not None:
            into = into * (self.readout[positions] if len(self.readout) > 1 else self.readout)
        return 2 * (xi + into)

    def _matrix(self) -> Tensor | None:
        """A as a matrix."""
        if self.terms is None:
            return None
        mask = self.plan.mask[: self.plan.num_core].to(self.terms.device)
        return self.terms.new_zeros(mask.shape).masked_scatter(mask, self.terms)

    def _schedule_of(self, positions: Tensor) -> Schedule:
        """The part of the schedule for some positions; the last one is kept."""
        if len(positions) == self.plan.num_core:
            return self.schedule
        device, key = positions.device, positions.tolist()
        if self._chosen is None or self._chosen[:2] != (device, key):
            self._chosen = device, key, self.schedule.chosen(positions)
        return self._chosen[2]


class _Given(NamedTuple):
    """Models as rows of all columns of all groups: (spins or edges, g · columns).

    Attributes:
        h: Fields of spins.
        J: Couplings of directed edges, (edges, g, 1).
        active: 1 at spins that are present; None means everywhere.
        attenuation: 1/√λ where λ > 1, or 1, of groups or of columns too: (g, 1) or (g, columns).
        beta: β of groups, (g, 1).
        shape: (g, columns).
    """

    h: Tensor
    J: Tensor
    active: Tensor | None
    attenuation: Tensor
    beta: Tensor
    shape: tuple[int, int]

    @classmethod
    def of(cls, models: Models, schedule: Schedule, num_reads: int) -> "_Given":
        """Models of several reads of each query."""
        J = models.J[:, schedule.source, schedule.target].T.unsqueeze(2)
        h = _rows(models.to_columns(models.h, num_reads))
        active, attenuation = None, attenuation_of(J, schedule)
        if models.active is not None:
            present = models.active.to(h.dtype)
            active = _rows(models.to_columns(present, num_reads))
            attenuation = attenuation_of(J, schedule, present.transpose(0, 1))
            attenuation = models.to_columns(attenuation, num_reads)
        shape = models.num_groups, models.num_queries * num_reads
        return cls(h, J, active, attenuation, models.beta.unsqueeze(1), shape)

    def along(self, source: Tensor, edges: slice, spins: Tensor) -> Tensor:
        """J s of spins along edges that leave them."""
        return (self.J[edges] * self.by_group(spins[source])).flatten(1)

    def scaled(self, x: Tensor) -> Tensor:
        """2β x."""
        return (2 * self.beta * self.by_group(x)).flatten(1)

    def by_group(self, x: Tensor) -> Tensor:
        """Rows as (rows, g, columns)."""
        return x.view(len(x), *self.shape)

    def columns(self, x: Tensor) -> Tensor:
        """Rows as (g, rows, columns)."""
        return self.by_group(x).transpose(0, 1)


class _State(NamedTuple):
    """What is known of a draw.

    Attributes:
        given: The models.
        edges: J s along edges from spins that are drawn.
        fields: Rows of fields so far.
        messages: Rows of messages of each step so far.
        of_steps: e^(2aJ) and the factor of all messages of each step.
        matrix: A.
    """

    given: _Given
    edges: Tensor
    fields: Tensor
    messages: list[Tensor]
    of_steps: list[tuple[Tensor, Tensor]]
    matrix: Tensor | None


def _rows(x: Tensor) -> Tensor:
    """(g, rows, columns) as rows of all groups."""
    return x.transpose(0, 1).flatten(1)


def _of_edges(factors: Tensor, edges: Tensor) -> Tensor:
    """Factors of edges, or one of all, as (edges, 1, 1)."""
    return (factors[edges] if len(factors) > 1 else factors).view(-1, 1, 1)
