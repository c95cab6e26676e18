r"""One model, or an ensemble of models trained side by side, behind one interface.

An ensemble stacks the parameters of its members and runs them under ``torch.func.vmap``: the
members' small matrix products become batched ones, and their Ising models more groups of the same
enumeration. Members share nothing: each has its own seed, weights and data. Several processes
(:mod:`qattn.training.ranks`) divide the members, or the batches of one model.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap
from torch.nn import functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

from qattn.layers import BoltzmannAttention
from qattn.layers.beta import CRITICAL
from qattn.training.config import TrainConfig
from qattn.training.ranks import Ranks, share_of
from qattn.training.ranks.processes import connected
from qattn.training.steps import (
    diverged,
    make_optimizer,
    mean_field_figures,
    regrouped,
    share_of_peak,
)
from qattn.training.tasks import Task

EVALUATION_BATCH = 256
"""Sequences per forward pass of a validation."""


class Learner:
    """Models, data and optimiser of a run, for members with seeds seed, seed + 1 and so on.

    Args:
        config: The settings.
        ranks: The processes that train together; None for this one alone. All methods that look at
            other members than this process's own are then to be called in all.
    """

    def __init__(self, config: TrainConfig, ranks: Ranks | None = None) -> None:
        self.config, self.ranks = config, ranks or Ranks()
        self.share = share_of(config, self.ranks)
        self._backends = config.check_here()
        for backend in self._backends.values():
            backend.divide(self.ranks.rank, self.ranks.size)
        self.device = self.ranks.device(config.device)
        seeds = [config.seed + member for member in self.share.members]
        self.tasks: list[Task] = [config.make_task(seed) for seed in seeds]
        models = []
        for seed, task in zip(seeds, self.tasks, strict=True):
            torch.manual_seed(seed)
            models.append(config.model(task.vocab_size).to(self.device))
        self.model = models[0]
        if config.ensemble > 1:
            stacked, _ = stack_module_state(list[nn.Module](models))
            self.parameters: dict[str, Tensor] = {k: v.detach() for k, v in stacked.items()}
        else:
            self.parameters = dict(self.model.named_parameters())
        learned = {name for name, own in self.model.named_parameters() if own.requires_grad}
        self.learned = {name: v for name, v in self.parameters.items() if name in learned}
        self.optimizer = make_optimizer(self.learned, config)
        self._trained: nn.Module | None = None
        if self.ranks.rank:
            torch.manual_seed(self.ranks.stream(config.seed))  # no two ranks draw the same reads
        self.beta_found: Bool[Tensor, "members layers heads"] | None = None
        self._use_backend(config.sampler, config.estimator, config.moments)
        self._moments_found: dict[str, float] = {}

    def step(self, number: int) -> Float[Tensor, " members"]:
        """One training step (the first has number 0); returns each member's loss."""
        self.set_betas(number)
        if self._trained is None:
            self._trained = self.share.parallel(self.model, self._example_loss)
        inputs, targets = self._batch(number)
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * share_of_peak(number, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        with self.ranks.together():
            losses = self._losses(inputs, targets, self._trained)
        with connected():
            losses.sum().backward()
        self.optimizer.step()
        self._moments_found = mean_field_figures(self.model)
        return self.share.mean(losses.detach())

    def exact_gradient(self, number: int) -> Float[Tensor, "members parameters"]:
        """Gradient of step `number`'s loss with exact moments at the present weights.

        Changes neither weights nor random numbers, and asks no sampler. A critical β that is due
        is set before.
        """
        self.set_betas(number)
        inputs, targets = self._batch(number)
        with self.ranks.together(), self._using("exact"):
            loss = self._losses(inputs, targets, self.model).sum()
            gradients = torch.autograd.grad(
                loss, list(self.learned.values()), materialize_grads=True, allow_unused=True
            )
        return self.share.mean(torch.cat([g.reshape(len(self.tasks), -1) for g in gradients], 1))

    def gradient_errors(
        self, exact: Float[Tensor, "members parameters"]
    ) -> Float[Tensor, " members"]:
        """|g - g_exact| / |g_exact| of the gradient g that the last step followed."""
        followed = [
            torch.zeros_like(p) if p.grad is None else p.grad for p in self.learned.values()
        ]
        last = torch.cat([g.reshape(len(self.tasks), -1) for g in followed], 1)
        errors: Tensor = (last - exact).norm(dim=1) / exact.norm(dim=1)
        return errors

    @torch.no_grad()
    def set_betas(self, number: int) -> None:
        """Set critical β from the batch of step `number`, if they are due before it.

        Mean spins are those of validations. Random numbers are left as they were, so that twice is
        as good as once.
        """
        tracked, every = self.config.beta == "critical-tracked", self.config.beta_every
        if self.config.beta not in CRITICAL or (number % every if tracked else number):
            return
        self.beta_found, found = self.share.compute(lambda: self._critical_betas(number))
        for name, value in found.items():
            self.parameters[name].copy_(value)

    def _critical_betas(
        self, number: int
    ) -> tuple[Bool[Tensor, "members layers heads"], dict[str, Tensor]]:
        """Set critical β of this rank's members; whether each has a new one, and ln β."""
        before, found = self.chance_state(), []
        try:
            with self._using(self.config.eval_sampler, self.config.eval_moments):
                for member, task in enumerate(self.tasks):
                    pairs = [(own, self._of(member, k)) for k, own in self.model.named_parameters()]
                    for own, value in pairs:
                        own.copy_(value)
                    tokens, _ = task.batch(number, self.config.batch_size)
                    found.append(self.model.set_critical_betas(tokens.to(self.device)))
                    for own, value in pairs:
                        value.copy_(own)
        finally:
            self.load_chance_state(before)
        logs = {k: v.detach().cpu() for k, v in self.parameters.items() if k.endswith("log_beta")}
        return torch.stack(found).cpu(), logs

    def betas(self) -> Float[Tensor, "members layers heads"] | None:
        """β of every head, or None where it is a fixed number."""
        logs = [v.detach() for name, v in self.parameters.items() if name.endswith("log_beta")]
        if not logs:
            return None
        own = torch.stack([v.view(len(self.tasks), -1) for v in logs], 1).exp().cpu()
        betas: Tensor = self.share.whole(own)
        return betas

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Each member's metrics on its validation set."""
        metrics: list[dict[str, float]] = self.share.whole(self.share.compute(self._evaluate))
        return metrics

    def _evaluate(self) -> list[dict[str, float]]:
        """The metrics of this rank's members."""
        inputs, targets = self._stacked([task.validation() for task in self.tasks])
        with self._using(self.config.eval_sampler, self.config.eval_moments):
            parts = [self._logits(x, self.model).cpu() for x in inputs.split(EVALUATION_BATCH, 1)]
        logits = torch.cat(parts, 1)
        return [
            task.metrics(*member)
            for task, *member in zip(self.tasks, logits, targets.cpu(), strict=True)
        ]

    @torch.no_grad()
    def overflowing(self, number: int) -> list[int]:
        """Members whose fields are not finite on the batch of a step, which engines refuse."""
        found = []
        for member, task in enumerate(self.tasks):
            tokens = task.batch(number, self.config.batch_size)[0].to(self.device)
            own = {name: self._of(member, name) for name in self.parameters}
            try:
                functional_call(self.model, own, (tokens,))
            except ValueError:
                found.append(self.share.members[member])
        return self.ranks.union(found) or list(range(self.config.ensemble))

    def diverged(self, losses: Float[Tensor, " members"]) -> list[int]:
        """Members of this rank whose loss or weights are no longer finite, in order."""
        return [self.share.members[member] for member in diverged(self.parameters, losses)]

    @property
    def paid(self) -> bool:
        """Whether reads of a training step cost money."""
        return any(backend.paid for backend in self._backends.values())

    @property
    def replaying(self) -> bool:
        """Whether a backend of this rank still answers from records past the checkpoint."""
        return any(backend.replaying for backend in self._backends.values())

    def resume_backends(self, *, buy_again: bool) -> None:
        """Let the backends guard what was paid for past the checkpoint; see `Backend.resume`."""
        for backend in self._backends.values():
            backend.resume(buy_again=buy_again)

    def open_backends(self, folder: Path) -> None:
        """Let the backends connect and keep records in the run's folder; see `Backend.open`."""
        with self.ranks.together():
            for backend in self._backends.values():
                backend.open(folder)

    def close_backends(self) -> None:
        """Close the backends; they may be opened again."""
        for backend in self._backends.values():
            backend.close()

    def backend_metrics(self) -> dict[str, float]:
        """Figures that the backends report of themselves, and mean-field moments of a step.

        Of several processes seconds are added up; of other figures this is the mean.
        """
        reported = {k: v for b in self._backends.values() for k, v in b.metrics().items()}
        return self.ranks.figures(reported | self._moments_found)

    def backend_provenance(self) -> dict[str, Any]:
        """Where the backends' reads came from."""
        return {
            k: v for backend in self._backends.values() for k, v in backend.provenance().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, and what :meth:`chance_state` holds, of all members, on rank 0."""
        own = {
            "parameters": {k: v.detach() for k, v in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "beta_found": self.beta_found,
            "moments_found": self._moments_found,
            **self.chance_state(),
        }
        return self.share.whole_state(own)

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        state = self.share.own_state(state)
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(
            regrouped(state["optimizer"], self.optimizer.state_dict(), self.learned)
        )
        self.beta_found = state.get("beta_found")
        self._moments_found = state.get("moments_found", {})
        self.load_chance_state(state)

    def chance_state(self) -> dict[str, Any]:
        """States of the random numbers and the backends: what a step changes before its end."""
        state: dict[str, Any] = {
            "rng": torch.get_rng_state(),
            "samplers": {name: backend.state_dict() for name, backend in self._backends.items()},
        }
        if self.device.type == "cuda":
            state["cuda_rng"] = torch.cuda.get_rng_state(self.device)
        return state

    def load_chance_state(self, state: dict[str, Any]) -> None:
        """Restore :meth:`chance_state`."""
        torch.set_rng_state(state["rng"])
        for name, backend in self._backends.items():
            backend.load_state_dict(state["samplers"][name])
        if "cuda_rng" in state and self.device.type == "cuda":
            torch.cuda.set_rng_state(state["cuda_rng"], self.device)

    def _of(self, member: int, name: str) -> Tensor:
        """A parameter of a member."""
        value = self.parameters[name]
        return value[member] if self.config.ensemble > 1 else value

    def _example_loss(self, model: nn.Module) -> Tensor:
        """A loss of two positions, which are exact at once with any couplings."""
        inputs, targets = self._stacked([task.validation() for task in self.tasks])
        with self._using("exact"):
            return self._losses(inputs[:, :1, :2], targets[:, :1, :2], model).sum()

    def _batch(self, number: int) -> tuple[Tensor, Tensor]:
        """Inputs and targets of a step, as far as they are this rank's."""
        batches = [task.batch(number, self.config.batch_size) for task in self.tasks]
        inputs, targets = self._stacked(batches)
        return self.share.rows(inputs), self.share.rows(targets)

    def _losses(
        self, inputs: Tensor, targets: Tensor, model: nn.Module
    ) -> Float[Tensor, " members"]:
        logits = self._logits(inputs, model)
        losses = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        return losses.view(len(self.tasks), -1).mean(1)

    def _logits(
        self, inputs: Int[Tensor, "members batch T"], model: nn.Module
    ) -> Float[Tensor, "members batch T vocab"]:
        if self.config.ensemble == 1:
            logits: Tensor = model(inputs[0])
            return logits.unsqueeze(0)

        def member(parameters: dict[str, Tensor], tokens: Tensor) -> Tensor:
            logits: Tensor = functional_call(model, parameters, (tokens,))
            return logits

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule
            together: Tensor = vmap(member)(self.parameters, inputs)
        return together

    @contextmanager
    def _using(self, name: str, moments: str = "exact") -> Iterator[None]:
        """With this backend and the estimator that goes with it, instead of those of training."""
        self._use_backend(name, None, moments)
        try:
            yield
        finally:
            self._use_backend(self.config.sampler, self.config.estimator, self.config.moments)

    def _use_backend(self, name: str, estimator: str | None, moments: str = "exact") -> None:
        exactly = name == "exact" and estimator is None
        for layer in self.model.modules():
            if isinstance(layer, BoltzmannAttention):
                layer.backend = "exact" if exactly else self._backends[name]
                layer.num_reads, layer.estimator = self.config.num_reads, estimator
                if layer.moments != moments:
                    layer.moments = moments

    def _stacked(self, examples: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
        inputs, targets = zip(*examples, strict=True)
        return torch.stack(inputs).to(self.device), torch.stack(targets).to(self.device)
