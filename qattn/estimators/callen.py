r"""The estimator with each spin, or pair of spins, averaged given the rest of its read.

Callen's identity ⟨s_i⟩ = ⟨tanh b_i⟩, with b_i = h_i + Σ_j J_ij s_j, replaces a spin by its mean
given the other spins. The gradient needs covariances of f(s) = g·s with s_i and with s_i s_j; the
law of total covariance, given the spins outside the pair (i, j), splits them into

.. math::
    \mathrm{Cov}(s_i, s_j) &= \langle e - \mu_i \mu_j \rangle + \mathrm{Cov}(\mu_i, \mu_j), \\
    \mathrm{Cov}(f, s_i s_j) &= \langle g_i (\mu_j - \mu_i e) + g_j (\mu_i - \mu_j e) \rangle
                               + \mathrm{Cov}(F, e),

where μ_i, μ_j and e are the means of s_i, s_j and s_i s_j over the four states of the pair, and
F = f - g_i (s_i - μ_i) - g_j (s_j - μ_j); likewise Var(s_i) = ⟨1 - tanh² b_i⟩ + Var(tanh b_i).
Sample covariances are centred and divided by (reads - 1): unbiased for independent reads, with
less variance than the covariances of the raw spins (Rao and Blackwell).

With c_i = b_i - J_ij s_j the field on i from outside the pair, p the probability that the two
spins are equal, and T± = tanh(c_i ± c_j):

.. math::
    p = \sigma\Big(2 J_{ij} + \log\frac{\cosh(c_i + c_j)}{\cosh(c_i - c_j)}\Big), \quad
    e = 2p - 1, \quad \mu_i = p T_+ + (1-p) T_-, \quad \mu_j = p T_+ - (1-p) T_-.

The ratio is e^{|c_i + c_j| - |c_i - c_j|} (1 + |T_-|) / (1 + |T_+|): p then needs no logarithm, and
nothing overflows however strong the couplings are. tanh(x) is written 2σ(2x) - 1, which PyTorch
computes several times faster.

Control variates s_k - tanh b_k, whose mean is zero, are left out: with coefficients fitted to one
half of 100 reads and used on the other they took a further third (weak couplings) to a fifth
(strength 1) off the variance, but blew it up at strength 2, where the fit is ill-conditioned.

Derived here; for the identity see H. B. Callen, Physics Letters 4, 161 (1963).
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.estimators.reads import Reads


class PairMeans(NamedTuple):
    """Means over the four states of a pair of spins, given the rest of the read."""

    first: Float[Tensor, "g m q r"]
    second: Float[Tensor, "g m q r"]
    product: Float[Tensor, "g m q r"]


def mean(reads: Reads) -> Float[Tensor, "g n q"]:
    """The mean of tanh b_i over the reads."""
    return reads.average(fields(reads).tanh_()) * reads.active


def gradients(
    reads: Reads, grad: Float[Tensor, "g n q"]
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g n n"]]:
    """Derivatives in h and in each pair's J (symmetric) from that in ⟨s⟩."""
    s, J, N = reads.spins, reads.J, reads.count
    # f(s) = g·s of each read, centred: only covariances with it are needed.
    f = (grad.unsqueeze(-1) * s).sum(1, keepdim=True)
    f -= reads.average(f).unsqueeze(-1)
    b = fields(reads)
    t = b.tanh()
    # Var(s_i) = ⟨1 - t²⟩ + Var(t) with t = tanh b_i; the second has N - 1 for its divisor.
    variance = 1 - (N * reads.average(t) ** 2 - reads.average(t * t)) / (N - 1)
    sum_s = reads.total(s)
    grad_h = grad * variance * reads.active
    grad_J = torch.zeros_like(J)
    # Pairs (i, j) with i = k and all j > k at once: memory of n, not n², values a read.
    for k in range(s.shape[1] - 1):
        i, j = slice(k, k + 1), slice(k + 1, None)
        means = pair_means(b[:, i], b[:, j], s[:, i], s[:, j], J[:, j, k, None, None])
        mu_i, mu_j, e = means
        both_active = reads.active[:, i] & reads.active[:, j]
        # Sums over the reads of the three means and of the products that covariances take.
        sum_i, sum_j, sum_e = (reads.total(x) for x in means)
        sum_ij, sum_ie, sum_je = (reads.total(x) for x in (mu_i * mu_j, mu_i * e, mu_j * e))
        sum_fe, sum_sie, sum_sje = (reads.total(x * e) for x in (f, s[:, i], s[:, j]))

        # Cov(s_i, s_j): ⟨e - μ_i μ_j⟩, a mean over reads, plus Cov(μ_i, μ_j).
        covariance = (sum_e - sum_ij) / N + (sum_ij - sum_i * sum_j / N) / (N - 1)
        covariance = covariance * both_active
        g_i, g_j = grad[:, i], grad[:, j]
        grad_h[:, i] += (g_j * covariance).sum(1, keepdim=True)
        grad_h[:, j] += g_i * covariance

        # F = f - g_i (s_i - μ_i) - g_j (s_j - μ_j): f without what the pair itself adds to it.
        sum_F = g_i * (sum_i - sum_s[:, i]) + g_j * (sum_j - sum_s[:, j])
        sum_Fe = sum_fe + g_i * (sum_ie - sum_sie) + g_j * (sum_je - sum_sje)
        # Cov(f, s_i s_j): within the pair given the rest of the read, and between reads.
        within = (g_i * (sum_j - sum_ie) + g_j * (sum_i - sum_je)) / N
        between = (sum_Fe - sum_F * sum_e / N) / (N - 1)
        grad_J[:, j, k] = ((within + between) * both_active).sum(-1)
    return grad_h, grad_J + grad_J.mT


def fields(reads: Reads) -> Float[Tensor, "g n q r"]:
    """The local fields b_i of every read."""
    return (reads.J @ reads.spins.flatten(2)).view_as(reads.spins).add_(reads.h.unsqueeze(-1))


def pair_means(
    b_i: Float[Tensor, "g 1 q r"],
    b_j: Float[Tensor, "g m q r"],
    s_i: Float[Tensor, "g 1 q r"],
    s_j: Float[Tensor, "g m q r"],
    J: Float[Tensor, "g m 1 1"],
) -> PairMeans:
    """Means of s_i, s_j and s_i s_j given the other spins, for one i and many j."""
    # Fields from outside the pair, and T± in place.
    c_i, c_j = b_i - J * s_j, b_j - J * s_i
    plus, minus = c_i + c_j, c_i.sub_(c_j)
    equal, opposite = ((2 * x).sigmoid_().mul_(2).sub_(1) for x in (plus, minus))
    # σ(2J + |c_i + c_j| - |c_i - c_j|), then the factors (1 + |T∓|) in its odds: see the module.
    p = plus.abs_().sub_(minus.abs_()).add_(2 * J).sigmoid_()
    weight = p * (1 + opposite.abs())
    p = weight / (1 - p).mul_(1 + equal.abs()).add_(weight)
    # Now p T+ and (1 - p) T-.
    equal.mul_(p)
    opposite.addcmul_(opposite, p, value=-1)
    return PairMeans(equal + opposite, equal - opposite, 2 * p - 1)
