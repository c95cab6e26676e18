r"""Softmax and sigmoid attention: controls of Boltzmann attention."""

import torch
from torch import Tensor
from torch.nn import functional as F

from qattn.layers.multihead import MultiheadAttention


class SoftmaxAttention(MultiheadAttention):
    r"""Softmax attention, :math:`w_{ij} = \mathrm{softmax}_j(q_i \cdot k_j/\sqrt d)`: a control.

    Its weights sum to one as they are, so that `normalize` changes nothing here.
    """

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
        if self.normalize:
            # σ(x)/Σσ(x), right also where every σ(x) of a query is too small for a float.
            return self._masked(F.logsigmoid(scores), -torch.inf).softmax(-1)
        return self._masked(scores.sigmoid(), 0.0)
