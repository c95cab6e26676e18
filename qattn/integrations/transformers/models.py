"""Model classes of their own, whose `from_pretrained` knows the couplings.

Importing them registers them: afterwards ``AutoModelForCausalLM.from_pretrained(folder)`` finds a
folder that their `save_pretrained` wrote.
"""

from typing import Any, ClassVar

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GPT2Config,
    GPT2LMHeadModel,
    GPT2Model,
    LlamaConfig,
    LlamaForCausalLM,
    LlamaModel,
    PreTrainedModel,
)

from qattn.integrations.transformers.attach import install, make_patterns
from qattn.integrations.transformers.functions import IMPLEMENTATION, register
from qattn.integrations.transformers.pattern import AttachedPattern

register()  # before a configuration names the implementation


class BoltzmannGPT2Config(GPT2Config):
    """The configuration of a GPT-2 with couplings.

    Args:
        boltzmann: Arguments of :func:`attach` by name: ``{"context": 16, "couplings": "banded"}``.
        options: Those of ``transformers.GPT2Config``.
    """

    model_type = "boltzmann-gpt2"
    boltzmann: dict[str, Any] | None = None

    def __init__(self, *, boltzmann: dict[str, Any] | None = None, **options: Any) -> None:
        # None is what transformers passes where the user says nothing.
        options["attn_implementation"] = options.get("attn_implementation") or IMPLEMENTATION
        super().__init__(**options)
        self.boltzmann = boltzmann


class BoltzmannLlamaConfig(LlamaConfig):
    """The configuration of a Llama with couplings.

    Args:
        boltzmann: Arguments of :func:`attach` by name: ``{"context": 16, "couplings": "banded"}``.
        options: Those of ``transformers.LlamaConfig``.
    """

    model_type = "boltzmann-llama"
    boltzmann: dict[str, Any] | None = None

    def __init__(self, *, boltzmann: dict[str, Any] | None = None, **options: Any) -> None:
        # None is what transformers passes where the user says nothing.
        options["attn_implementation"] = options.get("attn_implementation") or IMPLEMENTATION
        super().__init__(**options)
        self.boltzmann = boltzmann


class _WithPatterns(PreTrainedModel):
    """A model without a head, whose attention modules have couplings."""

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        options = dict(config.boltzmann or {})
        install(self, make_patterns(self, options.pop("context", None), **options))
        self.post_init()  # type: ignore[no-untyped-call]

    def _init_weights(self, module: nn.Module) -> None:
        """Start the parameters of a module, but for those that were loaded.

        transformers calls it after loading too, and marks each parameter that was in the file.
        """
        if not isinstance(module, AttachedPattern):
            super()._init_weights(module)  # type: ignore[no-untyped-call]
            return
        loaded = {
            name: parameter.detach().clone()
            for name, parameter in module.named_parameters()
            if getattr(parameter, "_is_hf_initialized", False)
        }
        module.reset_parameters()
        with torch.no_grad():
            for name, value in loaded.items():
                module.get_parameter(name).copy_(value)


class _WithHead(PreTrainedModel):
    """A language model, whose model without a head is one with couplings."""

    base: ClassVar[type[PreTrainedModel]]

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        setattr(self, self.base_model_prefix, self.base(config))
        self.post_init()  # type: ignore[no-untyped-call]


class BoltzmannGPT2Model(_WithPatterns, GPT2Model):
    """GPT-2 with couplings, without a head."""

    config_class = BoltzmannGPT2Config


class BoltzmannGPT2LMHeadModel(_WithHead, GPT2LMHeadModel):
    """The language model GPT-2 with couplings.

    >>> config = BoltzmannGPT2Config(
    ...     n_layer=1, n_head=2, n_embd=8, vocab_size=9, boltzmann={"context": 12}
    ... )
    >>> model = BoltzmannGPT2LMHeadModel(config)
    >>> model.transformer.h[0].attn.boltzmann.couplings.shape
    torch.Size([2, 12, 12])
    """

    config_class = BoltzmannGPT2Config
    base = BoltzmannGPT2Model


class BoltzmannLlamaModel(_WithPatterns, LlamaModel):
    """Llama with couplings, without a head."""

    config_class = BoltzmannLlamaConfig


class BoltzmannLlamaForCausalLM(_WithHead, LlamaForCausalLM):
    """The language model Llama with couplings."""

    config_class = BoltzmannLlamaConfig
    base = BoltzmannLlamaModel


for _base, _model in (
    (BoltzmannGPT2Model, BoltzmannGPT2LMHeadModel),
    (BoltzmannLlamaModel, BoltzmannLlamaForCausalLM),
):
    AutoConfig.register(_base.config_class.model_type, _base.config_class, exist_ok=True)
    AutoModel.register(_base.config_class, _base, exist_ok=True)
    AutoModelForCausalLM.register(_base.config_class, _model, exist_ok=True)
