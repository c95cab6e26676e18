"""The comparison's table and sentence, held against the judgements that they show."""

import pytest

from qattn.compare import CompareSettings, compare, parse_samplers
from qattn.compare.table import COLUMNS, table_rows
from qattn.problems import named

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
            shown = float(row[column].split()[0])
            assert shown == pytest.approx(scores[name].ratio, rel=0.006), column
        assert float(row["KL (nats)"].split()[0]) == pytest.approx(scores["kl"].value, rel=0.06)
        betas = result.quality.betas.values
        for column, beta in zip(("β_h", "β_J"), betas, strict=True):
            assert float(row[column].split()[0]) == pytest.approx(beta, abs=0.006), column
    # The figures of a wrong sampler differ, so that two columns cannot have changed places.
    ratios = [float(rows[2][column].split()[0]) for column in figure_of]
    assert len(set(ratios)) == len(ratios)
