"""TAP in the logit: kernel and twin, gradients, limits, and how good the draws are untrained."""

import pytest
import torch
from _support.annealing import problems
from _support.brute_force import all_states, expectations
from _support.closed_forms import sherrington_kirkpatrick

from qattn import IsingBatch, kernels
from qattn.problems import synthetic
from qattn.simulators.autoregressive import AutoregressiveNet, Models, Plan, importance
from qattn.simulators.autoregressive.pair import Pair
from qattn.simulators.autoregressive.tap import Tap, logit
from qattn.simulators.autoregressive.tap.spectrum import Spectrum, spectrum

loops = pytest.mark.skipif(kernels.level() is None, reason="no compiled loops here")


def fitted(n, iterations, parameters, seed=0):
    """A part whose parameters are no longer at their start."""
    part = Tap(n, iterations, parameters, scale=0.3)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in part.parameters():
            parameter += 0.2 * torch.randn(parameter.shape, generator=generator)
    return part


def states_like(models, reads, seed=0):
    """Random states, 0 at absent spins."""
    g, n, q = models.h.shape
    generator = torch.Generator().manual_seed(seed)
    spins = (torch.randint(0, 2, (g, n, q * reads), generator=generator) * 2 - 1).to(models.h.dtype)
    return spins if models.active is None else spins * models.to_columns(models.active, reads)


def arranged(batch, dtype=torch.float32):
    return Models.arranged(batch, Plan.dense(batch.num_spins), dtype)


def ess_of(batch, reads=400, part=None):
    """Effective share of reads of each query, and the estimates."""
    n = batch.num_spins
    net = AutoregressiveNet(Plan.dense(n), [part or Tap(n, logit.ITERATIONS)])
    models = net.arranged(batch)
    spins, log_q = net.draw(models, reads, torch.Generator().manual_seed(0))
    shape = (batch.num_queries, reads)
    return importance(log_q.unflatten(1, shape), models.energies(spins).unflatten(1, shape))


