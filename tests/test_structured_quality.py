"""Reads of couplings with a structure are judged exactly, at any length."""

import pytest
import torch
from _support.peak_memory import PeakMemory
from _support.structures import STRUCTURES, structured_batch

from qattn import IsingBatch, exact, quality
from qattn.backends import parse_samplers
from qattn.compare import CompareSettings, compare
from qattn.compare.table import table
from qattn.couplings import Cardinality, LowRank
from qattn.problems import banded, named
from qattn.quality import drawn_reference

FIGURES = ("mean_rms", "pair_rms", "energy_distance", "gradient_h", "gradient_J")


@pytest.fixture(autouse=True)
def few_reads(monkeypatch):
    monkeypatch.setattr(drawn_reference, "ENERGY_READS", 5_000)
    monkeypatch.setattr(drawn_reference, "POOL_READS", 5_000)


@pytest.mark.parametrize("name", [name for name in STRUCTURES if name != "potential"])
def test_equals_enumeration_of_the_matrix(name):
    batch = structured_batch(name, 9, seed=2)
    found = quality.reference_of(batch, exact_spins=4)
    expected = quality.reference_of(batch.dense())
    assert found.is_exact
    assert (found.kind, expected.kind) == (drawn_reference.STRUCTURED[batch.J.kind], "enumeration")
    assert quality.reference_of(batch).kind == "enumeration"
    known = found.known_pairs
    assert bool((known <= expected.known_pairs).all())
    pairs = [(found.mean, expected.mean), (found.pairs[known], expected.pairs[known])]
    pairs += [(found.gradient_h, expected.gradient_h)]
    if batch.J.kind != "cardinality":  # whose matrix comes with fields, and with another energy
        pairs += [(found.log_Z, expected.log_Z), (found.mean_energy, expected.mean_energy)]
    if batch.J.kind == "banded":
        width = batch.J.width
        of_band = [2 * expected.gradient_J.diagonal(-d, 1, 2) for d in range(1, width + 1)]
        pairs += [(found.gradient_J[:, d:, d - 1], x) for d, x in enumerate(of_band, 1)]
    for value, wanted in pairs:
        torch.testing.assert_close(value, wanted, rtol=1e-9, atol=1e-10)


def normal(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(shape, generator=generator, dtype=torch.float64)


LONG = {
    "band, 64": lambda: banded(4, 64, width=4),
    "band, 256": lambda: banded(2, 256, width=4),
    "product, 64": lambda: IsingBatch(normal(4, 1, 64), LowRank(0.12 * normal(4, 64, seed=1))),
    "potential, 64": lambda: IsingBatch(
        normal(4, 1, 64) - 1, Cardinality(2 * normal(4, 17, seed=1), 64)
    ),
}


@pytest.mark.parametrize("name", LONG)
def test_exact_reads_are_at_the_floor(name):
    """Every figure within 5 sigma (Student's t, 11 degrees of freedom); hotter reads beyond."""
    batch = LONG[name]()
    reference = quality.reference_of(batch)
    assert reference.is_exact
    floor = quality.noise_floor(reference, 300, repeats=12, seed=1)
    hot = IsingBatch(batch.h, batch.J, beta=0.6)
    for sampled, right in ((batch, True), (hot, False)):
        reads = exact.sample(sampled, 300, seed=2)
        judged = quality.judge(reads, batch, reference=reference, floor=floor)
        for figure in FIGURES:
            score = judged.scores[figure]
            # The quantile of t that a normal 5 sigma corresponds to.
            assert (abs(score.ratio - 1) < 9.2 * score.ratio_error) is right, figure


def test_temperatures_of_a_band_are_fitted():
    batch = banded(20, 30, width=2)
    reads = exact.sample(IsingBatch(batch.h, batch.J, beta=0.8), 200, seed=1)
    judged = quality.judge(reads, batch)
    for low, high in judged.betas.interval(0.9999):
        assert low < 0.8 < high < 1


def test_samplers_are_compared_on_bands():
    problems = named("banded:n=40,width=3,problems=3,seed=1")
    assert problems.J.values.shape == (3, 40, 3)
    settings = CompareSettings(num_reads=200, floor_repeats=3, refine_sweeps=1)
    (result,) = compare(parse_samplers("exact,gibbs,neal"), {"bands": problems}, settings).sets
    assert set(result.judged) == {
        *("exact", "gibbs", "neal", "gibbs + 1 sweeps", "neal + 1 sweeps"),
    }
    assert "transfer matrices" in str(table(result).title)
    for judged in result.judged.values():
        assert judged.scores["mean_rms"].ratio < 1.5


def test_reads_of_the_reference_are_never_all_floats(monkeypatch):
    """At long lengths the 100,000 reads of a problem would take gigabytes in float64."""
    batch, reads = banded(1, 128, width=2), 20_000
    monkeypatch.setattr(drawn_reference, "ENERGY_READS", reads)
    monkeypatch.setattr(drawn_reference, "ENERGY_SPINS", 1 << 14)
    with PeakMemory() as memory:
        quality.reference_of(batch)
    assert memory.peak < 8 * reads * 128


def test_a_width_below_zero_is_refused():
    with pytest.raises(ValueError, match="`width` must not be negative"):
        banded(width=-1)
