r"""Exact moments and reads of couplings with a structure, by the engine of that structure.

An engine is a module of functions on fields h, (groups, n, queries), and couplings at β = 1
(:class:`qattn.exact.engine.Engine`); here is what they share: the autograd function with its vmap
rule, the operation for tracing, normalisation, and float64 where float32 would not do.
"""

from dataclasses import dataclass
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch._C._functorch import is_legacy_batchedtensor

from qattn._clock import sampling_clock
from qattn._tracing import is_traced
from qattn._vmap import BackwardFunction, GroupwiseFunction, fold, unwrapped
from qattn.couplings import KINDS, Couplings
from qattn.couplings.base import check_finite
from qattn.exact import chain, counts, quadrature
from qattn.exact.engine import Engine, Solution, normalized, underflows
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import without_autocast
from qattn.ising.samples import SpinSamples

ENGINES: dict[str, Engine] = {
    "banded": chain,
    "low_rank": quadrature,
    "cardinality": counts,
}
"""The engines by the kind of the couplings."""


def moments(batch: IsingBatch, *, wants_log_Z: bool = False, normalize: bool = False) -> Tensor:
    """Log Z, if requested, else occupations; differentiable in h, the values and β."""
    h, couplings = _scaled(batch)
    lengths = batch.lengths
    args = couplings.kind, list(couplings.options), wants_log_Z, normalize
    if is_traced(h):
        value: Tensor = _operation(h.mT, couplings.values, lengths, *args)
    else:
        call = _Call(Lengths(lengths, h), *args)
        value, *_ = Moments.run(h.mT, couplings.values, call)
    return value if wants_log_Z else value.mT


def pair_correlations(batch: IsingBatch) -> Float[Tensor, "groups queries spins spins"]:
    """⟨s_j s_k⟩ of all pairs, as Cov + ⟨s_j⟩⟨s_k⟩: a backward pass for each spin j."""
    h, couplings = _scaled(batch)
    x, lengths = h.detach().mT, Lengths(batch.lengths, h).values
    with sampling_clock.running(h.device), without_autocast(h.device):
        solution, x, couplings = _solved(x, couplings.detach(), lengths)
        mean = (2 * solution.up - batch.active.mT.to(x.dtype)).mT
        pairs = mean.unsqueeze(-1) * mean.unsqueeze(-2)
        for j in range(batch.num_spins):
            one = torch.zeros_like(x)
            one[:, j] = 2.0  # s_j = 2 n_j - 1
            pairs[..., j] += (
                ENGINES[couplings.kind].backward(one, None, x, couplings, lengths, solution)[0].mT
            )
    pairs = pairs.to(h.dtype)
    pairs.diagonal(dim1=-2, dim2=-1).fill_(1.0)
    return pairs * (batch.active.unsqueeze(-1) & batch.active.unsqueeze(-2))


@torch.no_grad()
def error_bound(batch: IsingBatch) -> Float[Tensor, "groups queries"]:
    """Largest error of occupations and log Z besides rounding: 0 but for quadrature."""
    h, couplings = _scaled(batch)
    if couplings.kind != "low_rank":
        return h.new_zeros(h.shape[:2])
    lengths = Lengths(batch.lengths, h).values
    with without_autocast(h.device):
        solution, x, couplings = _solved(h.mT, couplings, lengths)
        return quadrature.error_bound(x, couplings, lengths, solution).to(h.dtype)


@torch.no_grad()
def sample(batch: IsingBatch, num_reads: int, seed: int | None) -> SpinSamples:
    """Independent reads."""
    h, couplings = _scaled(batch)
    couplings.check()
    check_finite("h", h)
    lengths = Lengths(batch.lengths, h).values
    generator = None if seed is None else torch.Generator(h.device).manual_seed(seed)
    with sampling_clock.running(h.device), without_autocast(h.device):
        spins = ENGINES[couplings.kind].draw(h.mT, couplings, lengths, num_reads, generator)
    return SpinSamples(spins.masked_fill(~batch.active.unsqueeze(2), 0))