@loops
@pytest.mark.parametrize("iterations", [0, 1, 3])
@pytest.mark.parametrize("parameters", ["none", "scalars", "couplings"])
@pytest.mark.parametrize("n", [1, 9, 21])
def test_kernel_and_twin_have_the_same_logits(n, parameters, iterations):
    lengths = torch.tensor([n, n // 2, 0])
    models = arranged(problems(n, queries=3, dtype=torch.float32, lengths=lengths))
    part, spins = fitted(n, iterations, parameters), states_like(models, reads=13)
    positions = torch.arange(n)[:: max(1, n // 5)]
    with torch.no_grad():
        found = part.of_states(models, spins, positions)
        with kernels.disabled():
            twin = part.of_states(models, spins, positions)
    there = spins[:, positions] != 0
    assert torch.allclose(found[there], twin[there], rtol=1e-5, atol=1e-5)
    if parameters == "scalars" and iterations and n > 1:  # a wrong parameter is seen
        with torch.no_grad():
            part.alpha[0] += 0.01
            found = part.of_states(models, spins, positions)
        assert not torch.allclose(found[there], twin[there], rtol=1e-5, atol=1e-5)


@loops
@pytest.mark.parametrize("reads", [1, 33])
def test_kernel_and_twin_draw_the_same(reads):
    lengths = torch.tensor([[15, 4, 0], [15, 15, 15]])
    batch = problems(15, queries=3, dtype=torch.float32, lengths=lengths)
    net = AutoregressiveNet(Plan.dense(15), [fitted(15, 4, "couplings")])
    models = net.arranged(batch)
    spins, log_q = net.draw(models, reads, torch.Generator().manual_seed(5))
    with kernels.disabled():
        twin, twin_log_q = net.draw(models, reads, torch.Generator().manual_seed(5))
    assert torch.equal(spins, twin)
    assert torch.allclose(log_q, twin_log_q, rtol=0, atol=1e-5)


@loops
def test_the_number_of_threads_changes_nothing():
    models = arranged(problems(15, queries=3, dtype=torch.float32))
    before, draws = torch.get_num_threads(), []
    try:
        for threads in (1, 3):
            torch.set_num_threads(threads)
            draws.append(Tap(15, 4).draw_all(models, 50, torch.Generator().manual_seed(0)))
    finally:
        torch.set_num_threads(before)
    assert all(map(torch.equal, *draws))


@loops
def test_strong_fields_and_couplings():
    """Nothing overflows, in the kernel or its twin."""
    batch = problems(12, fields=300.0, couplings=100.0, dtype=torch.float32)
    models = arranged(batch)
    part, spins = Tap(12, 4), states_like(models, reads=5)
    found = part.of_states(models, spins, torch.arange(12))
    with kernels.disabled():
        twin = part.of_states(models, spins, torch.arange(12))
    assert found.isfinite().all()
    assert torch.allclose(found, twin, rtol=1e-4, atol=1e-2)


def test_spins_that_are_not_coupled():
    """One more spin is exact: no step is needed."""
    batch = problems(2, queries=3)
    models = arranged(batch, torch.float64)
    spins, positions = states_like(models, reads=4), torch.arange(2)
    found, pair = (x.of_states(models, spins, positions) for x in (Tap(2, 3), Pair()))
    assert torch.allclose(found, pair, rtol=0, atol=1e-12)


def test_both_phases_of_a_ferromagnet():
    """Of reads of p, by enumeration: a mean field that sees one phase would lose the other."""
    n = 10
    h = problems(n, groups=1, queries=20, fields=0.3, dtype=torch.float64, seed=2).h
    batch = IsingBatch(h, 0.6 * (1 - torch.eye(n, dtype=torch.float64))[None])
    net = AutoregressiveNet(Plan.dense(n), [Tap(n, logit.ITERATIONS)])
    models = net.arranged(batch)
    spins = all_states(n).T.repeat(1, 1, 20).float()
    log_q = net.log_q(models, spins).unflatten(1, (20, -1))
    log_p = -models.energies(spins).unflatten(1, (20, -1))
    divergence = (log_p.softmax(2) * (log_p.log_softmax(2) - log_q)).sum(2)  # of p from q
    assert (divergence < 0.02).all()
    assert not (log_p.softmax(2).amax(2) > 0.99).all()  # both phases are there


@pytest.mark.parametrize("parameters", ["scalars", "couplings"])
def test_gradients(parameters):
    n = 4
    batch = problems(n, groups=1, lengths=torch.tensor([n, 3]))
    models = arranged(batch, torch.float64)
    part = fitted(n, 2, parameters).double()
    spins, positions = states_like(models, reads=2), torch.tensor([0, 1, 3])
    names, values = zip(*part.named_parameters(), strict=True)

    def logits(*values):
        return torch.func.functional_call(
            part, dict(zip(names, values, strict=True)), (models, spins, positions)
        )

    part.forward = part.of_states
    assert torch.autograd.gradcheck(logits, values)


def test_steps_that_are_done_again_have_the_same_gradient(monkeypatch):
    models = arranged(problems(9))
    part, spins = fitted(9, 2, "couplings"), states_like(models, reads=4)
    grads = []
    for kept in (logit.KEPT, 0):
        monkeypatch.setattr(logit, "KEPT", kept)
        part.zero_grad()
        part.of_states(models, spins, torch.arange(9)).square().mean().backward()
        grads.append([p.grad.clone() for p in part.parameters()])
    assert all(map(torch.allclose, *grads))
    assert all(g.abs().sum() > 0 for g in grads[0])


def test_gauge():
    """Signs that change together in h, J and s change the logits' signs."""
    batch = problems(10, dtype=torch.float64)
    signs = torch.tensor([1.0, -1.0] * 5, dtype=torch.float64)
    other = IsingBatch(batch.h * signs, batch.matrix * signs * signs[:, None])
    spins, positions = states_like(arranged(batch, torch.float64), reads=3), torch.arange(10)
    part = Tap(10, 4)
    before = part.of_states(arranged(batch, torch.float64), spins, positions)
    after = part.of_states(arranged(other, torch.float64), spins * signs[:, None], positions)
    assert torch.allclose(after * signs[:, None], before, rtol=0, atol=1e-10)


def test_draws_of_attention_like_problems_are_good():
    """Of synthetic problems with β_eff = √n sd(J) up to 1; pairs alone are not as good."""
    for n in (12, 24):
        batch = synthetic(40, n, field_sd=1.0, coupling_sd=n**-0.5, seed=3)
        assert ess_of(batch).ess.median() > 0.95
        assert ess_of(batch, part=Pair()).ess.median() < 0.9


def test_free_energy_of_a_spin_glass():
    """SK n = 100, β = 1: F within 2e-3 for each spin by the bound alone, and most reads count."""
    batch = sherrington_kirkpatrick(100, 2, torch.Generator().manual_seed(1))
    found = ess_of(IsingBatch(batch.h.float(), batch.matrix.float()))
    gap = found.log_Z - found.log_Z_bound
    error = (found.log_Z_error.square() + found.log_Z_bound_error.square()).sqrt()
    assert (gap + 5 * error < 100 * 2e-3).all()
    assert (found.ess > 0.8).all()


def test_log_Z():
    batch = synthetic(8, 12, field_sd=1.0, coupling_sd=0.5, seed=1)
    found, log_Z = ess_of(batch), expectations(batch, batch.h, batch.matrix).log_Z
    assert ((found.log_Z - log_Z).abs() < 5 * found.log_Z_error).all()
    assert (found.log_Z_bound - log_Z < 5 * found.log_Z_bound_error).all()


def test_an_eigenvalue_that_stands_out(monkeypatch):
    """An antiferromagnet: mean fields would oscillate, and its rings of couplings count."""
    n = 24
    h = problems(n, groups=4, dtype=torch.float32).h
    J = -0.4 * (1 - torch.eye(n)).expand(4, n, n)
    batch = IsingBatch(h, J)
    found = spectrum(arranged(batch))
    assert (found.step < 0.25).all()
    assert torch.allclose(found.mode, torch.full((4, n, 2), 0.4), rtol=0.05)
    assert (ess_of(batch).ess > 0.97).all()
    assert (ess_of(batch, part=Tap(n, logit.ITERATIONS, rings=False)).ess < 0.95).all()
    whole = Spectrum(torch.ones(4, 2), found.mode)
    monkeypatch.setattr(logit, "spectrum", lambda models: whole)
    assert (ess_of(batch).ess < 0.2).all()


def test_the_spectrum_where_nothing_stands_out():
    """A ferromagnet: the highest eigenvalue has no part in it."""
    n, J = 24, 0.05
    couplings = J * (1 - torch.eye(n, dtype=torch.float64)).expand(2, n, n)
    batch = IsingBatch(problems(n).h, couplings)
    found = spectrum(arranged(batch, torch.float64))
    b_squared = J**2 * (n * (n - 1) - 1) / n  # less the square of the lowest, -J
    step = torch.full((2, 2), 1 / (1 + b_squared / 4), dtype=torch.float64)
    assert torch.allclose(found.step, step, rtol=0, atol=1e-12)
    assert torch.equal(found.mode, torch.zeros_like(found.mode))


def test_the_spectrum_of_queries_is_that_of_their_spins():
    lengths = torch.tensor([[9, 4, 7], [2, 9, 1]])
    batch = problems(9, queries=3, couplings=1.0, dtype=torch.float64, lengths=lengths)
    found = spectrum(arranged(batch, torch.float64))
    for g in range(2):
        for q in range(3):
            n = int(lengths[g, q])
            lone = IsingBatch(batch.h[g : g + 1, q : q + 1, :n], batch.matrix[g : g + 1, :n, :n])
            alone = spectrum(arranged(lone, torch.float64))
            assert torch.allclose(alone.step[0, 0], found.step[g, q], rtol=0, atol=1e-12)
            assert torch.allclose(alone.mode[0, :, 0], found.mode[g, :n, q], rtol=0, atol=1e-12)
            assert (found.mode[g, n:, q] == 0).all()
