r"""The estimator with each spin, or pair of spins, averaged given the rest of its read.

Callen's identity ⟨s_i⟩ = ⟨tanh b_i⟩, with b_i = h_i + Σ_j J_ij s_j, replaces a spin by its mean
given the other spins. The gradient needs covariances of f(s) = g·s with s_i and with s_i s_j; the
law of total covariance, given the spins outside the pair (i, j), splits them into

.. math::
    \mathrm{Cov}(s_i, s_j) &= \langle e - \mu_i \mu_j \rangle + \mathrm{Cov}(\mu_i, \mu_j), \\
    \mathrm{Cov}(f, s_i s_j) &= \langle g_i (\mu_j - \mu_i e) + g_j (\mu_i - \mu_j e) \rangle
                               + \mathrm{Cov}(F, e),

where μ_i, μ_j and e are the means of s_i, s_j and s_i s_j over the four states of the pair, which
:mod:`qattn.estimators.pairs` derives, and F = f - g_i (s_i - μ_i) - g_j (s_j - μ_j); likewise
Var(s_i) = ⟨1 - tanh² b_i⟩ + Var(tanh b_i). Sample covariances are centred and divided by
(reads - 1): unbiased for independent reads, with less variance than the covariances of the raw
spins (Rao and Blackwell).

Control variates s_k - tanh b_k, whose mean is zero, are left out: with coefficients fitted to one
half of 100 reads and used on the other they took a further third (weak couplings) to a fifth
(strength 1) off the variance, but blew it up at strength 2, where the fit is ill-conditioned.

Where J_ij = 0 the spin i does not see j: then μ_i = tanh b_i, μ_j = tanh b_j and e = μ_i μ_j, so
that sums over the reads of tanh b take the place of the four states. A band of width w, blocks and
sparse J cost O(n w) values a read instead of O(n²), for the same estimates.

Derived here; for the identity see H. B. Callen, Physics Letters 4, 161 (1963).
"""

from collections.abc import Iterable

from jaxtyping import Float
from torch import Tensor

from qattn.estimators.bonds import Bonds, add_to_spins, all_pairs, coupled_pairs, symmetric
from qattn.estimators.pairs import pair_means, tanh
from qattn.estimators.reads import Reads


def mean(reads: Reads) -> Float[Tensor, "g n q"]:
    """The mean of tanh b_i over the reads."""
    return reads.average(tanh(reads.fields())) * reads.active


def gradients(reads: Reads, grad: Float[Tensor, "g n q"]) -> tuple[Float[Tensor, "g n q"], Tensor]:
    """Derivatives in h and in each pair's J, as the values of J stand, from that in ⟨s⟩."""
    s, N, active = reads.spins, reads.count, reads.active
    # f(s) = g·s of each read, centred: only covariances with it are needed.
    g, g_mean = grad.unsqueeze(-1), (grad / N).unsqueeze(-1)
    gs = g * s
    f = gs.sum(1, keepdim=True)
    f -= reads.average(f).unsqueeze(-1)
    b = reads.fields()
    t, means = tanh(b), pair_means(reads, b)
    sum_s, sum_t = reads.total(s), reads.total(t)
    # Var(s_i) = ⟨1 - t²⟩ + Var(t) with t = tanh b_i.
    squares = reads.total(t * t)
    variance = 1 - (sum_t * sum_t / N - squares / N) / (N - 1)
    grad_h = grad * variance * active
    coupled = coupled_pairs(reads.J)
    bonds: Iterable[Bonds]
    if coupled is None:
        assert isinstance(reads.J, Tensor)
        bonds, grad_J = all_pairs(reads.J), reads.J.new_zeros(reads.J.shape)
    else:
        # As if no pair were coupled: Σ_j g_j Cov(t_i, t_j) over j ≠ i.
        T = (g * t).sum(1, keepdim=True)
        T -= reads.average(T).unsqueeze(-1)
        var_t = squares - sum_t * sum_t / N
        grad_h = grad_h + (reads.total(t * T) - grad * var_t) / (N - 1) * active
        bonds, grad_J = coupled, _of_uncoupled_pairs(reads, grad, f, t)

    for i, j, J, place in bonds:
        mu_i, mu_j, e = means(i, j, J)
        # D = F - (g_i μ_i + g_j μ_j) (N - 1)/N, so that ΣD e/(N - 1) holds all terms with e of
        # Cov(f, s_i s_j): those within the pair, over N, and those between reads, over N - 1.
        D = (f - gs[:, i]) - gs[:, j]
        D.addcmul_(mu_i, g_mean[:, i]).addcmul_(mu_j, g_mean[:, j])
        values = mu_i, mu_j, e, mu_i * mu_j, D.mul_(e)
        sum_i, sum_j, sum_e, sum_ij, sum_De = (reads.total(x) for x in values)
        there, g_i, g_j = active[:, i] & active[:, j], grad[:, i], grad[:, j]
        # Cov(s_i, s_j): ⟨e - μ_i μ_j⟩, a mean over reads, plus Cov(μ_i, μ_j).
        covariance = (sum_e - sum_ij) / N + (sum_ij - sum_i * sum_j / N) / (N - 1)
        if coupled is not None:  # in place of what was taken for the pair above
            of_t = reads.total(t[:, i] * t[:, j]) - sum_t[:, i] * sum_t[:, j] / N
            covariance = covariance - of_t / (N - 1)
        covariance = covariance * there
        add_to_spins(grad_h, i, covariance * g_j)
        add_to_spins(grad_h, j, covariance * g_i)
        # Cov(f, s_i s_j): ΣD e/(N - 1) and what it does not hold.
        sum_F = g_i * (sum_i - sum_s[:, i]) + g_j * (sum_j - sum_s[:, j])
        within = (g_i * sum_j + g_j * sum_i) / N
        grad_J[place] = ((within + (sum_De - sum_F * sum_e / N) / (N - 1)) * there).sum(-1)
    is_square = isinstance(reads.J, Tensor) or reads.J.kind == "block"
    return grad_h, symmetric(grad_J) if is_square else grad_J


def _of_uncoupled_pairs(
    reads: Reads,
    grad: Float[Tensor, "g n q"],
    f: Float[Tensor, "g 1 q r"],
    t: Float[Tensor, "g n q r"],
) -> Tensor:
    """Cov(f, s_i s_j) of all pairs as if uncoupled, e = t_i t_j; zeros if they have no values."""
    if not isinstance(reads.J, Tensor):
        return reads.J.values.new_zeros(reads.J.values.shape)
    N, weights = reads.count.mT, reads.weights  # (g, q, 1)
    g, tT = grad.mT.unsqueeze(-1), t.transpose(1, 2)
    s, weighted = reads.spins.transpose(1, 2), t if weights is None else t * weights
    weighted = weighted.transpose(1, 2)
    # ΣD e with f, s_i and t_i in D shared between the two spins of a pair.
    half = weighted * (f.transpose(1, 2) / 2 + g * (tT / N.unsqueeze(-1) - s))
    sum_De = half @ tT.mT
    sum_De = sum_De + sum_De.mT
    sum_e, sum_t = weighted @ tT.mT, weighted.sum(-1, keepdim=True)
    off = g * (sum_t - reads.total(reads.spins).mT.unsqueeze(-1))
    sum_F, within = off + off.mT, g * sum_t.mT + g.mT * sum_t
    N = N.unsqueeze(-1)
    there = (reads.active.mT.unsqueeze(-1) & reads.active.mT.unsqueeze(-2)).to(t.dtype)
    return ((within / N + (sum_De - sum_F * sum_e / N) / (N - 1)) * there).sum(1)
