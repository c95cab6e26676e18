"""Reads of a simulated diabatic anneal of the physical program."""

from functools import lru_cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from qattn.hardware.emulator.physics.physical_problem import Program, RejectedJobError
from qattn.hardware.emulator.physics.spin_graph import SpinGraph
from qattn.hardware.emulator.settings import EmulatorSettings
from qattn.simulators.choose_splitting import choose_splitting
from qattn.simulators.schedules import AnnealSchedule, get_schedule
from qattn.simulators.statevector import evolve
from qattn.states import invert_cdf

ANNEAL_SPINS = 12
"""Largest component, after contraction of chains, whose anneal is simulated."""

ANNEAL_NANOSECONDS = 200.0
"""Longest anneal that is simulated: the work grows with the phase that the spins gather."""

TOLERANCE = 1e-3
"""Total variation between computed and exact distribution of a component."""

PINNING_EXCESS = 1.0
"""A qubit whose field exceeds the sum of its |J| by this is pinned and acts as a field."""


def anneal_reads(
    program: Program,
    settings: EmulatorSettings,
    annealing_time: float,
    num_reads: int,
    rng: np.random.Generator,
) -> NDArray[np.int8]:
    """Independent reads of the anneal, shape (num_reads, n).

    Chains (couplers with J at or below ``settings.chain_threshold``) are one spin each, as if they
    had the dynamics of a single qubit; pinned qubits are constants.

    Args:
        program: The physical program.
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
    schedule = _schedule(settings.schedule, settings.sheet).with_annealing_time(annealing_time)
    graph = _without_pinned(_without_chains(program, settings.chain_threshold))
    spins = np.ones((num_reads, graph.num_spins + 1), np.int8)
    for vertices, fields, couplings in graph.components():
        m = vertices.shape[1]
        if m > ANNEAL_SPINS:
            raise RejectedJobError(
                f"This emulated QPU simulates anneals of up to {ANNEAL_SPINS} connected spins, but "
                f"the problem has {m}: start it without a schedule"
            )
        h, J = torch.from_numpy(fields), torch.from_numpy(couplings)
        probabilities = evolve(h, J, choose_splitting(h, J, schedule, TOLERANCE))
        uniforms = torch.from_numpy(rng.random((len(vertices), num_reads)))
        bits = (invert_cdf(probabilities, uniforms).numpy()[..., None] >> np.arange(m)) & 1
        spins[:, vertices] = (2 * bits - 1).transpose(1, 0, 2)
    return spins[:, graph.vertex[:-1]] * graph.sign[:-1]


def _without_chains(program: Program, threshold: float) -> SpinGraph:
    n = program.num_qubits
    used = program.J != 0
    graph = SpinGraph.build(program.h, program.ends[used], program.J[used])
    chained = np.less_equal(program.J, threshold)
    u, v = program.ends[chained].T
    _, label = connected_components(coo_array((np.ones(len(u)), (u, v)), shape=(n, n)), False)
    _, first = np.unique(label, return_index=True)
    leader = np.append(first[label], n)
    return graph.collapsed(leader, np.ones(n + 1, np.int8))


def _without_pinned(graph: SpinGraph) -> SpinGraph:
    n = graph.num_spins
    u, v = graph.ends.T
    grounded = v == n
    field = np.bincount(u[grounded], graph.K[grounded], n + 1)
    others = [np.bincount(x[~grounded], np.abs(graph.K[~grounded]), n + 1) for x in (u, v)]
    pinned = np.abs(field) > sum(others) + PINNING_EXCESS
    sign = np.where(pinned, -np.sign(field), 1).astype(np.int8)
    return graph.collapsed(np.where(pinned, n, np.arange(n + 1)), sign)


@lru_cache(maxsize=8)
def _schedule(schedule: AnnealSchedule | str | Path | None, sheet: str) -> AnnealSchedule:
    assert schedule is not None
    return get_schedule(schedule, sheet=sheet)
