"""Reads of a simulated diabatic anneal of the physical problem."""

from functools import lru_cache

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qattn.hardware.emulator.physics.physical_problem import PhysicalProblem, RejectedJobError
from qattn.hardware.emulator.physics.spin_graph import SpinGraph
from qattn.hardware.emulator.settings import EmulatorSettings
from qattn.ising.states import invert_cdf
from qattn.simulators.schedules import get_schedule
from qattn.simulators.statevector.choose_splitting import choose_splitting
from qattn.simulators.statevector.evolution import evolve

ANNEAL_SPINS = 12
"""Largest component, after contraction of chains, whose anneal is simulated."""

ANNEAL_NANOSECONDS = 200.0
"""Longest anneal that is simulated: the work grows with the phase that the spins gather."""

TOLERANCE = 1e-3
"""Total variation between computed and exact distribution of a component."""

PINNING_EXCESS = 1.0
"""A qubit whose field exceeds the sum of its |J| by this is pinned and acts as a field."""

_schedule = lru_cache(maxsize=8)(get_schedule)


def anneal_reads(
    problem: PhysicalProblem,
    settings: EmulatorSettings,
    annealing_time: float,
    num_reads: int,
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Independent reads of the anneal, shape (num_reads, n).

    Chains (couplers with J at or below ``settings.chain_threshold``) are one spin each, as if they
    had the dynamics of a single qubit; pinned qubits are constants.

    All h and J here are in D-Wave's signs: spins follow -h, and J < 0 aligns them.
    :class:`SpinGraph`, which is written for the exponent's signs, holds the energy instead; joining
    spins is the same linear operation on either.

    Args:
        problem: The physical problem.
        settings: The emulator's settings, with a schedule.
        annealing_time: In ns.
        num_reads: Number of reads.
        rng: Source of all randomness.

    Raises:
        RejectedJobError: A component has more than :data:`ANNEAL_SPINS` spins, or the anneal is
            longer than :data:`ANNEAL_NANOSECONDS`.
    """
    if annealing_time > ANNEAL_NANOSECONDS:
        raise RejectedJobError(
            f"This emulated QPU simulates anneals of up to {ANNEAL_NANOSECONDS:g} ns, but the job "
            f"asks for {annealing_time:g} ns: start it without a schedule"
        )
    assert settings.schedule is not None
    schedule = _schedule(settings.schedule, sheet=settings.sheet)
    schedule = schedule.with_annealing_time(annealing_time)
    graph = _without_pinned(_without_chains(problem, settings.chain_threshold))
    # One column for each vertex of the contracted graph; the last, the ground, stays +1.
    spins = np.ones((num_reads, graph.num_spins + 1), np.int8)
    for vertices, fields, couplings in graph.components():
        m = vertices.shape[1]
        if m > ANNEAL_SPINS:
            raise RejectedJobError(
                f"This emulated QPU simulates anneals of up to {ANNEAL_SPINS} connected spins, but "
                f"the problem has {m}: start it without a schedule"
            )
        # `evolve` takes D-Wave's signs too.
        h, J = torch.from_numpy(fields), torch.from_numpy(couplings)
        probabilities = evolve(h, J, choose_splitting(h, J, schedule, TOLERANCE))
        # Draw states; bit j of a state is spin j of the component.
        uniforms = torch.from_numpy(rng.random((len(vertices), num_reads)))
        bits = (invert_cdf(probabilities, uniforms).numpy()[..., None] >> np.arange(m)) & 1
        # From (components, reads, m) to the columns (components, m) of each read.
        spins[:, vertices] = (2 * bits - 1).transpose(1, 0, 2)
    return graph.expanded(spins)


def _without_chains(problem: PhysicalProblem, threshold: float) -> SpinGraph:
    """The energy with every chain as one spin, whose spins are all equal (J < 0 aligns)."""
    n = problem.num_qubits
    used = problem.J != 0
    energy = SpinGraph.build(problem.h, problem.ends[used], problem.J[used])
    # A chain is a component of the couplers at or below the threshold; its first qubit leads.
    chained = np.less_equal(problem.J, threshold)
    u, v = problem.ends[chained].T
    links = coo_array((np.ones(len(u)), (u, v)), shape=(n, n))
    _, label = connected_components(links, directed=False)
    _, first = np.unique(label, return_index=True)
    leader = np.append(first[label], n)
    return energy.collapsed(leader, np.ones(n + 1, np.int8))


def _without_pinned(energy: SpinGraph) -> SpinGraph:
    """The energy with every pinned spin joined to the ground."""
    n = energy.num_spins
    u, v = energy.ends.T
    # The edges to the ground, always the second end, are the fields.
    grounded = v == n
    field = np.bincount(u[grounded], energy.K[grounded], n + 1)
    # The sum of |J| over all other edges of each vertex.
    others = sum(np.bincount(end[~grounded], np.abs(energy.K[~grounded]), n + 1) for end in (u, v))
    pinned = np.abs(field) > others + PINNING_EXCESS
    # In D-Wave's signs the lowest energy h s of a spin is at s = -sign(h).
    sign = np.where(pinned, -np.sign(field), 1).astype(np.int8)
    return energy.collapsed(np.where(pinned, n, np.arange(n + 1)), sign)
