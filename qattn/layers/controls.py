r"""Softmax and sigmoid attention: controls of Boltzmann attention."""

import torch
from torch import Tensor
from torch.nn import functional as F

from qattn.attention.models import independent_weights, masked
from qattn.couplings import Couplings
from qattn.layers.multihead import MultiheadAttention


class SoftmaxAttention(MultiheadAttention):
    r"""Softmax attention, :math:`w_{ij} = \mathrm{softmax}_j(\beta\, q_i \cdot k_j/\sqrt d)`.

    A control of Boltzmann attention. Its weights sum to one as they are, so that `normalize`
    changes nothing here.
    """

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, couplings: Tensor | Couplings | None
    ) -> Tensor:
        dropout_p = self.dropout if self.training else 0.0
        bias = self._position_bias(query.shape[2], key.shape[2])
        beta = self._beta_of_heads()
        if isinstance(beta, Tensor) or beta != 1.0:
            bias = None if bias is None else bias * beta
            query = (query * beta).to(value.dtype)
        lengths = self._lengths(query, key)
        if bias is None and (lengths is None or query.shape[2] == key.shape[2]):
            return F.scaled_dot_product_attention(
                query, key, value, dropout_p=dropout_p, is_causal=lengths is not None
            )
        # Fewer queries than positions are the last ones; PyTorch aligns them to the first.
        bias = query.new_zeros(1, query.shape[2], key.shape[2]) if bias is None else bias
        mask = masked(bias[None], -torch.inf, lengths).to(query.dtype)
        return F.scaled_dot_product_attention(
            query, key, value, mask.expand(len(query), -1, -1, -1), dropout_p
        )

    def _weights(self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None) -> Tensor:
        scores = self._scores(query, key, self._beta_of_heads())
        return masked(scores, -torch.inf, self._lengths(query, key)).softmax(-1)


class SigmoidAttention(MultiheadAttention):
    r"""Sigmoid attention, :math:`w_{ij} = \sigma(\beta(q_i \cdot k_j/\sqrt d + b))`.

    It is Boltzmann attention at J = 0, whose positions are independent: it has no critical β.

    b is learnable per head and starts at -log(context): see :class:`BoltzmannAttention`.
    """

    has_field_bias, has_transition = True, False

    def _weights(self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None) -> Tensor:
        scores = self._scores(query, key, self._beta_of_heads())
        return independent_weights(scores, self._lengths(query, key), self.normalize)
