"""The batched engine: its error bound, its physics, and the backend around it."""

import math
import subprocess
import sys

import pytest
import torch
from _support.annealing import advantage2, problems, total_variation

from qattn.ising.batch import IsingBatch
from qattn.ising.states import states
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.effective_beta import effective_betas
from qattn.simulators.problems_by_size import kl_divergence
from qattn.simulators.quantum_annealing import DivergenceWarning
from qattn.simulators.schedules import AnnealSchedule
from qattn.simulators.statevector import evolution as statevector
from qattn.simulators.statevector.choose_splitting import choose_splitting
from qattn.simulators.statevector.splitting import split

ENCODINGS = ["direct", "ghost"]


def programmed(batch, schedule):
    """Fields and couplings of every query in D-Wave's signs and the schedule's units."""
    beta_h, beta_J = effective_betas(schedule)
    J = batch.J.repeat_interleave(batch.num_queries, 0)
    return -batch.h.flatten(0, 1) / beta_h, -J / beta_J


def test_one_spin_without_problem_stays_uniform_and_alone_turns_as_rabi():
    # A constant Hamiltonian -A/2 σx + B h/2 σz (GHz) is solved in closed form: with the angular
    # frequency Ω = 2π sqrt(A² + B²h²) the up probability from |+> is
    # 1/2 (1 + sign · 2ab sin²(ΩT/2)), a and b the components of the axis.
    import numpy as np

    A, B, h, T = 1.0, 0.8, 0.5, 0.37
    schedule = AnnealSchedule(np.array([0.0, 1.0]), np.full(2, A), np.full(2, B), T)
    omega = math.hypot(A, B * h)
    axis_x, axis_z = -A / omega, B * h / omega
    z = 2 * axis_x * axis_z * math.sin(math.pi * omega * T) ** 2
    field = torch.tensor([[h]], dtype=torch.float64)
    p = statevector.evolve(
        field, torch.zeros(1, 1, 1, dtype=torch.float64), split(schedule, 400, 4)
    )
    assert p[0].tolist() == pytest.approx([(1 - z) / 2, (1 + z) / 2], abs=1e-8)
    uniform = statevector.evolve(field * 0, torch.zeros(1, 1, 1).double(), split(schedule, 3))
    assert uniform[0].tolist() == pytest.approx([0.5, 0.5], abs=1e-14)


@pytest.mark.parametrize("n", [2, 5, 8])
def test_orders_of_the_splittings(n):
    schedule = AnnealSchedule.linear(3.0)
    h, J = programmed(problems(n), schedule)
    reference = statevector.evolve(h, J, split(schedule, 512, 4))
    for order, fewer, more in ((2, 40, 160), (4, 24, 48)):
        errors = [
            total_variation(statevector.evolve(h, J, split(schedule, m, order)), reference)
            for m in (fewer, more)
        ]
        fitted = math.log(errors[0] / errors[1]) / math.log(more / fewer)
        assert fitted > order - 0.5


@pytest.mark.parametrize("kind", ["attention", "couplings", "fields", "ferromagnet", "chain"])
@pytest.mark.parametrize("tolerance", [1e-2, 1e-3])
def test_the_tolerance_bounds_problems_that_were_not_trial_problems(kind, tolerance):
    # The bound is measured on trial problems at half the tolerance; these are others, of all
    # strengths, among them ones whose errors add up in step.
    schedule = AnnealSchedule.linear(3.0)
    for n in (2, 4, 7, 10):
        batch = problems(n, seed=n + 100)
        if kind == "couplings":
            batch = problems(n, fields=0.0, couplings=1.5 / math.sqrt(n), seed=n + 200)
        elif kind == "fields":
            batch = problems(n, fields=1.5, couplings=0.0, seed=n + 300)
        elif kind == "ferromagnet":
            ones = torch.ones(1, n, n, dtype=torch.float64).triu(1) * 1.5 / n
            batch = IsingBatch(torch.full((1, 1, n), 0.3, dtype=torch.float64), ones + ones.mT)
        elif kind == "chain":
            bonds = torch.diag(torch.ones(n - 1, dtype=torch.float64), 1)[None]
            batch = IsingBatch(torch.zeros(1, 1, n, dtype=torch.float64), bonds + bonds.mT)
        h, J = programmed(batch, schedule)
        splitting = choose_splitting(h, J, schedule, tolerance)
        reference = statevector.evolve(h, J, split(schedule, 150, 4))
        assert total_variation(statevector.evolve(h, J, splitting), reference) <= tolerance


