"""A potential on the number of attended positions."""

from typing import ClassVar

import torch
from jaxtyping import Float, Int
from torch import Tensor

from qattn.couplings.base import Couplings, beta_like, check_finite, check_values

QUADRATIC_TOLERANCE = 1e-5
"""Third differences of log φ below this part of the values next to them count as rounding."""


class Cardinality(Couplings):
    r"""A potential φ on how many positions are attended.

    .. math:: p(n) \propto \varphi\Big(\sum_j n_j\Big) \prod_j e^{2 h_j n_j},
              \qquad n_j = \tfrac12 (1 + s_j) \in \{0, 1\}

    The interaction of a state is log φ(count). Sigmoid attention is φ = 1, softmax attention
    φ = [count = 1] (:meth:`subset`), an exact k-subset φ = [count = k], and competition between all
    pairs, J_jk = -λ, is φ(c) = exp(-2λ(c - 1)²) (:meth:`competitive`). For this class of models see
    Swersky et al., "Cardinality Restricted Boltzmann Machines", NeurIPS 2012.

    Counts above K have weight 0. A query with fewer spins than every allowed count attends to all
    of them, the limit of a potential that forbids a count the more, the further it is from an
    allowed one; its log Z is -∞, and has no gradient.

    Args:
        values: log φ of the counts 0 … K, shape (groups, K + 1); -∞ forbids a count.
        num_spins: Number of spins n.

    The derivative of log Z in log φ(c) is the probability of the count c. It tells whether a
    potential was cut too early: with r = p(K)/p(K - 1) < 1, and a log φ that is concave, all counts
    above K together would weigh at most r/(1 - r) times what K does. Here K = 3 of four positions,
    r = 1/3 and p(3) = 0.1: the count 4 would weigh at most 0.05 (it would weigh 0.0125):

    >>> import torch
    >>> from qattn import IsingBatch, exact
    >>> log_phi = torch.zeros(1, 4, requires_grad=True)
    >>> h = torch.full((1, 1, 4), 0.5).log() / 2  # odds of 1/2
    >>> log_Z = exact.log_partition(IsingBatch(h, Cardinality(log_phi, num_spins=4)))
    >>> torch.autograd.grad(log_Z.sum(), log_phi)
    (tensor([[0.2000, 0.4000, 0.3000, 0.1000]]),)
    """

    kind: ClassVar[str] = "cardinality"

    def __init__(self, values: Float[Tensor, "groups counts"], num_spins: int) -> None:
        check_values("values", values, "(groups, counts)", 2)
        self.values, self._num_spins = values, num_spins

    @classmethod
    def subset(
        cls, size: int, *, num_groups: int, num_spins: int, dtype: torch.dtype = torch.float32
    ) -> "Cardinality":
        """Exactly `size` attended positions: softmax attention, softmax(2h), for one.

        >>> Cardinality.subset(1, num_groups=1, num_spins=3).values
        tensor([[-inf, 0.]])
        """
        values = torch.full((num_groups, size + 1), -torch.inf, dtype=dtype)
        values[:, size] = 0.0
        return cls(values, num_spins)

    @classmethod
    def competitive(
        cls,
        strength: Float[Tensor, " groups"],
        num_spins: int,
        *,
        size: float = 1.0,
        max_count: int | None = None,
    ) -> "Cardinality":
        r"""Competition between all pairs of positions: φ(c) = exp(-2λ(c - k)²).

        λ = 0 is sigmoid attention, λ → ∞ softmax attention (k = 1) or a k-subset. The same model
        with pairs has J_jk = -λ and the field λ(2k - n_q) in a query of n_q spins. Of T positions
        with scores near 0 about c = 1 + log(T/c)/(4λ) are attended: the count grows with log T
        only, where that of sigmoid attention grows with T.

        Args:
            strength: λ of each group, differentiable.
            num_spins: Number of spins n.
            size: k, the number of positions that is favoured.
            max_count: Largest count K that is allowed; None means n. Where λ is so small that more
                positions would be attended, as of a sigmoid with scores near 0, the cut is a
                potential of its own: at most K positions.

        >>> Cardinality.competitive(torch.tensor([0.5]), num_spins=3).values
        tensor([[-1., -0., -1., -4.]])
        """
        largest = num_spins if max_count is None else min(max_count, num_spins)
        counts = torch.arange(largest + 1, dtype=strength.dtype, device=strength.device)
        return cls(-2 * strength[:, None] * (counts - size) ** 2, num_spins)

    @property
    def num_spins(self) -> int:
        """Number of spins n."""
        return self._num_spins

    @property
    def max_count(self) -> int:
        """Largest count K that has a weight."""
        return self.values.shape[1] - 1

    @property
    def options(self) -> tuple[int, ...]:
        """The number of spins."""
        return (self._num_spins,)

    def check(self) -> None:
        """Raise unless every value is a number below ∞ and each group allows some count."""
        check_finite("J", torch.where(self.values == -torch.inf, 0.0, self.values))
        if bool((self.values == -torch.inf).all(1).any()):
            raise ValueError("Argument `values` of a Cardinality must allow a count, but none is.")

    def interaction(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups columns"]:
        """Log φ of the number of spins up; an absent spin is 0."""
        count = (s > 0).sum(1)
        allowed = count <= self.max_count
        found = self.values.gather(1, count.clamp_max(self.max_count))
        return found.masked_fill(~allowed, -torch.inf)

    def dense(self) -> Float[Tensor, "groups n n"]:
        r"""J_jk = Δ²/4, a quarter of the second difference of log φ, if log φ is quadratic.

        With :meth:`field` the same model: energies differ by a constant of each query.

        Raises:
            ValueError: log φ is not quadratic in the count over all counts 0 … n.
        """
        _, curvature = self._quadratic()
        n = self.num_spins
        off = 1 - torch.eye(n, dtype=self.dtype, device=self.device)
        return (curvature / 4)[:, None, None] * off

    def field(self, num_active: Float[Tensor, "groups queries"]) -> Tensor:
        r"""The field (b + a n_q)/2 of log φ(c) = const + b c + a c², n_q the spins of a query."""
        slope, curvature = self._quadratic()
        a = curvature[:, None] / 2
        return (slope[:, None] - a + a * num_active.to(self.values)) / 2

    def _quadratic(self) -> tuple[Tensor, Tensor]:
        """First difference of log φ at 0 and its second difference, the same everywhere."""
        v = self.values[:, : self.num_spins + 1]
        quadratic = v.shape[1] == self.num_spins + 1 and bool(v.isfinite().all())
        if quadratic and self.num_spins > 2:
            third, size = v.detach().diff(n=3, dim=1).abs(), v.detach().abs().unfold(1, 4, 1)
            quadratic = bool((third <= QUADRATIC_TOLERANCE * size.amax(2)).all())
        if not quadratic:
            raise ValueError(
                "Argument `couplings` is a potential on counts that is not quadratic in the count "
                "0 … n, so that there is no matrix J, and no binary quadratic model: take exact "
                "moments or exact reads, or Cardinality.competitive."
            )
        none = torch.zeros_like(v[:, 0])
        first = v[:, 1] - v[:, 0] if self.num_spins > 0 else none
        second = v[:, 2] - 2 * v[:, 1] + v[:, 0] if self.num_spins > 1 else none
        return first, second

    def matvec(self, s: Float[Tensor, "groups n columns"]) -> Float[Tensor, "groups n columns"]:
        """Σ_k J_jk s_k of a quadratic potential, in O(n) a column."""
        _, curvature = self._quadratic()
        return (curvature / 4)[:, None, None] * (s.sum(1, keepdim=True) - s)

    def leading(self, num_spins: int) -> "Cardinality":
        """The same potential on fewer spins; counts above their number are ignored."""
        return Cardinality(self.values, num_spins)

    def restricted(
        self, group: Int[Tensor, " models"], rows: Int[Tensor, "models spins"]
    ) -> "Cardinality":
        """The same potential on some of the spins."""
        return Cardinality(self.values[group], rows.shape[1])

    def equivalent(self, rows: Int[Tensor, "*shape spins"]) -> Int[Tensor, "*shape spins"]:
        """Any rows."""
        return torch.arange(rows.shape[-1], device=rows.device).expand(rows.shape)

    def scaled(self, beta: float | Tensor) -> "Cardinality":
        """φ^β; a forbidden count stays forbidden."""
        allowed = self.values > -torch.inf
        values = torch.where(allowed, self.values, 0.0) * beta_like(beta, self.values)
        return Cardinality(values.masked_fill(~allowed, -torch.inf), self.num_spins)
