"""A transformer that adds to the logits of an autoregressive sampler."""

from qattn.simulators.autoregressive.head.transformer import Transformer

__all__ = ["Transformer"]
