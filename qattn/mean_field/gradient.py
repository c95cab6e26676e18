r"""Means as a function of h and J, with derivatives of the fixed point and a rule for vmap.

With A = ∂h/∂m at the fixed point, which is symmetric, and g the gradient in m, λ = A⁻¹ g is the
gradient in h, and -Σ λ_i ∂h_i/∂J_jk that in J: one linear solve a query, whatever the iterations.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from qattn._vmap import BackwardFunction, GroupwiseFunction
from qattn.exact.engine import present
from qattn.exact.structured import Lengths
from qattn.ising.precision import without_autocast
from qattn.mean_field.means import Means
from qattn.mean_field.methods import EQUATIONS
from qattn.mean_field.solver import ELEMENTS, Settings, solve_all


@dataclass(frozen=True)
class Report:
    """What a call found, as numbers, which vmap cannot hide.

    Attributes:
        num_queries: Queries that were solved.
        num_failed: Those of them whose solution is not to be trusted.
        share_failed: Their share; among those with an estimate of the error, if that is larger.
        worst_residual: Largest residual.
        error: Root mean square of the estimated errors.
    """

    num_queries: int
    num_failed: int
    share_failed: float
    worst_residual: float
    error: float


@dataclass(frozen=True)
class Call:
    """What a call is besides its tensors: one object, which vmap leaves alone.

    Attributes:
        lengths: Number of spins of each query.
        settings: How to solve.
        reports: Where the call says what it found.
    """

    lengths: Lengths
    settings: Settings
    reports: list[Report] = field(default_factory=list)

    def present(self, h: Float[Tensor, "g q n"]) -> Bool[Tensor, "#g q n"]:
        """True where a query has a spin."""
        return present(h.shape[2], self.lengths.of(len(h)), h.device).mT


class MeanField(GroupwiseFunction):
    """Means; then state, error, converged, stable, residual and iterations, without gradient."""

    @staticmethod
    def forward(h: Tensor, J: Tensor, call: Call) -> tuple[Tensor, ...]:
        """At β = 1."""
        present = call.present(h)
        with without_autocast(h.device):
            found = solve_all(h, J, present, call.settings)
        means = Means.of(found.state[..., : h.shape[2]], present.expand(h.shape))
        failed, estimated = ~found.converged, ~found.error.isnan()
        among = float(failed[estimated].float().mean()) if bool(estimated.any()) else 0.0
        call.reports.append(
            Report(
                failed.numel(),
                int(failed.sum()),
                max(float(failed.float().mean()), among),
                float(found.residual.max()),
                float(found.error.square().nanmean().sqrt()),
            )
        )
        return means.m, *found

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep inputs and solution."""
        h, J, ctx.call = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        _, state, _, _, stable, *_ = output
        ctx.save_for_backward(h, J, state, stable)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Derivatives in h and J."""
        if grads[0] is None:
            return None, None, None
        run = MeanFieldBackward.apply if torch.is_grad_enabled() else MeanFieldBackward.forward
        h, J, state, stable = ctx.saved_tensors
        return *run(grads[0], h, J, state, stable, ctx.call), None


class MeanFieldBackward(BackwardFunction):
    """Gradients in h and J of the means."""

    subject = "A mean-field moment"

    @staticmethod
    def forward(
        grad: Tensor, h: Tensor, J: Tensor, state: Tensor, stable: Tensor, call: Call
    ) -> tuple[Tensor, Tensor]:
        """Of what is no stable solution, as of a spin without couplings: v g in h, 0 in J."""
        G, Q, n = h.shape
        method = EQUATIONS[call.settings.method]
        present = call.present(h).expand(G, Q, n)
        one = torch.eye(n, dtype=h.dtype, device=h.device)
        J = J * (1 - one)
        grad_h, grad_J = torch.empty_like(h), torch.zeros_like(J)
        rows = max(1, ELEMENTS // (G * n * n))
        with without_autocast(h.device):
            for start in range(0, Q, rows):
                part = slice(start, start + rows)
                sound = stable[:, part]
                states = torch.where(sound.unsqueeze(-1), state[:, part], 0)
                means = Means.of(states[..., :n], present[:, part])
                # √v A √v of each query, and its factor; what has none is not stable.
                response = method.response(states, J, means)
                factor, failed = torch.linalg.cholesky_ex(response)
                sound = (sound & (failed == 0)).unsqueeze(-1)
                factor = torch.where(sound.unsqueeze(-1), factor, one)
                weighted = (means.root * grad[:, part]).unsqueeze(-1)
                pull = torch.cholesky_solve(weighted, factor).squeeze(-1)
                own = Means.of(state[:, part, :n], present[:, part])
                alone = own.v * grad[:, part]
                grad_h[:, part] = torch.where(sound, means.root * pull, alone)
                pull = torch.where(sound, pull, 0)
                grad_J += method.coupling_gradient(states, J, means, pull)
        # J is symmetric without a diagonal: each of its two entries has half of a pair's gradient.
        return grad_h, (grad_J + grad_J.mT) / 2 * (1 - one)
