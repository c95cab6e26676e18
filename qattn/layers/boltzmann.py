r"""Boltzmann attention."""

from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.types import Device

from qattn.attention.masks import leading
from qattn.attention.models import ising_batch, weights_and_info
from qattn.backends import Backend
from qattn.couplings import Couplings
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import at_least_single, without_autocast
from qattn.layers.beta import Beta
from qattn.layers.controls import SigmoidAttention
from qattn.layers.coupled import WithCouplings


class BoltzmannAttention(WithCouplings, SigmoidAttention):
    r"""Boltzmann attention: the pattern of each query is an Ising model; one J per head.

    .. math::
        h_{ij} = \tfrac12(q_i \cdot k_j/\sqrt d + b), \qquad
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i)

    with ⟨s⟩ from :math:`p_i(s) \propto \exp(\beta(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k))`
    (Kim and Park, arXiv 2606.12478; see :func:`qattn.boltzmann_attention`).

    It is self-attention of one tensor: a sequence attends to itself. Keys and values of their own,
    padding and other masks are for :class:`BoltzmannMultiheadAttention`.

    J is stored as its independent entries, ``coupling_values``, so that no optimiser step can
    make it asymmetric or give it a diagonal; :attr:`couplings` is the matrix, or the structure
    (:mod:`qattn.couplings`) with which moments are exact at lengths that cannot be enumerated.

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
        context: Largest number of positions; a shorter sequence uses the couplings of the first.
        is_causal: Position i attends to positions j ≤ i only.
        qk_norm: Layer-normalise queries and keys over the head dimension before their product.
        normalize: Divide by the sum of a query's weights.
        position_bias: Added to the scores of query i and key j: "none"; "relative", a number for
            each head and distance; "absolute", one for each head, i and j. All start at 0.
        couplings: The structure of J. "dense"; "banded", J_{j,j-d} for distances d ≤ width;
            "low_rank", J_jk = ± U_j U_k; "block", dense within blocks of positions; "cardinality",
            a potential φ on the number of attended positions, log φ of 0 … max_count free.
        width: Of "banded", the largest distance; None means 4. Time grows as 2^width.
        sign: Of "low_rank", 1 (the default) or -1.
        block_size: Of "block", the positions of a block; None means 8.
        max_count: Of "cardinality", the largest number of attended positions; None means 16.
        competitive: Of "cardinality": λ ≥ 0 of J_jk = -λ is learned for each head, in place of a
            free potential; from sigmoid (λ = 0) to softmax attention.
        relative: Of "dense" and "banded": J_jk depends on the distance |j - k| only.
        constraint: Of "dense", "banded" and "block": "non-negative" or "non-positive", where J is
            ±|coupling_values|; or "frozen", where J stays as it starts and is not learned.
        std: Of "dense", "banded" and "block": standard deviation of the initial couplings, from 0
            on; None means 0.02.
        content: Couplings depend on the input x, so that each sequence has its own. Of "low_rank",
            U(x_j) is linear in x_j, for each head; of "banded", each bond has a gate,
            J_{j,j-d} · 2σ(a·x_j + c·x_{j-d}), which is 1 at the start (a = c = 0).
        interaction: What J acts between, "spin", "occupation" or "field": see
            :func:`qattn.boltzmann_attention`.
        beta: Inverse temperature of the Ising models: a number from 0 on; or one for each head that
            starts at 1, "learnable" (the exponential of the parameter ``log_beta``), or "critical"
            or "critical-tracked", which :meth:`set_critical_beta` sets.
        backend: Where ⟨s⟩ comes from: a backend or the name of one; "exact" needs no reads.
        num_reads: Reads per query of a sampling backend.
        estimator: How reads become ⟨s⟩ and its gradients, one of
            :func:`qattn.estimators.available_estimators`; None means the exact gradient for
            "exact" and "callen" for other backends.
        moments: How ⟨s⟩ is computed without reads: "exact", or a mean-field method of
            :mod:`qattn.mean_field`.
        dropout: Probability with which, in training mode, each weight is set to 0, the others being
            divided by 1 - `dropout`.
        device: Where parameters are made; None means PyTorch's default.
        dtype: Their dtype; None means PyTorch's default.
        sampler: Refused: the command line's word for `backend`.

    Raises:
        ValueError: A size or a number is out of range, there is no such structure, interaction,
            bias, backend or estimator, or the structure does not take an option.
        ImportError: A package that the backend needs is missing.
        TypeError: `backend` is neither a name nor a backend, or `sampler` is given.

    The attributes ``backend``, ``num_reads``, ``estimator``, ``moments`` and ``beta`` may be set
    between calls, to evaluate with another backend than the one that trains; with the same errors.

    Attributes:
        last_info: What the backend reported about the reads of the last pass
            (:attr:`qattn.SpinSamples.info`); empty if it drew none. Of mean-field moments,
            "mean_field_error", the estimated rms error of ⟨s⟩, and "not_converged", the share of
            queries whose solution cannot be trusted, of which a warning tells the first time.

    >>> layer = BoltzmannAttention(embed_dim=8, num_heads=2, context=5)
    >>> x = torch.randn(3, 4, 8)  # 3 sequences of 4 positions
    >>> layer(x).shape
    torch.Size([3, 4, 8])
    >>> layer.backend, layer.num_reads = "neal", 20  # reads of simulated annealing
    >>> layer.weights(x).shape
    torch.Size([3, 2, 4, 4])
    >>> long = BoltzmannAttention(8, 2, context=200, couplings="banded", width=2, relative=True)
    >>> long(torch.randn(1, 200, 8)).shape
    torch.Size([1, 200, 8])
    """

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        context: int,
        *,
        is_causal: bool = True,
        qk_norm: bool = False,
        normalize: bool = False,
        position_bias: str = "none",
        couplings: str = "dense",
        width: int | None = None,
        sign: int | None = None,
        block_size: int | None = None,
        max_count: int | None = None,
        competitive: bool = False,
        relative: bool = False,
        constraint: str | None = None,
        std: float | None = None,
        content: bool = False,
        interaction: str = "spin",
        beta: Beta = 1.0,
        backend: str | Backend = "exact",
        num_reads: int = 100,
        estimator: str | None = None,
        moments: str = "exact",
        dropout: float = 0.0,
        device: Device = None,
        dtype: torch.dtype | None = None,
        sampler: None = None,
    ) -> None:
        if sampler is not None:
            raise TypeError(
                f"Argument `sampler` of a layer is called `backend`: pass backend={sampler!r}."
            )
        super().__init__(
            embed_dim,
            num_heads,
            context,
            is_causal=is_causal,
            qk_norm=qk_norm,
            normalize=normalize,
            position_bias=position_bias,
            beta=beta,
            dropout=dropout,
            device=device,
            dtype=dtype,
        )
        self._start_couplings(
            num_heads,
            context,
            embed_dim,
            couplings=couplings,
            interaction=interaction,
            backend=backend,
            num_reads=num_reads,
            estimator=estimator,
            moments=moments,
            width=width,
            sign=sign,
            block_size=block_size,
            max_count=max_count,
            competitive=competitive,
            relative=relative,
            constraint=constraint,
            std=std,
            content=content,
            device=device,
            dtype=dtype,
        )

    def reset_parameters(self) -> None:
        """Draw all parameters anew, for a layer that was made on the meta device, say."""
        super().reset_parameters()
        self._reset_couplings()

    def extra_repr(self) -> str:
        """The settings."""
        return f"{super().extra_repr()}{self._shown_couplings()}"

    def ising_batch(self, x: Float[Tensor, "batch positions embed"]) -> IsingBatch:
        """The Ising models that `forward` solves on x, queries by position.

        A group is a head; or a head of a sequence, where couplings depend on the input.
        """
        query, key, _ = self._heads(x)
        with without_autocast(query.device):
            fields = self._fields(at_least_single(query), at_least_single(key))
            return ising_batch(
                fields,
                self.couplings_of(x),
                lengths=self._lengths(query, key),
                interaction=self.interaction,
                beta=self.beta,
            )

    def _models_before_beta(self, x: Tensor) -> IsingBatch:
        return replace(self.ising_batch(x), beta=1.0, validate=False)

    def _fields(self, query: Tensor, key: Tensor) -> Tensor:
        return self._scores(query, key, 0.5)

    def _weights(self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None) -> Tensor:
        assert couplings is not None
        weights, info = weights_and_info(
            self._fields(query, key),
            leading(couplings, key.shape[2]),
            self.backend,
            self.num_reads,
            self.estimator,
            lengths=self._lengths(query, key),
            interaction=self.interaction,
            beta=self.beta,
            normalize=self.normalize,
            moments=self.moments,
        )
        self._noted(info)
        return weights
