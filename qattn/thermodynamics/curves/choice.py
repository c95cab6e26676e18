"""Where results of an Ising batch come from: an exact engine, its reads, or those of a backend."""

import torch
from jaxtyping import Float, Int8
from torch import Tensor

from qattn import exact
from qattn.backends import Backend, drawn_seed, get_backend
from qattn.couplings import Couplings
from qattn.exact import FEW, tree
from qattn.exact.elimination import MAX_WIDTH
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.thermodynamics.curves.jackknife import whole_blocks
from qattn.thermodynamics.curves.ladder import in_blocks
from qattn.thermodynamics.curves.problems import Problems

MOST_SPINS = 20
"""Spins up to which all states are enumerated whatever the couplings are."""

NARROW = 16
"""Treewidth up to which tree decomposition is quicker than enumeration of 21 to 24 spins."""

ENGINES = {
    "banded": "transfer matrices",
    "low_rank": "quadrature",
    "cardinality": "sums over counts",
    "block": "enumeration of blocks",
}
"""The exact engines by the kind of the couplings, in words."""


def exact_engine(batch: IsingBatch) -> str:
    """Which way is exact, in words."""
    if batch.num_spins <= MOST_SPINS:
        return "enumeration"
    if isinstance(batch.J, Couplings):
        return ENGINES[batch.J.kind]
    few = batch.num_spins <= FEW
    try:
        # Of few spins that are nearly all coupled, tables are as large as those of all states.
        if tree.treewidth(batch) <= (NARROW if few else MAX_WIDTH):
            return "tree decomposition"
    except ValueError:
        pass
    if few:
        return "enumeration"
    raise ValueError(
        f"Argument `backend` must name a backend for dense couplings of {batch.num_spins} spins, "
        f'which no engine solves exactly, but is None: "gibbs", for example.'
    )


def covariances_at(batch: IsingBatch, beta: float) -> Float[Tensor, "groups queries spins spins"]:
    """⟨s_j s_k⟩ - ⟨s_j⟩⟨s_k⟩ at one β, exactly."""
    if exact_engine(batch) == "tree decomposition":
        of_problems: Tensor = Problems(batch).covariances(beta)
        covariances: Tensor = of_problems.unflatten(0, batch.h.shape[:2])
        return covariances.cpu()
    h, J = batch.scaled_structure()
    models = IsingBatch(
        h.detach().double(), J.detach().to(torch.float64), batch.lengths, beta, validate=False
    )
    mean = exact.mean_spins(models)
    return (exact.pair_correlations(models) - mean.unsqueeze(-1) * mean.unsqueeze(-2)).cpu()


def reads_at(
    batch: IsingBatch, beta: float, backend: str | Backend | None, num_reads: int, seed: int | None
) -> tuple[Int8[Tensor, "groups queries reads spins"], Float[Tensor, "groups queries reads"]]:
    """Reads of a backend at one β in whole blocks, or exact ones, and what each counts."""
    num_reads = whole_blocks(num_reads)
    if backend is None:
        exact_engine(batch)  # raises if there is none
        problems = Problems(batch)
        samples = problems.sample(problems.at(beta), num_reads, seed)
        spins = samples.spins.unflatten(0, batch.h.shape[:2]).squeeze(2)
        samples = SpinSamples(spins)
    else:
        backend = get_backend(backend) if isinstance(backend, str) else backend
        h, J = batch.scaled_structure()
        models = IsingBatch(h.detach(), J.detach(), batch.lengths, beta, validate=False)
        samples = backend.sample(models, num_reads=num_reads, seed=seed)
    spins, counts = in_blocks(samples, torch.Generator().manual_seed(drawn_seed(seed)))
    return spins.cpu(), counts
