"""Boltzmann attention in a model that has PyTorch's."""

from typing import Any

from torch import nn

from qattn.layers.drop_in.attention import BoltzmannMultiheadAttention


def replace_attention(model: nn.Module, context: int, **options: Any) -> list[str]:
    """Put Boltzmann attention in place of every ``nn.MultiheadAttention`` of a model.

    Projections stay: the new modules have the very parameters of the old ones, which an optimiser
    may hold already, and parameters of their own for couplings and biases, which it must be given.

    Args:
        model: A model with such modules, which is changed.
        context: Largest number of keys.
        options: Of :class:`IsingPattern`.

    Returns:
        The names of the modules that were replaced.

    Raises:
        ValueError: There is none, or one adds keys (``add_bias_kv``, ``add_zero_attn``).

    >>> model = nn.Transformer(8, 2, 1, 1, 16, batch_first=True)
    >>> replace_attention(model, context=6, couplings="banded", width=2)
    ['encoder.layers.0.self_attn', 'decoder.layers.0.self_attn', 'decoder.layers.0.multihead_attn']
    """
    parts = model.named_modules(remove_duplicate=False)
    old = {name: part for name, part in parts if type(part) is nn.MultiheadAttention}
    if not old or "" in old:
        raise ValueError(
            "Argument `model` must have parts that are nn.MultiheadAttention, but has none: call "
            "BoltzmannMultiheadAttention, or boltzmann_attention in a forward pass of your own."
        )
    # A module that stands at several places is one there afterwards, too.
    made = {part: _replacement(part, context, options) for part in old.values()}
    for name, part in old.items():
        model.set_submodule(name, made[part])
    return list(old)


def _replacement(
    old: nn.MultiheadAttention, context: int, options: Any
) -> BoltzmannMultiheadAttention:
    """Boltzmann attention with the projections of another."""
    new = BoltzmannMultiheadAttention(
        old.embed_dim,
        old.num_heads,
        old.dropout,
        old.in_proj_bias is not None,
        old.bias_k is not None,
        old.add_zero_attn,
        old.kdim,
        old.vdim,
        old.batch_first,
        old.out_proj.weight.device,
        old.out_proj.weight.dtype,
        context=context,
        **options,
    )
    for name, parameter in old.named_parameters(recurse=False):
        setattr(new, name, parameter)
    new.out_proj = old.out_proj
    return new.train(old.training)
