"""QuTiP as a backend, and as the reference of the batched engine."""

import math

import numpy as np
import pytest
import torch
from _support.annealing import advantage2, problems, total_variation

from qattn.ising.batch import IsingBatch
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.quantum_annealing import DivergenceWarning
from qattn.simulators.qutip_backend import QutipBackend, _operators
from qattn.simulators.schedules import AnnealSchedule

qutip = pytest.importorskip("qutip")

TIGHT = {"rtol": 1e-8, "atol": 1e-10}
AGREEMENT = 1e-4
"""Total variation that the issue asks of diabatic against QuTiP."""


@pytest.mark.parametrize("encoding", ["direct", "ghost"])
@pytest.mark.parametrize(
    ("schedule", "n"),
    [
        ("linear", 3),
        ("linear", 6),
        ("linear", 9),
        ("advantage2", 3),
        ("advantage2", 6),
        pytest.param("advantage2", 9, marks=pytest.mark.slow),
    ],
)
def test_diabatic_agrees_with_qutip(n, encoding, schedule):
    schedule = advantage2() if schedule == "advantage2" else schedule
    batch = problems(n, groups=1, seed=n)
    options = {"schedule": schedule, "field_encoding": encoding}
    found = DiabaticBackend(**options, tolerance=5e-5).probabilities(batch)
    reference = QutipBackend(**options, solver_options=TIGHT).probabilities(batch)
    assert total_variation(found, reference) < AGREEMENT
    # Negative controls: the other sign of J, and a 2π left out of the couplings' phase.
    for wrong in (
        IsingBatch(batch.h, -batch.J),
        IsingBatch(batch.h, batch.J / (2 * math.pi)),
    ):
        assert total_variation(DiabaticBackend(**options).probabilities(wrong), reference) > 0.01


def test_diabatic_agrees_with_qutip_along_a_path():
    points = [(0.0, 0.0), (1.0, 0.5), (2.0, 0.4), (3.0, 1.0)]
    plain = AnnealSchedule.linear(3.0)
    schedule = AnnealSchedule(plain.s, plain.A, plain.B, 3.0, path=points)
    batch = problems(4)
    found = DiabaticBackend(schedule, tolerance=3e-5).probabilities(batch)
    reference = QutipBackend(schedule, solver_options=TIGHT).probabilities(batch)
    assert total_variation(found, reference) < AGREEMENT


def test_operators_are_those_of_the_issue():
    # H = Σ h_j σz_j + Σ J_jk σz_j σz_k written with QuTiP's own products, spin 0 the lowest bit
    # (the last factor) and up where the bit is set (hence the minus).
    n, operators = 4, _operators(4)

    def on(operator, *where):
        return qutip.tensor([operator if n - 1 - j in where else qutip.qeye(2) for j in range(n)])

    z, pairs = -qutip.sigmaz(), [(j, k) for j in range(n) for k in range(j + 1, n)]
    expected = [on(z, j) for j in range(n)] + [on(z, j) * on(z, k) for j, k in pairs]
    assert np.array_equal(operators.diagonals, [e.diag().real for e in expected])
    assert operators.transverse == sum(on(qutip.sigmax(), j) for j in range(n))
    assert _operators(4) is operators


def test_gauge_transformations_permute_the_distribution():
    n, batch = 4, problems(4)
    signs = torch.tensor([1, -1, 1, -1], dtype=torch.float64)
    turned = IsingBatch(batch.h * signs, batch.J * signs * signs[:, None])
    backend = QutipBackend(solver_options=TIGHT)
    p, q = backend.probabilities(batch), backend.probabilities(turned)
    assert total_variation(q[..., torch.arange(1 << n) ^ 0b1010], p) < 1e-6
    assert total_variation(q, p) > 0.1


def test_open_system_without_decoherence_is_the_closed_one():
    batch = problems(3, groups=1)
    closed = QutipBackend(solver_options=TIGHT).probabilities(batch)
    rate = 1e-9
    nearly = QutipBackend(dephasing_rate=rate, relaxation_rate=rate, solver_options=TIGHT)
    assert total_variation(nearly.probabilities(batch), closed) < 1e-6


def test_decoherence_goes_where_it_should():
    batch = problems(3, groups=1)
    closed = QutipBackend().probabilities(batch)
    uniform = torch.full_like(closed, 1 / 8)
    dephased = QutipBackend(dephasing_rate=30.0).probabilities(batch)
    assert total_variation(dephased, uniform) < 0.2 < total_variation(closed, uniform)
    decayed = QutipBackend(relaxation_rate=30.0).probabilities(batch)
    assert float(decayed[..., 0].min()) > 0.9  # every spin down


def test_reads_seeds_lengths_and_device():
    batch = problems(4, lengths=torch.tensor([2, 4]), dtype=torch.float32)
    backend = QutipBackend(field_encoding="ghost")
    first, again, other = (backend.sample(batch, num_reads=200, seed=s) for s in (3, 3, 4))
    assert torch.equal(first.spins, again.spins)
    assert not torch.equal(first.spins, other.spins)
    assert bool(((first.spins != 0) == batch.active.unsqueeze(2)).all())
    assert first.info["backend"] == "qutip"
    assert first.info["field_encoding"] == "ghost"
    # The two backends share the draw, so equal distributions give nearly equal reads.
    diabatic = DiabaticBackend(field_encoding="ghost").sample(batch, num_reads=200, seed=3)
    assert float((diabatic.spins != first.spins).float().mean()) < 0.01


def test_a_problem_outside_the_regime_warns():
    with pytest.warns(DivergenceWarning, match="backend 'qutip' are expected to diverge"):
        QutipBackend(annealing_time=0.5).sample(problems(4), num_reads=2, seed=0)


def test_wrong_options_are_named():
    with pytest.raises(ValueError, match="Argument `dephasing_rate` must not be negative"):
        QutipBackend(dephasing_rate=-1.0)
    with pytest.raises(ValueError, match="holds at most 7 spins with decoherence, ghost spin incl"):
        QutipBackend(relaxation_rate=0.1).probabilities(problems(8))
    with pytest.raises(
        ValueError, match="holds at most 16 spins, ghost spin included, but the pro"
    ):
        QutipBackend().sample(problems(17), num_reads=1, seed=0)
