r"""Boltzmann attention without queries and keys, and with a potential on counts."""

from typing import Any

from torch import Tensor

from qattn.layers.boltzmann import BoltzmannAttention


class CardinalityAttention(BoltzmannAttention):
    r"""Boltzmann attention with a potential on the number of attended positions for its couplings.

    .. math::
        p_i(n) \propto \varphi\Big(\sum_j n_j\Big) \exp\Big(\sum_j z_{ij} n_j\Big), \qquad
        z_{ij} = q_i \cdot k_j/\sqrt d + b, \qquad w_{ij} = \langle n_j \rangle_i

    with log φ learned for each head: sigmoid attention is φ = 1, softmax attention
    φ = [count = 1] (:class:`qattn.couplings.Cardinality`).
    """

    def __init__(self, embed_dim: int, num_heads: int, context: int, **options: Any) -> None:
        super().__init__(embed_dim, num_heads, context, **{"couplings": "cardinality"} | options)


class CouplingsAttention(BoltzmannAttention):
    r"""Couplings only: Boltzmann attention with fields h = b/2, without queries and keys.

    Its pattern is learned and the same for every input; it shows what J does on its own.
    """

    def _scores(self, query: Tensor, key: Tensor, factor: float | Tensor = 1.0) -> Tensor:
        # Without components there are no products: the biases are left.
        return super()._scores(query[:1, :, :, :0], key[:1, :, :, :0], factor)
