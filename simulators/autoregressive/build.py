"""Autoregressive samplers from settings, for the models of a batch."""

from collections.abc import Callable

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.message_passing import MessagePassing
from qattn.simulators.autoregressive.net import AutoregressiveNet
from qattn.simulators.autoregressive.orders import plan_of
from qattn.simulators.autoregressive.pair import Pair
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import NetSettings
from qattn.simulators.autoregressive.tap import Tap

PHYSICS: dict[str, Callable[[NetSettings, Plan, IsingBatch], Conditional]] = {
    "pair": lambda settings, plan, batch: Pair(),
    "tap": Tap.of_settings,
    "bp": lambda settings, plan, batch: MessagePassing(
        plan, (batch.matrix != 0).any(0), settings.iterations or 4, settings.parameters
    ),
}
"""What makes the physics of a logit, by its name."""


def build_net(settings: NetSettings, batch: IsingBatch) -> AutoregressiveNet:
    """A sampler for models whose couplings have the graph of a batch's.

    Args:
        settings: What it is made of.
        batch: The models; J is a tensor.
    """
    plan = plan_of((batch.matrix != 0).any(0), settings.order)
    logit = settings.logit
    if logit == "auto":
        logit = "tap" if plan.is_dense else "pair"
    return AutoregressiveNet(plan, [PHYSICS[logit](settings, plan, batch)])
