"""Autoregressive samplers from settings, for the models of a batch."""

from collections.abc import Callable

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.conditional import Conditional
from qattn.simulators.autoregressive.head.transformer import Transformer
from qattn.simulators.autoregressive.message_passing import MessagePassing
from qattn.simulators.autoregressive.net import AutoregressiveNet
from qattn.simulators.autoregressive.orders import plan_of
from qattn.simulators.autoregressive.pair import Pair
from qattn.simulators.autoregressive.plan import Plan
from qattn.simulators.autoregressive.settings import Logit, NetSettings
from qattn.simulators.autoregressive.tables import TruncatedTables, narrowed
from qattn.simulators.autoregressive.tap import Tap

PHYSICS: dict[str, Callable[[NetSettings, Plan, IsingBatch], Conditional]] = {
    "pair": lambda settings, plan, batch: Pair(),
    "tap": Tap.of_settings,
    "bp": lambda settings, plan, batch: MessagePassing(
        plan, (batch.matrix != 0).any(0), settings.iterations or 6, settings.parameters
    ),
    "tables": TruncatedTables.of_settings,
}
"""What makes the physics of a logit, by its name."""


def build_net(
    settings: NetSettings, batch: IsingBatch, plan: Plan | None = None
) -> AutoregressiveNet:
    """A sampler for models whose couplings have the graph of a batch's.

    Args:
        settings: What it is made of.
        batch: The models; J is a tensor.
        plan: The order of drawing; None means that of the settings for the batch's graph.
    """
    adjacency = (batch.matrix != 0).any(0)
    if plan is None:
        plan = plan_of(adjacency, settings.order)
        plan = narrowed(plan, settings.exact_width, batch.num_groups * batch.num_queries)
    if not plan.num_core:
        return AutoregressiveNet(plan, [])
    logit = settings.logit
    if logit == "auto":
        # Tables are nearer as they are, messages once their parameters are fitted.
        sparse: Logit = "bp" if settings.parameters == "couplings" else "tables"
        logit = "tap" if plan.is_dense else sparse
    parts = [PHYSICS[logit](settings, plan, batch)]
    if settings.head > 0:
        parts.append(
            Transformer(plan, adjacency, settings.head, settings.head_width, settings.head_heads)
        )
    return AutoregressiveNet(plan, parts)
