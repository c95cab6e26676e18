r"""One model, or an ensemble of models trained side by side, behind one interface.

An ensemble stacks the parameters of its members and runs them under ``torch.func.vmap``: the
members' small matrix products become batched ones, and their Ising models more groups of the same
enumeration. Members share nothing: each has its own seed, weights and data.
"""

import math
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
from qattn.training.tasks import Task

EVALUATION_BATCH = 256
"""Sequences per forward pass of a validation."""


OWN_RATE = ("coupling_values", "field_bias", "position_bias_values", "log_beta")
"""Ends of the names of parameters whose learning rate has a factor of its own."""


class Learner:
    """Models, data and optimiser of a run, for members with seeds seed, seed + 1 and so on."""

    def __init__(self, config: TrainConfig) -> None:
        self.config = config
        self._backends = config.check_here()
        self.device = torch.device(config.device)
        seeds = range(config.seed, config.seed + config.ensemble)
        self.tasks: list[Task] = [config.make_task(s) for s in seeds]
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
        self.optimizer = _optimizer(self.learned, config)
        self.beta_found: Bool[Tensor, "members layers heads"] | None = None
        self._use_backend(config.sampler, config.estimator, config.moments)
        self._moments_found: dict[str, float] = {}

    def step(self, number: int) -> Float[Tensor, " members"]:
        """One training step (the first has number 0); returns each member's loss."""
        self.set_betas(number)
        inputs, targets = self._stacked(
            [task.batch(number, self.config.batch_size) for task in self.tasks]
        )
        for group in self.optimizer.param_groups:
            group["lr"] = group["peak_lr"] * _share_of_peak(number, self.config)
        self.optimizer.zero_grad(set_to_none=True)
        losses = self._losses(inputs, targets)
        losses.sum().backward()
        self.optimizer.step()
        self._moments_found = self._mean_field_figures()
        return losses.detach()

    def exact_gradient(self, number: int) -> Float[Tensor, "members parameters"]:
        """Gradient of step `number`'s loss with exact moments at the present weights.

        Changes neither weights nor random numbers, and asks no sampler. A critical β that is due
        is set before.
        """
        self.set_betas(number)
        inputs, targets = self._stacked(
            [task.batch(number, self.config.batch_size) for task in self.tasks]
        )
        self._use_backend("exact", None)
        try:
            loss = self._losses(inputs, targets).sum()
            gradients = torch.autograd.grad(
                loss, list(self.learned.values()), materialize_grads=True, allow_unused=True
            )
        finally:
            self._use_backend(self.config.sampler, self.config.estimator, self.config.moments)
        return torch.cat([g.reshape(len(self.tasks), -1) for g in gradients], 1)

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
        before, found = self.chance_state(), []
        self._use_backend(self.config.eval_sampler, None, self.config.eval_moments)
        try:
            for member, task in enumerate(self.tasks):
                pairs = [(own, self._of(member, k)) for k, own in self.model.named_parameters()]
                for own, value in pairs:
                    own.copy_(value)
                tokens, _ = task.batch(number, self.config.batch_size)
                found.append(self.model.set_critical_betas(tokens.to(self.device)))
                for own, value in pairs:
                    value.copy_(own)
        finally:
            self._use_backend(self.config.sampler, self.config.estimator, self.config.moments)
            self.load_chance_state(before)
        self.beta_found = torch.stack(found).cpu()

    def betas(self) -> Float[Tensor, "members layers heads"] | None:
        """β of every head, or None where it is a fixed number."""
        logs = [v.detach() for name, v in self.parameters.items() if name.endswith("log_beta")]
        if not logs:
            return None
        return torch.stack([v.view(len(self.tasks), -1) for v in logs], 1).exp().cpu()

    @torch.no_grad()
    def evaluate(self) -> list[dict[str, float]]:
        """Each member's metrics on its validation set."""
        inputs, targets = self._stacked([task.validation() for task in self.tasks])
        self._use_backend(self.config.eval_sampler, None, self.config.eval_moments)
        try:
            parts = [self._logits(x).cpu() for x in inputs.split(EVALUATION_BATCH, 1)]
        finally:
            self._use_backend(self.config.sampler, self.config.estimator, self.config.moments)
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
                found.append(member)
        return found or list(range(len(self.tasks)))

    def diverged(self, losses: Float[Tensor, " members"]) -> list[int]:
        """Members whose loss or weights are no longer finite, in order."""
        if bool(losses.isfinite().all()):
            largest = torch._foreach_norm(list(self.parameters.values()), float("inf"))
            if bool(torch.stack(largest).isfinite().all()):
                return []
        sound = losses.isfinite().cpu()
        for value in self.parameters.values():
            sound &= value.isfinite().view(len(sound), -1).all(1).cpu()
        return (~sound).nonzero().flatten().tolist()

    @property
    def paid(self) -> bool:
        """Whether reads of a training step cost money."""
        return any(backend.paid for backend in self._backends.values())

    @property
    def replaying(self) -> bool:
        """Whether a backend still answers from its records, past the checkpoint."""
        return any(backend.replaying for backend in self._backends.values())

    def resume_backends(self, *, buy_again: bool) -> None:
        """Let the backends guard what was paid for past the checkpoint; see `Backend.resume`."""
        for backend in self._backends.values():
            backend.resume(buy_again=buy_again)

    def open_backends(self, folder: Path) -> None:
        """Let the backends connect and keep records in the run's folder; see `Backend.open`."""
        for backend in self._backends.values():
            backend.open(folder)

    def close_backends(self) -> None:
        """Close the backends; they may be opened again."""
        for backend in self._backends.values():
            backend.close()

    def backend_metrics(self) -> dict[str, float]:
        """Figures that the backends report of themselves, and mean-field moments of a step."""
        reported = {k: v for b in self._backends.values() for k, v in b.metrics().items()}
        return reported | self._moments_found

    def _mean_field_figures(self) -> dict[str, float]:
        """Estimated rms error of ⟨s⟩ and share without a solution to be trusted, of all layers."""
        layers = [m for m in self.model.modules() if isinstance(m, BoltzmannAttention)]
        found = [layer.last_info for layer in layers if "report" in layer.last_info]
        if not found:
            return {}
        squares = sum(float(info["mean_field_error"]) ** 2 for info in found)
        failed = sum(float(info["not_converged"]) for info in found)
        return {
            "mean_field_error": math.sqrt(squares / len(found)),
            "not_converged": failed / len(found),
        }

    def backend_provenance(self) -> dict[str, Any]:
        """Where the backends' reads came from."""
        return {
            k: v for backend in self._backends.values() for k, v in backend.provenance().items()
        }

    def state_dict(self) -> dict[str, Any]:
        """Weights, optimiser, and what :meth:`chance_state` holds."""
        return {
            "parameters": {k: v.detach() for k, v in self.parameters.items()},
            "optimizer": self.optimizer.state_dict(),
            "beta_found": self.beta_found,
            "moments_found": self._moments_found,
            **self.chance_state(),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Restore :meth:`state_dict`."""
        with torch.no_grad():
            for name, value in self.parameters.items():
                value.copy_(state["parameters"][name])
        self.optimizer.load_state_dict(self._regrouped(state["optimizer"]))
        self.beta_found = state.get("beta_found")
        self._moments_found = state.get("moments_found", {})
        self.load_chance_state(state)

    def _regrouped(self, saved: dict[str, Any]) -> dict[str, Any]:
        """An optimiser's state in the present groups, from when biases had no rate of their own."""
        own = self.optimizer.state_dict()
        sizes = [[len(group["params"]) for group in s["param_groups"]] for s in (saved, own)]
        if sizes[0] == sizes[1]:
            return saved
        before = sorted(self.learned, key=lambda name: name.endswith("coupling_values"))
        now = sorted(self.learned, key=lambda name: name.endswith(OWN_RATE))
        place = {name: number for number, name in enumerate(before)}
        state = {number: saved["state"].get(place[name]) for number, name in enumerate(now)}
        return {"state": {k: v for k, v in state.items() if v}, "param_groups": own["param_groups"]}

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
        return value[member] if len(self.tasks) > 1 else value

    def _losses(self, inputs: Tensor, targets: Tensor) -> Float[Tensor, " members"]:
        logits = self._logits(inputs)
        losses = F.cross_entropy(logits.flatten(0, 2), targets.flatten(), reduction="none")
        return losses.view(len(self.tasks), -1).mean(1)

    def _logits(
        self, inputs: Int[Tensor, "members batch T"]
    ) -> Float[Tensor, "members batch T vocab"]:
        if self.config.ensemble == 1:
            logits: Tensor = self.model(inputs[0])
            return logits.unsqueeze(0)

        def member(parameters: dict[str, Tensor], tokens: Tensor) -> Tensor:
            logits: Tensor = functional_call(self.model, parameters, (tokens,))
            return logits

        with sdpa_kernel(SDPBackend.MATH):  # the fused kernels have no batching rule
            together: Tensor = vmap(member)(self.parameters, inputs)
        return together

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


def _share_of_peak(number: int, config: TrainConfig) -> float:
    """Share of the peak learning rate that step `number`, from 0 on, takes."""
    if number < config.warmup:
        return (number + 1) / config.warmup
    if config.lr_decay == "none":
        return 1.0
    # From 1 at the first step after the warm-up to 0 at the one after the last.
    left = max(0.0, (config.steps - number) / max(1, config.steps - config.warmup))
    return left if config.lr_decay == "linear" else math.sin(math.pi / 2 * left) ** 2


def _optimizer(parameters: dict[str, Tensor], config: TrainConfig) -> torch.optim.AdamW:
    groups = []
    for own_rate in (False, True):
        chosen = [v for k, v in parameters.items() if k.endswith(OWN_RATE) == own_rate]
        if chosen:
            factor = config.coupling_lr_factor if own_rate else 1.0
            groups.append({"params": chosen, "peak_lr": config.lr * factor})
    for value in parameters.values():
        value.requires_grad_()
    return torch.optim.AdamW(groups, lr=config.lr, weight_decay=config.weight_decay, fused=True)
