"""The same mathematics on a GPU; skipped where there is none."""

import pytest
import torch
from _support.brute_force import SCALES, TOLERANCE, expectations, random_batch, random_couplings

from qattn import IsingBatch, exact
from qattn.simulators import AutoregressiveBackend, GibbsBackend
from qattn.training import Learner, TrainConfig, train

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")


def to_cuda(batch):
    return IsingBatch(batch.h.cuda(), batch.J.cuda(), batch.lengths, batch.beta)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
@pytest.mark.parametrize(("J_scale", "h_scale"), SCALES)
@pytest.mark.parametrize("n", [1, 2, 5, 8, 13])
def test_moments_equal_brute_force(n, J_scale, h_scale, dtype):
    batch = random_batch(n, J_scale, h_scale, seed=n, dtype=dtype)
    expected = expectations(batch, batch.h, batch.J)
    there = to_cuda(batch)
    scale = expected.log_Z.abs().clamp_min(1.0)
    log_Z_error = (exact.log_partition(there).cpu() - expected.log_Z).abs() / scale
    assert log_Z_error.max() < TOLERANCE[dtype]
    assert (exact.mean_spins(there).cpu() - expected.mean).abs().max() < TOLERANCE[dtype]
    assert (exact.pair_correlations(there).cpu() - expected.pairs).abs().max() < TOLERANCE[dtype]


@pytest.mark.parametrize("J_scale", [0.5, 20.0])
def test_gradients_equal_the_cpus(J_scale):
    batch = random_batch(7, J_scale, 2.0, seed=1)
    grads = []
    for device in ("cpu", "cuda"):
        h = batch.h.to(device).requires_grad_()
        J = batch.J.to(device).requires_grad_()
        same = IsingBatch(h, J, batch.lengths, batch.beta)
        loss = (exact.mean_spins(same) ** 2).sum() + exact.log_partition(same).sum()
        grads.append([g.cpu() for g in torch.autograd.grad(loss, (h, J))])
    for here, there in zip(*grads, strict=True):
        torch.testing.assert_close(there, here, atol=1e-9, rtol=1e-9)


def test_reads_follow_the_distribution():
    # 5 sigma per spin and pair, as on the CPU.
    torch.manual_seed(0)
    J = random_couplings(2, 9, 0.5, dtype=torch.float64)
    batch = to_cuda(IsingBatch(0.5 * torch.randn(2, 3, 9, dtype=torch.float64), J))
    samples = exact.sample(batch, 20_000, seed=0)
    assert samples.spins.device.type == "cuda"
    expected = exact.pair_correlations(batch)
    sigma = ((1 - expected**2).clamp_min(0) / 20_000).sqrt() + 1e-9
    assert ((samples.pair_correlations(torch.float64) - expected).abs() < 5 * sigma).all()


@pytest.mark.parametrize("coupling", [0.1, 0.6])
def test_chains_settle(coupling):
    """Swept ones, and tempered ones: ⟨s⟩ within 5 sigma."""
    h = 0.2 * torch.randn(2, 20, 10, generator=torch.Generator().manual_seed(0))
    J = coupling * (1 - torch.eye(10)).expand(2, 10, 10)
    batch = to_cuda(IsingBatch(h, J, torch.arange(20) % 10 + 1))
    samples = GibbsBackend().sample(batch, num_reads=2000, seed=0)
    assert samples.spins.device.type == "cuda"
    assert ("tempered" in samples.info) == (coupling == 0.6)
    expected = exact.mean_spins(batch)
    sigma = ((1 - expected**2).clamp_min(1e-4) / 2000).sqrt()
    assert ((samples.mean_spins() - expected).abs() < 5 * sigma).all()


@pytest.mark.parametrize("how", [{}, {"anneal": "always"}, {"metropolis_steps": 4}])
def test_autoregressive(how):
    batch = to_cuda(random_batch(10, 0.6, 0.5, seed=0, dtype=torch.float32))
    samples = AutoregressiveBackend(**how).sample(batch, num_reads=2000, seed=0)
    assert samples.spins.device.type == "cuda"
    assert samples.info["ess"].device.type == "cuda"
    expected = exact.mean_spins(batch)
    effective = 2000 * samples.info["ess"].clamp(0.05, 1).unsqueeze(-1)
    sigma = ((1 - expected**2).clamp_min(1e-4) / effective).sqrt()
    assert ((samples.mean_spins() - expected).abs() < 5 * sigma).all()


@pytest.mark.parametrize("attention", ["boltzmann", "softmax", "sigmoid", "couplings"])
@pytest.mark.parametrize("ensemble", [1, 3])
def test_training_follows_the_cpu(attention, ensemble):
    settings = {"attention": attention, "context": 6, "width": 16, "heads": 2, "batch_size": 8}
    here = Learner(TrainConfig(ensemble=ensemble, **settings))
    there = Learner(TrainConfig(ensemble=ensemble, device="cuda", **settings))
    for number in range(5):
        expected = here.step(number)
        assert (there.step(number).cpu() - expected).abs().max() < 1e-4


def test_a_run_on_the_gpu_can_be_resumed(tmp_path):
    config = TrainConfig(steps=20, context=6, width=16, heads=2, device="cuda", checkpoint_every=10)
    train(config, tmp_path / "run")
    summary = train(TrainConfig(**{**vars(config), "steps": 30}), tmp_path / "run", resume=True)
    assert summary["steps"] == 30
    assert 0 < summary["sampling_share"] < 1
