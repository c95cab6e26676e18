r"""Softmax and sigmoid attention: controls of Boltzmann attention."""

import torch
from torch import Tensor
from torch.nn import functional as F

from qattn.attention.models import independent_weights, masked
from qattn.couplings import Couplings
from qattn.layers.multihead import MultiheadAttention


class SoftmaxAttention(MultiheadAttention):
    r"""Softmax attention, :math:`w_{ij} = \mathrm{softmax}_j(q_i \cdot k_j/\sqrt d)`: a control.

    Its weights sum to one as they are, so that `normalize` changes nothing here.
    """

    def _attend(
        self, query: Tensor, key: Tensor, value: Tensor, couplings: Tensor | Couplings | None
    ) -> Tensor:
        bias = self._position_bias(query.shape[2], key.shape[2])
        if bias is None:
            return F.scaled_dot_product_attention(query, key, value, is_causal=self.is_causal)
        mask = masked(bias, -torch.inf, self.is_causal).to(query.dtype)
        return F.scaled_dot_product_attention(
            query, key, value, mask.expand(len(query), -1, -1, -1)
        )

    def _weights(self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None) -> Tensor:
        return masked(self._scores(query, key), -torch.inf, self.is_causal).softmax(-1)


class SigmoidAttention(MultiheadAttention):
    r"""Sigmoid attention, :math:`w_{ij} = \sigma(q_i \cdot k_j/\sqrt d + b)`: Boltzmann at J = 0.

    b is learnable per head and starts at -log(context): see :class:`BoltzmannAttention`.
    """

    has_field_bias = True

    def _weights(self, query: Tensor, key: Tensor, couplings: Tensor | Couplings | None) -> Tensor:
        return independent_weights(self._scores(query, key), self.is_causal, self.normalize)
