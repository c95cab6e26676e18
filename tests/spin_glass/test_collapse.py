"""A sampler that has lost a part of the distribution is found out; a good one is not accused."""

import pytest
import torch
from _support.samplers import Constant, pushed

from qattn import IsingBatch, problems
from qattn.simulators.autoregressive import AutoregressiveNet, Plan
from qattn.spin_glass import judge, spin_glass, untrained
from qattn.spin_glass.judged import verdict_of
from qattn.thermodynamics.curves.jackknife import BLOCKS


def mean_field(problem, betas):
    """Independent spins, fitted by reverse KL from all spins up: its minimum by coordinates."""
    for beta in betas:
        h, J = beta * problem.h[0, 0], beta * problem.matrix[0]
        m = torch.full_like(h, 0.9)
        for _ in range(200):
            for j in range(len(m)):
                m[j] = torch.tanh(h[j] + J[j] @ m)
        yield AutoregressiveNet(Plan.dense(len(m)), [Constant(2 * torch.atanh(m).float())])


def glass(seed=0, **options):
    return problems.spin_glass(1, 12, seed=seed, **options)


def test_a_half_that_is_never_drawn_is_missed_by_forward_ess_alone():
    section = spin_glass("half", glass(), [0.5, 1.0], pushed(25.0), seed=1)
    for judged in section.ladders[0].judged:
        assert judged.verdict == "collapsed"
        assert abs(judged.lost - 0.5) < 5 * judged.lost_error < 0.1
        # Its own reads show nothing but ln 2, which takes a reference to be seen.
        assert judged.ess > 0.8
        assert judged.forward_ess < 1e-4
    (right, _), log_Z = (section.ladders[0].of("log_Z")[i] for i in (2, 0))
    assert float((right - log_Z[0]).abs()) == pytest.approx(0.693, abs=0.05)


def test_a_fit_by_reverse_kl_into_the_wrong_one_of_two_states_is_found_out():
    """A ferromagnet whose fields point down, and a product of spins that began up.

    Reverse KL is at a minimum there: nothing that the fit sees tells it from a good one.
    """
    n = 16
    J = 1.8 * (torch.ones(1, n, n) - torch.eye(n)).double() / n
    magnet = IsingBatch(torch.full((1, 1, n), -0.05).double(), J)
    (judged,) = spin_glass("magnet", magnet, [1.0], mean_field, seed=0).ladders[0].judged
    assert judged.ess > 0.3
    assert judged.verdict == "collapsed"
    # p of the states in which most spins are down, by far the most of it.
    assert judged.lost > 0.7


@pytest.mark.parametrize("seed", range(20))
def test_a_good_sampler_is_not_called_collapsed(seed):
    section = spin_glass("good", glass(seed, field_sd=0.2), [1.0], untrained(), seed=seed)
    (judged,) = section.ladders[0].judged
    assert judged.verdict == "usable with weights"
    assert abs(judged.lost) < 5 * judged.lost_error
    assert (
        abs(judged.ess - judged.forward_ess)
        < 5 * (judged.ess_error**2 + judged.forward_ess_error**2) ** 0.5
    )


def test_states_that_are_drawn_too_seldom_but_drawn_are_weighed_not_accused():
    """A push that weights make up for costs ESS, from both sides, and nothing else."""
    (judged,) = spin_glass("pushed", glass(), [1.0], pushed(2.0), seed=2).ladders[0].judged
    assert judged.verdict == "usable with weights"
    assert abs(judged.lost) < 5 * judged.lost_error
    assert judged.forward_ess < 0.75
    assert abs(judged.ess - judged.forward_ess) < 0.1


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9])
def test_the_lost_share_is_that_of_p_where_q_draws_nothing(share):
    """ln w of reads of q and of p known: log-normal weights on the part that q draws."""
    generator = torch.Generator().manual_seed(0)
    R, s = 100 * BLOCKS, 0.5
    of_q = s * torch.randn(R, generator=generator)
    # Of p they are shifted by s²; where q draws nothing w is huge.
    of_p = s * torch.randn(R, generator=generator) + s**2
    of_p[torch.rand(R, generator=generator) < share] += 40.0
    judged = judge(of_q, of_p, s**2 / 2 - torch.tensor(1 - share).log().item())
    assert judged.verdict == "collapsed"
    assert abs(judged.lost - share) < 5 * judged.lost_error < 0.2


@pytest.mark.slow
def test_of_3600_samplers_that_lost_nothing_none_is_called_collapsed():
    generator = torch.Generator().manual_seed(0)
    largest = 0.0
    for s in (0.3, 1.0, 1.3, 1.5, 1.7, 2.0):
        for _ in range(600):
            of_q, of_p = s * torch.randn(2, 87 * BLOCKS, generator=generator, dtype=torch.float64)
            judged = judge(of_q, of_p + s**2, s**2 / 2)
            assert judged.verdict != "collapsed"
            largest = max(largest, judged.lost / judged.lost_error)
    assert largest < 6.5


def test_verdicts():
    assert verdict_of(0.9, 0.9, 0.0, 0.01, 2000) == "usable with weights"
    assert verdict_of(0.01, 0.9, 0.0, 0.01, 2000) == "too few effective reads"
    assert verdict_of(0.9, 0.01, 0.04, 0.01, 2000) == "too few effective reads"
    assert verdict_of(0.9, 0.01, 0.08, 0.01, 2000) == "collapsed"
    assert verdict_of(0.9, 0.5, 0.08, 0.01, 2000) == "usable with weights"
