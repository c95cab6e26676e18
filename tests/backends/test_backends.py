"""The registry, the bridges to and from dimod, and refinement."""

import os
import subprocess
import sys
import textwrap
from typing import ClassVar

import dimod
import dimod.testing
import numpy as np
import pytest
import torch
from dimod.core.sampler import Sampler
from dwave.samplers import SimulatedAnnealingSampler
from hypothesis import given, settings
from hypothesis import strategies as st

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import (
    Backend,
    DimodBackend,
    ExactBackend,
    RefinedBackend,
    as_dimod_sampler,
    available_backends,
    get_backend,
    refine,
    register_backend,
    registry,
)
from qattn.ising.union_bqm import join_reads, slices, split_union
from qattn.simulators.neal import NealBackend
from qattn.testing import deviation_from_exact


def problems(groups=2, queries=3, spins=4, lengths=None, beta=1.0, seed=0):
    generator = torch.Generator().manual_seed(seed)
    h = torch.randn(groups, queries, spins, generator=generator, dtype=torch.float64)
    J = torch.randn(groups, spins, spins, generator=generator, dtype=torch.float64).triu(1)
    return IsingBatch(h, 0.5 * (J + J.mT), lengths, beta)


@pytest.fixture
def registered(monkeypatch):
    monkeypatch.setattr(registry, "_registered", {"exact": ExactBackend, "neal": NealBackend})


def subprocess_python(code, *paths):
    path = os.pathsep.join([*map(str, paths), *filter(None, sys.path)])
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", textwrap.dedent(code)],
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


# Registry


def test_get_backend_builds_with_options(registered):
    backend = get_backend("neal", num_sweeps=3)
    assert isinstance(backend, NealBackend)
    assert backend.options.num_sweeps == 3
    assert isinstance(get_backend("exact"), ExactBackend)


def test_unknown_backend_names_the_nearest(registered):
    with pytest.raises(ValueError, match=r"but is 'nael': did you mean 'neal'\?$"):
        get_backend("nael")
    with pytest.raises(ValueError, match=r"there are .*'exact', 'gibbs', 'neal'"):
        get_backend("xyzzy")


def test_unknown_option_names_the_valid_ones(registered):
    expected = (
        r"Backend 'neal' has no option 'sweeps': did you mean 'num_sweeps'\? "
        r"Its options are 'num_sweeps', 'max_sweeps', 'ramp_sweeps', 'refine_sweeps'\.$"
    )
    with pytest.raises(ValueError, match=expected):
        get_backend("neal", sweeps=3)


def test_registered_name_hides_an_installed_one(registered):
    register_backend("neal", ExactBackend)
    assert isinstance(get_backend("neal"), ExactBackend)


def test_register_backend_rejects_nonsense(registered):
    with pytest.raises(ValueError, match="`name` must not be empty"):
        register_backend("", ExactBackend)
    with pytest.raises(TypeError):
        register_backend("five", 5)


def test_backend_that_cannot_run_here_says_how_to_get_it(registered):
    class Absent(ExactBackend):
        requires: ClassVar = {"no_such_module": "no-such-package>=2", "torch": "torch"}

    register_backend("absent", Absent)
    (info,) = [info for info in available_backends() if info.name == "absent"]
    assert not info.available
    assert info.missing == "pip install 'no-such-package>=2'"
    with pytest.raises(ImportError, match="'absent' cannot run here: pip install 'no-such"):
        get_backend("absent")


def test_available_backends_describes_ours(registered):
    backends = {info.name: info for info in available_backends()}
    for name in ("exact", "neal"):
        assert backends[name].available
        assert backends[name].missing is None
        assert backends[name].description


THIRD_PARTY = """
    from qattn import exact
    from qattn.backends import Backend

    class CoinBackend(Backend):
        name = "thirdparty"
        description = "a test's own sampler"

        def __init__(self, *, flips=1):
            self.flips = flips

        def sample(self, batch, *, num_reads, seed=None):
            return exact.sample(batch, num_reads, seed)
"""


def test_third_party_distribution_is_found_and_trains_a_step(tmp_path):
    (tmp_path / "thirdparty_sampler.py").write_text(textwrap.dedent(THIRD_PARTY))
    info = tmp_path / "thirdparty_sampler-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: thirdparty-sampler\nVersion: 1.0\n"
    )
    (info / "entry_points.txt").write_text(
        "[qattn.backends]\nthirdparty = thirdparty_sampler:CoinBackend\n"
        "broken = no_such_module:Backend\n"
    )
    code = """
        import torch
        from qattn import IsingBatch
        from qattn.backends import available_backends, get_backend
        from qattn.estimators import mean_spins

        backends = {info.name: info for info in available_backends()}
        assert backends["thirdparty"].available
        assert backends["thirdparty"].description == "a test's own sampler"
        assert not backends["broken"].available and "no_such_module" in backends["broken"].missing

        h = torch.full((1, 2, 3), 0.1, requires_grad=True)
        J = torch.zeros(1, 3, 3, requires_grad=True)
        optimiser = torch.optim.SGD([h, J], lr=0.1)
        backend = get_backend("thirdparty", flips=2, refine_sweeps=1)
        loss = mean_spins(IsingBatch(h, J), backend, num_reads=50, seed=0).sum()
        loss.backward()
        optimiser.step()
        assert (h < 0.1).all() and J.abs().sum() > 0
        print("trained")
    """
    assert subprocess_python(code, tmp_path).strip() == "trained"


