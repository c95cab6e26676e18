"""Reads of a batch as an operation that torch.func.vmap understands."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from qattn._vmap import GroupwiseFunction
from qattn.backends.base import Backend
from qattn.couplings import put_together, taken_apart
from qattn.ising.batch import IsingBatch
from qattn.ising.precision import without_autocast
from qattn.ising.samples import SpinSamples


def draw(
    batch: IsingBatch, backend: Backend, *, num_reads: int, seed: int | None = None
) -> SpinSamples:
    """Reads of `batch` from `backend`, without gradient.

    Under ``torch.func.vmap`` the members become more groups of one call to the backend, with
    independent reads.

    Returns:
        The reads, with the backend's `info`.

    Raises:
        ValueError: `num_reads` is not positive.
    """
    h, J = batch.scaled_structure()
    values, kind, options = taken_apart(J)
    lengths = batch.lengths
    if lengths is not None:
        lengths = lengths.expand(batch.num_groups, -1)
    call = _Call(backend)
    spins, *weights = _Draw.apply(  # type: ignore[no-untyped-call]
        h, values, lengths, call, num_reads, seed, kind, options
    )
    return SpinSamples(spins, weights[0] if weights else None, call.info)


class _Call:
    """A call of a backend, and what it reported: an autograd function returns tensors only.

    Not a dictionary: vmap copies those that it is given.
    """

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.info: Mapping[str, Any] = {}


class _Draw(GroupwiseFunction):
    @staticmethod
    def forward(
        h: Tensor,
        values: Tensor,
        lengths: Tensor | None,
        call: _Call,
        num_reads: int,
        seed: int | None,
        kind: str,
        options: Sequence[int],
    ) -> tuple[Tensor, ...]:
        J = put_together(values.detach(), kind, options)
        batch = IsingBatch(h.detach(), J, lengths, validate=False)
        with without_autocast(h.device):
            samples = call.backend.sample(batch, num_reads=num_reads, seed=seed)
        call.info = samples.info
        if samples.weights is None:
            return (samples.spins,)
        return samples.spins, samples.weights

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        ctx.mark_non_differentiable(*output)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[None, ...]:
        return (None,) * 8
