r"""The logit from TAP's free energies of the spins that are not drawn yet.

With s_i = ±1 the spins after i are an Ising model in the fields x = ξ ± J_i, where ξ is the field
of the spins before. The logit is the difference of two ln Z,

.. math::
    \ell_i &= 2 \xi_i + \Phi(\xi + J_i) - \Phi(\xi - J_i),\\
    \Phi(x) &= \sum_l \big(\ln \cosh H_l - H_l m_l + x_l m_l\big) + \tfrac12 m^\top J m
    + \tfrac14 v^\top J^{\circ 2} v, \qquad m = \tanh H,\ v = 1 - m^2,

the free energy of Thouless, Anderson and Palmer in Plefka's form (J. Phys. A 15, 1971 (1982)). Its
fields H are those that approximate message passing finds in T steps,

.. math::
    \mu^t &= \mu^{t-1} + \delta\alpha_t (m^t - \mu^{t-1}),\\
    H^{t+1} &= H^t + \delta\alpha_t \big(x + J m^t - \gamma_t\, \mu^{t-1} \circ J^{\circ 2} v^t
    - H^t\big), \qquad H^0 = x,\ \mu^{-1} = 0.

At δ = α = γ = 1 these have Bolthausen's time indices (Commun. Math. Phys. 325, 333 (2014)).
Shorter steps average what came before; the reaction term then has the average μ of the step before,
since it takes back what J m^t owes to the means that led to it. Where an eigenvalue of J stands out
below, rings of couplings add Φ_∘ to Φ and its derivative to the reaction
(:mod:`~qattn.simulators.autoregressive.tap.spectrum`, which has δ too). Two free energies, each of
its own solution, weigh the two phases of a ferromagnet, of which a single mean field sees one.
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
from qattn.simulators.autoregressive.tap.spectrum import spectrum

CHUNK = 8
"""Positions that :meth:`Tap.of_states` takes at a time."""

ITERATIONS = 6
"""T where none is asked for."""

KEPT = 1 << 26
"""Numbers of a pass whose steps are kept for the gradient; those of a larger one are done again."""


class _State:
    """Fields ξ of all positions from the spins that are drawn."""

    def __init__(self, models: Models, num_reads: int, rings: bool) -> None:
        self.models = models
        found = spectrum(models)
        self.step = models.to_columns(found.step, num_reads).unsqueeze(1)
        self.mode = models.to_columns(found.mode, num_reads) if rings else None
        self.field = models.to_columns(models.h, num_reads).clone()
        self.present = None
        if models.active is not None:
            self.present = models.to_columns(models.active, num_reads).to(self.field.dtype)


class Tap(Conditional):
    r"""See the module.

    Args:
        num_spins: Number of spins.
        iterations: T.
        parameters: "none"; or "scalars": α_t, γ_t, another γ for Φ, and a factor of the difference
            of two Φ; or "couplings": these for each spin, β(J + σδ) for the J of each step and of
            Φ, and Σ_l g_il (tanh v_il H_l⁺ + tanh v_il H_l⁻) that adds to the logit.
        mask: Which spins may be coupled by δ and g, symmetric; None means all.
        scale: σ, a typical |J|: the unit of δ.
        rings: Add Φ_∘, which depends on all spins: not for sparse graphs, of which scopes are
            parts.
    """

    alpha: Tensor
    gamma: Tensor
    readout: Tensor
    mask: Tensor
    scale: Tensor

    def __init__(
        self,
        num_spins: int,
        iterations: int,
        parameters: Literal["none", "scalars", "couplings"] = "none",
        mask: Tensor | None = None,
        scale: float = 1.0,
        rings: bool = True,
    ) -> None:
        super().__init__()
        self.rings = rings
        n, T = num_spins, iterations
        self.iterations = T
        alpha, gamma, readout = torch.ones(T, 1), torch.ones(T + 1, 1), torch.ones(1)
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
            plan.is_dense,
        )

    def draw_all(
        self, models: Models, num_reads: int, generator: torch.Generator
    ) -> tuple[Tensor, Tensor] | None:
        """All spins by the compiled kernel, where there is one."""
        compiled = self._compiled(models)
        return None if compiled is None else compiled.draw(num_reads, generator)

    def begin(self, models: Models, num_reads: int) -> _State:
        """Fields of the models alone."""
        return _State(models, num_reads, self.rings)

    def logits(self, state: _State, level: slice, spins: Tensor) -> Tensor:
        """Logits of a level, whose spins are not coupled."""
        later, size = slice(level.stop, None), level.stop - level.start
        xi = state.field[:, later].unsqueeze(2).expand(-1, -1, size, -1)
        present = None
        if state.present is not None:
            present = state.present[:, later].unsqueeze(2).expand_as(xi)
        positions = torch.arange(level.start, level.stop, device=spins.device)
        return self._logits(state, state.field[:, level], xi, present, positions, later)

    def drawn(self, state: _State, level: slice, spins: Tensor) -> None:
        """Add the field of the spins that were drawn."""
        state.field.baddbmm_(state.models.J[:, :, level], spins[:, level])

    def of_states(self, models: Models, spins: Tensor, positions: Tensor) -> Tensor:
        """Logits of some positions: spins after the first of a few at a time."""
        differentiable = torch.is_grad_enabled() and any(p.requires_grad for p in self.parameters())
        if not differentiable and (compiled := self._compiled(models)) is not None:
            return compiled.logits(spins, positions)
        state = _State(models, spins.shape[2] // models.num_queries, self.rings)
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
            state: The models, their present spins and their spectrum.
            xi: Fields of all spins for each position, (g, n, chosen, columns).
            chunk: The positions.
        """
        later = slice(int(chunk[0]) + 1, None)
        own = xi[:, chunk, range(len(chunk))]
        xi = xi[:, later]
        # Spins of the chunk are absent from the models of those after them.
        index = torch.arange(state.models.num_spins, device=xi.device)[later]
        present = (index[:, None, None] > chunk[:, None]).to(xi.dtype)
        if state.present is not None:
            present = present * state.present[:, later].unsqueeze(2)
        return self._logits(state, own, xi, present.expand_as(xi), chunk, later)

    def _logits(
        self,
        state: _State,
        own: Tensor,
        xi: Tensor,
        present: Tensor | None,
        positions: Tensor,
        later: slice,
    ) -> Tensor:
        """What spins in fields ξ of their own owe to later ones in fields ξ.

        Args:
            state: The models and their spectrum.
            own: ξ of the positions, (g, chosen, columns).
            xi: ξ of the later spins for each of them, (g, later, chosen, columns).
            present: 1 where a spin is there, 0 where not, of the same shape.
            positions: The positions.
            later: The later spins.
        """
        W = self._couplings(state.models, self.iterations)
        R = W[:, positions, later].mT.unsqueeze(3)
        (plus, rings, H), (minus, other, H_minus) = (
            self._free_energy(state, x, W[:, later, later], present, later)
            for x in (xi + R, xi - R)
        )
        # Term by term, so that little is lost by rounding.
        difference = (plus - minus).sum(1) + (rings - other)
        readout = self.readout if len(self.readout) == 1 else self.readout[positions]
        logits = 2 * own + readout.unsqueeze(1) * difference
        if self.delta is None:
            return logits
        # What a fit adds.
        g, slope = ((a * self.mask)[positions, later].mT.unsqueeze(2) for a in (self.g, self.v))
        more = g * ((slope * H).tanh() + (slope * H_minus).tanh())
        return logits + (more if present is None else more * present).sum(1)

    def _free_energy(
        self, state: _State, x: Tensor, W: Tensor, present: Tensor | None, later: slice
    ) -> tuple[Tensor, Tensor, Tensor]:
        """The terms of Φ in fields x, spin by spin; Φ_∘; and H. Of each position and column."""
        shape, x = x.shape, x.flatten(2)
        if present is not None:
            present = present.flatten(2)
        H = self._fields(state, x, present, later)
        m, v = _moments(H, present)
        entropy = log_cosh(H) - H * m
        if present is not None:
            entropy = entropy * present
        gamma = _at(self.gamma[self.iterations], later)
        reaction = gamma / 4 * v * (state.models.J[:, later, later].square() @ v)
        terms = entropy + m * (x + W @ m / 2) + reaction
        rings = x.new_zeros(x.shape[0], x.shape[2])
        if state.mode is not None:
            X = (self._mode(state, x, later) * v).sum(1)
            rings = (X - X.square() / 2 - X.log1p()) / 2
        return terms.view(shape), rings.view(shape[0], *shape[2:]), H.view(shape)

    def _fields(self, state: _State, x: Tensor, present: Tensor | None, later: slice) -> Tensor:
        """H of the spins of `later` in fields x, (g, later, columns)."""
        models = state.models
        K = models.J[:, later, later].square()
        step = state.step.repeat(1, 1, x.shape[2] // state.step.shape[2])
        mode = None if state.mode is None else self._mode(state, x, later)
        H, mu = x, torch.zeros_like(x)
        for t in range(self.iterations):
            m, v = _moments(H, present)
            change = x - H + self._couplings(models, t)[:, later, later] @ m
            if t > 0:  # before, there are no means to be taken back
                back = K @ v
                if mode is not None:
                    X = (mode * v).sum(1, keepdim=True)
                    back = back - mode * (X.square() / (1 + X))
                change = change - _at(self.gamma[t], later) * mu * back
            alpha = step * _at(self.alpha[t], later)
            H = H + alpha * change
            mu = mu + alpha * (m - mu)
        return H

    @staticmethod
    def _mode(state: _State, x: Tensor, later: slice) -> Tensor:
        """The mode that stands out, for each column of x."""
        assert state.mode is not None
        return state.mode[:, later].repeat(1, 1, x.shape[2] // state.mode.shape[2])

    def _couplings(self, models: Models, t: int) -> Tensor:
        """βJ of step t, or that of the free energies where t = T."""
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
            spectrum(models),
            self.rings,
            couplings,
            alpha.expand(T, n),
            gamma.expand(T + 1, n),
            readout.expand(n),
            residual,
        )


def _moments(H: Tensor, present: Tensor | None) -> tuple[Tensor, Tensor]:
    """Means and variances of spins in fields H, 0 of those that are not there."""
    m = H.tanh()
    v = 1 - m.square()
    return (m, v) if present is None else (m * present, v * present)


def _at(values: Tensor, later: slice) -> Tensor:
    """Numbers of the later spins, or one of all, as a column."""
    return (values if len(values) == 1 else values[later]).unsqueeze(1)