def test_import_is_light():
    code = """
        import sys
        import qattn, qattn.backends, qattn.estimators
        heavy = {"qutip", "dwave.system", "dwave.samplers", "matplotlib"} & set(sys.modules)
        assert not heavy, heavy
    """
    subprocess_python(code)


# Union BQMs


@settings(max_examples=30)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=8), st.integers(0, 9))
def test_slices_cover_all_problems_within_the_bound(lengths, max_spins):
    lengths = np.array(lengths)
    parts = list(slices(lengths, max_spins))
    covered = np.concatenate([np.arange(p.start, p.stop) for p in parts])
    assert covered.tolist() == list(range(len(lengths)))
    assert all(lengths[p].sum() <= max_spins or p.stop - p.start == 1 for p in parts)


@settings(max_examples=20)
@given(st.lists(st.integers(0, 4), min_size=3, max_size=3), st.integers(0, 99))
def test_union_bqm_equals_separate_bqms_and_splits_again(lengths, seed):
    batch = problems(lengths=torch.tensor(lengths), seed=seed)
    union, total = batch.to_union_bqm(), 2 * sum(lengths)
    rng = np.random.default_rng(seed)
    rows = rng.choice(np.array([-1, 1], dtype=np.int8), size=(5, total))
    labels = rng.permutation(total).tolist()  # a sampler may return its columns in any order
    sampleset = dimod.SampleSet.from_samples_bqm((rows, labels), union)
    spins, _ = split_union(sampleset, batch.num_active.ravel(), 4)
    np.testing.assert_array_equal(
        join_reads(spins, batch.num_active.ravel()), rows[:, np.argsort(labels)]
    )
    energies = batch.energies(torch.from_numpy(spins).unflatten(0, (2, 3)))
    np.testing.assert_allclose(energies.sum((0, 1)), sampleset.record.energy, atol=1e-12)
    for g, q in np.ndindex(2, 3):
        bqm = batch.to_bqms()[g * 3 + q]
        expected = bqm.energies((spins[g * 3 + q][:, : lengths[q]], range(lengths[q])))
        np.testing.assert_allclose(energies[g, q], expected, atol=1e-12)


def test_split_union_rejects_reads_of_another_problem():
    sampleset = dimod.SampleSet.from_samples([[1, -1]], "SPIN", energy=0)
    with pytest.raises(ValueError, match="variables 0 to 2 of the union BQM"):
        split_union(sampleset, np.array([3]), 3)


# dimod samplers as backends


class Aggregating(Sampler):
    """Exact reads that count equal ones, as a QPU in histogram mode does."""

    parameters: ClassVar = {"num_reads": [], "seed": []}
    properties: ClassVar = {}

    def sample(self, bqm, **kwargs):
        return as_dimod_sampler(ExactBackend()).sample(bqm, **kwargs).aggregate()


@pytest.mark.parametrize("union", [False, True])
def test_occurrences_become_weights(union):
    """5 sigma per moment, corrected for their number; dropping the weights fails."""
    batch = problems(lengths=torch.tensor([2, 4, 0]))
    backend = DimodBackend(Aggregating(), union=union, max_union_spins=8)
    samples = backend.sample(batch, num_reads=1000, seed=1)
    assert (samples.weights.sum(-1) == 1000).all()
    assert (samples.weights >= 0).all()
    sigmas, bound = deviation_from_exact(samples, batch)
    assert sigmas < bound
    if not union:
        assert samples.num_reads <= 16
        sigmas, bound = deviation_from_exact(SpinSamples(samples.spins), batch)
        assert sigmas > bound


def test_dimod_backend_passes_arguments():
    backend = DimodBackend(SimulatedAnnealingSampler(), num_sweeps=5, beta_range=[0.1, 1.0])
    batch = problems()
    first, again = (backend.sample(batch, num_reads=9, seed=3) for _ in range(2))
    assert first.weights is None
    assert torch.equal(first.spins, again.spins)


def test_dimod_backend_rejects_what_is_no_sampler():
    with pytest.raises(TypeError):
        DimodBackend("neal")


