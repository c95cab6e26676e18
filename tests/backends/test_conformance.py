"""The conformance suite passes right backends and fails wrong ones."""

import math

import pytest
import torch
from dwave.samplers import SimulatedAnnealingSampler

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import Backend, DimodBackend, ExactBackend, RefinedBackend, as_dimod_sampler
from qattn.couplings import Couplings
from qattn.simulators.diabatic import DiabaticBackend
from qattn.simulators.neal import NealBackend
from qattn.simulators.qutip_backend import QutipBackend
from qattn.testing import BackendConformance


class TestExact(BackendConformance):
    def make_backend(self):
        return ExactBackend()


class TestNeal(BackendConformance):
    def make_backend(self):
        return NealBackend()


class TestNealAfterARamp(BackendConformance):
    def make_backend(self):
        return NealBackend(num_sweeps=15, ramp_sweeps=10)


class TestThereAndBackAgain(BackendConformance):
    """Exact reads through a dimod sampler, one BQM per query."""

    def make_backend(self):
        return DimodBackend(as_dimod_sampler(ExactBackend()), union=False)


class Coins(Backend):
    """Reads that know nothing of the problem."""

    def sample(self, batch, *, num_reads, seed=None):
        flat = IsingBatch(torch.zeros_like(batch.h), torch.zeros_like(batch.J), batch.lengths)
        return exact.sample(flat, num_reads, seed)


class TestRefinedCoins(BackendConformance):
    def make_backend(self):
        return RefinedBackend(Coins(), refine_sweeps=20)


class Wrong(Backend):
    """Exact reads of a batch that `distort` changed, and then changed themselves."""

    def __init__(self, distort=lambda batch: batch, spoil=lambda samples, num_reads: samples):
        self.distort, self.spoil = distort, spoil

    def sample(self, batch, *, num_reads, seed=None):
        return self.spoil(exact.sample(self.distort(batch), num_reads, seed), num_reads)


def rebuilt(batch, **changes):
    names = ("h", "J", "lengths", "beta")
    return IsingBatch(**({name: getattr(batch, name) for name in names} | changes))


class Structureless(Wrong):
    """Takes couplings with a structure, and then leaves them out."""

    takes_structure = True


def without_structure(batch):
    n = batch.num_spins
    structured = isinstance(batch.J, Couplings)
    return rebuilt(batch, J=batch.h.new_zeros(batch.num_groups, n, n)) if structured else batch


WRONG = {
    "structure ignored": Structureless(without_structure),
    "hotter": Wrong(lambda b: rebuilt(b, beta=0.7 * torch.as_tensor(b.beta))),
    "flipped J": Wrong(lambda b: rebuilt(b, J=-b.J)),
    "flipped h": Wrong(lambda b: rebuilt(b, h=-b.h)),
    "groups swapped": Wrong(lambda b: rebuilt(b, J=b.J.flip(0))),
    "beta ignored": Wrong(lambda b: rebuilt(b, beta=1.0)),
    "lengths ignored": Wrong(lambda b: rebuilt(b, lengths=None)),
    "one read short": Wrong(spoil=lambda s, _: SpinSamples(s.spins[:, :, 1:])),
    "weights do not sum": Wrong(
        spoil=lambda s, _: SpinSamples(s.spins, torch.full(s.spins.shape[:3], 0.5))
    ),
    "same reads for all queries": Wrong(
        spoil=lambda s, _: SpinSamples(s.spins[:1, :1].expand_as(s.spins).contiguous())
    ),
    "fixed reads": Wrong(spoil=lambda s, n: SpinSamples(s.spins[:, :, :1].expand_as(s.spins))),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_backend_fails(fault):
    class Suite(BackendConformance):
        def make_backend(self):
            return WRONG[fault]

    suite, failures = Suite(), []
    for name in dir(suite):
        if name.startswith("test_"):
            try:
                getattr(suite, name)()
            except AssertionError:
                failures.append(name)
    assert failures


def test_library_default_schedule_fails():
    class Suite(BackendConformance):
        def make_backend(self):
            return DimodBackend(SimulatedAnnealingSampler())

    with pytest.raises(AssertionError, match="standard errors beyond"):
        Suite().test_moments_agree_with_exact()


class TestDiabatic(BackendConformance):
    tolerance = 0.12  # first order in the problem's energy: a bias that reads do not average away

    def make_backend(self):
        return DiabaticBackend(warn_divergence=math.inf)


class TestDiabaticWithGhostSpin(TestDiabatic):
    def make_backend(self):
        return DiabaticBackend(field_encoding="ghost", warn_divergence=math.inf)


class TestQutip(TestDiabatic):
    def make_backend(self):
        return QutipBackend(warn_divergence=math.inf)
