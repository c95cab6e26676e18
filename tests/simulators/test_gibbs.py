"""The backend gibbs: reads in equilibrium at its defaults, and a warning where they are not."""

import warnings

import pytest
import torch

from qattn import IsingBatch, SpinSamples, exact, get_backend
from qattn.chains import settle
from qattn.couplings import Banded, Cardinality
from qattn.quality import EquilibriumWarning
from qattn.simulators import GibbsBackend
from qattn.testing import BackendConformance

READS = 200


def problems(coupling_sd=0.3, *, uniform=0.0, groups=1, queries=64, n=12, seed=0, lengths=None):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(groups, queries, n, generator=generator)
    J = coupling_sd * torch.randn(groups, n, n, generator=generator).triu(1)
    J = (J + uniform).triu(1)
    return IsingBatch(h, J + J.mT, lengths)


def error_over_floor(spins, batch):
    """The rms error of ⟨s⟩ over that of as many independent reads, and its standard error."""
    m = exact.mean_spins(IsingBatch(batch.h.double(), batch.J.double(), batch.lengths))
    squares = (spins.double().mean(2) - m).square().sum(-1)
    floor = ((1 - m**2) * batch.active / spins.shape[2]).sum(-1)
    # Squared errors of problems are independent; those of one problem's spins are not.
    error = squares.std() * squares.numel() ** 0.5 / floor.sum()
    return float(squares.sum() / floor.sum()), float(error)


class TestConformance(BackendConformance):
    def make_backend(self):
        return GibbsBackend()


class TestConformanceOfANumberOfSweeps(BackendConformance):
    def make_backend(self):
        return GibbsBackend(num_sweeps=30)


class TestConformanceTempered(BackendConformance):
    """Everything is tempered."""

    @pytest.fixture(autouse=True)
    def at_once(self, monkeypatch):
        monkeypatch.setattr(settle, "PLAIN_SWEEPS", 1)
        monkeypatch.setattr(settle.Doubling, "record", self.record(settle.Doubling.record))

    @staticmethod
    def record(original):
        def record(self, test, *, progress=None):
            original(self, test, progress=1.0 if progress is None else progress)
            if progress is None:  # a plain test never passes
                self.passed, self.next_sweeps = False, 0

        return record

    def make_backend(self):
        return GibbsBackend()

    def test_it_was_tempered(self):
        assert self.sample(self.problems(), 40).info["tempered"] > 0


@pytest.mark.parametrize(
    "batch",
    [problems(0.3), problems(0, uniform=0.2), problems(0, uniform=-0.5), problems(1.0, seed=1)],
    ids=["sd 0.3", "ferromagnet", "antiferromagnet", "glass"],
)
def test_reads_are_in_equilibrium_at_the_defaults(batch):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        samples = GibbsBackend().sample(batch, num_reads=READS, seed=1)
    ratio, error = error_over_floor(samples.spins, batch)
    assert abs(ratio - 1) < 5 * error
    assert samples.info["in_equilibrium"]


def test_twenty_sweeps_are_not_enough_for_a_ferromagnet():
    """Negative control, and what is reported of a given number of sweeps."""
    batch = problems(0, uniform=0.2)
    samples = GibbsBackend(num_sweeps=20).sample(batch, num_reads=READS, seed=1)
    ratio, error = error_over_floor(samples.spins, batch)
    assert ratio - 1 > 5 * error
    assert samples.info["z2"] > 10
    assert samples.info["num_sweeps"] == 20


def test_a_glass_is_tempered_as_a_whole():
    samples = GibbsBackend().sample(problems(1.0, seed=1), num_reads=READS, seed=2)
    assert samples.info["tempered"] == 64
    assert samples.info["round_trips"] >= settle.ROUND_TRIPS


def test_few_slow_problems_are_tempered_by_themselves():
    h = torch.randn(40, 1, 8, generator=torch.Generator().manual_seed(0)) * 0.2
    J = torch.zeros(40, 8, 8)
    J[[7, 30]] = 1 - torch.eye(8)
    batch = IsingBatch(h, J)
    samples = GibbsBackend().sample(batch, num_reads=400, seed=1)
    assert samples.info["tempered"] == 2
    ratio, error = error_over_floor(samples.spins, batch)
    assert abs(ratio - 1) < 5 * error


def test_the_cap_gives_a_warning_that_names_the_problems():
    with pytest.warns(EquilibriumWarning, match=r"\(group, query\) \(0, .*raise max_sweeps"):
        samples = GibbsBackend(max_sweeps=5).sample(problems(1.0, seed=1), num_reads=READS, seed=0)
    assert samples.num_reads == READS  # what was computed is not lost
    assert not samples.info["in_equilibrium"]


def test_few_reads_and_empty_queries():
    batch = problems(queries=3, lengths=torch.tensor([12, 0, 5]))
    for num_reads in (1, 7, 33):
        samples = GibbsBackend().sample(batch, num_reads=num_reads, seed=3)
        assert samples.spins.shape == (1, 3, num_reads, 12)
        assert bool((samples.spins.ne(0) == batch.active.unsqueeze(2)).all())


