r"""Measures the flux biases that cancel the offsets of chains.

Strong negative couplings give qubits an offset (D-Wave, "General QPU Solver Properties",
``extended_j_range``). A chain without fields and without couplings to others is up as often as down
unless it has one: to first order its magnetization is

.. math:: m_c = \tanh\big(S\,|C(c)|\,(\phi_c + \psi_c)\big)

with φ_c the flux bias of each of its |C(c)| qubits, ψ_c the mean of their offsets in Φ0, and S,
what a flux of one Φ0 does to one qubit, which is unknown and of either sign. It is measured by a
probe: a small flux bias of random sign on each chain, and then the opposite. Corrections
:math:`-g_k\,\text{artanh}(m_c) / (S |C(c)|)` follow, damped by g_k = 1/(k + 1), as in D-Wave's
tutorial (K. Chern et al., Frontiers in Computer Science 5, 1238988 (2023)) and in
``dwave.experimental.shimming``. The chains of all slots are measured at once, a submission each
time.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray

from qattn.couplings import Banded
from qattn.hardware.calls.plan import Request
from qattn.hardware.embedding.packing import Packing
from qattn.hardware.embedding.pattern import Pattern
from qattn.hardware.flux_shim import FluxShim
from qattn.hardware.settings import QPUSettings
from qattn.ising.batch import IsingBatch

if TYPE_CHECKING:
    from qattn.hardware.calls.session import Session

PROBE = 1e-5
"""Flux bias in Φ0 of the probe. dwave.experimental.shimming takes 1.3e-4 Φ0 for what turns a free
qubit of Advantage2 over: a magnetization of about 0.08 for each qubit of a chain."""

SIGNIFICANT = 5.0
"""Standard errors by which the probe must move the chains."""

Floats = NDArray[np.float64]


def shim_chains(
    session: "Session",
    settings: QPUSettings,
    pattern: Pattern | int,
    *,
    corrections: int = 3,
    num_reads: int = 500,
    seed: int = 0,
) -> FluxShim:
    """Flux biases at which the chains of a packing are not magnetized.

    Takes ``corrections + 4`` submissions: one without flux biases, two of the probe, one before
    each further correction, one at the end, which is not used for any.

    Args:
        session: Session with the device; it keeps these settings, and the shim.
        settings: How the device is used; fields are not.
        pattern: What the slots couple, a carrier of fields included; a number means a clique.
        corrections: Corrections after the first.
        num_reads: Reads of each submission.
        seed: Fixes the signs of the probe.

    Raises:
        ValueError: Flux biases do not move the chains.
        BackendStopped: The device or the budget ended it; what was answered is in the journal.
    """
    if corrections < 0:
        raise ValueError(f"Argument `corrections` must not be negative, but is {corrections}.")
    if settings.encoding.flux_bias:
        settings = replace(settings, field_encoding="ghost")  # no carrier is to be held here
    pattern = Pattern(pattern) if isinstance(pattern, int) else pattern
    packing = session.device.packing(pattern)
    zero = _zero_problems(packing, settings.encoding.carrier, pattern.width)
    lengths = packing.chain_lengths.ravel().astype(np.float64)
    before = session.budget.spent
    submissions = 0

    def magnetizations(flux: Floats) -> Floats:
        nonlocal submissions
        shim = _shim(packing, settings, flux, num_reads)
        session.use_settings(settings, shim=shim)
        submissions += 1
        request = Request.of(zero, num_reads, seed + submissions)
        return _magnetizations(session, packing, request)

    # Without flux biases, and with the probe's, of either sign on each chain.
    start = magnetizations(np.zeros(len(lengths)))
    signs = np.random.default_rng(seed).choice([-1.0, 1.0], len(lengths))
    up, down = (magnetizations(PROBE * side * signs) for side in (1, -1))
    # S by least squares: the difference is 2 · PROBE · S |C(c)| for every chain.
    effect = 2 * PROBE * lengths
    slope = float(signs * effect @ (_artanh(up) - _artanh(down)) / (effect @ effect))
    error = np.sqrt(2 / num_reads / (effect @ effect))
    if abs(slope) < SIGNIFICANT * error:
        raise ValueError(
            f"{session.device.name} does not answer to flux biases: {PROBE:g} Φ0 change no "
            f"magnetization by more than noise. Calibrate without a shim."
        )
    # The probe cancels in the mean of its two sides, so that three submissions measure φ = 0.
    flux = -(_artanh(start) + _artanh(up) + _artanh(down)) / 3 / (slope * lengths)
    for k in range(1, corrections + 1):
        flux = flux - _artanh(magnetizations(flux)) / (slope * lengths) / (k + 1)
    final = magnetizations(flux)
    shim = replace(
        _shim(packing, settings, flux, num_reads),
        before=float(np.sqrt(np.square(start).mean())),
        after=float(np.sqrt(np.square(final).mean())),
        submissions=submissions,
        access_time=session.budget.spent - before,
    )
    session.use_settings(settings, shim=shim)
    return shim


def _shim(packing: Packing, settings: QPUSettings, flux: Floats, num_reads: int) -> FluxShim:
    """The shim that puts this flux bias on every qubit of each chain, before it is measured."""
    chains = packing.chains.reshape(len(flux), -1)
    used = chains >= 0
    # No bias at all where none is needed: the first submission is the one without.
    on_qubits = np.broadcast_to(flux[:, None], chains.shape)[used] + 0.0
    return FluxShim(
        packing=packing.digest,
        num_spins=packing.num_spins,
        chain_strength=settings.chain_strength,
        annealing_time=settings.annealing_time,
        qubits=tuple(chains[used].tolist()),
        flux_biases=tuple(on_qubits.tolist()),
        before=float("nan"),
        after=float("nan"),
        shot_noise=num_reads**-0.5,
        num_reads=num_reads,
        submissions=0,
        access_time=0.0,
    )


def _zero_problems(packing: Packing, carrier: int, width: int | None) -> IsingBatch:
    """Problems without fields and couplings that fill the slots of a packing, a band's of bands."""
    slots, n = packing.num_slots, packing.num_spins - carrier
    h = torch.zeros(slots, 1, n, dtype=torch.float64)
    J = torch.zeros(slots, n, n if width is None else width, dtype=torch.float64)
    return IsingBatch(h, J if width is None else Banded(J))


def _magnetizations(session: "Session", packing: Packing, request: Request) -> Floats:
    """Mean spin of the qubits of each chain, as the device reads them, in zero problems."""
    session.reads(request)
    record = session.recorded(request)
    assert record is not None
    # Over all jobs, sums of the spins of every qubit, weighed by their numbers of reads.
    total = np.zeros(len(packing.graph.qubits))
    for job in record.jobs:
        if job.status == "answered":
            answer = session.journal.answer(job.name)
            at = packing.graph.position_of_qubit(answer.qubits)
            total[at] += answer.spins.sum(0, dtype=np.int64)
    chain = packing.chain_of_qubit
    used = chain >= 0
    per_chain = np.bincount(chain[used], total[used], packing.num_slots * packing.num_spins)
    magnetization: Floats = per_chain / packing.chain_lengths.ravel() / request.num_reads
    return magnetization


def _artanh(magnetization: Floats) -> Floats:
    """The inverse of tanh, finite for chains that never flip."""
    angle: Floats = np.arctanh(magnetization.clip(-0.99, 0.99))
    return angle
