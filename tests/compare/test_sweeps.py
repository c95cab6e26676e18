"""Sweeps: what each point is judged against, and with which betas it was drawn."""

import pytest
import torch

from qattn.backends import get_backend
from qattn.compare import CompareSettings, compare, parse_samplers, sweeps
from qattn.problems import named
from qattn.quality import judge

SET = "synthetic:spins=4,problems=10"


def compared(samplers, **settings):
    options = {"num_reads": 400, "floor_repeats": 6} | settings
    return compare(parse_samplers(samplers), {SET: named(SET)}, CompareSettings(**options)).sets[0]


def test_each_strength_is_judged_against_problems_of_that_strength():
    """Exact reads are at the floor at any strength; against the original problems they are not."""
    (half,) = compared("exact", strengths=(0.5,)).sweeps["strength"]["exact"]
    for name in ("mean_rms", "pair_rms", "energy_distance"):
        score = half.quality.scores[name]
        # The spread is that of six repeats, whose own error is 30%.
        assert abs(score.ratio - 1) < 7 * score.ratio_error, name
    assert half.quality.betas.values == pytest.approx((1, 1), abs=0.3)
    # What exact reads at half the strength are, judged against the full one.
    original = compared("exact")
    reads = get_backend("exact").sample(named(SET + ",beta=0.5"), num_reads=400, seed=0)
    wrong = judge(reads, named(SET), reference=original.reference, floor=original.floor)
    assert wrong.scores["mean_rms"].ratio > 2


def test_betas_given_for_one_annealing_time_are_not_kept_at_another(monkeypatch):
    built = []

    class Watched(sweeps.SamplerSpec):
        def build(self):
            built.append(super().build())
            return built[-1]

    (spec,) = parse_samplers("diabatic:annealing_time=3,betas=20/30")
    watched = Watched(spec.name, spec.variant, spec.options)
    settings = CompareSettings(num_reads=20, floor_repeats=2, annealing_times=(2.0, 3.0))
    result = compare([watched], {SET: named(SET)}, settings).sets[0]
    given, other = built
    assert given.options.betas == (20.0, 30.0)
    assert other.options.annealing_time == 2.0
    assert other.options.betas is None
    # Its reads are those of theory's betas at that time, to the read.
    theory = get_backend("diabatic", annealing_time=2.0)
    expected = theory.sample(named(SET), num_reads=20, seed=0)
    drawn = other.sample(named(SET), num_reads=20, seed=0)
    assert torch.equal(drawn.spins, expected.spins)
    points = result.sweeps["annealing_time"][spec.label]
    assert [point.value for point in points] == [2.0, 3.0]
    # Divided by betas that are far too large, the problems come out far too hot at 3 ns alone.
    hot = [point.quality.betas.beta_J for point in points]
    assert hot[1] < 0.5 < hot[0]
