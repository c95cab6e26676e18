r"""Which logit draws best, found out with few draws.

The variance of ln w = -βE - ln q over draws of q is 0 for q = p, twice the Kullback-Leibler
divergence where q is near p, and with normally distributed ln w the ESS is its e^-Var. A hundred
draws show it much better than an ESS, which hangs on the few largest weights.
"""

from collections.abc import Sequence
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor

from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive.sampling.sampler import Sampler, selected
from qattn.simulators.autoregressive.settings import NetSettings

ITERATIONS = (1, 2, 4)
"""Steps of TAP or of message passing among which a pilot chooses."""

PILOT_DRAWS = 96
"""Draws of each group and candidate, ..."""

PILOT_QUERIES = 12
"""... from this many of its queries."""

WORTH_IT = 4
"""A group whose reads are fewer than so many times the draws of one candidate gets no pilot."""


def candidates(settings: NetSettings) -> list[NetSettings]:
    """What a pilot chooses from: the settings alone where nothing is left open."""
    if settings.iterations or settings.logit in ("pair", "tables"):
        return [settings]
    found = [replace(settings, iterations=t) for t in reversed(ITERATIONS)]
    return found + [replace(settings, logit="pair")] * (settings.logit == "auto")


def choose(
    sampler: Sampler,
    batch: IsingBatch,
    num_reads: int,
    generator: torch.Generator,
) -> list[NetSettings]:
    """What to draw each group's reads with; few reads are not worth a pilot.

    Args:
        sampler: What draws; its settings may leave the number of iterations open.
        batch: The models.
        num_reads: Reads of each query that are to be drawn.
        generator: Source of randomness, on the device of the batch.
    """
    G, Q, _ = batch.h.shape
    options = candidates(sampler.settings)
    if len(options) == 1 or sampler.fitted is not None or Q * num_reads < WORTH_IT * PILOT_DRAWS:
        return options[:1] * G
    spread = max(1, Q // PILOT_QUERIES)
    part = selected(batch, torch.arange(G), slice(None, spread * PILOT_QUERIES, spread))
    draws = PILOT_DRAWS // part.num_queries
    variances = torch.stack(
        [_variance(sampler, part, draws, generator, [option] * G) for option in options]
    )
    return [options[i] for i in variances.argmin(0).tolist()]


def _variance(
    sampler: Sampler,
    batch: IsingBatch,
    num_draws: int,
    generator: torch.Generator,
    settings: Sequence[NetSettings],
) -> Float[Tensor, " groups"]:
    """Var(ln w) of each group's queries, on average."""
    log_w = sampler.draw(batch, num_draws, generator, settings).log_weights
    return log_w.var(-1).mean(-1)