class Miscounting(Sampler):
    """Exact reads, and a number more (or fewer) than it is asked for."""

    parameters: ClassVar = {"num_reads": []}
    properties: ClassVar = {}

    def __init__(self, extra, relabel=lambda labels: labels):
        self.extra, self.relabel = extra, relabel

    def sample(self, bqm, num_reads):
        sampleset = as_dimod_sampler(ExactBackend()).sample(bqm, num_reads=num_reads)
        rows = np.resize(sampleset.record.sample, (num_reads + self.extra, len(bqm.variables)))
        labels = self.relabel(list(sampleset.variables))
        return dimod.SampleSet.from_samples((rows, labels), "SPIN", energy=0)


@pytest.mark.parametrize("extra", [-3, 4])
@pytest.mark.parametrize("lengths", [None, torch.tensor([2, 4, 0])])
def test_sampler_that_miscounts_is_noticed_and_its_reads_are_kept(extra, lengths):
    batch = problems(lengths=lengths)
    line = f"Miscounting returned {10 + extra} reads, but was asked for 10"
    with pytest.warns(UserWarning, match=line):
        samples = DimodBackend(Miscounting(extra)).sample(batch, num_reads=10, seed=0)
    present = torch.from_numpy(batch.num_active > 0)
    assert (samples.counts()[present] == 10 + extra).all()
    assert (samples.spins[:, 0, :, :2] != 0).all()


def test_sampler_without_reads_is_refused():
    with pytest.raises(ValueError, match="Miscounting returned no reads, but was asked for 10"):
        DimodBackend(Miscounting(-10)).sample(problems(), num_reads=10)
    shifted = Miscounting(0, relabel=lambda labels: [v + 1 for v in labels])
    with pytest.raises(ValueError, match="variables 0 to 23 of the union BQM"):
        DimodBackend(shifted).sample(problems(), num_reads=10)


def test_sampler_that_returns_its_variables_in_another_order():
    batch = problems()
    backend = DimodBackend(Miscounting(0, relabel=lambda labels: labels[::-1]))
    h = 20 * batch.h.sign()  # every read is the sign of the fields
    samples = backend.sample(IsingBatch(h, 0 * batch.J), num_reads=2)
    flipped = samples.spins.flatten(0, 1)[:, 0].flatten()
    assert torch.equal(flipped, h.sign().to(torch.int8).flatten().flip(0))


@pytest.mark.parametrize("sampler", [dimod.ExactSolver(), dimod.NullSampler()])
def test_solvers_that_take_no_number_of_reads_are_refused(sampler):
    with pytest.raises(ValueError, match=f"must take num_reads, but {type(sampler).__name__}"):
        DimodBackend(sampler)
    with pytest.raises(ValueError, match="must not fix num_reads"):
        DimodBackend(SimulatedAnnealingSampler(), num_reads=5)


# Backends as dimod samplers


def test_as_dimod_sampler_has_the_api():
    sampler = as_dimod_sampler(ExactBackend())
    dimod.testing.assert_sampler_api(sampler)
    for vartype in ("SPIN", "BINARY"):
        bqm = dimod.BinaryQuadraticModel({"a": 1.0, "b": -0.5}, {("a", "b"): 0.3}, 2.0, vartype)
        sampleset = sampler.sample(bqm, num_reads=20, seed=1)
        dimod.testing.assert_sampleset_energies(sampleset, bqm)
        assert len(sampleset) == 20
    assert len(sampler.sample(dimod.BinaryQuadraticModel("SPIN"), num_reads=3)) == 3
    with pytest.warns(dimod.exceptions.SamplerUnknownArgWarning):
        sampler.sample(bqm, annealing_time=5)
    with pytest.raises(ValueError, match="`num_reads` must be positive, but is 0"):
        sampler.sample(bqm, num_reads=0)


@pytest.mark.parametrize("beta", [1.0, 0.5])
def test_as_dimod_sampler_follows_dimod_signs(beta):
    """⟨s⟩ = -tanh(β·linear): 5 sigma of 4,000 reads, and the other sign is 50 away."""
    bqm = dimod.BinaryQuadraticModel({7: 1.0}, {}, 0.0, "SPIN")
    sampleset = as_dimod_sampler(ExactBackend()).sample(bqm, num_reads=4000, seed=2, beta=beta)
    mean = sampleset.record.sample.mean()
    expected = -np.tanh(beta)
    assert abs(mean - expected) < 5 * np.sqrt((1 - expected**2) / 4000)


def test_weights_become_occurrences():
    sampler = as_dimod_sampler(DimodBackend(Aggregating()))
    bqm = dimod.BinaryQuadraticModel({0: 0.3, 1: 0.1}, {(0, 1): 0.2}, 0.0, "SPIN")
    sampleset = sampler.sample(bqm, num_reads=100, seed=0)
    assert len(sampleset) <= 4
    assert sampleset.record.num_occurrences.sum() == 100


