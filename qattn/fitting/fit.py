"""A fit between two steps: net, optimiser, averaged parameters, schedule, random numbers."""

import copy
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from qattn.fitting.loss import forward_kl, returns, reverse_kl
from qattn.fitting.refined import Refined
from qattn.fitting.schedule import ENOUGH, Schedule
from qattn.fitting.settings import FitSettings
from qattn.ising.batch import IsingBatch
from qattn.simulators.autoregressive import AutoregressiveNet, Models, importance
from qattn.simulators.autoregressive.checkpoint import load_parameters, parameters_of

BETAS = (0.9, 0.99)
"""Of Adam."""

CLIP = 10.0
"""Largest norm of a gradient."""

AVERAGED = 0.99
"""Memory of the averaged parameters, in steps."""

FEWEST = 100
"""Steps below which random subsets of positions are taken: of a glass of 100 spins, thirds of the
positions in 2.4 times as many steps, 330, came no nearer in equal time."""

LADDER = 16
"""Steps of β, down to its 16th, among which the first is chosen."""

LADDER_READS = 512
"""Reads at each."""

LOWEST = 0.25
"""Lowest β of a family, relative to the highest."""


@dataclass(frozen=True)
class Step:
    """What a step has seen: figures of its reads, averaged over queries and groups.

    Attributes:
        beta: β of the reads, relative to that of the models.
        F: ⟨R⟩/β a spin, the variational free energy.
        error: Its standard error.
        ess: Effective share of reads.
        spread: Standard deviation of R = ln q + βE: KL(q|p) is about half its square.
        rate: The learning rate.
    """

    beta: float
    F: float
    error: float
    ess: float
    spread: float
    rate: float


