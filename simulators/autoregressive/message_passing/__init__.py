"""Belief propagation in the logit of an autoregressive sampler, for sparse couplings."""

from qattn.simulators.autoregressive.message_passing.logit import MessagePassing

__all__ = ["MessagePassing"]
