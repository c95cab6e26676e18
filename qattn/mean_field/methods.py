r"""The mean-field equations: the field h that each method needs for given means m.

A method is a function h(m), the slope of its free energy as a function of the means; its fixed
point is m with h(m) = h. The slopes A = ∂h/∂m, the inverse of the covariance by linear response,
are symmetric, and positive where the solution is stable. J and h are those at β = 1, and R =
(J∘J) v with v = 1 - m².

===============  ===================================  ==========================================
naive            atanh m - J m                        Weiss
TAP              … + m ∘ R                            Thouless, Anderson and Palmer 1977
adaptive TAP     atanh m - J m + m ∘ V                Opper and Winther, PRE 64, 056131 (2001)
Bethe            atanh m - Σ_j u_ij                   Bethe; belief propagation's fixed points
===============  ===================================  ==========================================
"""

from abc import ABC, abstractmethod

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.mean_field.means import Means, diagonal
from qattn.mean_field.pairs import Pairs


class Method(ABC):
    """Equations of one method, for all queries at once; all results are 0 at absent spins."""

    has_reaction: bool = False
    """Whether V is unknown beside θ: the state is then (θ, V), else θ."""

    def start(
        self, theta: Float[Tensor, "g q n"], J: Float[Tensor, "g n n"], means: Means
    ) -> Float[Tensor, "g q k"]:
        """The state to begin with."""
        return theta

    @abstractmethod
    def change(
        self, state: Float[Tensor, "g q k"], h: Float[Tensor, "g q n"], J: Tensor, means: Means
    ) -> Float[Tensor, "g q k"]:
        """A step towards the fixed point: Newton's, with the diagonal of A alone."""

    @abstractmethod
    def response(
        self, state: Float[Tensor, "g q k"], J: Float[Tensor, "g n n"], means: Means
    ) -> Float[Tensor, "g q n n"]:
        """√v A √v at a fixed point; the identity at absent spins."""

    @abstractmethod
    def coupling_gradient(
        self,
        state: Float[Tensor, "g q k"],
        J: Float[Tensor, "g n n"],
        means: Means,
        pull: Float[Tensor, "g q n"],
    ) -> Float[Tensor, "g n n"]:
        """-Σ λ_i ∂h_i/∂J_ij over the queries, with λ = √v · `pull`, before it is made symmetric."""


class Naive(Method):
    """m = tanh(h + J m)."""

    def change(self, state: Tensor, h: Tensor, J: Tensor, means: Means) -> Tensor:
        """A step."""
        return h + means.m @ J - state

    def response(self, state: Tensor, J: Tensor, means: Means) -> Tensor:
        """1 - √v J √v."""
        return diagonal(torch.ones_like(means.m)) - means.between(J)

    def coupling_gradient(self, state: Tensor, J: Tensor, means: Means, pull: Tensor) -> Tensor:
        """Σ λ_i m_j."""
        return (means.root * pull).mT @ means.m


class Tap(Method):
    """m = tanh(h + J m - m R), R = (J∘J)(1 - m²)."""

    def change(self, state: Tensor, h: Tensor, J: Tensor, means: Means) -> Tensor:
        """A step."""
        reaction = means.v @ (J * J)
        return (h + means.m @ J - means.m * reaction - state) / (1 + means.v * reaction)

    def response(self, state: Tensor, J: Tensor, means: Means) -> Tensor:
        """1 + v R - √v (J + 2 J² m m) √v."""
        frozen = means.m * means.root
        return (
            diagonal(1 + means.v * (means.v @ (J * J)))
            - means.between(J)
            - 2 * frozen.unsqueeze(-1) * (J * J).unsqueeze(1) * frozen.unsqueeze(-2)
        )

    def coupling_gradient(self, state: Tensor, J: Tensor, means: Means, pull: Tensor) -> Tensor:
        """Σ λ_i m_j - 2 λ_i m_i J_ij v_j."""
        pull = means.root * pull
        return pull.mT @ means.m - 2 * J * ((pull * means.m).mT @ means.v)


class Bethe(Method):
    """m = tanh(h + Σ_j u_ij), with u of two spins that have their means."""

    def change(self, state: Tensor, h: Tensor, J: Tensor, means: Means) -> Tensor:
        """A step."""
        pairs = Pairs.of(means, J)
        return (h + pairs.fields() - state) / (1 + pairs.excess())

    def response(self, state: Tensor, J: Tensor, means: Means) -> Tensor:
        """The sum of the inverse covariance matrices of the pairs, less what they share."""
        pairs = Pairs.of(means, J)
        root = means.root
        coupled = root.unsqueeze(-1) * pairs.precision() * root.unsqueeze(-2)
        return diagonal(1 + pairs.excess()) - coupled

    def coupling_gradient(self, state: Tensor, J: Tensor, means: Means, pull: Tensor) -> Tensor:
        """Σ λ_i ∂u_ij/∂J_ij."""
        slope = Pairs.of(means, J).field_slope()
        return ((means.root * pull).unsqueeze(-1) * slope).sum(1)


