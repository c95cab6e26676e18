"""Banded couplings on an emulated QPU, through Ocean's client: as exact as cliques."""

import pytest
import torch
from _support.qpu_backends import backend_of

from qattn import IsingBatch, problems
from qattn.couplings import Banded
from qattn.hardware.calibrate import calibrate_device
from qattn.hardware.embedding import Pattern
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.settings import QPUSettings
from qattn.layers import BoltzmannAttention
from qattn.testing import deviation_from_exact

pytestmark = pytest.mark.usefixtures("packings_are_kept")

N, BETA = 8, 9.0


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU(shape=(2, 4), beta_h=BETA, beta_J=BETA) as running:
        yield running


@pytest.fixture
def batch():
    """Causal lengths: shorter queries are leading parts of the band."""
    torch.manual_seed(0)
    h = 0.4 * torch.randn(4, N, N, dtype=torch.float64)
    values = 0.3 * torch.randn(4, N, 1, dtype=torch.float64)
    return IsingBatch(h, Banded(values), torch.arange(1, N + 1))


@pytest.mark.parametrize(
    ("encoding", "time"), [("ghost", 5.0), ("ancilla", 5.0), ("direct", 20_000.0)]
)
def test_reads_are_at_the_floor_and_take_fewer_jobs(qpu, tmp_path, batch, encoding, time):
    """5 sigma over all moments, beside cliques; a band that is 20% too strong must fail."""
    backend = backend_of(qpu, tmp_path, field_encoding=encoding, annealing_time=time)
    reads = 600
    bands = backend.sample(batch, num_reads=reads, seed=1)
    # The same models as cliques: another seed, because equal requests are answered by the journal.
    cliques = backend.sample(batch.dense(), num_reads=reads, seed=2)
    again = backend.sample(batch, num_reads=reads, seed=1)
    backend.close()
    for samples in (bands, cliques):
        sigmas, bound = deviation_from_exact(samples, batch.dense())
        assert sigmas <= bound
    stronger = IsingBatch(batch.h, batch.J.scaled(1.5), batch.lengths).dense()
    sigmas, bound = deviation_from_exact(bands, stronger)
    assert sigmas > bound
    assert bands.info["num_jobs"] <= cliques.info["num_jobs"]
    assert torch.equal(bands.spins, again.spins)  # from the journal, by the band's packing


def test_a_calibration_and_its_shim_are_of_bands(qpu, tmp_path):
    """β within 5 sigma; flux biases are those of the chains that banded problems lie on."""
    ghost = QPUSettings(5.0, "ghost", 2.0)
    batch = problems.banded(40, N, width=1, coupling_sd=0.4, seed=3)
    backend = backend_of(qpu, tmp_path)
    found = calibrate_device(backend.session, batch, [ghost], num_reads=60, shim_corrections=0)
    packing = backend.session.device.packing(Pattern(N + 1, 1, 1))
    used = {job.packing for job in backend.session.journal.jobs.values()}
    backend.close()
    assert packing.pairs is not None
    assert used == {packing.digest}
    assert found.shim.suits(packing, 2.0)
    point = found.points[0]
    for beta, variance in zip((point.beta_h, point.beta_J), point.covariance, strict=True):
        assert abs(beta - BETA) < 5 * max(variance) ** 0.5


def test_a_banded_layer_trains(qpu, tmp_path):
    torch.manual_seed(0)
    backend = backend_of(qpu, tmp_path)
    layer = BoltzmannAttention(
        8, 2, context=5, couplings="banded", width=1, backend=backend, num_reads=50
    )
    optimizer = torch.optim.Adam(layer.parameters(), lr=0.05)
    x, target = torch.randn(2, 2, 5, 8)
    losses = []
    for _ in range(4):
        loss = (layer(x) - target).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(float(loss.detach()))
    packings = {job.packing for job in backend.session.journal.jobs.values()}
    backend.close()
    assert layer.coupling_values.grad.abs().max() > 0
    assert losses[-1] < losses[0]
    assert len(packings) == 1
