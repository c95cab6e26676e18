"""The comparison's table and sentence, held against the judgements that they show."""

import io
import re
from dataclasses import replace

import pytest
from rich.console import Console

from qattn import exact
from qattn.compare import CompareSettings, compare, parse_samplers
from qattn.compare.results import SamplerResult, SetResult
from qattn.compare.table import COLUMNS, table, table_rows, with_error
from qattn.compare.verdict import verdict
from qattn.ising.batch import IsingBatch
from qattn.problems import named
from qattn.quality import judge, noise_floor, reference_of

SET = "synthetic:spins=5,problems=10"


@pytest.fixture(scope="module")
def one_set():
    settings = CompareSettings(num_reads=300, floor_repeats=3)
    specs = parse_samplers("exact,neal:default")
    return compare(specs, {SET: named(SET)}, settings).sets[0]


def test_each_column_shows_its_own_figure(one_set):
    rows = [dict(zip(COLUMNS, row, strict=True)) for row in table_rows(one_set)]
    figure_of = {
        "⟨s⟩ / floor": "mean_rms",
        "⟨ss⟩ / floor": "pair_rms",
        "TV / floor": "total_variation",
        "energy / floor": "energy_distance",
        "dL/dh / floor": "gradient_h",
        "dL/dJ / floor": "gradient_J",
    }
    assert [column for column in COLUMNS if column.endswith("/ floor")] == list(figure_of)
    for row, result in zip(rows[1:], one_set.results, strict=True):
        scores = result.quality.scores
        for column, name in figure_of.items():
            shown = row[column].split()[0]
            last_digit = 10.0 ** -len(shown.partition(".")[2])
            assert float(shown) == pytest.approx(scores[name].ratio, abs=0.51 * last_digit), column
        assert float(row["KL (nats)"].split()[0]) == pytest.approx(scores["kl"].value, rel=0.06)
        betas = result.quality.betas.values
        for column, beta in zip(("β_h", "β_J"), betas, strict=True):
            assert float(row[column].split()[0]) == pytest.approx(beta, abs=0.006), column
    # The figures of a wrong sampler differ, so that two columns cannot have changed places.
    ratios = [float(rows[2][column].split()[0]) for column in figure_of]
    assert len(set(ratios)) == len(ratios)


def test_errors_stand_beside_ratios_and_those_of_the_floor_are_students(one_set):
    floor, of_exact, _ = (dict(zip(COLUMNS, row, strict=True)) for row in table_rows(one_set))
    score = one_set.judged["exact"].scores["mean_rms"]
    assert of_exact["⟨s⟩ / floor"] == with_error(score.ratio, score.error)
    assert "±" in of_exact["⟨s⟩ / floor"]
    assert floor["⟨s⟩ / floor"] == with_error(1.0, score.spread())
    # Three repeats: t(2) = 4.30 instead of 1.96.
    assert score.spread() == pytest.approx(4.3027 * score.ratio_error, rel=1e-4)


def test_table_fits_80_columns_with_its_title(one_set):
    printed = io.StringIO()
    Console(file=printed, width=80).print(table(one_set))
    text = printed.getvalue()
    assert max(map(len, text.splitlines())) <= 80
    assert "10 problems of up to 5 spins, 300 reads each; reference: exact" in text
    assert f" {SET} " in text
    for row in table_rows(one_set)[1:]:
        assert row[1].split()[0] in text  # numbers are not broken over lines


def test_the_result_in_a_sentence(one_set):
    text = verdict(one_set)
    good, cold = text.split("; ")
    assert good == "exact at the floor"
    worth = one_set.judged["neal:default"].equivalent_reads
    assert cold.endswith(f"300 reads worth {worth:,.0f}")
    assert worth < 30


def test_a_figure_above_the_floor_is_named(one_set):
    """⟨s⟩ is at the floor, so that the sentence says nothing of the reads' worth."""
    result = one_set.results[0]
    far = replace(result.quality.scores["gradient_J"], ratio=3.0)
    quality = replace(result.quality, scores=result.quality.scores | {"gradient_J": far})
    others = [replace(result, quality=quality), *one_set.results[1:]]
    text = verdict(replace(one_set, results=others))
    assert text.startswith("exact above the floor in dL/dJ (3.00); neal:default ")


@pytest.mark.parametrize(
    ("factors", "words"),
    [
        ((1.25, 1.25), r"2\d% too cold"),
        ((0.8, 0.8), r"2\d% too hot|1\d% too hot"),
        ((1.0, 1.6), r"couplings [4-8]\d% too cold"),
    ],
)
def test_temperatures_in_words(factors, words):
    batch = named("synthetic:spins=5,problems=20")
    of_h, of_J = factors
    reads = exact.sample(IsingBatch(of_h * batch.h, of_J * batch.J), 1000, seed=1)
    reference = reference_of(batch)
    floor = noise_floor(reference, 1000, repeats=3)
    quality = judge(reads, batch, reference=reference, floor=floor)
    result = SetResult("", reference, floor, [SamplerResult("device", None, quality)], {})
    assert re.match(f"device {words}, 1,000 reads worth", verdict(result)), verdict(result)
