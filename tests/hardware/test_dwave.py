"""The dwave backend with Ocean's unmodified client, over loopback, on an emulated QPU."""

import math

import numpy as np
import pytest
import torch
from _support.qpu_backends import accepted, backend_of

from qattn import IsingBatch, boltzmann_weights, get_backend, problems
from qattn.backends import BackendStopped
from qattn.hardware.calls.journal import Journal
from qattn.hardware.calls.submission import OutOfRange
from qattn.hardware.dwave import DWaveBackend
from qattn.hardware.emulator import EmulatedQPU
from qattn.hardware.replay import ReplayBackend
from qattn.hardware.service.budget import BudgetExceeded
from qattn.testing import BackendConformance, deviation_from_exact

pytestmark = pytest.mark.usefixtures("packings_are_kept")

BETA_H, BETA_J = 7.0, 9.0


@pytest.fixture(scope="module")
def qpu():
    with EmulatedQPU(shape=(3, 4), beta_h=BETA_H, beta_J=BETA_J) as running:
        yield running


@pytest.fixture
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("dwave")


@pytest.fixture
def batch():
    return problems.synthetic(20, 5, field_sd=0.4, coupling_sd=0.3, seed=3)


# The emulator's Boltzmann distribution knows the couplings of an ancilla as couplings.
ENCODINGS = {"ghost": (BETA_J, BETA_J), "ancilla": (BETA_J, BETA_J), "direct": (BETA_H, BETA_J)}


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("right", [True, False])
def test_moments_agree_with_exact_at_the_right_betas_only(qpu, folder, batch, encoding, right):
    """5 sigma over all ⟨s⟩ and ⟨s s⟩ of 20 problems; betas that are 20% off must fail."""
    time = 5.0 if encoding != "direct" else 20_000.0
    betas = tuple(beta * (1.0 if right else 1.2) for beta in ENCODINGS[encoding])
    options = {"field_encoding": encoding, "betas": betas, "annealing_time": time}
    backend = backend_of(qpu, folder, **options)
    samples = backend.sample(batch, num_reads=2000, seed=1)
    backend.close()
    sigmas, bound = deviation_from_exact(samples, batch)
    assert (sigmas <= bound) == right


def test_one_temperature_for_both_is_wrong_where_there_are_two(qpu, folder, batch):
    options = {"field_encoding": "direct", "betas": (BETA_J, BETA_J), "annealing_time": 20_000.0}
    backend = backend_of(qpu, folder, **options)
    sigmas, bound = deviation_from_exact(backend.sample(batch, num_reads=2000, seed=1), batch)
    backend.close()
    assert sigmas > bound


class TestConformance(BackendConformance):
    seeded = False  # each backend has a journal of its own; see test_equal_requests_are_free

    @pytest.fixture(autouse=True)
    def _device(self, qpu, folder):
        self.made = []
        self.qpu, self.folder = qpu, folder
        yield
        for backend in self.made:
            backend.close()

    def make_backend(self):
        self.made.append(backend_of(self.qpu, self.folder))
        return self.made[-1]


def test_equal_requests_are_free(qpu, folder, batch):
    journal = folder / "journal"
    before = len(qpu.jobs)
    backend = backend_of(qpu, folder, journal=journal)
    first = backend.sample(batch, num_reads=50, seed=1)
    jobs = len(qpu.jobs)
    again = backend.sample(batch, num_reads=50, seed=1)
    backend.close()
    other_process = backend_of(qpu, folder, journal=journal)
    third = other_process.sample(batch, num_reads=50, seed=1)
    assert len(qpu.jobs) == jobs > before
    assert torch.equal(first.spins, again.spins)
    assert torch.equal(first.spins, third.spins)
    other = other_process.sample(batch, num_reads=50, seed=2)
    other_process.close()
    assert len(qpu.jobs) == 2 * jobs - before
    assert not torch.equal(first.spins, other.spins)


def test_many_jobs_in_flight_come_back_in_order(qpu, folder):
    """Fields so strong that each problem has one answer: its own."""
    rng = np.random.default_rng(0)
    pattern = torch.from_numpy(2.0 * rng.integers(0, 2, (1, 150, 5)) - 1)
    batch = IsingBatch(6 * pattern, torch.zeros(1, 5, 5, dtype=torch.float64))
    backend = backend_of(qpu, folder, max_in_flight=3)
    samples = backend.sample(batch, num_reads=4, seed=0)
    backend.close()
    assert samples.info["num_jobs"] > 3
    assert bool((samples.spins == pattern[:, :, None]).all())


