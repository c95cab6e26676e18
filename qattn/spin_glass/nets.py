"""Autoregressive samplers of a problem along a ladder of β: untrained, fitted before, or here."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from math import log
from pathlib import Path

import torch

from qattn.fitting import Fit, FitSettings
from qattn.ising.batch import IsingBatch
from qattn.problems.by_name import with_strength
from qattn.simulators.autoregressive import (
    AutoregressiveNet,
    NetSettings,
    build_net,
    load_sampler,
)
from qattn.simulators.autoregressive.checkpoint import couplings_hash, load_parameters
from qattn.simulators.autoregressive.sampling import Sampler
from qattn.simulators.autoregressive.sampling.pilot import choose, largest_eigenvalue

Nets = Callable[[IsingBatch, Sequence[float]], Iterator[AutoregressiveNet]]
"""Of a problem, one group of one query, and the values of β, ascending: a net for each in turn."""

PILOT_FOR = 1000
"""Reads for which a pilot chooses."""


def untrained(settings: NetSettings | None = None, *, seed: int = 0) -> Nets:
    """Nets as they are built: physics alone; what is left open a pilot chooses at each β.

    Args:
        settings: What they are made of.
        seed: Seed of the pilot's reads.
    """
    sampler = Sampler(settings or NetSettings())

    def nets(problem: IsingBatch, betas: Sequence[float]) -> Iterator[AutoregressiveNet]:
        generator = torch.Generator().manual_seed(seed)
        for beta in betas:
            models = with_strength(problem, beta)
            strength = largest_eigenvalue(models, generator)
            best = choose(sampler, models, strength, PILOT_FOR, generator)
            ((_, net),) = sampler.nets(models, best)
            yield net

    return nets


def of_checkpoints(folders: Sequence[str | Path]) -> Nets:
    """Nets that ``qattn fit-sampler`` fitted: at each β that which was fitted nearest to it.

    Args:
        folders: Their folders; of several problems, each is drawn by those of its couplings, and
            those of a family draw any.

    Raises:
        FileNotFoundError: A folder has no sampler.
        ValueError: A file cannot be read; or later, no sampler is one of a problem's couplings.
    """
    samplers = [load_sampler(folder) for folder in folders]

    def nets(problem: IsingBatch, betas: Sequence[float]) -> Iterator[AutoregressiveNet]:
        known = (None, couplings_hash(problem.matrix[0]))
        own = [sampler for sampler in samplers if sampler.couplings in known]
        if not own:
            samplers[0].check(problem)  # raises
        for beta in betas:
            best = min(own, key=lambda s: min(abs(log(beta / b)) for b in s.betas))
            yield best.net_for(with_strength(problem, beta))

    return nets


def fitted(settings: NetSettings | None = None, *, seconds: float, seed: int = 0) -> Nets:
    """Nets with parameters for each coupling, fitted to each problem at one β after the other.

    Args:
        settings: What they are made of; those without parameters get some.
        seconds: Time of the fit at each β, which starts from the parameters of the β before.
        seed: Seed of the reads.
    """
    made = settings or NetSettings()
    if made.parameters == "none" and not made.head:
        made = replace(made, parameters="couplings")
    how = FitSettings(seconds=seconds, seed=seed)

    def nets(problem: IsingBatch, betas: Sequence[float]) -> Iterator[AutoregressiveNet]:
        net = build_net(made, with_strength(problem, betas[-1]))
        for beta in betas:
            if not net.plan.num_core:  # all spins are exact
                yield net
                continue
            with torch.enable_grad():
                fit, begun = Fit([(net, problem)], beta, how), time.perf_counter()
                while not fit.schedule.is_over(
                    spent := how.progress(fit.steps, time.perf_counter() - begun)
                ):
                    fit.step(spent)
            load_parameters(net, fit.average, "The average of a fit")
            yield net

    return nets


def chosen(
    settings: NetSettings, checkpoints: Sequence[Path], fit_seconds: float, seed: int
) -> tuple[Nets, str]:
    """The nets that a command line asks for, and what they are in words.

    Raises:
        ValueError: Both checkpoints and a fit are asked for, or a time is negative.
    """
    if not 0 <= fit_seconds < float("inf"):
        raise ValueError(f"Argument `fit_seconds` must not be negative, but is {fit_seconds}.")
    made = f"logit {settings.logit}"
    if checkpoints:
        if fit_seconds:
            raise ValueError(
                f"Argument `fit_seconds` must be 0 with a checkpoint, which is drawn from as it "
                f"is, but is {fit_seconds}: give one of the two."
            )
        return of_checkpoints(checkpoints), f"fitted: {', '.join(map(str, checkpoints))}"
    if fit_seconds:
        return (
            fitted(settings, seconds=fit_seconds, seed=seed),
            f"fitted {fit_seconds:g} s at each β, {made}",
        )
    return untrained(settings, seed=seed), f"untrained, {made}"
