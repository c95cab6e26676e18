r"""The training that these nets were published with: reverse KL by REINFORCE.

.. math:: \nabla F_q \propto \langle (R - \langle R \rangle)\, \nabla \ln q \rangle_q, \qquad
          R = \ln q(s) + \beta E(s),

Adam, gradients clipped by their norm, β from 0.1 up. Here it rises with the CPU time that is spent,
linearly over 60% of it, where it was published with a number of steps at each β.
"""

import math
import time
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from qattn.simulators.autoregressive import AutoregressiveNet, Models

FIRST_BETA, RISE = 0.1, 0.6
"""β at the start, and the share of the time after which it is the target's."""


class Sampler(Protocol):
    """What is trained and measured. States are columns, (spins, reads), in the models' order."""

    def sample(self, num_reads: int, generator: torch.Generator, beta: float) -> Tensor:
        """Reads at β times the target's."""

    def log_q(self, spins: Tensor, beta: float) -> Tensor:
        """ln q of states, float64."""

    def draw(
        self, num_reads: int, generator: torch.Generator, beta: float
    ) -> tuple[Tensor, Tensor]:
        """Reads and their ln q."""


class OfNet:
    """A net of ours as a :class:`Sampler`, for one problem.

    Args:
        net: The net.
        models: The problem at its target β, arranged.
    """

    def __init__(self, net: AutoregressiveNet, models: Models) -> None:
        self.net, self._models = net, models

    def at(self, beta: float) -> Models:
        """The problem at β times the target's."""
        m = self._models
        return m if beta == 1 else Models(beta * m.h, beta * m.J, m.active, beta * m.beta)

    def sample(self, num_reads: int, generator: torch.Generator, beta: float = 1.0) -> Tensor:
        """Reads."""
        return self.draw(num_reads, generator, beta)[0]

    def log_q(self, spins: Tensor, beta: float = 1.0) -> Tensor:
        """ln q of states."""
        return self.net.log_q(self.at(beta), spins[None, self.net.plan.index])[0]

    def draw(
        self, num_reads: int, generator: torch.Generator, beta: float = 1.0
    ) -> tuple[Tensor, Tensor]:
        """Reads and their ln q."""
        spins, log_q = self.net.draw(self.at(beta), num_reads, generator)
        return spins[0, self.net.plan.inverse], log_q[0]


@dataclass(frozen=True)
class Optimiser:
    """Adam's rate and the norm at which gradients are clipped; 1e-3 and 1 were published.

    Attributes:
        rate: The rate.
        clip: The norm.
        last: The rate at the end relative to that, along a cosine from when β has arrived.
    """

    rate: float = 1e-3
    clip: float = 1.0
    last: float = 1.0

    def __str__(self) -> str:
        """As on the command line."""
        return f"{self.rate:g}:{self.clip:g}" + f":{self.last:g}" * (self.last != 1)

    def at(self, spent: float) -> float:
        """The rate when a share of the time is spent."""
        fallen = min(1.0, max(0.0, (spent - RISE) / (1 - RISE)))
        return self.rate * (self.last + (1 - self.last) * (1 + math.cos(math.pi * fallen)) / 2)


@dataclass(frozen=True)
class Training:
    """What a training took."""

    seconds: float = 0.0
    steps: int = 0


def train(
    sampler: Sampler,
    parameters: list[nn.Parameter],
    J: Tensor,
    target: float,
    *,
    seconds: float,
    num_reads: int,
    optimiser: Optimiser,
    generator: torch.Generator,
) -> Training:
    """Train for some seconds of CPU time of this process.

    Args:
        sampler: What is trained.
        parameters: Its parameters.
        J: Couplings of a problem without fields, β inside, (spins, spins).
        target: That β.
        seconds: CPU time.
        num_reads: Reads of each step.
        optimiser: Rate and clip.
        generator: Source of the reads.
    """
    adam = torch.optim.Adam(parameters, lr=optimiser.rate)
    start, steps, used = time.process_time(), 0, 0.0
    first = min(1.0, FIRST_BETA / target)
    while used < seconds:
        beta = min(1.0, first + (1 - first) * used / (RISE * seconds))
        spins = sampler.sample(num_reads, generator, beta)
        log_q = sampler.log_q(spins, beta)
        returns = log_q.detach() - beta * (spins * (J @ spins)).sum(0) / 2
        loss = ((returns - returns.mean()) * log_q).mean()
        if not bool(loss.isfinite()):
            raise FloatingPointError(f"The loss of step {steps} is {loss.item()}.")
        adam.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, optimiser.clip)
        adam.param_groups[0]["lr"] = optimiser.at(used / seconds)
        adam.step()
        steps, used = steps + 1, time.process_time() - start
    return Training(used, steps)