def test_reads_are_divided_among_spin_reversal_transforms(qpu, folder):
    batch = problems.synthetic(6, 5, seed=3)
    backend = backend_of(qpu, folder, spin_reversal_transforms=3)
    before = len(qpu.jobs)
    samples = backend.sample(batch, num_reads=100, seed=4)
    shares = sorted(job.num_reads for job in qpu.jobs[before:])
    gauges = [
        backend.session.journal.arrays("jobs", name)["gauge"]
        for name in backend.session.journal.jobs
    ]
    backend.close()
    assert shares == [33, 33, 34]
    assert samples.num_reads == 100
    assert bool((samples.spins != 0).all())
    assert not np.array_equal(gauges[0], gauges[1])


def test_lengths_and_empty_queries(qpu, folder):
    base = problems.synthetic(10, 5, seed=1)
    batch = IsingBatch(base.h[:, :3], base.J, torch.tensor([5, 0, 2]))
    backend = backend_of(qpu, folder)
    spins = backend.sample(batch, num_reads=6, seed=1).spins
    active = batch.active.unsqueeze(2).expand(spins.shape)
    assert bool((spins[active] != 0).all())
    assert bool((spins[~active] == 0).all())
    jobs = len(qpu.jobs)
    nothing = IsingBatch(base.h[:, :2], base.J, torch.tensor([0, 0]))
    assert bool((backend.sample(nothing, num_reads=3, seed=1).spins == 0).all())
    backend.close()
    assert len(qpu.jobs) == jobs


def test_what_the_device_cannot_hold(qpu, folder):
    batch = IsingBatch(torch.full((1, 1, 2), 1.0), torch.tensor([[[0.0, 30.0], [30.0, 0.0]]]))
    backend = backend_of(qpu, folder)
    jobs = len(qpu.jobs)
    with pytest.raises(OutOfRange, match=r"holds a programmed coupling.*longer annealing_time"):
        backend.sample(batch, num_reads=5, seed=1)
    backend.close()
    assert len(qpu.jobs) == jobs
    clipping = backend_of(qpu, folder, out_of_range="clip")
    assert clipping.sample(batch, num_reads=5, seed=1).info["clipped"] == 1
    clipping.close()


def test_info_says_what_was_done(qpu, folder, batch):
    backend = backend_of(qpu, folder)
    info = backend.sample(batch, num_reads=10, seed=1).info
    backend.close()
    assert info["solver"] == qpu.name
    assert info["graph_id"] == qpu.graph_id
    assert info["emulated"] is True
    assert (info["beta_h"], info["beta_J"]) == (BETA_J, BETA_J)
    assert info["qpu_access_seconds"] > 0
    assert info["break_rates"].shape == batch.h.shape
    assert info["annealing_time"] == 5.0


def test_chain_breaks_are_seen(qpu, folder, batch):
    weak = backend_of(qpu, folder, chain_strength=0.05)
    samples = weak.sample(batch, num_reads=100, seed=1)
    weak.close()
    assert samples.info["chain_break_rate"] > 0.05
    assert bool((samples.spins != 0).all())


def test_chain_breaks_do_not_add_up_over_gauges(qpu, folder, batch):
    """A rate is the share of a spin's reads, however many submissions they are divided among."""
    rates = {}
    for transforms in (1, 3):
        options = {"chain_strength": 0.05, "spin_reversal_transforms": transforms}
        weak = backend_of(qpu, folder, **options)
        info = weak.sample(batch, num_reads=300, seed=1).info
        weak.close()
        assert float(info["break_rates"].max()) <= 1
        rates[transforms] = info["chain_break_rate"]
    # 5 standard errors of a difference, were the six chains of a read to break together.
    error = math.sqrt(2 * rates[1] * (1 - rates[1]) / (300 * len(batch.h.flatten(0, 1))))
    assert abs(rates[3] - rates[1]) < 5 * error


