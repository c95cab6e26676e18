"""What commands on a trained run have in common: options, and reads for exact mean spins."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer
from torch import nn

from qattn.backends import Backend
from qattn.backends.spec import parse_sampler
from qattn.layers.coupled import WithCouplings

Member = Annotated[int, typer.Option(help="Of a run that is an ensemble: which seed.")]
Data = Annotated[
    Path | None, typer.Option(help="The run's text, where it is no longer where it was.")
]
NumReads = Annotated[int, typer.Option(help="With --sampler: reads of each query.")]


@contextmanager
def reads_of(
    model: nn.Module, sampler: str, num_reads: int, folder: Path | None
) -> Iterator[str | Backend]:
    """Let the layers of a model take their mean spins from reads of a backend, for a while.

    Args:
        model: The model.
        sampler: The backend in words.
        num_reads: Reads of each query.
        folder: Where the backend may keep records; None for the user's data folder.
    """
    found = [layer for layer in model.modules() if isinstance(layer, WithCouplings)]
    if not found:
        raise ValueError(
            f"Argument `sampler` must be left out for attention without couplings, whose weights "
            f"need no mean spins, but is {sampler!r}."
        )
    spec = parse_sampler(sampler)
    backend = "exact" if spec.label == "exact" else spec.build()
    with ExitStack() as stack:
        if isinstance(backend, Backend):
            backend.open(folder)
            stack.callback(backend.close)
        for layer in found:
            layer.moments, layer.backend, layer.num_reads = "exact", backend, num_reads
        yield backend