class AdaptiveTap(Method):
    r"""m = tanh(h + J m - V m), with V such that χ = (V + 1/v - J)⁻¹ has the diagonal v.

    With y = 1 + v V and C = (y - √v J √v)⁻¹, χ = √v C √v, and the diagonal of C is 1.
    """

    has_reaction = True

    def start(self, theta: Tensor, J: Tensor, means: Means) -> Tensor:
        """TAP's reaction is the first order of V."""
        return torch.cat([theta, means.v @ (J * J)], -1)

    def change(self, state: Tensor, h: Tensor, J: Tensor, means: Means) -> Tensor:
        """A step of both, of V by :func:`cavity_reaction`."""
        theta, V = state.chunk(2, -1)
        y = 1 + means.v * V
        step = (h + means.m @ J - means.m * V - theta) / y
        new, _ = cavity_reaction(y, means.root, means.between(J), J.unsqueeze(1))
        return torch.cat([step, new - V], -1)

    def response(self, state: Tensor, J: Tensor, means: Means) -> Tensor:
        """Y - √v J √v + 2 (m/√v) ((C∘C)⁻¹ - 1) (m/√v)."""
        K, _ = self._squares(state, J, means)
        ratio = means.m / self._safe(means.root)
        D = ratio.unsqueeze(-1) * K
        # (1 + K)⁻¹ - 1 = K (1 + K)⁻¹ K - K, without the cancellation.
        inner = D @ torch.linalg.solve_ex(K + diagonal(torch.ones_like(ratio)), D.mT)[0]
        y = 1 + means.v * state.chunk(2, -1)[1]
        response: Tensor = diagonal(y) - means.between(J) + 2 * (inner - D * ratio.unsqueeze(-2))
        return response

    def coupling_gradient(self, state: Tensor, J: Tensor, means: Means, pull: Tensor) -> Tensor:
        """Σ λ_i m_j - χ w χ, w = (χ∘χ)⁻¹ (m λ): what moves Λ = V + 1/v."""
        K, C = self._squares(state, J, means)
        squares = K + diagonal(torch.ones_like(pull))
        w = torch.linalg.solve_ex(squares, pull * means.m / self._safe(means.root))[0]
        root = means.root
        moved = root.unsqueeze(-1) * (C * w.unsqueeze(-2)) @ C * root.unsqueeze(-2)
        gradient: Tensor = (root * pull).mT @ means.m - moved.sum(1)
        return gradient

    def _squares(self, state: Tensor, J: Tensor, means: Means) -> tuple[Tensor, Tensor]:
        """C∘C without its diagonal, which is 1, and C."""
        y = 1 + means.v * state.chunk(2, -1)[1]
        C = torch.linalg.inv_ex(diagonal(y) - means.between(J))[0]
        K = C * C
        K.diagonal(dim1=-2, dim2=-1).zero_()
        return K, C

    @staticmethod
    def _safe(root: Tensor) -> Tensor:
        """√v to divide by; what is divided is of the order of v where that is small."""
        return root.clamp_min(torch.finfo(root.dtype).eps)


def cavity_reaction(
    y: Float[Tensor, "groups queries n"],
    root: Float[Tensor, "groups queries n"],
    coupled: Float[Tensor, "groups queries n n"],
    J: Float[Tensor, "groups _ n n"],
) -> tuple[Float[Tensor, "groups queries n"], Float[Tensor, "groups queries n n"]]:
    r"""V_i = Σ_jk J_ij ⟨s_j s_k⟩ J_ki with spin i taken out, of Gaussian spins; and C.

    C = (y - √v J √v)⁻¹ and q_i = (J √v C √v J)_ii give V = q/(1 + v q/y), which loses no digits
    where v is small, as (y - 1/C_ii)/v would.
    """
    C = torch.linalg.inv_ex(diagonal(y) - coupled)[0]
    seen = root.unsqueeze(-1) * J  # √v_j J_ji
    q = (seen * (C @ seen)).sum(-2)
    return q / (1 + root * root * q / y), C


EQUATIONS: dict[str, Method] = {
    "mean-field": Naive(),
    "tap": Tap(),
    "adaptive-tap": AdaptiveTap(),
    "bethe": Bethe(),
}
"""The methods by name."""
