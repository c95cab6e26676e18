"""From draws of q to reads of p: weights, resampling, annealing, Metropolis, moves in tempering."""

import math

import pytest
import torch
from _support.annealing import problems
from _support.brute_force import all_states
from hypothesis import given
from hypothesis import strategies as st

from qattn import IsingBatch, SpinSamples, exact
from qattn.backends import ExactBackend
from qattn.chains import Tempering
from qattn.simulators import GibbsBackend
from qattn.simulators.autoregressive.sampling import (
    Draws,
    GlobalMoves,
    Sampler,
    anneal,
    metropolis,
    normalised,
    resampled,
)
from qattn.simulators.autoregressive.sampling.lost_states import least_ess
from qattn.simulators.autoregressive.sampling.pilot import candidates, choose, largest_eigenvalue
from qattn.simulators.autoregressive.sampling.sampler import as_groups
from qattn.simulators.autoregressive.settings import NetSettings
from qattn.testing import deviation_from_exact

PAIR = NetSettings(logit="pair", exact_width=0)
log_weights = st.lists(st.floats(-60, 60), min_size=1, max_size=40)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


@given(log_weights, st.floats(-1e3, 1e3))
def test_weights_sum_to_the_reads_exactly(values, shift):
    w = normalised(torch.tensor(values, dtype=torch.float64))
    assert float(w.sum()) == len(values)
    assert float(w.flip(0).cumsum(0)[-1]) == len(values)  # in any order
    assert bool((w >= 0).all())
    wanted = len(values) * torch.tensor(values, dtype=torch.float64).softmax(0)
    torch.testing.assert_close(w, wanted, atol=1e-12 * len(values), rtol=1e-12)
    shifted = normalised(torch.tensor(values, dtype=torch.float64) + shift)
    torch.testing.assert_close(shifted, w, atol=1e-9, rtol=1e-9)


@given(log_weights, st.integers(0, 100))
def test_reads_are_drawn_as_often_as_their_weights_say(values, seed):
    log_w = torch.tensor(values, dtype=torch.float64)
    share = len(values) * log_w.softmax(0)
    times = resampled(log_w, generator(seed)).bincount(minlength=len(values))
    assert bool((times >= (share - 1e-9).floor()).all())
    assert bool((times <= (share + 1e-9).ceil()).all())


def test_resampled_reads_are_exchangeable():
    """At every place each read is drawn with its share."""
    log_w = torch.tensor([0.1, 0.2, 0.3, 0.4]).log().expand(20000, 4)
    chosen = resampled(log_w, generator())
    for place in range(4):
        found = chosen[:, place].bincount(minlength=4) / 20000
        share = torch.tensor([0.1, 0.2, 0.3, 0.4])
        assert ((found - share).abs() < 5 * (share * (1 - share) / 20000).sqrt()).all()
    assert torch.corrcoef(chosen.double().T)[0, 1].abs() < 0.5  # random order, not sorted


def glass(n=5, *, copies=1):
    """A problem that the logit of pairs draws badly, in copies."""
    batch = problems(n, groups=1, queries=1, fields=0.3, couplings=1.0, seed=3)
    return IsingBatch(batch.h.repeat(copies, 1, 1), batch.matrix.repeat(copies, 1, 1))


def frequencies(spins, n):
    """Share of each state among reads."""
    number = ((spins.flatten(0, -2) > 0) * 2 ** torch.arange(n).flip(0)).sum(-1)
    return number.bincount(minlength=2**n) / len(number)


def sigmas_from_p(spins, batch, beta=1.0):
    """Chi-squared of state frequencies in standard deviations above its mean."""
    n = batch.num_spins
    states = all_states(n)
    p = (-beta * batch.energies(states[None, None].expand(*batch.h.shape[:2], -1, -1)))[0, 0]
    p, reads = p.softmax(0), spins[..., 0].numel()
    # Rare states together, as the statistic asks for some reads of each.
    rare = p * reads < 10
    pooled = torch.cat([p[~rare], p[rare].sum()[None]])
    found = frequencies(spins, n)
    seen = torch.cat([found[~rare], found[rare].sum()[None]])
    keep = pooled * reads > 0
    chi2 = float((reads * (seen - pooled).square() / pooled)[keep].sum())
    dof = int(keep.sum()) - 1
    return (chi2 - dof) / math.sqrt(2 * dof)