class Lengths:
    """Lengths as no tensor, so that vmap leaves them alone."""

    def __init__(self, lengths: Tensor | None, h: Float[Tensor, "g q n"]) -> None:
        if lengths is None:
            lengths = torch.full((1, h.shape[1]), h.shape[2], device="cpu")
        # What is made inside vmap or grad is wrapped, also where it does not depend on members.
        self.values = unwrapped(lengths if lengths.ndim == 2 else lengths[None])

    def of(self, num_groups: int) -> Int[Tensor, "#groups queries"]:
        """One row, or one for each of the groups, which may be those of several members."""
        rows = len(self.values)
        return self.values if rows == 1 else self.values.repeat(num_groups // rows, 1)


@dataclass(frozen=True)
class _Call:
    """What a call is besides its tensors: one object, which vmap leaves alone."""

    lengths: Lengths
    kind: str
    options: list[int]
    wants_log_Z: bool
    normalize: bool

    def couplings(self, values: Tensor) -> Couplings:
        """The couplings with these values."""
        return KINDS[self.kind](values, *self.options)  # type: ignore[call-arg]

    @property
    def settings(self) -> tuple[str, list[int], bool, bool]:
        """What the traced operations take."""
        return self.kind, self.options, self.wants_log_Z, self.normalize


def _scaled(batch: IsingBatch) -> tuple[Float[Tensor, "g q n"], Couplings]:
    h, couplings = batch.scaled_structure()
    assert isinstance(couplings, Couplings)
    if couplings.kind not in ENGINES:
        raise ValueError(
            f"There is no exact engine for couplings of kind {couplings.kind!r}: take the models "
            f"of `batch.dense()`, or a sampling backend."
        )
    return h, couplings


def _solved(
    h: Float[Tensor, "g n q"],
    couplings: Couplings,
    lengths: Int[Tensor, "#g q"],
    normalize: bool = False,
) -> tuple[Solution, Tensor, Couplings]:
    """The solution, with h and couplings in the precision in which it was found."""
    engine = ENGINES[couplings.kind]
    solution = engine.forward(h, couplings, lengths)
    if h.dtype != torch.float64 and (
        not bool(solution.accurate)
        or (normalize and underflows(solution.up.sum(1), lengths.to(h.device)))
    ):
        h, couplings = h.double(), couplings.to(torch.float64)
        solution = engine.forward(h, couplings, lengths)
    return solution, h, couplings


class Moments(GroupwiseFunction):
    """Occupations or log Z; then what the backward pass takes again, without gradient."""

    @staticmethod
    def forward(h: Tensor, values: Tensor, call: _Call) -> tuple[Tensor, ...]:
        """In the dtype of h; the rest in the precision in which it was computed."""
        with sampling_clock.running(h.device), without_autocast(h.device):
            lengths = call.lengths.of(len(h))
            solution, *_ = _solved(h, call.couplings(values), lengths, call.normalize)
            value = solution.log_Z.clone() if call.wants_log_Z else solution.up
            if call.normalize:
                value = normalized(solution.up, 1)
        # What is returned need not be kept twice.
        returned = value is solution.up and value.dtype == h.dtype
        up = value.new_empty(len(h), 0) if returned else solution.up
        return value.to(h.dtype), solution.log_Z, up, *solution.saved

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        """Keep inputs and solution."""
        h, values, ctx.call = inputs
        ctx.mark_non_differentiable(*output[1:])
        ctx.set_materialize_grads(False)
        ctx.save_for_backward(h, values, *output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor | None) -> tuple[Tensor | None, ...]:
        """Derivatives in h and the values."""
        grad, (h, values, *solution), call = grads[0], ctx.saved_tensors, ctx.call
        if grad is None:
            return None, None, None
        if is_legacy_batchedtensor(grad):
            # torch.autograd.grad(is_grads_batched=True) knows operations of the dispatcher only.
            lengths = call.lengths.of(len(h)).expand(len(h), -1)
            grad_h, grad_values = _backward_operation(grad, h, values, lengths, *call.settings)
        else:
            run = MomentsBackward.apply if torch.is_grad_enabled() else MomentsBackward.forward
            grad_h, grad_values = run(grad, h, values, call, *solution)
        return grad_h, grad_values, None


class MomentsBackward(BackwardFunction):
    """Gradients in h and the values."""

    subject = "An exact moment"

    @staticmethod
    def forward(
        grad: Tensor,
        h: Tensor,
        values: Tensor,
        call: _Call,
        value: Tensor,
        log_Z: Tensor,
        up: Tensor,
        *saved: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """From the gradient of what was returned, and all that :class:`Moments` returns."""
        up = up if up.numel() else value
        precise = log_Z.dtype
        couplings, lengths = call.couplings(values.to(precise)), call.lengths.of(len(h))
        grad = grad.to(precise)
        if call.normalize:
            # r = n/Σn: dL/dn_j = (g_j - Σ_k g_k r_k)/Σn.
            total = up.sum(1, keepdim=True)
            total = total.masked_fill(total == 0, torch.inf)
            grad = (grad - (grad * up).sum(1, keepdim=True) / total) / total
        solution = Solution(up, log_Z, torch.ones_like(log_Z[0, 0], dtype=torch.bool), saved)
        with sampling_clock.running(h.device), without_autocast(h.device):
            grad_h, grad_values = ENGINES[call.kind].backward(
                None if call.wants_log_Z else grad,
                grad if call.wants_log_Z else None,
                h.to(precise),
                couplings,
                lengths,
                solution,
            )
        return grad_h.to(h.dtype), grad_values.to(values.dtype)


# Schemas are written out: PyTorch 2.6 cannot infer that of list[int].
ARGUMENTS = (
    "Tensor h, Tensor values, Tensor? lengths, str kind, SymInt[] options, bool wants_log_Z, "
    "bool normalize"
)


@torch.library.custom_op(
    "qattn::structured_moments",
    mutates_args=(),
    schema=f"({ARGUMENTS}) -> Tensor",
)
def _operation(
    h: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor | None,
    kind: str,
    options: list[int],
    wants_log_Z: bool,
    normalize: bool,
) -> torch.Tensor:
    """What :class:`Moments` returns first."""
    call = _Call(Lengths(lengths, h.mT), kind, options, wants_log_Z, normalize)
    return Moments.forward(h, values, call)[0].contiguous()


@torch.library.custom_op(
    "qattn::structured_moments_backward",
    mutates_args=(),
    schema=f"(Tensor grad, {ARGUMENTS}) -> (Tensor, Tensor)",
)
def _backward_operation(
    grad: torch.Tensor,
    h: torch.Tensor,
    values: torch.Tensor,
    lengths: torch.Tensor | None,
    kind: str,
    options: list[int],
    wants_log_Z: bool,
    normalize: bool,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Gradients in h and the values; computes the forward pass again."""
    call = _Call(Lengths(lengths, h.mT), kind, options, wants_log_Z, normalize)
    solution = Moments.forward(h, values, call)
    grad_h, grad_values = MomentsBackward.forward(grad, h, values, call, *solution)
    return grad_h.contiguous(), grad_values.contiguous()


@_operation.register_fake
def _(h: Tensor, values: Tensor, lengths: Tensor | None, *settings: Any) -> Tensor:
    wants_log_Z = settings[2]
    return h.new_empty((h.shape[0], h.shape[2]) if wants_log_Z else h.shape)


@_backward_operation.register_fake
def _(grad: Tensor, h: Tensor, values: Tensor, *_: Any) -> tuple[Tensor, Tensor]:
    return h.new_empty(h.shape), values.new_empty(values.shape)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    h, values, lengths, *ctx.settings = inputs
    ctx.save_for_backward(h, values, lengths)


def _gradients(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
    grads = _backward_operation(grad, *ctx.saved_tensors, *ctx.settings)
    return *grads, None, None, None, None, None


_operation.register_autograd(_gradients, setup_context=_keep)


@_operation.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[Tensor, int]:
    return _operation(*_folded(info, in_dims, *args)).unflatten(0, (info.batch_size, -1)), 0


@_backward_operation.register_vmap
def _(info: Any, in_dims: tuple[Any, ...], *args: Any) -> tuple[tuple[Tensor, ...], Any]:
    grads = _backward_operation(*_folded(info, in_dims, *args))
    return tuple(g.unflatten(0, (info.batch_size, -1)) for g in grads), (0, 0)


def _folded(info: Any, in_dims: tuple[Any, ...], *args: Any) -> list[Any]:
    """Members as further groups; lengths that all groups share, and what is no tensor, stay."""
    return [
        x
        if not isinstance(x, Tensor) or (x.ndim == 1 and dim is None)
        else fold(x, dim, info.batch_size)
        for x, dim in zip(args, in_dims, strict=False)
    ]
