r"""Multi-head attention layers with one interface: Boltzmann attention and its three controls."""

import math
from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from qattn.attention import ising_batch, mean_from_backend, normalized, weights_from_mean
from qattn.backends import Backend, get_backend
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import at_least_single, without_autocast

INITIAL_COUPLING_STD = 0.02
"""Standard deviation of the initial couplings."""


class MultiheadAttention(nn.Module, ABC):
    """Projections, heads and their arithmetic; subclasses turn queries and keys into weights.

    Args:
        embed_dim: Width of input and output.
        num_heads: Number of heads; divides `embed_dim`.
        context: Largest number of positions.
        is_causal: Position i attends to positions j ≤ i only.
        qk_norm: Layer-normalise queries and keys over the head dimension before their product;
            keeps the local fields of order one, whatever the width and the training time.
        normalize: Divide by the sum of a query's weights.
    """

    has_field_bias: ClassVar[bool] = False

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        context: int,
        *,
        is_causal: bool = True,
        qk_norm: bool = False,
        normalize: bool = False,
    ) -> None:
        super().__init__()
        sizes = {"embed_dim": embed_dim, "num_heads": num_heads, "context": context}
        for name, number in sizes.items():
            if number < 1:
                raise ValueError(f"Argument `{name}` must be positive, but is {number}.")
        if embed_dim % num_heads:
            raise ValueError(
                f"Argument `embed_dim` must be a multiple of `num_heads` = {num_heads}, "
                f"but is {embed_dim}."
            )
        self.num_heads, self.context = num_heads, context
        self.is_causal, self.normalize = is_causal, normalize
        self.qkv = nn.Linear(embed_dim, 3 * embed_dim)
        self.out = nn.Linear(embed_dim, embed_dim)
        head_dim = embed_dim // num_heads
        if self.has_field_bias:
            self.field_bias = nn.Parameter(torch.full((num_heads,), -math.log(context)))
        self.query_norm = nn.LayerNorm(head_dim) if qk_norm else nn.Identity()
        self.key_norm = nn.LayerNorm(head_dim) if qk_norm else nn.Identity()

    def forward(
        self, x: Float[Tensor, "batch positions embed"]
    ) -> Float[Tensor, "batch positions embed"]:
        """Attend, and project the heads' outputs back."""
        query, key, value = self._heads(x)
        projected: Tensor = self.out(self._attend(query, key, value).transpose(1, 2).flatten(2))
        return projected

    def weights(
        self, x: Float[Tensor, "batch positions embed"]
    ) -> Float[Tensor, "batch heads positions positions"]:
        """The attention weights that `forward` uses on x, in float32 at least."""
        query, key, _ = self._heads(x)
        return self._precise_weights(query, key).expand(len(x), -1, -1, -1)

    def _heads(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        if x.shape[1] > self.context:
            raise ValueError(
                f"Argument `x` must have at most context = {self.context} positions, "
                f"but has {x.shape[1]}."
            )
        heads = self.qkv(x).unflatten(-1, (3, self.num_heads, -1)).permute(2, 0, 3, 1, 4)
        query, key, value = heads.unbind(0)
        return self.query_norm(query), self.key_norm(key), value

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return self._precise_weights(query, key).to(value.dtype) @ value

    def _precise_weights(self, query: Tensor, key: Tensor) -> Tensor:
        """The weights in float32 at least, also under autocast and of half-precision layers."""
        with without_autocast(query.device):
            return self._weights(at_least_single(query), at_least_single(key))

    @abstractmethod
    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        """Weights, shape (batch or 1, heads, queries, positions)."""

    def _scores(self, query: Tensor, key: Tensor, factor: float = 1.0) -> Tensor:
        return (query * (factor / math.sqrt(query.shape[-1]))) @ key.mT

    def _bias(self) -> Tensor:
        """The bias of the scores, shape (heads, 1, 1)."""
        return at_least_single(self.field_bias)[:, None, None]

    def _masked(self, x: Tensor, value: float) -> Tensor:
        if not self.is_causal:
            return x
        return x.masked_fill(x.new_ones(x.shape[-2:], dtype=torch.bool).triu(1), value)


class SoftmaxAttention(MultiheadAttention):
    r"""Softmax attention, :math:`w_{ij} = \mathrm{softmax}_j(q_i \cdot k_j/\sqrt d)`: a control."""

    def _attend(self, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
        return F.scaled_dot_product_attention(query, key, value, is_causal=self.is_causal)

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        return self._masked(self._scores(query, key), -torch.inf).softmax(-1)


class SigmoidAttention(MultiheadAttention):
    r"""Sigmoid attention, :math:`w_{ij} = \sigma(q_i \cdot k_j/\sqrt d + b)`: Boltzmann at J = 0.

    b is learnable per head and starts at -log(context): see :class:`BoltzmannAttention`.
    """

    has_field_bias = True

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        scores = self._scores(query, key) + self._bias()
        weights = self._masked(scores.sigmoid(), 0.0)
        return normalized(weights) if self.normalize else weights


class BoltzmannAttention(SigmoidAttention):
    r"""Boltzmann attention: the pattern of each query is an Ising model; one J per head.

    .. math::
        h_{ij} = \tfrac12(q_i \cdot k_j/\sqrt d + b), \qquad
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i)

    with ⟨s⟩ from :math:`p_i(s) \propto \exp(\beta(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k))`
    (Kim and Park, arXiv 2606.12478; see :func:`qattn.boltzmann_attention`).

    J is stored as its independent entries, ``coupling_values``, so that no optimiser step can
    make it asymmetric or give it a diagonal; :attr:`couplings` is the matrix.

    The start. Couplings are drawn with standard deviation 0.02: far below the 1/√context at which
    a dense random model leaves its paramagnetic phase, so that at first ⟨s⟩ follows the fields,
    the layer is sigmoid attention to a good approximation, and gradients in J do not vanish, as
    they would between frozen spins. The field bias b starts at -log(context): a query then
    attends to about one position in all, as softmax does, where b = 0 would attend to half of
    them and drown the value of each (Ramapuram et al., "Theory, Analysis, and Best Practices for
    Sigmoid Self-Attention", ICLR 2025).

    Args:
        embed_dim: Width of input and output.
        num_heads: Number of heads; divides `embed_dim`.
        context: Largest number of positions; a shorter sequence uses the leading block of J.
        is_causal: Position i attends to positions j ≤ i only.
        qk_norm: Layer-normalise queries and keys over the head dimension before their product.
        normalize: Divide by the sum of a query's weights.
        relative: J_jk depends on the distance |j - k| only: context - 1 numbers per head instead
            of context·(context - 1)/2.
        beta: Inverse temperature of the Ising models.
        backend: Where ⟨s⟩ comes from: a backend or the name of one; "exact" needs no reads.
        num_reads: Reads per query of a sampling backend.
        estimator: How reads become ⟨s⟩ and its gradients, one of
            :func:`qattn.estimators.available_estimators`; None means the exact gradient for
            "exact" and "callen" for other backends.
        sampler: Refused: the command line's word for `backend`.

    Raises:
        ValueError: A size is out of range, or there is no such backend.
        ImportError: A package that the backend needs is missing.
        TypeError: `sampler` is given.

    The attributes ``backend``, ``num_reads`` and ``estimator`` may be set between calls, to
    evaluate with another backend than the one that trains.

    Attributes:
        last_info: What the backend reported about the reads of the last pass
            (:attr:`qattn.SpinSamples.info`); empty if it drew none.

    >>> layer = BoltzmannAttention(embed_dim=8, num_heads=2, context=5)
    >>> x = torch.randn(3, 4, 8)  # 3 sequences of 4 positions
    >>> layer(x).shape
    torch.Size([3, 4, 8])
    >>> layer.backend, layer.num_reads = "neal", 20  # reads of simulated annealing
    >>> layer.weights(x).shape
    torch.Size([3, 2, 4, 4])
    """

    last_info: Mapping[str, Any]
    _backend: str | Backend | None
    _backend_name: str

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        context: int,
        *,
        is_causal: bool = True,
        qk_norm: bool = False,
        normalize: bool = False,
        relative: bool = False,
        beta: float = 1.0,
        backend: str | Backend = "exact",
        num_reads: int = 100,
        estimator: str | None = None,
        sampler: None = None,
    ) -> None:
        if sampler is not None:
            raise TypeError(
                f"Argument `sampler` of a layer is called `backend`: pass backend={sampler!r}."
            )
        common = {"is_causal": is_causal, "qk_norm": qk_norm, "normalize": normalize}
        super().__init__(embed_dim, num_heads, context, **common)
        self.beta = beta
        self.backend, self.num_reads, self.estimator = backend, num_reads, estimator
        self.last_info = {}
        self.relative = relative
        entries = context - 1 if relative else context * (context - 1) // 2
        self.coupling_values = nn.Parameter(INITIAL_COUPLING_STD * torch.randn(num_heads, entries))

    @property
    def backend(self) -> str | Backend:
        """Where ⟨s⟩ comes from: a backend, made once if it was set by name, or "exact"."""
        if self._backend is None:
            self._backend = get_backend(self._backend_name)
        return self._backend

    @backend.setter
    def backend(self, backend: str | Backend) -> None:
        by_name = isinstance(backend, str) and backend != "exact"
        made = get_backend(str(backend)) if by_name else backend
        self._backend, self._backend_name = made, str(backend) if by_name else ""

    def _refused_sampler(self, _: object) -> None:
        raise AttributeError("Attribute `sampler` of a layer is called `backend`: set that.")

    sampler = property(fset=_refused_sampler)

    def __getstate__(self) -> dict[str, Any]:
        """State for copies and pickles: of a backend that was set by name, the name alone.

        The copy makes its own when it is first used.
        """
        state = self.__dict__ | {"last_info": {}}
        return state | {"_backend": None} if self._backend_name else state

    @property
    def couplings(self) -> Float[Tensor, "heads context context"]:
        """J, symmetric with zero diagonal, differentiable in ``coupling_values``."""
        return self._couplings(self.context)

    def _couplings(self, size: int) -> Tensor:
        values = at_least_single(self.coupling_values)
        return coupling_matrix(values, self.context, size, self.relative)

    def ising_batch(self, x: Float[Tensor, "batch positions embed"]) -> IsingBatch:
        """The Ising models that `forward` solves on x: a group is a head, queries by position."""
        query, key, _ = self._heads(x)
        with without_autocast(query.device):
            return self._ising_batch(at_least_single(query), at_least_single(key))

    def _ising_batch(self, query: Tensor, key: Tensor) -> IsingBatch:
        n = key.shape[2]
        fields = self._fields(query, key)
        J = self._couplings(n)
        return ising_batch(fields, J, is_causal=self.is_causal, beta=self.beta, validate=False)

    def _fields(self, query: Tensor, key: Tensor) -> Tensor:
        return self._scores(query, key, 0.5) + self._bias() / 2

    def _weights(self, query: Tensor, key: Tensor) -> Tensor:
        batch = self._ising_batch(query, key)
        mean, self.last_info = mean_from_backend(
            batch, self.backend, self.num_reads, self.estimator
        )
        return weights_from_mean(
            mean,
            batch.num_queries // query.shape[2],
            is_causal=self.is_causal,
            normalize=self.normalize,
        )


class CouplingsAttention(BoltzmannAttention):
    r"""Couplings only: Boltzmann attention with fields h = b/2, without queries and keys.

    Its pattern is learned and the same for every input; it shows what J does on its own.
    """

    def _fields(self, query: Tensor, key: Tensor) -> Tensor:
        shape = (1, self.num_heads, query.shape[2], key.shape[2])
        return (self._bias() / 2).expand(shape)


ATTENTION: dict[str, type[MultiheadAttention]] = {
    "boltzmann": BoltzmannAttention,
    "softmax": SoftmaxAttention,
    "sigmoid": SigmoidAttention,
    "couplings": CouplingsAttention,
}
"""The arms of the ablation by the name that the command line uses."""


def coupling_matrix(
    values: Float[Tensor, "heads parameters"], context: int, size: int, relative: bool
) -> Float[Tensor, "heads size size"]:
    """The leading block of J from its independent entries, symmetric with zero diagonal.

    Args:
        values: J_jk for j < k in rows, context · (context - 1)/2 of them; or, relative, the
            couplings at the distances 1 to context - 1.
        context: Number of positions of the whole matrix.
        size: Number of positions of the block.
        relative: Whether J_jk depends on k - j only.
    """
    zero = values.new_zeros(len(values), 1)
    if relative:
        # J_jk stands at place size - 1 - j + k of [v_(size-1) … v_1, 0, v_1 … v_(size-1)]: a row
        # of J is a window on it.
        near = values[:, : size - 1]
        return torch.cat([near.flip(1), zero, near], 1).unfold(1, size, 1).flip(1)
    # Row j begins after j rows of context - 1, context - 2, … entries. The diagonal takes the zero.
    position = torch.arange(size, device=values.device)
    low = torch.minimum(position, position[:, None])
    high = torch.maximum(position, position[:, None])
    entry = low * (2 * context - low - 1) // 2 + high - low - 1
    entry = entry.masked_fill(low == high, values.shape[1])
    entries = torch.cat([values, zero], 1).index_select(1, entry.flatten())
    return entries.view(-1, size, size)