class Fit:
    """A fit of one problem, or of a family.

    Args:
        nets: Nets, and models that they draw, at β = 1 relative to which `beta` is meant. Of
            several nets, one for each graph, the parameters are those of the first.
        beta: The target β; of a family the highest.
        settings: How to proceed.
        is_family: Whether problems and β are drawn anew in each step.

    Attributes:
        schedule: β and learning rate.
        lowest: The lowest β of a family.
        learned: What is fitted, by name.
        average: Its average over recent steps, to draw with: :meth:`averaged`.
        steps: Steps that were made.

    Raises:
        ValueError: The nets have no parameters.
    """

    def __init__(
        self,
        nets: Sequence[tuple[AutoregressiveNet, IsingBatch]],
        beta: float,
        settings: FitSettings,
        *,
        is_family: bool = False,
    ) -> None:
        self.nets, self.target, self.settings = list(nets), beta, settings
        self.net, self.is_family = self.nets[0][0], is_family
        self.lowest = settings.lowest_beta or LOWEST * beta
        for other, _ in self.nets[1:]:
            share_parameters(other, self.net)
        self.learned = {k: p for k, p in self.net.named_parameters() if p.requires_grad}
        if not self.net.plan.num_core:
            raise ValueError(
                "Argument `problems` needs no fit: all spins are drawn exactly. The untrained "
                "sampler does it; for a fit lower `exact_width`."
            )
        if not self.learned:
            raise ValueError(
                "Argument `parameters` must be scalars or couplings, or `head` positive: a net "
                "without parameters has nothing to fit."
            )
        self.device = next(iter(self.learned.values())).device
        self.generator = torch.Generator(self.device).manual_seed(settings.seed)
        self.optimizer = torch.optim.Adam(_groups(self.net, settings.lr), betas=BETAS)
        self.average = parameters_of(self.net)
        self.steps = 0
        self.positions = settings.positions
        self._models: tuple[float, IsingBatch, Models] | None = None  # at the β of the last step
        first = beta if is_family else self._first_beta()
        self.schedule = Schedule.between(first, beta)
        self.refined = Refined(settings, self.generator)

    def step(self, spent: float) -> Step:
        """One step.

        Args:
            spent: Share of the budget that is spent.

        Raises:
            FloatingPointError: A number is not finite; the parameters are those before the step.
        """
        net, batch, models = self._problems(self.schedule.beta)
        # Reads of the net as it is; R comes from the draw.
        spins, log_q = net.draw(models, self.settings.batch_size, self.generator)
        energies = models.energies(spins)
        R = returns(log_q, energies, models.num_queries)
        found = self._found(R, log_q, energies, batch)
        # The gradient of ⟨R⟩, of some positions; and what keeps modes from being lost.
        positions, share = self._chosen(net)
        loss = reverse_kl(net, models, spins, R, positions, share)
        weight = self.settings.distil * (1 - spent)
        if weight > 0:
            others = self.refined.reads(net, batch, spins, self.schedule.beta == self.target)
            loss = loss + weight * forward_kl(net, models, others, positions, share)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(self.learned.values(), CLIP)
        if not math.isfinite(found.F) or not bool(norm.isfinite()):
            raise FloatingPointError(
                f"The fit diverged at step {self.steps}: ln q + βE is {found.F} a spin, and the "
                f"gradient has the norm {float(norm)}. Lower --lr, which is {self.settings.lr}."
            )
        rate = self.schedule.rate(spent)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak"] * rate
        self.optimizer.step()
        self.steps += 1
        self._take_the_average()
        n = batch.num_spins
        self.schedule.record(spent, found.ess, found.F * n * found.beta, found.error * n)
        return replace(found, rate=rate * self.settings.lr)

    def take_fewer_positions(self, seconds: float) -> None:
        """Differentiate so few positions that the time allows :data:`FEWEST` steps.

        Args:
            seconds: Time of a step as it is.
        """
        if self.settings.seconds is None or self.settings.positions is not None:
            return
        share = self.settings.seconds / (FEWEST * seconds)
        if share < 1:
            self.positions = max(1, math.ceil(share * self.net.plan.num_core))

    @contextmanager
    def averaged(self) -> Iterator[AutoregressiveNet]:
        """The net with the averaged parameters, which are those to draw with."""
        own = parameters_of(self.net)
        load_parameters(self.net, self.average, "The average")
        try:
            yield self.net
        finally:
            load_parameters(self.net, own, "The net")

    def state_dict(self) -> dict[str, Any]:
        """All that the next steps depend on, but the problems and the settings."""
        return {
            "parameters": parameters_of(self.net),
            "average": {name: value.clone() for name, value in self.average.items()},
            "optimizer": self.optimizer.state_dict(),
            "generator": self.generator.get_state(),
            "schedule": self.schedule.state_dict(),
            "refined": self.refined.state_dict(),
            "positions": self.positions,
            "steps": self.steps,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        load_parameters(self.net, state["parameters"], "The checkpoint")
        self.average = dict(state["average"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.generator.set_state(state["generator"])
        self.schedule.load_state_dict(state["schedule"])
        self.refined.load_state_dict(state["refined"])
        self.positions, self.steps = state["positions"], state["steps"]

    def at(self, beta: float, batch: IsingBatch) -> IsingBatch:
        """Models at another β."""
        return replace(batch, beta=batch.beta * beta, validate=False)

    def _problems(self, beta: float) -> tuple[AutoregressiveNet, IsingBatch, Models]:
        """The net and models of a step; of a family some problems, each at a β of its own."""
        if not self.is_family:
            net, batch = self.nets[0]
            if self._models is None or self._models[0] != beta:
                batch = self.at(beta, batch)
                self._models = (beta, batch, net.arranged(batch))
            return net, *self._models[1:]
        net, batch = self.nets[self._random(len(self.nets), 1)[0]]
        chosen = self._random(batch.num_groups, self.settings.problems_at_a_time)
        u = torch.rand(len(chosen), generator=self.generator, device=self.device)
        betas = (self.lowest + (beta - self.lowest) * u).to(batch.h)
        own = torch.as_tensor(batch.beta).to(betas).expand(batch.num_groups)[chosen]
        lengths = batch.lengths
        if lengths is not None and lengths.ndim == 2:
            lengths = lengths[chosen]
        matrix = batch.matrix[chosen]
        batch = IsingBatch(batch.h[chosen], matrix, lengths, betas * own, validate=False)
        return net, batch, net.arranged(batch)

    def _random(self, number: int, chosen: int) -> list[int]:
        """Some of the numbers from 0, ascending."""
        order = torch.randperm(number, generator=self.generator, device=self.device)
        found: list[int] = order[:chosen].sort().values.tolist()
        return found

    def _chosen(self, net: AutoregressiveNet) -> tuple[Tensor, float]:
        """Positions whose logits are differentiated, and their share of those with parameters.

        What is drawn exactly has none.
        """
        core = net.plan.num_core
        if self.positions is None or self.positions >= core:
            return torch.arange(core, device=self.device), 1.0
        chosen = torch.tensor(self._random(core, self.positions), device=self.device)
        return chosen, self.positions / core

    def _found(self, R: Tensor, log_q: Tensor, energies: Tensor, batch: IsingBatch) -> Step:
        reads = R.shape[-1]
        shape = R.shape[1:]
        ess = importance(log_q.unflatten(1, shape), energies.unflatten(1, shape)).ess
        beta = torch.as_tensor(batch.beta, dtype=torch.float64, device=R.device).expand(len(R))
        per_spin = R / (beta[:, None, None] * batch.num_spins)
        return Step(
            float(beta.mean()) if self.is_family else self.schedule.beta,
            float(per_spin.mean()),
            float(per_spin.var(-1).mean().sqrt()) / math.sqrt(reads * R[..., 0].numel()),
            float(ess.mean()),
            float(R.var(-1).mean().sqrt()),
            0.0,
        )

    def _first_beta(self) -> float:
        """The highest β, in 16ths of the target, at which the net as it is has enough of an ESS."""
        net, batch = self.nets[0]
        for k in range(LADDER, 1, -1):
            models = net.arranged(self.at(self.target * k / LADDER, batch))
            spins, log_q = net.draw(models, LADDER_READS, self.generator)
            shape = (models.num_queries, -1)
            energies = models.energies(spins).unflatten(1, shape)
            if float(importance(log_q.unflatten(1, shape), energies).ess.min()) >= ENOUGH:
                return self.target * k / LADDER
        return self.target / LADDER

    @torch.no_grad()
    def _take_the_average(self) -> None:
        """Move the averaged parameters, faster at first."""
        memory = min(AVERAGED, self.steps / (self.steps + 10))
        for name, p in self.net.named_parameters():
            self.average[name].lerp_(p.detach().cpu(), 1 - memory)


def _groups(net: AutoregressiveNet, rate: float) -> list[dict[str, Any]]:
    """Parameters by learning rate; parts may have factors, ``rates``, by a parameter's name."""
    groups: dict[float, list[Tensor]] = {}
    for module in net.modules():
        rates = getattr(module, "rates", {})
        for name, p in module.named_parameters(recurse=False):
            groups.setdefault(rate * rates.get(name, 1.0), []).append(p)
    return [{"params": list(params), "peak": peak, "lr": peak} for peak, params in groups.items()]


def share_parameters(net: AutoregressiveNet, source: AutoregressiveNet) -> None:
    """Make the parameters of a net those of another: the very same tensors.

    Raises:
        ValueError: Names or shapes differ.
    """
    load_parameters(net, copy.copy(dict(source.named_parameters())), "A family's first net")
    for name, p in source.named_parameters():
        path, _, leaf = name.rpartition(".")
        setattr(net.get_submodule(path), leaf, p)
