r"""Whether q may have lost states, which its own draws cannot show.

Strong couplings make the conditionals of mean-field theory fall into one of many valleys. Draws
from one valley have even weights: an ESS of 1, and a Z that lacks the others. But at β = 0 q is
exact, and between there and the target the valleys part: where q begins to miss some, it still
draws them now and then, with weights that stand out. So the ESS dips at lower β before it recovers.

A paramagnet has nothing to lose: only beyond it is the ESS looked at.
"""

import math

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.importance import importance
from qattn.simulators.autoregressive.sampling.pilot import PARAMAGNET
from qattn.simulators.autoregressive.sampling.sampler import Sampler, at, selected, some_queries
from qattn.simulators.autoregressive.settings import NetSettings

FACTOR = 1.25
"""Ratio of inverse temperatures at which the ESS is looked at."""

DRAWS = 64
"""Draws of each query there, of the few of a group that :func:`some_queries` takes."""


def least_ess(
    sampler: Sampler,
    batch: IsingBatch,
    strength: Float[Tensor, " g"],
    generator: torch.Generator,
    settings: list[NetSettings],
) -> Float[Tensor, " g"]:
    """The least ESS at lower β of any query looked at; 1 for groups with nothing to lose.

    Args:
        sampler: What draws.
        batch: The models.
        strength: :func:`largest_eigenvalue` of each group's βJ.
        generator: Source of randomness, on the device of the batch.
        settings: What the net of each group is made of.
    """
    found = torch.ones_like(strength)
    steps = math.ceil(math.log(max(1.0, float(strength.max()) / PARAMAGNET), FACTOR))
    for share in (FACTOR**-k for k in range(1, steps + 1)):
        # Groups that have left the paramagnet at this β, or will at the next.
        (groups,) = (strength * share * FACTOR > PARAMAGNET).nonzero(as_tuple=True)
        part = some_queries(selected(batch, groups.cpu()))
        scaled = at(part, strength.new_full((len(groups),), share))
        draws = sampler.draw(scaled, DRAWS, generator, [settings[g] for g in groups.tolist()])
        ess = importance(draws.log_q, draws.energies).ess.amin(1)
        found[groups] = torch.minimum(found[groups], ess)
    return found
