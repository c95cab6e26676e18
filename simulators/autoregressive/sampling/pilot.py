r"""Which logit draws best, found out with few draws, where this is not known.

In a paramagnet it is: TAP, with the fewer steps the weaker its couplings are. With couplings like
those of Sherrington and Kirkpatrick that ends where the largest eigenvalue of βJ is 2.

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
from qattn.simulators.autoregressive.sampling.sampler import Sampler, selected, some_queries
from qattn.simulators.autoregressive.settings import NetSettings

PARAMAGNET = 2.0
"""Largest eigenvalue of βJ up to which models count as paramagnets."""

ENOUGH_STEPS = ((1.0, 2), (PARAMAGNET, 4))
"""Up to these eigenvalues more steps of TAP gain nothing (``benchmarks/autoregressive.py``)."""

POWERS = 30
"""Products with βJ in search of it."""

ITERATIONS = (2, 4, 6)
"""Steps of TAP or of message passing among which a pilot chooses."""

PILOT_DRAWS = 96
"""Draws of each group and candidate, of the few queries that :func:`some_queries` takes."""

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
    strength: Float[Tensor, " g"],
    num_reads: int,
    generator: torch.Generator,
) -> list[NetSettings]:
    """What to draw each group's reads with; few reads are not worth a pilot.

    Args:
        sampler: What draws; its settings may leave the number of iterations open.
        batch: The models.
        strength: :func:`largest_eigenvalue` of each group's βJ.
        num_reads: Reads of each query that are to be drawn.
        generator: Source of randomness, on the device of the batch.
    """
    options = [sampler.settings] if sampler.fitted else candidates(sampler.settings)
    chosen = options[:1] * batch.num_groups
    if len(options) == 1:
        return chosen
    is_open = torch.ones(batch.num_groups, dtype=torch.bool)
    if sampler.settings.logit == "auto":
        # Sparse couplings, and spins that are all exact, leave nothing to choose.
        for groups, net in sampler.nets(batch, chosen):
            is_open[groups] &= net.plan.is_dense and net.plan.num_core > 0
    is_weak = (strength <= PARAMAGNET).cpu()
    if sampler.settings.logit != "bp":
        for g in (is_open & is_weak).nonzero().flatten().tolist():
            steps = next(T for limit, T in ENOUGH_STEPS if strength[g] <= limit)
            chosen[g] = replace(chosen[g], iterations=steps)
    (groups,) = (is_open & ~is_weak).nonzero(as_tuple=True)
    enough = batch.num_queries * num_reads >= WORTH_IT * PILOT_DRAWS
    if not enough or not len(groups):
        return chosen
    part = some_queries(selected(batch, groups))
    draws = PILOT_DRAWS // part.num_queries
    variances = torch.stack(
        [_variance(sampler, part, draws, generator, [option] * len(groups)) for option in options]
    )
    for g, best in zip(groups.tolist(), variances.argmin(0).tolist(), strict=True):
        chosen[g] = options[best]
    return chosen


def largest_eigenvalue(batch: IsingBatch, generator: torch.Generator) -> Float[Tensor, " groups"]:
    """Of each group's βJ, in size: by powers, a little too small."""
    _, J = batch.scaled()
    J = J.detach()
    v: Tensor = torch.rand(*J.shape[:2], 1, generator=generator, device=J.device).to(J)
    for _ in range(POWERS):
        v = J @ torch.nn.functional.normalize(v, dim=1)
    size: Tensor = torch.linalg.vector_norm(v, dim=(1, 2))
    return size.double()


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