class Blind(Sampler):
    """What it says of ln q is wrong: all the same."""

    def draw(self, *args):
        return self._without(super().draw(*args))

    def log_q(self, *args):
        return self._without(super().log_q(*args))

    def _without(self, draws):
        return Draws(draws.spins, torch.zeros_like(draws.log_q), draws.energies)


@pytest.mark.parametrize("sampler", [Sampler, Blind])
def test_metropolis_leaves_p_as_it_is(sampler):
    """Reads of p are reads of p afterwards; without q in the ratio they are not."""
    batch = glass()
    reads = exact.sample(batch, 40000, seed=1).spins
    assert abs(sigmas_from_p(reads, batch)) < 5
    moved, accepted = metropolis(sampler(PAIR), batch, reads, 2, generator())
    assert 0.05 < float(accepted) < 0.95
    found = sigmas_from_p(moved, batch)
    assert abs(found) < 5 if sampler is Sampler else found > 10


def test_metropolis_moves_towards_p():
    batch = glass()
    reads = Sampler(PAIR).draw(batch, 20000, generator()).spins
    moved, _ = metropolis(Sampler(PAIR), batch, reads, 6, generator(1))
    assert sigmas_from_p(moved, batch) < 0.1 * sigmas_from_p(reads, batch)


@pytest.mark.parametrize("sampler", [Sampler, Blind])
def test_global_moves_leave_every_temperature_as_it_is(sampler):
    batch = glass()
    betas = torch.tensor([0.0, 0.4, 1.0])
    at_each = IsingBatch(batch.h.repeat(3, 1, 1), batch.matrix.repeat(3, 1, 1), beta=betas.double())
    spins = exact.sample(at_each, 40000, seed=1).spins.permute(1, 0, 2, 3).unsqueeze(0)
    moves = GlobalMoves(sampler(PAIR), batch)
    moved = moves(slice(0, 1), slice(0, 1), betas.view(1, 1, 3), spins, generator())
    found = [sigmas_from_p(moved[0, 0, k], batch, float(b)) for k, b in enumerate(betas)]
    assert abs(found[0]) < 5
    if sampler is Sampler:
        assert max(map(abs, found)) < 5
        assert 0.1 < moves.accepted / moves.proposed < 0.9
    else:
        assert min(found[1:]) > 10


@pytest.mark.parametrize("sampler", [Sampler, Blind])
def test_tempering_with_global_moves(sampler):
    """Many sets from one state: β = 1 has the distribution p, each query its own."""
    batch = problems(5, groups=2, queries=2, fields=0.4, couplings=0.8, dtype=torch.float32)
    starts = torch.ones(2, 2, 3000, 5, dtype=torch.int8)
    moves = GlobalMoves(sampler(PAIR), batch, every=1)
    tempering = Tempering(batch, starts, generator(), moves=moves)
    tempering.run(12)
    sigmas, bound = deviation_from_exact(SpinSamples(tempering.spins), batch)
    # A sweep before the moves hides most of what is wrong with them.
    assert sigmas < bound if sampler is Sampler else sigmas > 2 * bound


def test_gibbs_with_proposals():
    batch = problems(10, groups=1, queries=4, fields=0.3, couplings=1.2, seed=1)
    backend = GibbsBackend(proposals="autoregressive")
    samples = backend.sample(batch, num_reads=400, seed=0)
    assert samples.info["tempered"] == 4
    sigmas, bound = deviation_from_exact(samples, batch)
    assert sigmas < bound


def unbiased(sampler, batch, **options):
    """Mean of the Z of many small runs over Z, less 1, in standard errors."""
    settings = [PAIR] * batch.num_groups
    found = anneal(sampler, batch, 16, generator(), sweeps=1, settings=settings)
    log_Z = exact.log_partition(batch)[:, 0]
    ratio = (found.log_Z - log_Z).exp()
    return float((ratio.mean() - 1) / (ratio.std() / len(ratio) ** 0.5)), found


def test_annealed_Z_has_no_bias():
    found, run = unbiased(Sampler(PAIR), glass(8, copies=1500))
    assert abs(found) < 5
    assert run.temperatures > 2
    wrong, _ = unbiased(Blind(PAIR), glass(8, copies=1500))
    assert abs(wrong) > 20


