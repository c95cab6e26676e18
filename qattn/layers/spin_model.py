r"""Attention as one step, or the steady state, of a kinetic spin model."""

import warnings
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from qattn.couplings import Couplings
from qattn.ising.precision import at_least_single, without_autocast
from qattn.layers.controls import SoftmaxAttention
from qattn.mean_field import NotConvergedWarning
from qattn.spin_models import SPINS, kinetic_step, steady_state
from qattn.spin_models.step import check_spin_model

FIELDS = ("value", "residual")
"""What the external field of the spins may be."""


class SpinModelAttention(SoftmaxAttention):
    r"""Mean-field dynamics of a spin at every position, with the softmax weights for couplings.

    .. math::
        m_i = \varphi\Big(x_i + \sum_j J_{ij}\, \varphi(x_j)\Big), \qquad
        J_{ij} = \mathrm{softmax}_j(\beta\, q_i \cdot k_j/\sqrt d)

    In a head, position i has one spin of d = head_dim components on a sphere ("vector"), or d
    binary spins; its external field x_i is the head's value vector. J depends on the data and is
    not symmetric: the model has no energy and no equilibrium, and the layer computes its mean
    magnetisations one step after the spins without couplings, or in the steady state. For φ see
    :func:`qattn.spin_models.kinetic_step`; the inverse temperature in it is 1.

    Softmax attention is what is left if φ is linear and the field acts at the step before only. The
    field itself, x_i, adds the position's own value to what it attends to, and φ bounds the outcome
    to the sphere. In the block of Bal ("Spin-Model Transformers", 2023) there is no value and no
    output projection: the residual stream is the field, whose place x_i has in the sum is the
    skip connection's, and φ is the normalisation. That is `field` = "residual": queries and keys
    come from φ(x), and the block of a :class:`qattn.Transformer` goes on with the layer's output,
    without a norm and a skip of its own. With "value" the layer stands in a block as others do.

    Binary spins with weights that sum to one are critical where the fields vanish, since a step
    then changes nothing at first order. Their steady state is near that when training begins with
    small fields: it takes many steps, and may be flagged as not reached. Vector spins contract.

    Args:
        embed_dim: Width of input and output.
        num_heads: Number of heads; divides `embed_dim`.
        context: Largest number of positions.
        spins: "vector", for head_dim > 2, or "binary".
        mean_field: "naive", or "tap" with the fluctuations of the fields.
        steady_state: Repeat the step until nothing changes, for given x and J.
        field: The external field: "value", or "residual", the input itself.
        options: Further arguments of :class:`SoftmaxAttention`.

    Raises:
        ValueError: A size is out of range, or there are no such spins, mean field or field.

    Warns:
        qattn.spin_models.NotConvergedWarning: A steady state or TAP equation was not reached; the
            first time that it happens in the layer.

    >>> import torch
    >>> layer = SpinModelAttention(8, 2, context=6, mean_field="tap", steady_state=True)
    >>> layer(torch.randn(3, 6, 8)).shape
    torch.Size([3, 6, 8])
    """

    TOLERANCE: ClassVar[float] = 1e-5
    """Largest change of a component of m in the last step to a steady state."""

    def __init__(
        self,
        embed_dim: int,
        num_heads: int,
        context: int,
        *,
        spins: str = "vector",
        mean_field: str = "naive",
        steady_state: bool = False,
        field: str = "value",
        **options: Any,
    ) -> None:
        super().__init__(embed_dim, num_heads, context, **options)
        check_spin_model(spins, mean_field)
        if field not in FIELDS:
            names = ", ".join(map(repr, FIELDS))
            raise ValueError(f"Argument `field` must be one of {names}, but is {field!r}.")
        if spins == "vector" and embed_dim <= 2 * num_heads:
            raise ValueError(
                f"Argument `embed_dim` must be more than 2 `num_heads` = {2 * num_heads}, since "
                f"vector spins have more than 2 components, but is {embed_dim}: take fewer heads, "
                f"or spins='binary'."
            )
        self.spins, self.mean_field = spins, mean_field
        self.steady_state, self.field = steady_state, field
        self.is_block = field == "residual"
        self._has_warned = False
        if self.is_block:
            like = self.qkv.weight
            self.qkv = nn.Linear(embed_dim, 2 * embed_dim, device=like.device, dtype=like.dtype)
            self.out = nn.Identity()

    def extra_repr(self) -> str:
        """The settings."""
        return (
            f"{super().extra_repr()}, spins={self.spins!r}, mean_field={self.mean_field!r}, "
            f"steady_state={self.steady_state}, field={self.field!r}"
        )

    def _is_traceable(self) -> bool:
        return not self.steady_state and (self.spins, self.mean_field) != ("binary", "tap")

    def _projected(self, x: Tensor) -> Tensor:
        if not self.is_block:
            return super()._projected(x)
        field = x.unflatten(-1, (1, self.num_heads, -1))
        with without_autocast(x.device):
            normalised = SPINS[self.spins].mean_spin(at_least_single(field)).to(x.dtype)
        query_and_key = self.qkv(normalised.flatten(-3)).unflatten(-1, (2, self.num_heads, -1))
        return torch.cat([query_and_key, field.to(query_and_key.dtype)], -3)

    def _why_no_cache(self) -> str:
        steady = "a steady state is one of all positions at once"
        return super()._why_no_cache() or (steady if self.steady_state else "")

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, couplings: Tensor | Couplings | None
    ) -> Tensor:
        model: dict[str, Any] = {"spins": self.spins, "mean_field": self.mean_field}
        mean_spin = SPINS[self.spins].mean_spin
        with without_autocast(value.device):
            x = at_least_single(value)
            m = mean_spin(x)
        x = x[:, :, -query.shape[2] :]  # the spins of the queries, with a cache the last ones
        if self.mean_field == "naive" and not self.steady_state:
            # PyTorch's fused attention, with magnetisations for values.
            mean_field = super()._attend(query, key, m.to(value.dtype), None)
            with without_autocast(value.device):
                return mean_spin(x + mean_field).to(value.dtype)
        J = self._dropped(self._precise_weights(query, key, None))
        with without_autocast(value.device):
            if self._is_traceable():
                m = kinetic_step(x, J, m, **model)
            else:
                m = self._iterated(x, J, m, model)
        return m.to(value.dtype)

    def _attend_with_weights(
        self, query: Tensor, key: Tensor, value: Tensor, couplings: Tensor | Couplings | None
    ) -> tuple[Tensor, Tensor]:
        heads = self._attend(query, key, value, couplings)
        return heads, self._precise_weights(query, key, couplings)

    def _iterated(self, x: Tensor, J: Tensor, m: Tensor, model: dict[str, Any]) -> Tensor:
        """Magnetisations by iteration; of what has not converged there is one warning in all."""
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            if self.steady_state:
                m = steady_state(x, J, tolerance=self.TOLERANCE, **model)
            else:
                m = kinetic_step(x, J, m, **model)
        for warning in caught:
            is_known = issubclass(warning.category, NotConvergedWarning)
            if not (is_known and self._has_warned):
                warnings.warn(warning.message, stacklevel=3)
            self._has_warned |= is_known
        return m
