r"""The logit without correlations between the spins that are not drawn yet.

.. math::
    \ell_i = 2 \xi_i + \sum_{l > i} \ln \frac{\cosh(\xi_l + J_{il})}{\cosh(\xi_l - J_{il})}, \qquad
    \xi_l = h_l + \sum_{j < i} J_{lj} s_j,

is exact where later spins are not coupled among themselves: each then only sees spin i and the
field ξ of those that are drawn. On sparse graphs only neighbours l, and neighbours of neighbours j,
are looked at, all positions at once.
"""

import math

import torch
from torch import Tensor
from torch.nn.functional import softplus

from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.models import Models


class _State:
    """Fields ξ of all positions from the spins that are drawn."""

    def __init__(self, models: Models, num_reads: int) -> None:
        self.J = models.J
        self.field = models.to_columns(models.h, num_reads).clone()
        self.active = None
        if models.active is not None:
            self.active = models.to_columns(models.active, num_reads)


class _Neighbours:
    """Neighbours of each position and the couplings to them, padded with couplings of 0."""

    def __init__(self, models: Models, adjacency: Tensor, degree: Tensor) -> None:
        self.models = models
        rows, columns = adjacency.nonzero(as_tuple=True)
        place = torch.arange(len(rows), device=rows.device) - (degree.cumsum(0) - degree)[rows]
        shape = len(adjacency), int(degree.max())
        self.index = columns.new_zeros(shape).index_put((rows, place), columns)
        self.J = models.J.new_zeros(models.num_groups, *shape)
        self.J[:, rows, place] = models.J[:, rows, columns]

    def logits(self, positions: Tensor, spins: Tensor) -> Tensor:
        """Logits of positions: O(degree²) for each, from spins that are drawn or all spins."""
        models, i = self.models, positions.unsqueeze(1)
        reads, near = spins.shape[2] // models.num_queries, self.index[positions]
        J = self.J[:, positions].unsqueeze(3)
        xi = models.to_columns(models.h[:, positions], reads)
        xi = xi + (J * (near < i).unsqueeze(2) * _taken(spins, near)).sum(2)
        # Fields of the neighbours that come later, from spins before i.
        field = models.to_columns(_taken(models.h, near), reads)
        for k in range(near.shape[1]):
            other = self.index[near, k]
            weight = self.J[:, :, k][:, near] * (other < i)
            field = field + weight.unsqueeze(3) * _taken(spins, other)
        J = J * (near > i).unsqueeze(2)
        if models.active is not None:
            J = J * models.to_columns(_taken(models.active, near), reads)
        return 2 * xi + (log_cosh(field + J) - log_cosh(field - J)).sum(2)


class Pair(Conditional):
    """See the module; no parameters."""

    def begin(self, models: Models, num_reads: int) -> _State | _Neighbours:
        """Fields of the models alone, or neighbours where there are few."""
        return _neighbours(models) or _State(models, num_reads)

    def logits(self, state: _State | _Neighbours, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level: O(spins) for each, or O(degree²)."""
        if isinstance(state, _Neighbours):
            positions = torch.arange(level.start, level.stop, device=spins.device)
            return state.logits(positions, spins)
        later = slice(level.stop, None)
        return 2 * state.field[:, level] + _from_later(
            state.J[:, level, later],
            state.field[:, later],
            None if state.active is None else state.active[:, later],
        )

    def drawn(self, state: _State | _Neighbours, level: slice, spins: Tensor) -> None:
        """Add the field of the spins that were drawn."""
        if isinstance(state, _State):
            state.field.baddbmm_(state.J[:, :, level], spins[:, level])

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions, one after the other where the graph is dense."""
        sparse = _neighbours(models)
        if sparse is not None:
            return sparse.logits(positions, spins)
        state = _State(models, spins.shape[2] // models.num_queries)
        found, drawn = [], 0
        for i in positions.tolist():
            self.drawn(state, slice(drawn, i), spins)
            drawn = i
            found.append(self.logits(state, slice(i, i + 1), spins))
        return torch.cat(found, 1) if found else spins[:, :0]


def _neighbours(models: Models) -> _Neighbours | None:
    """Lists of neighbours, unless spins have so many that a sum over all is quicker."""
    adjacency = (models.J != 0).any(0)
    degree = adjacency.sum(1)
    if len(degree) and 0 < int(degree.max()) ** 2 < 2 * len(degree):
        return _Neighbours(models, adjacency, degree)
    return None


def _taken(x: Tensor, index: Tensor) -> Tensor:
    """Entries of (g, n, columns) at positions, (g, *index, columns)."""
    return x.index_select(1, index.flatten()).view(len(x), *index.shape, x.shape[2])


def _from_later(J: Tensor, field: Tensor, active: Tensor | None) -> Tensor:
    """Σ_l ln cosh(ξ_l + J_il) - ln cosh(ξ_l - J_il) over the present later spins."""
    J, field = J.unsqueeze(3), field.unsqueeze(1)
    terms = log_cosh(field + J) - log_cosh(field - J)
    if active is not None:
        terms = terms * active.unsqueeze(1)
    return terms.sum(2)


def log_cosh(x: Tensor) -> Tensor:
    """Without overflow, ln cosh x = |x| + ln(1 + e^(-2|x|)) - ln 2."""
    return x.abs() + softplus(-2 * x.abs()) - math.log(2)
