r"""Autoregressive samplers of Ising models: ln q is known, so that what they draw can be judged.

Spins are drawn one after the other, or level by level, each from its conditional distribution given
those drawn before,

.. math:: q(s) = \prod_i \sigma\big(s_i \ell_i(s_{<i})\big),

whose logit ℓ_i a :class:`Conditional` approximates by physics: the field of the spins that are
drawn, and what mean-field theory or message passing says of those that are not
(:mod:`~qattn.simulators.autoregressive.net` has the way of a draw).
"""

from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.checkpoint import FittedSampler, load_sampler, save_sampler
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.importance import Importance, forward_ess, importance
from qattn.simulators.autoregressive.models import Models
from qattn.simulators.autoregressive.net import AutoregressiveNet
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import NetSettings

__all__ = [
    "AutoregressiveNet",
    "Conditional",
    "FittedSampler",
    "Importance",
    "Models",
    "NetSettings",
    "Plan",
    "build_net",
    "forward_ess",
    "importance",
    "load_sampler",
    "save_sampler",
]
