r"""The logit from TAP's mean-field equations of the spins that are not drawn yet.

The spins after i, in the field ξ of those before and *without* i itself (its cavity), have the
fields H that approximate message passing finds in T steps from zero,

.. math::
    m^t &= \tanh H^t, \qquad \mu^t = \mu^{t-1} + \delta\alpha_t (m^t - \mu^{t-1}),\\
    H^{t+1} &= H^t + \delta\alpha_t \big(\xi + J m^t - \gamma_t\, \mu^{t-1} \circ J^{\circ 2}
    (1 - (m^t)^2) - H^t\big), \qquad H^0 = \xi,\ \mu^{-1} = 0.

At δ = α = γ = 1 these are Bolthausen's time indices of the equations of Thouless, Anderson and
Palmer (Commun. Math. Phys. 325, 333 (2014)). Shorter steps
(:mod:`~qattn.simulators.autoregressive.tap.damping`) average what came before; the reaction term
then has the average μ of the step before, since it takes back what J m^t owes to the means that led
to it. Spin i is coupled to spins of known fields,

.. math::
    \ell_i = 2 \xi_i + \sum_{l > i} \ln \frac{\cosh(H_l + J_{il})}{\cosh(H_l - J_{il})},

which T = 0 makes the logit of pairs (:mod:`~qattn.simulators.autoregressive.pair`).
"""

from typing import Literal

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.pair import log_cosh
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import NetSettings
from qattn.simulators.autoregressive.tap.compiled import Compiled
from qattn.simulators.autoregressive.tap.damping import damping

CHUNK = 8
"""Positions that :meth:`Tap.of_states` takes at a time."""

ITERATIONS = 6
"""T where none is asked for."""

KEPT = 1 << 26
"""Numbers of a pass whose steps are kept for the gradient; those of a larger one are done again."""


class _State:
    """Fields ξ of all positions from the spins that are drawn."""

    def __init__(self, models: Models, num_reads: int) -> None:
        self.models = models
        self.damping = models.to_columns(damping(models), num_reads).unsqueeze(1)
        self.field = models.to_columns(models.h, num_reads).clone()
        self.present = None
        if models.active is not None:
            self.present = models.to_columns(models.active, num_reads).to(self.field.dtype)


