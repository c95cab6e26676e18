r"""Two coupled spins with given means, in closed form: what the Bethe approximation is made of.

For spins of means m_1, m_2 and coupling J let τ = tanh 2J, v = 1 - m², b = 1 - τ m_1 m_2 and

.. math:: s^2 = 1 - \tau^2 + \tau^2(m_1^2 + m_2^2) - 2\tau m_1 m_2 .

Their covariance is c = τ v_1 v_2/(b + s), the inverse of their covariance matrix has the element
-τ/(2s) off its diagonal, and it exceeds 1/v_1 on it by c τ/(2 s v_1). (From p_++ p_-- =
e^{4J} p_+- p_-+, which is quadratic in c; the same as Ricci-Tersenghi, "The Bethe approximation
for solving the inverse Ising problem", J. Stat. Mech. 2012, P08015.)
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.mean_field.means import Means


@dataclass(frozen=True)
class Pairs:
    """All pairs of the spins of each query.

    Attributes:
        tau: τ = tanh 2J of the pairs of a group.
        s: The root s.
        w: τ/(b + s), so that c = w v_i v_j.
        means: The spins' means.
    """

    tau: Float[Tensor, "groups 1 n n"]
    s: Float[Tensor, "groups queries n n"]
    w: Float[Tensor, "groups queries n n"]
    means: Means

    @classmethod
    def of(cls, means: Means, J: Float[Tensor, "groups n n"]) -> "Pairs":
        """Pairs with these means and couplings."""
        tau = (2 * J).tanh().unsqueeze(1)
        m_i, m_j = means.m.unsqueeze(-1), means.m.unsqueeze(-2)
        # s² ≥ (1 - |τ|)², but for rounding.
        least = torch.finfo(tau.dtype).eps ** 2
        square = (1 - tau) * (1 + tau) + tau * tau * (m_i - m_j) ** 2
        square = square - 2 * tau * (1 - tau) * m_i * m_j
        s = square.clamp_min(least).sqrt()
        return cls(tau, s, tau / (1 - tau * m_i * m_j + s), means)

    def fields(self) -> Float[Tensor, "groups queries n"]:
        """Σ_j u_ij: what the others add to the field of spin i, m_i = tanh(h_i + Σ_j u_ij)."""
        m_i, m_j = self.means.m.unsqueeze(-1), self.means.m.unsqueeze(-2)
        v_j = self.means.v.unsqueeze(-2)
        up, down = self.w * (1 + m_i), self.w * (1 - m_i)
        # ln of p_++ p_+- and of p_-+ p_--, each over the product of the spins' own.
        u = (up * (2 * m_j - up * v_j)).log1p() - (-down * (2 * m_j + down * v_j)).log1p()
        return u.sum(-1) / 4

    def excess(self) -> Float[Tensor, "groups queries n"]:
        """How far v_i ∂h_i/∂m_i is from 1."""
        v = self.means.v
        return (v.unsqueeze(-1) * v.unsqueeze(-2) * self.tau * self.w / (2 * self.s)).sum(-1)

    def precision(self) -> Float[Tensor, "groups queries n n"]:
        """-∂h_i/∂m_j = τ/(2s), the coupling of a Gaussian pair of the same covariance."""
        return self.tau / (2 * self.s)

    def precision_slope(self) -> Float[Tensor, "groups queries n n"]:
        """∂(τ/(2s))/∂m_i."""
        m_i, m_j = self.means.m.unsqueeze(-1), self.means.m.unsqueeze(-2)
        return self.tau**2 * (m_j - self.tau * m_i) / (2 * self.s**3)

    def field_slope(self) -> Float[Tensor, "groups queries n n"]:
        """∂u_ij/∂J_ij = m_j + ∂c/∂m_i at given means."""
        m_i, m_j = self.means.m.unsqueeze(-1), self.means.m.unsqueeze(-2)
        v_i, v_j = self.means.v.unsqueeze(-1), self.means.v.unsqueeze(-2)
        c = self.w * v_i * v_j
        return m_j - self.tau * (m_i * v_j - m_j * c) / self.s
