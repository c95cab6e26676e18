r"""What a layer's attention is on one sequence: weights, scores, couplings, β."""

from dataclasses import dataclass

from jaxtyping import Float
from torch import Tensor


@dataclass(frozen=True)
class LayerAttention:
    r"""The attention of a layer on one sequence of T positions.

    .. math::
        p_i(s) \propto \exp\Big(\beta\big(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k\big)\Big),
        \qquad h_{ij} = \tfrac12 z_{ij}, \qquad w_{ij} = \tfrac12 (1 + \langle s_j \rangle_i)

    with the scores z = q·k/√d + biases. At J = 0 the weights are σ(βz).

    Args:
        weights: w of each head, shape (heads, T, T): query i, position j.
        scores: z of each head, before β; -∞ where query i does not see position j.
        couplings: J among the positions, of each head; None of attention without couplings.
        potential: log φ of 0, 1, … attended positions, of each head, where that takes J's place.
        beta: β of each head; None means 1.
        field_bias: The bias b of each head, a part of the scores; None means there is none.
        kind: What makes weights of scores: "ising"; "sigmoid"; "softmax"; "spin-model", whose
            softmax weights are couplings of a kinetic model.
        interaction: What J acts between: see :func:`qattn.boltzmann_attention`.
        normalize: Whether weights are divided by their sum.
        source: Where the weights come from, in words.

    Raises:
        ValueError: Shapes do not go together, or there is no such kind.
    """

    weights: Float[Tensor, "heads queries positions"]
    scores: Float[Tensor, "heads queries positions"]
    couplings: Float[Tensor, "heads positions positions"] | None = None
    potential: Float[Tensor, "heads counts"] | None = None
    beta: Float[Tensor, " heads"] | None = None
    field_bias: Float[Tensor, " heads"] | None = None
    kind: str = "ising"
    interaction: str = "spin"
    normalize: bool = False
    source: str = "exact"

    def __post_init__(self) -> None:
        heads, T = self.weights.shape[:2]
        expected = {
            "weights": (heads, T, T),
            "scores": (heads, T, T),
            "couplings": (heads, T, T),
            "beta": (heads,),
            "field_bias": (heads,),
        }
        for name, shape in expected.items():
            value = getattr(self, name)
            if value is not None and tuple(value.shape) != shape:
                raise ValueError(
                    f"Argument `{name}` must have shape {shape}, but has {tuple(value.shape)}."
                )
        if self.kind not in ("ising", "sigmoid", "softmax", "spin-model"):
            raise ValueError(
                f"Argument `kind` must be 'ising', 'sigmoid', 'softmax' or 'spin-model', but is "
                f"{self.kind!r}."
            )

    @property
    def is_coupled(self) -> bool:
        """Whether it has couplings, or a potential in their place."""
        return self.couplings is not None or self.potential is not None
