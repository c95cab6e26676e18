"""TAP in the logit of an autoregressive sampler."""

from qattn.simulators.autoregressive.tap.logit import Tap

__all__ = ["Tap"]
