"""Boltzmann attention in a model that is there: couplings for each of its self-attentions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from qattn.backends import Backend
from qattn.exact.memory import check_memory
from qattn.integrations.transformers.functions import IMPLEMENTATION, register
from qattn.integrations.transformers.pattern import AttachedPattern


def attach(
    model: PreTrainedModel,
    context: int | None = None,
    *,
    window: int | None = None,
    couplings: str = "dense",
    **options: Any,
) -> dict[str, AttachedPattern]:
    r"""Give each self-attention of a model couplings between the positions of its text.

    The pattern of query i becomes an Ising model of spins :math:`s_j = \pm 1`,

    .. math::
        p_i(s) \propto \exp\Big(\beta\big(\sum_j h_{ij} s_j + \sum_{j<k} J_{jk} s_j s_k\big)\Big),
        \qquad h_{ij} = \tfrac12(q_i \cdot k_j \, c + b), \qquad
        w_{ij} = \tfrac12(1 + \langle s_j \rangle_i),

    with the model's queries, keys, values and scale c as they are. The parameters, J and b, are a
    submodule ``boltzmann`` of each attention module, seen by optimisers and ``state_dict``. J
    belongs to positions of the text: padding and caches do not move it, and a masked position is an
    absent spin.

    Args:
        model: A model of transformers whose attention goes through its attention interface.
        context: Positions that a text may have; None for the model's own limit.
        window: How many positions, the last ones, a query attends to; None for all.
        couplings: The structure of J: "dense", "banded", "low_rank", "block" or "cardinality".
        options: Those of the structure, and `normalize`, `beta`, `interaction`, `backend`,
            `num_reads`, `estimator`, `moments`, as of :class:`qattn.layers.IsingPattern`.

    Returns:
        The patterns by the names of their attention modules.

    Raises:
        ValueError: The model has no such attention, or attention to another text; or its context
            is longer than J of this structure can be exact for.

    >>> from transformers import GPT2Config, GPT2LMHeadModel
    >>> model = GPT2LMHeadModel(GPT2Config(n_layer=2, n_head=2, n_embd=8, vocab_size=9))
    >>> sorted(attach(model, context=12))
    ['transformer.h.0.attn', 'transformer.h.1.attn']
    >>> model(torch.tensor([[3, 1, 4]])).logits.shape
    torch.Size([1, 3, 9])
    """
    made = make_patterns(model, context, window=window, couplings=couplings, **options)
    set_implementation(model, IMPLEMENTATION)
    install(model, made)
    return made


def make_patterns(
    model: PreTrainedModel, context: int | None, **options: Any
) -> dict[str, AttachedPattern]:
    """A pattern for each attention module of a model, on its device and in its dtype."""
    made = {}
    if context is None:
        context = getattr(model.config, "max_position_embeddings", None)
        if context is None:
            raise ValueError(f"Argument `context` must be given for a {type(model).__name__}.")
    for name, module in attention_modules(model).items():
        pattern = AttachedPattern(num_heads_of(module), context, **options)
        check_length(pattern)
        if pattern.window is not None and not module.is_causal:
            raise ValueError(
                f"Argument `window` must be left out, but is {pattern.window}: {name} is not "
                f"causal, so that its queries have no last positions."
            )
        weight = next(module.parameters())
        dtype = weight.dtype if weight.is_floating_point() else model.dtype
        made[name] = pattern.to(weight.device, dtype).train(module.training)
    return made


def install(model: PreTrainedModel, made: Mapping[str, AttachedPattern]) -> None:
    """Give attention modules their patterns; the model still calls the attention that it called."""
    for name, pattern in made.items():
        setattr(model.get_submodule(name), IMPLEMENTATION, pattern)
        if hasattr(model.config, IMPLEMENTATION):  # of classes that keep their couplings
            setattr(model.config, IMPLEMENTATION, pattern.settings)
    for module in model.modules():
        if hasattr(module, "gradient_checkpointing"):
            hooks = module._forward_pre_hooks.values()
            if _refuse_to_pay_twice not in hooks:
                module.register_forward_pre_hook(_refuse_to_pay_twice)


def detach(model: PreTrainedModel, implementation: str = "sdpa") -> None:
    """Take the couplings of a model away and give it another attention implementation."""
    for module in attention_modules(model).values():
        if hasattr(module, IMPLEMENTATION):
            delattr(module, IMPLEMENTATION)
    set_implementation(model, implementation)


def patterns(model: nn.Module) -> dict[str, AttachedPattern]:
    """The attached patterns of a model by the names of their attention modules.

    Raises:
        ValueError: There is none.
    """
    found = installed(model)
    if not found:
        raise ValueError(
            f"Argument `model` must have couplings, but this {type(model).__name__} has none: "
            f"call attach(model, context)."
        )
    return found


def installed(model: nn.Module) -> dict[str, AttachedPattern]:
    """The attached patterns of a model, or none."""
    return {
        name.removesuffix(f".{IMPLEMENTATION}"): module
        for name, module in model.named_modules()
        if isinstance(module, AttachedPattern)
    }


def set_backend(
    model: nn.Module,
    backend: str | Backend,
    *,
    num_reads: int | None = None,
    estimator: str | None = None,
) -> None:
    """Take the mean spins of all layers from this backend, from now on.

    Args:
        model: A model with couplings.
        backend: A backend, which all layers share, or the name of one; "exact" needs no reads.
        num_reads: Reads per query; None leaves them as they are.
        estimator: How reads become ⟨s⟩ and its gradients; None for the backend's default.
    """
    for pattern in patterns(model).values():
        pattern.backend, pattern.estimator = backend, estimator
        if num_reads is not None:
            pattern.num_reads = num_reads


def attention_modules(model: nn.Module) -> dict[str, nn.Module]:
    """The self-attention modules of a model that call transformers' attention interface, by name.

    They are told by what the interface's functions read of them: ``is_causal``.

    Raises:
        ValueError: There is none; or some attend to another text, whose positions have no J.
    """
    found = {n: m for n, m in model.named_modules() if hasattr(m, "is_causal")}
    across = [name for name, m in found.items() if getattr(m, "is_cross_attention", False)]
    if across or getattr(model.config, "is_encoder_decoder", False):
        raise ValueError(
            f"Argument `model` must attend to one text, but this {type(model).__name__} has "
            f"cross-attention{f', {across[0]}' if across else ''}: take qattn.layers for it."
        )
    if not found:
        raise ValueError(
            f"Argument `model` must have attention modules that call transformers' attention "
            f"interface, but this {type(model).__name__} has none."
        )
    return found


def num_heads_of(module: nn.Module) -> int:
    """Number of heads of queries of an attention module."""
    for source in (module, module.config):
        for name in ("num_heads", "num_attention_heads"):
            if isinstance(found := getattr(source, name, None), int):
                return found
    raise ValueError(f"This {type(module).__name__} does not say how many heads it has.")


def check_length(pattern: AttachedPattern) -> None:
    """Raise a ValueError if enumeration of one text takes too much, and name the ways out."""
    structure, n = pattern.structure, pattern.context
    enumerated = structure.kind in ("dense", "block") and pattern.interaction != "field"
    if not enumerated or (pattern.backend, pattern.moments) != ("exact", "exact"):
        return
    groups, queries, spins = pattern.num_heads, n, n
    if structure.kind == "block":
        spins = min(n, structure.options["block_size"])
        groups *= -(-n // spins)
    lengths: Tensor | None = torch.arange(1, n + 1, device="cpu").clamp_max(spins)
    if pattern.window is not None and pattern.window < spins:
        groups, queries, spins, lengths = groups * n, 1, pattern.window, None
    try:
        check_memory(groups, queries, spins, itemsize=4, lengths=lengths)
    except MemoryError as error:
        raise ValueError(
            f"Argument `context` must be one for which {structure.kind} couplings can be "
            f"enumerated, but is {n}. {error} For long texts: couplings='banded' or 'low_rank', "
            f"moments='tap', or window=16."
        ) from None


def set_implementation(model: PreTrainedModel, name: str) -> None:
    """Let the model's attention modules call this attention implementation.

    Raises:
        ValueError: There is no such implementation, or the model does not let itself be set.
    """
    register()
    if hasattr(model, "set_attn_implementation"):
        model.set_attn_implementation(name)
    else:  # transformers before 4.54
        for module in model.modules():
            if isinstance(module, PreTrainedModel):
                module.config._attn_implementation = name
                if hasattr(module, "_attn_implementation"):
                    vars(module)["_attn_implementation"] = name
    for path, module in attention_modules(model).items():
        config: Any = module.config
        if config._attn_implementation != name:
            raise ValueError(
                f"{path} of this {type(model).__name__} does not call transformers' attention "
                f"interface, so that its attention cannot be set to {name!r}."
            )


def _refuse_to_pay_twice(module: nn.Module, _: Any) -> None:
    """Raise a ValueError before a pass that gradient checkpointing runs, and buys, twice."""
    if not (module.training and getattr(module, "gradient_checkpointing", False)):
        return
    for part in module.modules():
        if not isinstance(part, AttachedPattern) or isinstance(part.backend, str):
            continue
        if part.backend.paid:
            raise ValueError(
                f"Gradient checkpointing runs each layer twice, and with the backend "
                f"{part.backend.name!r} each pass is paid for: switch it off."
            )
