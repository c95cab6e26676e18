r"""Reads from P ∝ exp(Σ a s + Σ K s s): exact component by component, Gibbs sweeps where too dense.

Spins that follow others (:mod:`~qattn.hardware.emulator.physics.spin_graph`) are contracted first;
the connected components that remain are independent. Those of up to :data:`EXACT_SPINS` spins
are drawn exactly, and larger ones too while their tree decompositions need no more than
:data:`EXACT_ENTRIES`. Others come from Gibbs sweeps at the target temperature after a ramp
(dwave-samplers): those reads are Boltzmann-distributed only as far as the sweeps mix, which is not
to be expected at low temperature. a and K are in the exponent's signs: positive K aligns.
"""

import math

import numpy as np
import torch
from numpy.typing import NDArray

from qattn import exact
from qattn.exact import tree
from qattn.exact.elimination import elimination_of
from qattn.hardware.emulator.physics.physical_problem import FloatArray, IntArray
from qattn.hardware.emulator.physics.spin_graph import SpinGraph
from qattn.ising.batch import IsingBatch, to_dimod_signs

EXACT_SPINS = 20
"""Largest component that is drawn exactly."""

EXACT_ENTRIES = 1 << 28
"""Numbers in the tables that a job's larger components may need to be drawn exactly: some seconds
of work, for six Zephyr Z1 with ghost spins, say."""

CHUNK_STATES = 1 << 24
"""States of the components that are enumerated at once."""

GIBBS_RAMP, GIBBS_SWEEPS = 100, 400
"""Sweeps at rising and at constant β for larger components."""


def boltzmann_reads(
    a: FloatArray, ends: IntArray, K: FloatArray, num_reads: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Independent reads of n spins, shape (num_reads, n).

    Args:
        a: Fields, shape (n,), in the exponent's sign.
        ends: Pairs of spins, shape (e, 2), each at most once.
        K: Couplings, shape (e,).
        num_reads: Number of reads.
        rng: Source of all randomness.
    """
    graph = SpinGraph.build(a, ends, K).without_followers()
    # One column for each vertex of the contracted graph; the last, the ground, stays +1.
    spins = np.ones((num_reads, graph.num_spins + 1), np.int8)
    entries_left = float(EXACT_ENTRIES)
    for vertices, fields, couplings in graph.components():
        if vertices.shape[1] <= EXACT_SPINS:
            spins[:, vertices] = _exact_reads(fields, couplings, num_reads, rng)
        else:
            for component, field, coupling in zip(vertices, fields, couplings, strict=True):
                entries = _tree_entries(coupling)
                draw = _tree_reads if entries <= entries_left else _gibbs_reads
                spins[:, component] = draw(field, coupling, num_reads, rng)
                entries_left -= entries if draw is _tree_reads else 0
    return graph.expanded(spins)


def _exact_reads(
    fields: FloatArray, couplings: FloatArray, num_reads: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Reads of components of one size, shape (num_reads, components, m)."""
    count, m = fields.shape
    step = max(1, CHUNK_STATES >> m)
    reads = []
    for lo in range(0, count, step):
        # Each component is a group with one query: fields (components, 1, m).
        batch = IsingBatch(
            torch.from_numpy(fields[lo : lo + step]).unsqueeze(1),
            torch.from_numpy(couplings[lo : lo + step]),
        )
        seed = int(rng.integers(1 << 62))
        reads.append(exact.sample(batch, num_reads, seed).spins.squeeze(1))
    # From (components, reads, m) to reads first.
    return np.asarray(torch.cat(reads).numpy().transpose(1, 0, 2))


def _tree_entries(coupling: FloatArray) -> float:
    """Numbers in the tables of a component's tree decomposition; infinite if it is too dense."""
    try:
        return float(elimination_of(torch.from_numpy(coupling != 0)).num_entries)
    except ValueError:
        return math.inf


def _tree_reads(
    field: FloatArray, coupling: FloatArray, num_reads: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Exact reads of one sparse component, shape (num_reads, m)."""
    batch = IsingBatch(torch.from_numpy(field)[None, None], torch.from_numpy(coupling)[None])
    samples = tree.sample(batch, num_reads, int(rng.integers(1 << 62)))
    return np.asarray(samples.spins[0, 0].numpy())


def _gibbs_reads(
    field: FloatArray, coupling: FloatArray, num_reads: int, rng: np.random.Generator
) -> NDArray[np.int8]:
    """Reads of one component, shape (num_reads, m)."""
    import dimod
    from dwave.samplers import SimulatedAnnealingSampler

    row, column = np.nonzero(np.triu(coupling))
    # dimod's BQM is an energy: the signs change.
    h, J = to_dimod_signs(torch.from_numpy(field), torch.from_numpy(coupling[row, column]))
    bqm = dimod.BQM.from_numpy_vectors(h.numpy(), (row, column, J.numpy()), 0.0, dimod.SPIN)
    # β rises from near 0 to 1, the model's own, and stays there.
    ramp = np.arange(1, GIBBS_RAMP + 1) / GIBBS_RAMP
    sampleset = SimulatedAnnealingSampler().sample(
        bqm,
        num_reads=num_reads,
        beta_schedule_type="custom",
        beta_schedule=np.concatenate([ramp, np.ones(GIBBS_SWEEPS)]),
        proposal_acceptance_criteria="Gibbs",
        seed=int(rng.integers(1 << 31)),
    )
    # dimod may order variables as they come: back to 0, 1, ..., m - 1.
    order = np.argsort(sampleset.variables)
    return np.asarray(sampleset.record.sample[:, order], dtype=np.int8)
