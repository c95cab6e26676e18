r"""Boltzmann attention in models of Hugging Face transformers.

:func:`attach` gives the self-attention of a model couplings between the positions of its text:

.. code-block:: python

    from qattn.integrations.transformers import attach

    attach(model, context=16)  # any model that calls transformers' attention interface

It needs the extra ``transformers``: ``pip install 'boltzmann-attention[transformers]'``. Tested
with transformers 4.53.3 and 5.24.0.
"""

try:
    import transformers as _  # noqa: F401
except ImportError as error:
    raise ImportError(
        "qattn.integrations.transformers needs Hugging Face transformers: "
        "pip install 'boltzmann-attention[transformers]'"
    ) from error

from qattn.integrations.transformers.attach import attach, detach, patterns, set_backend
from qattn.integrations.transformers.files import load_couplings, save_couplings
from qattn.integrations.transformers.functions import IMPLEMENTATION
from qattn.integrations.transformers.models import (
    BoltzmannGPT2Config,
    BoltzmannGPT2LMHeadModel,
    BoltzmannGPT2Model,
    BoltzmannLlamaConfig,
    BoltzmannLlamaForCausalLM,
    BoltzmannLlamaModel,
)
from qattn.integrations.transformers.pattern import AttachedPattern

__all__ = [
    "IMPLEMENTATION",
    "AttachedPattern",
    "BoltzmannGPT2Config",
    "BoltzmannGPT2LMHeadModel",
    "BoltzmannGPT2Model",
    "BoltzmannLlamaConfig",
    "BoltzmannLlamaForCausalLM",
    "BoltzmannLlamaModel",
    "attach",
    "detach",
    "load_couplings",
    "patterns",
    "save_couplings",
    "set_backend",
]
