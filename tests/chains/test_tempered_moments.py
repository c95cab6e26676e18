"""Moments and gradients of a long run, from exact reads in its place."""

import math

import torch
from scipy import stats

from qattn import exact
from qattn.problems import synthetic
from qattn.quality import reference_of
from qattn.quality.tempered.moments import Moments

SETS, SWEEPS = 16, 400


def test_moments_and_gradients_are_those_of_enumeration_within_their_errors():
    batch = synthetic(num_problems=20, num_spins=7, field_sd=0.5)
    right = reference_of(batch)
    moments = Moments(right.direction, SETS, kept_reads=500)
    reads = exact.sample(right.batch, SETS * SWEEPS, seed=1).spins[:, 0]
    for block in reads.unflatten(1, (SWEEPS, SETS)).permute(1, 0, 3, 2).split(40):
        moments.add(block)
    of_h, of_J = moments.gradients()
    below = torch.ones(7, 7).tril(-1).bool()
    t = stats.t(SETS - 1)
    for estimate, value, where in (
        (moments.mean(), right.mean, slice(None)),
        (moments.pairs(), right.pairs, below),
        (of_h, right.gradient_h, slice(None)),
        (of_J, right.gradient_J, below),
    ):
        z = ((estimate.value - value) / estimate.error)[:, where]
        assert float(z.abs().max()) < t.isf(stats.norm.sf(5) / 2)
        # 20 problems are independent, their spins are not.
        spread = z.square().mean(1) - t.var()
        assert abs(float(spread.mean())) < 5 * float(spread.std()) / math.sqrt(len(z))
    # About as many reads as were asked for, in the order in which they came.
    kept = moments.reads
    assert 500 <= kept.shape[1] <= 1000
    every = SWEEPS * SETS // kept.shape[1]
    assert (kept == reads.unflatten(1, (SWEEPS, SETS))[:, ::every].flatten(1, 2)).all()


def test_errors_hold_for_reads_that_are_correlated_in_time():
    batch = synthetic(num_problems=100, num_spins=3, field_sd=0.3)
    right = reference_of(batch)
    reads = exact.sample(right.batch, SETS * 50, seed=2).spins[:, 0]
    # Every read eight times in a row: as good as 50 a set.
    slow = reads.unflatten(1, (50, SETS)).permute(1, 0, 3, 2).repeat_interleave(8, 0)
    moments = Moments(right.direction, SETS, kept_reads=10)
    moments.add(slow)
    mean = moments.mean()
    z2 = ((mean.value - right.mean) / mean.error).square().mean(1)
    t = stats.t(SETS - 1)
    assert abs(float(z2.mean()) - t.var()) < 5 * float(z2.std()) / math.sqrt(100)
