"""The attention of every layer of a model, noted while it reads a sequence."""

from collections.abc import Mapping
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor, nn

from qattn.attention.call import prepared
from qattn.attention.masks import causal_lengths, with_lengths
from qattn.attention.scores import scores
from qattn.couplings import Cardinality, Couplings
from qattn.ising.precision import at_least_single
from qattn.layers import BoltzmannAttention, IsingPattern, SigmoidAttention, SpinModelAttention
from qattn.layers.coupled import WithCouplings
from qattn.layers.multihead import MultiheadAttention
from qattn.show.layer import LayerAttention


@torch.no_grad()
def layers_of(model: nn.Module, tokens: Int[Tensor, " positions"]) -> list[LayerAttention]:
    """The attention of every layer of a model on one sequence, from one pass.

    Args:
        model: A :class:`qattn.Transformer`; or any module that takes tokens of shape (1, T) and has
            somewhere the layers of :mod:`qattn.layers`, or a :class:`qattn.layers.IsingPattern`
            within those of another library. It is called in the mode that it is in.
        tokens: The sequence.

    The weights are those that the pass is computed with, so that reads are drawn once. Attention to
    another text, of other length, is left out.

    Raises:
        ValueError: The model has no such layers.

    >>> from qattn import Transformer
    >>> model = Transformer(vocab_size=10, context=6, num_heads=2, embed_dim=8)
    >>> layer_0, layer_1 = layers_of(model, torch.arange(5))
    >>> layer_0.weights.shape, layer_0.couplings.shape
    (torch.Size([2, 5, 5]), torch.Size([2, 5, 5]))
    """
    found: list[LayerAttention] = []
    asked: list[bool] = []

    def ask(layer: nn.Module, args: tuple[Any, ...], options: dict[str, Any]) -> Any:
        asked.append(options.get("need_weights", False))
        return args, options | {"need_weights": True}

    def note(
        layer: nn.Module, args: tuple[Any, ...], options: Mapping[str, Any], output: Any
    ) -> Any:
        if isinstance(layer, MultiheadAttention):
            found.append(of_layer(layer, args[0], output[1][0]))
            return output if asked.pop() else output[0]
        if isinstance(layer, IsingPattern) and args[0].shape[2] == args[1].shape[2]:
            found.append(of_pattern(layer, output[1][0], *args, **options))
        return None

    handles = []
    for layer in model.modules():
        if isinstance(layer, MultiheadAttention):
            handles.append(layer.register_forward_pre_hook(ask, with_kwargs=True))
        if isinstance(layer, MultiheadAttention | IsingPattern):
            handles.append(layer.register_forward_hook(note, with_kwargs=True))
    try:
        model(tokens.unsqueeze(0))
    finally:
        for handle in handles:
            handle.remove()
    if not found:
        raise ValueError(
            f"Argument `model` must have attention layers of qattn, but is {type(model).__name__}: "
            f"give the numbers of its layers to write_layers."
        )
    return found


def of_layer(layer: MultiheadAttention, x: Tensor, weights: Tensor) -> LayerAttention:
    """The attention of a layer that was called with x and gave these weights."""
    more: dict[str, Any] = {"kind": "softmax"}
    if isinstance(layer, BoltzmannAttention):
        more = of_couplings(layer, layer.couplings_of(x)) | {"source": source_of(layer)}
    elif isinstance(layer, SigmoidAttention):
        more = {"kind": "sigmoid"}
    elif isinstance(layer, SpinModelAttention):
        more = {"kind": "spin-model"}
    if layer.has_field_bias:
        more |= {"field_bias": layer.field_bias, "normalize": layer.normalize}
    return LayerAttention(weights, layer.scores(x)[0], beta=beta_of(layer, layer.num_heads), **more)


def of_pattern(
    pattern: IsingPattern,
    weights: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    rows: Tensor | None = None,
    query_rows: Tensor | None = None,
) -> LayerAttention:
    """The attention of a pattern that was called with these arguments and gave these weights."""
    J = pattern.couplings
    call = prepared(query, key, J, attn_mask, None, rows, enable_gqa=True)
    z = scores(
        at_least_single(call.query),
        at_least_single(call.key),
        query.shape[-1] ** -0.5 if scale is None else scale,
        at_least_single(pattern.field_bias),
        call.position_bias,
    )
    n = z.shape[-1]
    if pattern.position_bias != "none":
        z = z + pattern._bias(n, n, rows, query_rows)
    # A position is seen where both the mask and causality let it.
    lengths = causal_lengths(is_causal, n, n)
    if call.mask is not None or lengths is not None:
        z = z.masked_fill(~with_lengths(call.mask, lengths, n, z.device), -torch.inf)
    # J of the rows that the positions have.
    rows = torch.arange(n, device=z.device)[None] if call.rows is None else call.rows
    found = of_couplings(pattern, J)
    if "couplings" in found:
        found["couplings"] = found["couplings"][:, rows[0]][:, :, rows[0]]
    return LayerAttention(
        weights,
        z[0],
        beta=beta_of(pattern, pattern.num_heads),
        field_bias=pattern.field_bias,
        normalize=pattern.normalize,
        source=source_of(pattern),
        **found,
    )


def of_couplings(layer: WithCouplings, couplings: Tensor | Couplings) -> dict[str, Any]:
    """J, or the potential in its place, and what J acts between."""
    if isinstance(couplings, Cardinality):
        return {"potential": couplings.values}
    J = couplings.dense() if isinstance(couplings, Couplings) else couplings
    return {"couplings": J, "interaction": layer.interaction}


def beta_of(layer: MultiheadAttention | IsingPattern, num_heads: int) -> Tensor:
    """β of each head."""
    return torch.as_tensor(layer.beta, dtype=torch.float32).expand(num_heads)


def source_of(layer: WithCouplings) -> str:
    """Where a layer's mean spins came from in its last pass, in words."""
    if layer.moments != "exact":
        error = layer.last_info.get("mean_field_error")
        known = "" if error is None else f", estimated rms error of ⟨s⟩ {float(error):.1g}"
        return f"mean field ({layer.moments}{known})"
    if layer.backend == "exact" and layer.estimator is None:
        kind = layer.structure.kind.replace("_", "-")
        return f"exact moments, {kind}" + ("" if kind == Cardinality.kind else " couplings")
    name = layer.backend if isinstance(layer.backend, str) else type(layer.backend).__name__
    return f"{layer.num_reads} reads of {name} for each query"