def test_weights_that_count_no_reads_are_refused():
    class Reweighted(ExactBackend):
        def sample(self, batch, *, num_reads, seed=None):
            samples = super().sample(batch, num_reads=num_reads, seed=seed)
            return SpinSamples(samples.spins, torch.full((1, 1, num_reads), 0.3))

    bqm = dimod.BinaryQuadraticModel({0: 0.3}, {}, 0.0, "SPIN")
    with pytest.raises(ValueError, match=r"whole numbers of occurrences, but .* 0\.3"):
        as_dimod_sampler(Reweighted()).sample(bqm, num_reads=3)


def test_samplers_take_beta_zero_and_refuse_negative_ones():
    sampler = as_dimod_sampler(ExactBackend())
    bqm = dimod.BinaryQuadraticModel({0: 30.0}, {}, 0.0, "SPIN")
    rows = sampler.sample(bqm, num_reads=1000, seed=0, beta=0.0).record.sample
    assert abs(rows.mean()) < 5 / 1000**0.5
    with pytest.raises(ValueError, match="`beta` must be finite and not negative, but is -1"):
        sampler.sample(bqm, num_reads=3, beta=-1.0)


# Refinement


class Up(Backend):
    """Every active spin +1."""

    def sample(self, batch, *, num_reads, seed=None):
        spins = batch.active.to(torch.int8).expand(batch.h.shape).unsqueeze(2)
        return SpinSamples(spins.expand(-1, -1, num_reads, -1).contiguous())


def test_refinement_reaches_the_target():
    """Moments at 5 sigma after 20 sweeps, and not after one (the negative control)."""
    batch = problems(lengths=torch.tensor([4, 2, 0]), beta=torch.tensor([0.5, 1.0]))
    for sweeps, right in ((1, False), (20, True)):
        backend = RefinedBackend(Up(), refine_sweeps=sweeps)
        samples = backend.sample(batch, num_reads=4000, seed=1)
        sigmas, bound = deviation_from_exact(samples, batch)
        assert (sigmas < bound) is right
        assert (samples.spins[:, 2] == 0).all()


def test_refinement_leaves_equilibrium_alone():
    batch = problems()
    samples = refine(exact.sample(batch, 4000, 1), batch, 1, seed=2)
    sigmas, bound = deviation_from_exact(samples, batch)
    assert sigmas < bound
    sigmas, bound = deviation_from_exact(samples, problems(beta=1.3))
    assert sigmas > bound


def test_refine_sweeps_is_an_option_of_every_backend(registered):
    batch = problems()
    plain, refined = (get_backend("exact", refine_sweeps=k) for k in (0, 2))
    assert isinstance(plain, ExactBackend)
    assert isinstance(refined, RefinedBackend)
    first, again = (refined.sample(batch, num_reads=5, seed=1).spins for _ in range(2))
    assert torch.equal(first, again)
    with pytest.raises(ValueError, match="`refine_sweeps` must not be negative, but is -1"):
        get_backend("exact", refine_sweeps=-1)


def test_a_refined_backend_is_as_careful_with_money():
    """Checkpoints of a paid backend are frequent, and a run goes on from its records."""
    resumed = []

    class Paid(Up):
        paid = True
        replaying = True

        def resume(self, *, buy_again=False):
            resumed.append(buy_again)

        def divide(self, rank, size):
            resumed.append((rank, size))

    backend = RefinedBackend(Paid(), refine_sweeps=1)
    backend.resume(buy_again=True)
    backend.divide(1, 2)
    assert backend.paid
    assert backend.replaying
    assert resumed == [True, (1, 2)]
    assert not RefinedBackend(Up(), refine_sweeps=1).paid


def test_reads_and_their_refinement_have_seeds_of_their_own():
    """One seed for both would correlate a PyTorch sampler's reads with the draws of the sweeps."""
    seeds = []

    class Noting(Up):
        def sample(self, batch, *, num_reads, seed=None):
            seeds.append(seed)
            return super().sample(batch, num_reads=num_reads, seed=seed)

    batch = problems()
    refined = RefinedBackend(Noting(), refine_sweeps=1).sample(batch, num_reads=50, seed=7)
    (inner,) = seeds
    assert inner not in (None, 7)
    unrefined = Up().sample(batch, num_reads=50)
    for seed in (inner, 7):
        assert not torch.equal(refined.spins, refine(unrefined, batch, 1, seed).spins)


def test_refine_rejects_bad_arguments():
    batch = problems()
    samples = exact.sample(batch, 3, 1)
    assert refine(samples, batch, 0) is samples
    with pytest.raises(ValueError, match="`num_sweeps` must not be negative, but is -2"):
        refine(samples, batch, -2)
    with pytest.raises(ValueError, match="`samples` must hold reads of shape"):
        refine(samples, problems(spins=3), 1)
