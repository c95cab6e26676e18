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

Derived here; for the identity see H. B. Callen, Physics Letters 4, 161 (1963).
"""

from jaxtyping import Float
from torch import Tensor

from qattn.estimators.pairs import pair_means, tanh
from qattn.estimators.reads import Reads


def mean(reads: Reads) -> Float[Tensor, "g n q"]:
    """The mean of tanh b_i over the reads."""
    return reads.average(tanh(reads.fields())) * reads.active


def gradients(
    reads: Reads, grad: Float[Tensor, "g n q"]
) -> tuple[Float[Tensor, "g n q"], Float[Tensor, "g n n"]]:
    """Derivatives in h and in each pair's J (symmetric) from that in ⟨s⟩."""
    s, N = reads.spins, reads.count
    G, n, Q, _ = s.shape
    # f(s) = g·s of each read, centred: only covariances with it are needed.
    g, g_mean = grad.unsqueeze(-1), (grad / N).unsqueeze(-1)
    gs = g * s
    f = gs.sum(1, keepdim=True)
    f -= reads.average(f).unsqueeze(-1)
    b = reads.fields()
    t, means = tanh(b), pair_means(reads, b)
    # Sums over the reads for each pair i < j, of μ_i, μ_j, e, μ_i μ_j and D e.
    sums = s.new_zeros(5, G, n, n, Q)
    # Pairs (i, j) with i = k and all j > k at once: memory of n, not n², values a read.
    for k in range(n - 1):
        i, j = slice(k, k + 1), slice(k + 1, None)
        mu_i, mu_j, e = means(i, j)
        # D = F - (g_i μ_i + g_j μ_j) (N - 1)/N, so that ΣD e/(N - 1) holds all terms with e of
        # Cov(f, s_i s_j): those within the pair, over N, and those between reads, over N - 1.
        D = (f - gs[:, i]) - gs[:, j]
        D.addcmul_(mu_i, g_mean[:, i]).addcmul_(mu_j, g_mean[:, j])
        for table, values in zip(sums, (mu_i, mu_j, e, mu_i * mu_j, D.mul_(e)), strict=True):
            table[:, k, j] = reads.total(values)
    sum_i, sum_j, sum_e, sum_ij, sum_De = sums

    N, both_active = N.unsqueeze(1), reads.active.unsqueeze(2) & reads.active.unsqueeze(1)
    g_i, g_j = grad.unsqueeze(2), grad.unsqueeze(1)
    # Cov(s_i, s_j): ⟨e - μ_i μ_j⟩, a mean over reads, plus Cov(μ_i, μ_j).
    covariance = (sum_e - sum_ij) / N + (sum_ij - sum_i * sum_j / N) / (N - 1)
    covariance = covariance * both_active
    # Var(s_i) = ⟨1 - t²⟩ + Var(t) with t = tanh b_i.
    variance = 1 - (reads.count * reads.average(t) ** 2 - reads.average(t * t)) / (reads.count - 1)
    grad_h = grad * variance * reads.active
    grad_h = grad_h + (covariance * g_j).sum(2) + (covariance * g_i).sum(1)
    # Cov(f, s_i s_j): ΣD e/(N - 1) and what it does not hold.
    sum_s = reads.total(s)
    sum_F = g_i * (sum_i - sum_s.unsqueeze(2)) + g_j * (sum_j - sum_s.unsqueeze(1))
    within = (g_i * sum_j + g_j * sum_i) / N
    grad_J = ((within + (sum_De - sum_F * sum_e / N) / (N - 1)) * both_active).sum(-1)
    return grad_h, grad_J + grad_J.mT