def test_too_few_kicks_break_the_tolerance():
    schedule = AnnealSchedule.linear(3.0)
    h, J = programmed(problems(8), schedule)
    chosen = choose_splitting(h, J, schedule, 1e-3)
    reference = statevector.evolve(h, J, split(schedule, 150, 4))
    coarse = statevector.evolve(h, J, split(schedule, max(4, chosen.num_kicks // 4), 2))
    assert total_variation(coarse, reference) > 1e-3


@pytest.mark.parametrize("n", [1, 3, 6, 9])
def test_single_precision_agrees_with_double(n):
    backend = DiabaticBackend("linear", tolerance=1e-3)
    double = backend.probabilities(problems(n))
    single = backend.probabilities(problems(n, dtype=torch.float32))
    assert single.dtype == torch.float32
    assert total_variation(single.double(), double) < 1e-5


@pytest.mark.parametrize("block", [7, 20, 1000])  # 20 = 16 + 4: the last chunk is smaller
def test_chunks_do_not_change_the_answer(monkeypatch, block):
    batch = problems(6, groups=3, queries=40)
    backend = DiabaticBackend("linear")
    whole = backend.probabilities(batch)
    monkeypatch.setitem(statevector.CHUNK_BYTES, "cpu", 1)
    monkeypatch.setattr("qattn.simulators.quantum_annealing.BLOCK_BYTES", block * 64 * 8)
    assert torch.allclose(backend.probabilities(batch), whole, atol=1e-12, rtol=0)


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_gauge_transformations_permute_the_distribution(encoding):
    n = 6
    batch = problems(n, seed=5)
    signs = torch.tensor([1, -1, -1, 1, -1, 1], dtype=torch.float64)
    turned = IsingBatch(batch.h * signs, batch.J * signs * signs[:, None])
    backend = DiabaticBackend("linear", tolerance=1e-6, field_encoding=encoding)
    p, q = backend.probabilities(batch), backend.probabilities(turned)
    flips = int(((signs < 0).long() << torch.arange(n)).sum())
    assert total_variation(q[..., torch.arange(1 << n) ^ flips], p) < 1e-9
    assert total_variation(q, p) > 0.1


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_permuted_spins_permute_the_distribution(encoding):
    n = 5
    batch, order = problems(n, seed=6), torch.tensor([3, 0, 4, 1, 2])
    moved = IsingBatch(batch.h[..., order], batch.J[:, order][:, :, order])
    backend = DiabaticBackend("linear", tolerance=1e-6, field_encoding=encoding)
    index = (states(n, torch.float64, batch.h.device)[:, order] > 0).long() << torch.arange(n)
    p, q = backend.probabilities(batch), backend.probabilities(moved)
    assert total_variation(q[..., index.sum(1)], p) < 1e-9


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_lengths_are_smaller_problems(encoding):
    lengths = torch.tensor([3, 0, 5, 1])
    batch = problems(5, queries=4, lengths=lengths, beta=0.7)
    backend = DiabaticBackend("linear", tolerance=1e-5, field_encoding=encoding)
    p = backend.probabilities(batch)
    assert torch.allclose(p.sum(-1), torch.ones_like(p[..., 0]))
    for q, length in enumerate(lengths.tolist()):
        if length == 0:
            assert bool((p[:, q, 0] == 1).all())
            continue
        alone = IsingBatch(
            batch.h[:, q : q + 1, :length], batch.J[:, :length, :length], beta=batch.beta
        )
        small = backend.probabilities(alone)[:, 0]
        assert total_variation(p[:, q, : 1 << length], small) < 2e-5
        assert float(p[:, q, 1 << length :].abs().sum()) == 0
    reads = backend.sample(batch, num_reads=50, seed=0).spins
    assert bool(((reads != 0) == batch.active.unsqueeze(2)).all())


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_beta_is_part_of_the_target(encoding):
    batch, scaled = problems(5, beta=0.6), problems(5)
    scaled = IsingBatch(scaled.h * 0.6, scaled.J * 0.6)
    backend = DiabaticBackend("linear", field_encoding=encoding)
    assert torch.allclose(backend.probabilities(batch), backend.probabilities(scaled))


def distance_from(reads, probabilities):
    """Largest |frequency - probability| of a state in standard errors, all queries."""
    n, R = reads.shape[-1], reads.shape[2]
    index = ((reads > 0).long() << torch.arange(n)).sum(-1)
    counts = torch.zeros_like(probabilities).scatter_add_(
        -1, index, torch.ones_like(index, dtype=probabilities.dtype)
    )
    error = (probabilities * (1 - probabilities) / R).sqrt().clamp_min(1e-9)
    return float(((counts / R - probabilities).abs() / error).max())


def test_reads_follow_the_probabilities_and_not_other_ones():
    # 4 problems x 8 states, 20,000 reads: every cell within 5 standard errors has a chance of
    # failure of 32 · 6e-7 = 2e-5; all probabilities here are above 1/20,000.
    batch = problems(3, seed=3)
    backend = DiabaticBackend("linear")
    reads = backend.sample(batch, num_reads=20_000, seed=11).spins
    assert distance_from(reads, backend.probabilities(batch)) < 5
    wrong = DiabaticBackend("linear", betas=(backend.beta_h * 0.9, backend.beta_J))
    assert distance_from(reads, wrong.probabilities(batch)) > 5
    flipped = IsingBatch(batch.h, -batch.J)
    assert distance_from(reads, backend.probabilities(flipped)) > 5


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_seeds_repeat_and_differ(encoding):
    batch = problems(4)
    backend = DiabaticBackend("linear", field_encoding=encoding)
    first, again, other = (
        backend.sample(batch, num_reads=40, seed=seed).spins for seed in (1, 1, 2)
    )
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    torch.manual_seed(0)
    a = backend.sample(batch, num_reads=40).spins
    torch.manual_seed(0)
    assert torch.equal(a, backend.sample(batch, num_reads=40).spins)


def test_divergence_is_that_of_the_enumerated_target():
    batch = problems(5, beta=0.8)
    backend = DiabaticBackend("linear")
    p = backend.probabilities(batch)
    spins = states(5, torch.float64, batch.h.device).expand(2, 2, -1, -1)
    log_target = (-0.8 * batch.energies(spins)).log_softmax(-1)
    assert torch.allclose(backend.divergence(batch), kl_divergence(p, log_target))


@pytest.mark.parametrize("order", [2, 4])
def test_rounding_of_many_kicks_does_not_move_the_norm(order):
    """Unnormalised, probabilities of 5,000 kicks in complex64 sum to 1 + 3e-4."""
    schedule = AnnealSchedule.linear(3.0)
    h, J = programmed(problems(4), schedule)
    splitting = split(schedule, 5000, order)
    p = statevector.evolve(h.float(), J.float(), splitting)
    assert (p.double().sum(1) - 1).abs().max() < 1e-6
    exact = statevector.evolve(h, J, splitting)
    assert total_variation(p.double(), exact) < 1e-4


def test_divergences_of_many_blocks_are_those_of_one(monkeypatch):
    backend, batch = DiabaticBackend(warn_divergence=math.inf), problems(4, groups=2, queries=5)
    whole = backend.divergence(batch)
    assert whole.unique().numel() == 10
    monkeypatch.setattr("qattn.simulators.quantum_annealing.BLOCK_BYTES", 3 * 8 << 4)
    assert torch.allclose(backend.divergence(batch), whole)


def scaled_divergences(scales, backend, batch, wrong=1.0):
    """Mean divergence with the problem scaled, from targets whose β is wrong by a factor."""
    found = []
    for scale in scales:
        p = backend.probabilities(IsingBatch(batch.h * scale, batch.J * scale))
        spins = states(batch.num_spins, torch.float64, batch.h.device)
        log_target = -wrong * scale * batch.energies(spins.expand(*batch.h.shape[:2], -1, -1))
        found.append(float(kl_divergence(p, log_target.log_softmax(-1)).mean()))
    return found


def exponent(scales, divergences):
    x, y = torch.tensor(scales).log(), torch.tensor(divergences).log()
    x, y = x - x.mean(), y - y.mean()
    return float((x * y).sum() / (x * x).sum())


@pytest.mark.parametrize(
    ("schedule", "encoding"),
    [
        ("linear", "direct"),
        ("linear", "ghost"),
        pytest.param("advantage2", "ghost", marks=pytest.mark.slow),
        pytest.param("advantage2", "direct", marks=pytest.mark.slow),
        pytest.param("flux_qubit", "direct", marks=pytest.mark.slow),
        pytest.param("flux_qubit", "ghost", marks=pytest.mark.slow),
    ],
)
def test_divergence_falls_with_the_fourth_power_and_a_wrong_beta_with_the_square(
    schedule, encoding
):
    schedule = advantage2() if schedule == "advantage2" else schedule
    batch = problems(6, fields=0.5, couplings=0.25, seed=8)
    backend = DiabaticBackend(schedule, tolerance=1e-5, field_encoding=encoding)
    scales = [0.05, 0.1, 0.2]
    assert exponent(scales, scaled_divergences(scales, backend, batch)) > 3.3
    scales = [0.0125, 0.025, 0.05]  # so small that the fourth power is out of the way
    square = exponent(scales, scaled_divergences(scales, backend, batch, wrong=1.1))
    assert 1.8 < square < 2.2
    half = backend.beta_h * 1.1, backend.beta_J
    if encoding == "direct":  # a wrong β_h alone is enough
        wrong = DiabaticBackend(schedule, tolerance=1e-5, betas=half)
        assert 1.8 < exponent(scales, scaled_divergences(scales, wrong, batch)) < 2.2


def test_a_problem_outside_the_regime_warns_with_its_divergence():
    backend = DiabaticBackend("linear", 0.5)
    with pytest.warns(DivergenceWarning, match=r"diverge .* by 0\.\d+ nats .*'linear' at 0\.5 ns"):
        reads = backend.sample(problems(6), num_reads=3, seed=0)
    divergence = float(backend.divergence(problems(6)).mean())
    assert reads.info["divergence"] == pytest.approx(divergence)
    quiet = DiabaticBackend("linear", 0.5, warn_divergence=math.inf)
    assert quiet.sample(problems(6), num_reads=3, seed=0).info["schedule"] == "linear"
    DiabaticBackend("linear").sample(problems(6, fields=0.3, couplings=0.1), num_reads=3, seed=0)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"field_encoding": "both"}, "Argument `field_encoding` must be 'direct' or 'ghost'"),
        ({"tolerance": 0.0}, "Argument `tolerance` must be between 0 and 1, but is 0.0"),
        ({"betas": (1.0, -2.0)}, "Argument `betas` must be two positive numbers"),
        ({"schedule": "lineer"}, "Argument `schedule` must be one of linear"),
        ({"annealing_time": -1.0}, "Argument `annealing_time` must be positive"),
    ],
)
def test_wrong_options_are_named(options, message):
    with pytest.raises(ValueError, match=message):
        DiabaticBackend(**options)


