r"""What a layer's attention is on one sequence: weights, scores, couplings, β."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from qattn.couplings import Cardinality, Couplings
from qattn.layers import BoltzmannAttention, IsingPattern, SigmoidAttention, SpinModelAttention
from qattn.layers.coupled import WithCouplings
from qattn.layers.multihead import MultiheadAttention


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


@torch.no_grad()
def layers_of(model: nn.Module, tokens: Int[Tensor, " positions"]) -> list[LayerAttention]:
    """The attention of every layer of a model on one sequence, from one pass.

    Args:
        model: A :class:`qattn.Transformer`, or any module that takes tokens of shape (1, T) and has
            attention layers of qattn somewhere: those of :mod:`qattn.layers`, or
            :class:`qattn.layers.IsingPattern` within layers of another library.
        tokens: The sequence.

    Where weights come from reads, they are drawn once more than the pass itself needs.

    Raises:
        ValueError: The model has no such layers.

    >>> model = qattn.Transformer(vocab_size=10, context=6, num_heads=2, embed_dim=8)
    >>> layer_0, layer_1 = layers_of(model, torch.arange(5))
    >>> layer_0.weights.shape, layer_0.couplings.shape
    (torch.Size([2, 5, 5]), torch.Size([2, 5, 5]))
    """
    found: list[LayerAttention] = []

    def note(layer: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any]) -> None:
        found.append(_of_layer(layer, *args, **options))

    layers = [m for m in model.modules() if isinstance(m, MultiheadAttention | IsingPattern)]
    if not layers:
        raise ValueError(
            f"Argument `model` must have attention layers of qattn, but is {type(model).__name__}: "
            f"give the numbers of its layers as LayerAttention to write_layers."
        )
    handles = [layer.register_forward_pre_hook(note, with_kwargs=True) for layer in layers]
    try:
        model(tokens.unsqueeze(0))
    finally:
        for handle in handles:
            handle.remove()
    return found


def _of_layer(layer: nn.Module, x: Tensor, *args: Any, **options: Any) -> LayerAttention:
    """The attention of a layer that is called with these arguments."""
    if isinstance(layer, IsingPattern):
        raise NotImplementedError
    assert isinstance(layer, MultiheadAttention)
    kind, more = "softmax", {}
    if isinstance(layer, BoltzmannAttention):
        kind, more = "ising", _of_couplings(layer, layer.couplings_of(x))
    elif isinstance(layer, SigmoidAttention):
        kind = "sigmoid"
    elif isinstance(layer, SpinModelAttention):
        kind = "spin-model"
    weights = layer.weights(x)[0]  # before the source is put in words: it tells of this pass
    if isinstance(layer, BoltzmannAttention):
        more["source"] = source_of(layer)
    beta = layer.beta
    return LayerAttention(
        weights,
        layer.scores(x)[0],
        beta=beta if isinstance(beta, Tensor) else torch.full((layer.num_heads,), float(beta)),
        field_bias=layer.field_bias if layer.has_field_bias else None,
        normalize=layer.normalize and layer.has_field_bias,
        kind=kind,
        **more,
    )


def _of_couplings(layer: WithCouplings, couplings: Tensor | Couplings) -> dict[str, Any]:
    """J, or the potential in its place, and what J acts between."""
    if isinstance(couplings, Cardinality):
        return {"potential": couplings.values}
    J = couplings.dense() if isinstance(couplings, Couplings) else couplings
    return {"couplings": J, "interaction": layer.interaction}


def source_of(layer: WithCouplings) -> str:
    """Where a layer's mean spins came from in its last pass, in words."""
    if layer.moments != "exact":
        error = layer.last_info.get("mean_field_error")
        known = "" if error is None else f", estimated rms error of ⟨s⟩ {float(error):.1g}"
        return f"mean field ({layer.moments}{known})"
    if layer.backend == "exact" and layer.estimator is None:
        return f"exact ({layer.structure.kind} couplings)"
    name = layer.backend if isinstance(layer.backend, str) else type(layer.backend).__name__
    return f"{layer.num_reads} reads of {name} for each query"