def test_tempered_slices_of_different_lengths(monkeypatch):
    monkeypatch.setattr(settle, "SLICE_ELEMENTS", 1 << 19)
    lengths = torch.arange(20) % 9 + 4
    batch = problems(0, uniform=0.5, queries=20, lengths=lengths)
    samples = GibbsBackend().sample(batch, num_reads=READS, seed=4)
    assert samples.info["tempered"] == 20
    ratio, error = error_over_floor(samples.spins, batch)
    assert abs(ratio - 1) < 5 * error


class TestPersistent:
    def test_chains_go_on_where_they_were(self):
        """A ferromagnet, a sweep a call: together they are as good as all sweeps at once."""
        batch = problems(0, uniform=0.15)
        backend = GibbsBackend(num_sweeps=5, persistent=True)
        for seed in range(40):
            samples = backend.sample(batch, num_reads=READS, seed=seed)
        ratio, error = error_over_floor(samples.spins, batch)
        assert abs(ratio - 1) < 5 * error
        fresh = GibbsBackend(num_sweeps=5).sample(batch, num_reads=READS, seed=0)
        far, its_error = error_over_floor(fresh.spins, batch)
        assert far - 1 > 5 * its_error

    def test_layers_have_chains_of_their_own(self):
        """Two layers with other couplings take turns; neither starts from the other's chains."""
        one, two = (problems(0, uniform=u, seed=5) for u in (3.0, -3.0))
        backend = GibbsBackend(num_sweeps=1, persistent=True)
        for seed in range(4):
            for batch in (one, two):
                backend.sample(batch, num_reads=READS, seed=seed)
        kept = [(J, spins) for J, spins in backend._store._kept]
        assert [torch.equal(J, batch.J) for (J, _), batch in zip(kept, (one, two), strict=True)]
        assert len(kept) == 2

    def test_a_checkpoint_holds_them(self):
        batch = problems()
        first, second = (GibbsBackend(num_sweeps=2, persistent=True) for _ in range(2))
        first.sample(batch, num_reads=8, seed=0)
        second.load_state_dict(first.state_dict())
        after = [b.sample(batch, num_reads=8, seed=1).spins for b in (first, second)]
        assert torch.equal(*after)
        fresh = GibbsBackend(num_sweeps=2).sample(batch, num_reads=8, seed=1).spins
        assert not torch.equal(after[0], fresh)

    def test_it_needs_a_number_of_sweeps(self):
        with pytest.raises(ValueError, match="must be a number with `persistent`"):
            GibbsBackend(persistent=True)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"num_sweeps": 0}, "`num_sweeps` must be positive or 'auto', but is 0"),
        ({"max_sweeps": 0}, "`max_sweeps` must be positive, but is 0"),
    ],
)
def test_bad_numbers(options, message):
    with pytest.raises(ValueError, match=message):
        get_backend("gibbs", **options)


def test_samples_without_weights_alternate_between_the_starts():
    samples = GibbsBackend(num_sweeps=1).sample(
        IsingBatch(torch.zeros(1, 1, 8), 5 * (1 - torch.eye(8))[None]), num_reads=10, seed=0
    )
    assert isinstance(samples, SpinSamples)
    assert samples.spins[0, 0, :, 0].tolist() == [1, -1] * 5


def test_what_shares_the_couplings_of_a_slow_problem_is_tempered():
    large = torch.zeros(3, 20, dtype=torch.bool)
    large[1, 4] = True
    assert settle._with_their_like(large).sum(1).tolist() == [0, 20, 0]
    few = torch.zeros(40, 1, dtype=torch.bool)
    few[:2] = True
    assert settle._with_their_like(few).sum() == 2
    few[:5] = True  # more than a tenth
    assert settle._with_their_like(few).all()


def test_a_long_band_needs_no_matrix(monkeypatch):
    """n = 300, w = 3, at exact's noise; a matrix is never asked for."""
    generator = torch.Generator().manual_seed(0)
    h, J = torch.randn(1, 2, 300, generator=generator), torch.randn(1, 300, 3, generator=generator)
    batch = IsingBatch(0.5 * h, Banded(0.3 * J), torch.tensor([300, 170]))
    monkeypatch.setattr(Banded, "dense", None)
    samples = GibbsBackend().sample(batch, num_reads=400, seed=0)
    error = samples.mean_spins() - exact.mean_spins(batch)
    z = error / ((1 - exact.mean_spins(batch) ** 2) / 400).sqrt().clamp_min(1e-6)
    mean_square = float(z[batch.active].square().mean())
    # Neighbours are correlated over a few spins: about 470/3 independent squares.
    assert abs(mean_square - 1) < 5 * (2 / (470 / 3)) ** 0.5
    assert samples.info["in_equilibrium"]


def test_a_potential_that_is_no_matrix_is_refused():
    batch = IsingBatch(torch.zeros(1, 2, 5), Cardinality.subset(1, num_groups=1, num_spins=5))
    with pytest.raises(ValueError, match="take exact moments or exact reads"):
        GibbsBackend().sample(batch, num_reads=2)