class TestBudget:
    def test_never_exceeded_by_the_emulators_account(self, folder, batch):
        with EmulatedQPU(shape=(3, 4), timing_spread=0.04) as qpu:
            backend = backend_of(qpu, folder, qpu_budget="0.4s")

            def sample_for_ever():
                for seed in range(1000):
                    backend.sample(batch, num_reads=20, seed=seed)

            with pytest.raises(BudgetExceeded, match="400 ms"):
                sample_for_ever()
            spent = backend.metrics()["qpu_seconds"]
            assert backend.metrics()["qpu_seconds_left"] >= 0
            backend.close()
            assert 0.3 < qpu.access_time_us * 1e-6 <= 0.4
            assert math.isclose(spent, qpu.access_time_us * 1e-6)

    def test_counts_what_the_journal_knows(self, qpu, folder, batch):
        journal = folder / "journal"
        first = backend_of(qpu, folder, journal=journal, qpu_budget=0.2)
        first.sample(batch, num_reads=20, seed=1)
        spent = first.metrics()["qpu_seconds"]
        first.close()
        # Room for 1.8 jobs in all: the first is known to have been paid, so none is left.
        second = backend_of(qpu, folder, journal=journal, qpu_budget=1.8 * spent)
        second.open()
        assert second.metrics()["qpu_seconds"] == pytest.approx(spent)
        before = len(qpu.jobs)
        assert torch.equal(*(second.sample(batch, num_reads=20, seed=1).spins for _ in "ab"))
        with pytest.raises(BudgetExceeded):
            second.sample(batch, num_reads=20, seed=2)
        second.close()
        assert len(qpu.jobs) == before
        # Room for 2.5: now one more is bought.
        third = backend_of(qpu, folder, journal=journal, qpu_budget=2.5 * spent)
        third.sample(batch, num_reads=20, seed=2)
        assert third.metrics()["qpu_seconds"] <= 2.5 * spent
        third.close()
        assert len(qpu.jobs) == before + 1


class TestReplay:
    def test_gives_the_same_reads_without_a_device(self, folder, batch):
        with EmulatedQPU(shape=(3, 4)) as qpu:
            backend = backend_of(qpu, folder, journal=folder / "run" / "journal")
            recorded = [backend.sample(batch, num_reads=30, seed=seed) for seed in (1, 2)]
            backend.close()
        replay = get_backend("replay", journal=folder / "run")
        for seed, samples in zip((1, 2), recorded, strict=True):
            again = replay.sample(batch, num_reads=30, seed=seed)
            assert torch.equal(again.spins, samples.spins)
            differs = {"break_rates"}
            assert {k: v for k, v in again.info.items() if k not in differs} == {
                k: v for k, v in samples.info.items() if k not in differs
            }
        assert replay.metrics()["qpu_seconds"] == pytest.approx(qpu.access_time_us * 1e-6)

    def test_what_was_not_recorded_is_refused(self, qpu, folder, batch):
        backend = backend_of(qpu, folder, journal=folder / "j")
        backend.sample(batch, num_reads=30, seed=1)
        backend.close()
        replay = ReplayBackend(journal=folder / "j")
        for num_reads, seed in ((30, 2), (31, 1)):
            with pytest.raises(BackendStopped, match="has no reads of these models"):
                replay.sample(batch, num_reads=num_reads, seed=seed)
        with pytest.raises(BackendStopped, match="has no reads"):
            replay.sample(IsingBatch(-batch.h, batch.J), num_reads=30, seed=1)
        with pytest.raises(ValueError, match="journal"):
            ReplayBackend()
        with pytest.raises(FileNotFoundError, match="no journal"):
            ReplayBackend(journal=folder / "nowhere")

    def test_settings_are_chosen_where_there_are_several(self, qpu, folder, batch):
        for time in (5.0, 10.0):
            backend = backend_of(qpu, folder, journal=folder / "j", annealing_time=time)
            backend.sample(batch, num_reads=30, seed=1)
            backend.close()
        with pytest.raises(BackendStopped, match="under 2 settings"):
            ReplayBackend(journal=folder / "j").sample(batch, num_reads=30, seed=1)
        replay = ReplayBackend(journal=folder / "j", annealing_time=10.0)
        assert replay.sample(batch, num_reads=30, seed=1).info["annealing_time"] == 10.0