def test_limits_are_named(monkeypatch):
    with pytest.raises(ValueError, match="Argument `num_reads` must be positive, but is 0"):
        DiabaticBackend().sample(problems(3), num_reads=0)
    with pytest.raises(ValueError, match="`tolerance` must be at least 2e-05 for a batch of torch"):
        DiabaticBackend(tolerance=1e-7).sample(problems(3, dtype=torch.float32), num_reads=1)
    huge = IsingBatch(torch.zeros(1, 1, 40), torch.zeros(1, 40, 40))
    with pytest.raises(MemoryError, match=r"anneal of 40 spins needs .* GiB.*backend 'neal'"):
        DiabaticBackend().sample(huge, num_reads=1, seed=0)
    with pytest.raises(MemoryError, match="probabilities of 1 groups x 1 queries x 2\\^40 states"):
        DiabaticBackend().probabilities(huge)


def test_import_loads_no_optional_package():
    code = (
        "import sys, qattn, qattn.simulators.diabatic, qattn.simulators.qutip_backend;"
        "optional = ('qutip', 'matplotlib', 'openpyxl', 'dwave.system');"
        "print([module for module in optional if module in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("encoding", ENCODINGS)
def test_cuda_agrees_with_the_cpu(encoding):
    batch = problems(7, dtype=torch.float32)
    there = IsingBatch(batch.h.cuda(), batch.J.cuda())
    backend = DiabaticBackend("linear", field_encoding=encoding)
    p = backend.probabilities(there)
    assert p.is_cuda
    assert total_variation(p.cpu(), backend.probabilities(batch)) < 1e-5
    assert backend.sample(there, num_reads=5, seed=0).spins.is_cuda