class Tap(Conditional):
    r"""See the module.

    Args:
        num_spins: Number of spins.
        iterations: T.
        parameters: "none"; or "scalars", α_t, γ_t and a factor of the sum over l; or "couplings",
            where these are numbers of each spin, J of each step and of the sum is β(J + σδ), and
            Σ_l g_il tanh(v_il H_l) adds to the logit.
        mask: Which spins may be coupled by δ and g, symmetric; None means all.
        scale: σ, a typical |J|: the unit of δ.
    """

    def __init__(
        self,
        num_spins: int,
        iterations: int,
        parameters: Literal["none", "scalars", "couplings"] = "none",
        mask: Tensor | None = None,
        scale: float = 1.0,
    ) -> None:
        super().__init__()
        n, T = num_spins, iterations
        self.iterations = T
        alpha, gamma, readout = torch.ones(T, 1), torch.ones(T, 1), torch.ones(1)
        self.delta: nn.Parameter | None = None
        if parameters == "couplings":
            alpha, gamma, readout = alpha.repeat(1, n), gamma.repeat(1, n), readout.repeat(n)
            self.delta = nn.Parameter(torch.zeros(T + 1, n, n))
            self.g, self.v = nn.Parameter(torch.zeros(n, n)), nn.Parameter(torch.ones(n, n))
            mask = torch.ones(n, n) if mask is None else mask.float()
            self.register_buffer("mask", mask.tril(-1) + mask.triu(1), persistent=False)
            self.register_buffer("scale", torch.tensor(scale))
        for name, value in (("alpha", alpha), ("gamma", gamma), ("readout", readout)):
            if parameters == "none":
                self.register_buffer(name, value, persistent=False)
            else:
                self.register_parameter(name, nn.Parameter(value))

    @classmethod
    def of_settings(cls, settings: NetSettings, plan: Plan, batch: IsingBatch) -> "Tap":
        """For models like those of a batch."""
        coupled = batch.matrix[batch.matrix != 0].double()
        return cls(
            plan.num_spins,
            settings.iterations or ITERATIONS,
            settings.parameters,
            plan.mask | plan.mask.mT,
            float(coupled.square().mean().sqrt()) if len(coupled) else 1.0,
        )

    def draw_all(
        self, models: Models, num_reads: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """All spins by the compiled kernel, where there is one."""
        compiled = self._compiled(models)
        return None if compiled is None else compiled.draw(num_reads, generator)

    def begin(self, models: Models, num_reads: int) -> _State:
        """Fields of the models alone."""
        return _State(models, num_reads)

    def logits(self, state: _State, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level, whose spins are not coupled."""
        models, later = state.models, slice(level.stop, None)
        present = None if state.present is None else state.present[:, later]
        H = self._cavity_fields(models, state.field[:, later], state.damping, present, later)
        if present is not None:
            present = present.unsqueeze(2)
        positions = torch.arange(level.start, level.stop, device=spins.device)
        return self._logits(
            models, state.field[:, level], H.unsqueeze(2), present, positions, later
        )

    def drawn(self, state: _State, level: slice, spins: Tensor) -> None:
        """Add the field of the spins that were drawn."""
        state.field.baddbmm_(state.models.J[:, :, level], spins[:, level])

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions: spins after the first of a few at a time."""
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if not differentiable and (compiled := self._compiled(models)) is not None:
            return compiled.logits(spins, positions)
        state = _State(models, spins.shape[2] // models.num_queries)
        size = self.iterations * len(positions) * spins.numel()
        again = differentiable and size > KEPT
        found, drawn = [], 0
        for chunk in positions.split(CHUNK):
            fields = []
            for i in chunk.tolist():
                self.drawn(state, slice(drawn, i), spins)
                drawn = i
                fields.append(state.field.clone())
            xi = torch.stack(fields, 2)
            if again:
                found.append(checkpoint(self._of_chunk, state, xi, chunk, use_reentrant=False))
            else:
                found.append(self._of_chunk(state, xi, chunk))
        return torch.cat(found, 1) if found else spins[:, :0]

    def _of_chunk(self, state: _State, xi: Tensor, chunk: Tensor) -> Tensor:
        """Logits of positions, each with the fields ξ from the spins before it.

        Args:
            state: The models, their present spins and their damping.
            xi: Fields of all spins for each position, (g, n, chosen, columns).
            chunk: The positions.
        """
        models, active = state.models, state.present
        later = slice(int(chunk[0]) + 1, None)
        own = xi[:, chunk, range(len(chunk))]
        xi = xi[:, later]
        # Spins of the chunk are absent from the cavities of those after them.
        index = torch.arange(models.num_spins, device=xi.device)[later]
        present = (index[:, None, None] > chunk[:, None]).to(xi.dtype)
        present = present if active is None else present * active[:, later].unsqueeze(2)
        present = present.expand(xi.shape)
        damping = state.damping.repeat(1, 1, len(chunk))
        H = self._cavity_fields(models, xi.flatten(2), damping, present.flatten(2), later)
        return self._logits(models, own, H.view_as(xi), present, chunk, later)

    def _cavity_fields(
        self, models: Models, xi: Tensor, damping: Tensor, present: Tensor | None, later: slice
    ) -> Tensor:
        """H^T of the spins of `later` in the fields ξ, (g, spins, columns)."""
        K = models.J[:, later, later].square()
        H, mu = xi, torch.zeros_like(xi)
        for t in range(self.iterations):
            m = H.tanh()
            variance = 1 - m.square()
            if present is not None:
                m, variance = m * present, variance * present
            step = xi - H + self._couplings(models, t)[:, later, later] @ m
            if t > 0:
                step = step - _at(self.gamma[t], later) * mu * (K @ variance)
            alpha = damping * _at(self.alpha[t], later)
            H = H + alpha * step
            mu = mu + alpha * (m - mu)
        return H

    def _logits(
        self,
        models: Models,
        own: Tensor,
        H: Tensor,
        present: Tensor | None,
        positions: Tensor,
        later: slice,
    ) -> Tensor:
        """What spins in their own fields ξ owe to those of `later` in fields H.

        Args:
            models: The models.
            own: ξ of the positions, (g, chosen, columns).
            H: Fields of the later spins for each of them or all, (g, later, chosen or 1, columns).
            present: 1 where a spin is there, of the same shape.
            positions: The positions.
            later: The later spins.
        """
        J = self._couplings(models, self.iterations)[:, positions, later].mT.unsqueeze(3)
        terms = log_cosh(H + J) - log_cosh(H - J)
        readout = self.readout if len(self.readout) == 1 else self.readout[positions]
        terms = terms * readout.unsqueeze(1)
        if self.delta is not None:
            g, v = ((x * self.mask)[positions, later].mT.unsqueeze(2) for x in (self.g, self.v))
            terms = terms + g * (v * H).tanh()
        if present is not None:
            terms = terms * present
        return 2 * own + terms.sum(1)

    def _couplings(self, models: Models, t: int) -> Tensor:
        """βJ of step t, or of the sum where t = T."""
        if self.delta is None:
            return models.J
        unit = (models.beta * self.scale).view(-1, 1, 1)
        return models.J + unit * (self.delta[t] * self.mask)

    def _compiled(self, models: Models) -> Compiled | None:
        """What the compiled kernel takes, where there is one."""
        T, n = self.iterations, models.num_spins
        if not Compiled.takes(models, self.alpha):
            return None
        couplings = residual = None
        if self.delta is not None:
            couplings = torch.stack([self._couplings(models, t) for t in range(T + 1)], 1)
            residual = self.g * self.mask, self.v
        alpha, gamma, readout = self.alpha, self.gamma, self.readout
        return Compiled(
            models,
            damping(models),
            couplings,
            alpha.expand(T, n),
            gamma.expand(T, n),
            readout.expand(n),
            residual,
        )


def _at(values: Tensor, later: slice) -> Tensor:
    """Numbers of the later spins, or one of all, as a column."""
    return (values if len(values) == 1 else values[later]).unsqueeze(1)
