r"""The logit without correlations between the spins that are not drawn yet.

.. math::
    \ell_i = 2 \xi_i + \sum_{l > i} \ln \frac{\cosh(\xi_l + J_{il})}{\cosh(\xi_l - J_{il})}, \qquad
    \xi_l = h_l + \sum_{j < i} J_{lj} s_j,

is exact where later spins are not coupled among themselves: each then only sees spin i and the
field ξ of those that are drawn.
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


class Pair(Conditional):
    """See the module; no parameters."""

    def begin(self, models: Models, num_reads: int) -> _State:
        """Fields of the models alone."""
        return _State(models, num_reads)

    def logits(self, state: _State, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level: O(spins) for each."""
        later = slice(level.stop, None)
        return 2 * state.field[:, level] + _from_later(
            state.J[:, level, later],
            state.field[:, later],
            None if state.active is None else state.active[:, later],
        )

    def drawn(self, state: _State, level: slice, spins: Tensor) -> None:
        """Add the field of the spins that were drawn."""
        state.field.baddbmm_(state.J[:, :, level], spins[:, level])

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions, one after the other."""
        state = _State(models, spins.shape[2] // models.num_queries)
        found, drawn = [], 0
        for i in positions.tolist():
            self.drawn(state, slice(drawn, i), spins)
            drawn = i
            found.append(self.logits(state, slice(i, i + 1), spins))
        return torch.cat(found, 1) if found else spins[:, :0]


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
