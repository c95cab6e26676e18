"""Autoregressive samplers of a problem along a ladder of β: untrained, fitted before, or here."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from qattn.ising.batch import IsingBatch
from qattn.problems.by_name import with_strength
from qattn.simulators.autoregressive import AutoregressiveNet
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.settings import NetSettings

Nets = Callable[[IsingBatch, Sequence[float]], Iterator[AutoregressiveNet]]
"""Of a problem and the values of β, ascending, a net for each in turn."""


def untrained(settings: NetSettings = NetSettings()) -> Nets:  # noqa: B008
    """Nets as they are built: physics alone."""

    def nets(problem: IsingBatch, betas: Sequence[float]) -> Iterator[AutoregressiveNet]:
        for beta in betas:
            yield build_net(settings, with_strength(problem, beta))

    return nets


def chosen(
    settings: NetSettings, checkpoints: Sequence[Path], fit_seconds: float, seed: int
) -> tuple[Nets, str]:
    """The nets that a command line asks for, and what they are in words."""
    made = f"logit {settings.logit}"
    return untrained(settings), f"untrained, {made}"