def test_new_working_graph_is_packed_anew(folder, batch):
    with EmulatedQPU(shape=(3, 4)) as qpu:
        backend = backend_of(qpu, folder)
        first = backend.sample(batch, num_reads=10, seed=1)
        qpu.recalibrate()
        second = backend.sample(batch, num_reads=10, seed=2)
        journal = Journal(backend.session.journal.folder, read_only=True)
        backend.close()
        assert first.info["graph_id"] != qpu.graph_id
        last = list(journal.jobs.values())[-1]
        assert (last.graph_id, last.status) == (qpu.graph_id, "answered")
        assert bool((second.spins != 0).all())
        assert accepted(journal) == len(qpu.jobs)


def test_drift_is_followed(folder):
    """Betas that grow by 10% in a hundred jobs: tracked within 3%, which untracked they are not."""
    batch = problems.synthetic(40, 5, field_sd=0.6, coupling_sd=0.4, seed=3)
    with EmulatedQPU(shape=(3, 4), beta_h=BETA_J, beta_J=BETA_J, drift=1.0) as qpu:
        backend = backend_of(qpu, folder, follow_betas=True)
        while len(qpu.jobs) < 100:
            backend.sample(batch, num_reads=60, seed=len(qpu.jobs))
        now = BETA_J * (1 + len(qpu.jobs) / 1000)
        tracked = backend.session.tracker.betas
        state = backend.state_dict()
        backend.close()
    assert now > 1.09 * BETA_J
    assert tracked == pytest.approx((now, now), rel=0.03)
    assert state["tracker"]["betas"] == list(tracked)


class TestArguments:
    def test_betas_must_be_known(self, folder):
        with pytest.raises(ValueError, match="qattn calibrate"):
            get_backend("dwave")

    def test_annealing_time_must_be_given_with_betas(self):
        with pytest.raises(ValueError, match="annealing_time"):
            get_backend("dwave", betas=(1.0, 1.0))

    @pytest.mark.parametrize(
        ("option", "value"),
        [
            ("field_encoding", "gohst"),
            ("out_of_range", "ignore"),
            ("annealing_time", -1.0),
            ("chain_strength", 0.0),
            ("betas", (1.0, -1.0)),
            ("spin_reversal_transforms", 0),
            ("qpu_budget", "soon"),
        ],
    )
    @pytest.mark.usefixtures("as_users_call")
    def test_wrong_values_are_named(self, option, value):
        good = {"betas": (1.0, 1.0), "annealing_time": 5.0}
        with pytest.raises(ValueError, match=option if option != "qpu_budget" else "duration"):
            get_backend("dwave", **(good | {option: value}))

    def test_annealing_time_outside_the_devices_range(self, qpu, folder):
        backend = backend_of(qpu, folder, annealing_time=1.0)
        with pytest.raises(ValueError, match="between 5 and"):
            backend.open()

    def test_settings_have_the_form_that_journals_hold(self):
        """A journal finds its calls by these settings: another name or default loses them."""
        options = DWaveBackend.Options(betas=(2.0, 3.0), annealing_time=5.0)
        properties = {"j_range": [-1.0, 1.0], "fast_anneal_time_range": [0.005, 0.1]}
        settings, covariance, calibration = options.settings_for("a solver", properties)
        assert settings.to_dict() == {
            "annealing_time": 5.0,
            "field_encoding": "ghost",
            "chain_strength": 1.0,
            "betas": [2.0, 3.0],
            "spin_reversal_transforms": 1,
            "out_of_range": "error",
        }
        assert (covariance, calibration) == (None, None)


def test_masked_positions_are_no_spins_of_a_qpu(qpu, folder):
    """Holes: another set of spins for each query. A mask that leaves all would be found out."""
    torch.manual_seed(0)
    query, key = torch.randn(2, 1, 2, 4, 3).unbind(0)
    J = (0.4 * torch.randn(2, 4, 4)).triu(1)
    J = J + J.mT
    mask = torch.rand(4, 4) < 0.7
    exactly = boltzmann_weights(query, key, J, attn_mask=mask)
    backend = backend_of(qpu, folder)
    found = boltzmann_weights(
        query, key, J, attn_mask=mask, backend=backend, num_reads=1000, estimator="moment"
    )
    backend.close()
    assert bool((found[..., ~mask] == 0).all())
    error = (exactly * (1 - exactly) / 1000).sqrt()[..., mask]
    deviation = ((found - exactly)[..., mask] / error).abs()
    assert deviation.max() < 5
    whole = boltzmann_weights(query, key, J)[..., mask]
    assert ((found[..., mask] - whole) / error).abs().max() > 5