def test_annealed_reads_are_of_p():
    batch = glass(8, copies=3)
    found = anneal(Sampler(PAIR), batch, 4000, generator(), sweeps=2, settings=[PAIR] * 3)
    samples = SpinSamples(found.spins, normalised(found.log_weights))
    sigmas, bound = deviation_from_exact(samples, batch)
    assert sigmas * float(found.ess.min()) ** 0.5 < bound
    log_Z = exact.log_partition(batch)[:, 0]
    # Errors from eight populations: Student's t with 7 degrees of freedom.
    assert ((found.log_Z - log_Z).abs() < 12 * found.log_Z_error).all()
    assert torch.allclose(found.energies, batch.energies(found.spins))


def test_few_reads_are_one_population():
    found = anneal(Sampler(PAIR), glass(6), 5, generator(), sweeps=1, settings=[PAIR])
    assert found.spins.shape == (1, 1, 5, 6)
    assert found.log_Z_error.isnan().all()


def test_lost_states_are_noticed():
    """TAP falls into a valley of a strong glass: its own reads say an ESS of 1."""
    batch = problems(16, groups=6, queries=3, fields=0.1, couplings=2.0, seed=2)
    sampler, settings = Sampler(NetSettings(logit="tap")), [NetSettings(logit="tap")] * 6
    draws = sampler.draw(batch, 500, generator(), settings)
    log_Z = draws.log_weights.logsumexp(-1) - math.log(500)
    lost = (log_Z - exact.log_partition(batch)).amin(1) < -0.3
    assert (draws.log_weights.var(-1)[lost].amin(1) < 0.1).any()  # q has a friendly face
    strength = largest_eigenvalue(batch, generator())
    least = least_ess(sampler, batch, strength, generator(), settings)
    assert lost.sum() == 5
    assert (least[lost] < 0.5).all()
    weak = problems(16, groups=2, queries=3, fields=0.1, couplings=0.2)
    strength = largest_eigenvalue(weak, generator())
    assert least_ess(sampler, weak, strength, generator(), settings[:2]).tolist() == [1.0, 1.0]


def test_the_largest_eigenvalue():
    batch = problems(20, groups=3, beta=1.5)
    found = largest_eigenvalue(batch, generator())
    wanted = torch.linalg.eigvalsh(1.5 * batch.matrix).abs().amax(1)
    assert ((found <= wanted) & (found > 0.9 * wanted)).all()


def test_the_pilot_takes_the_better_logit():
    """Of the groups that are no paramagnets; nothing is chosen where all is given."""
    sampler = Sampler(NetSettings())
    batch = problems(24, groups=3, queries=3, fields=0.3, couplings=0.5)
    strength = torch.tensor([0.9, 1.9, 2.1])
    *weak, strong = choose(sampler, batch, strength, 1000, generator())
    options = candidates(NetSettings())
    assert weak == [NetSettings(iterations=2), NetSettings(iterations=4)]
    variances = [
        sampler.draw(batch, 2000, generator(1), [option] * 3).log_weights.var(-1).mean(-1)[2]
        for option in options
    ]
    assert variances[options.index(strong)] < 1.3 * min(variances)
    assert choose(sampler, batch, strength, 10, generator()) == [*weak, options[0]]
    fixed = NetSettings(iterations=2)
    assert choose(Sampler(fixed), batch, strength, 1000, generator()) == [fixed] * 3


def test_weak_couplings_need_few_steps():
    """More of them give no more effective reads."""
    batch = problems(24, groups=20, queries=1, couplings=0.5 / 24**0.5)
    few, many = (
        Sampler(NetSettings(iterations=steps)).draw(batch, 1000, generator()) for steps in (2, 6)
    )
    spread = [draws.log_weights.var(-1).mean() for draws in (few, many)]
    assert spread[0] < 1e-3 + spread[1]
    assert candidates(PAIR) == [PAIR]


def test_problems_as_groups():
    lengths = torch.tensor([[3, 5, 0], [5, 1, 2]])
    batch = problems(5, groups=2, queries=3, lengths=lengths, beta=torch.tensor([1.0, 2.0]))
    part = as_groups(batch, torch.tensor([[0, 1], [1, 2]]))
    assert part.lengths.tolist() == [[5], [2]]
    wanted = exact.mean_spins(batch)
    found = exact.mean_spins(part)[:, 0]
    assert torch.equal(found, torch.stack([wanted[0, 1], wanted[1, 2]]))
    assert ExactBackend().sample(part, num_reads=2, seed=0).spins.shape == (2, 1, 2, 5)
