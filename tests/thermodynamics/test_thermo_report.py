"""Reports of curves: averages, heads together, peaks, and what is written."""

import io
import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from qattn import IsingBatch, exact
from qattn.compare import page
from qattn.problems import named, with_strength
from qattn.thermo_report import measure, thermo_of_problems, thermo_of_run, write_report
from qattn.thermo_report.measure import average, summed, with_working_point
from qattn.thermo_report.quantities import EXTENSIVE
from qattn.thermo_report.queries import LayerQueries
from qattn.thermo_report.table import table, table_rows
from qattn.thermodynamics import softmax_curves, thermodynamic_curves

BETAS = torch.linspace(0.2, 3, 15).double()


def rows_of(section):
    headings, *rows = table_rows(section)
    return {row[0]: dict(zip(headings, row, strict=True)) for row in rows}


def test_averages_of_free_spins_have_closed_forms():
    """Spins in fields of 1 and 2: Schottky's heat capacity, and quartiles between the two."""
    h = torch.tensor([[[1.0, 1.0]], [[2.0, 2.0]]]).double()
    batch = IsingBatch(h, torch.zeros(2, 2, 2).double())
    (free,) = thermo_of_problems({"free": batch}, BETAS).systems
    assert free.num_queries == 2
    assert free.sizes == (2, 2)
    x = np.array([[1.0], [2.0]]) * free.betas
    capacity = (x / np.cosh(x)) ** 2
    found = free.curves["heat_capacity"]
    assert np.allclose(found.mean, capacity.mean(0))
    assert np.allclose(found.low, np.quantile(capacity, 0.25, axis=0))
    assert np.allclose(found.high, np.quantile(capacity, 0.75, axis=0))
    assert not found.error.any()
    assert free.at_work["free_energy"] == pytest.approx(
        -np.log(2 * np.cosh([1.0, 2.0])).sum(), abs=1e-9
    )
    assert np.allclose(free.correlations.mean, 0, atol=1e-12)


def test_the_working_point_is_the_problems_own():
    batch = named("sk:spins=5,problems=3,field_sd=0.5", seed=2)
    for strength in (1.0, 2.0):
        (found,) = thermo_of_problems({"": with_strength(batch, strength)}, BETAS).systems
        log_Z = exact.log_partition(with_strength(batch, strength))
        assert found.at_work["free_energy"] == pytest.approx(-float(log_Z.mean()))
        assert 1.0 in found.betas
    assert not torch.allclose(log_Z, exact.log_partition(batch))


def test_heads_without_interaction_add():
    """F, U, S and C of two heads in one Ising model are the sums; of coupled ones they are not."""
    batch = named("sk:spins=4,problems=2,field_sd=1", seed=1)
    both = summed(thermodynamic_curves(batch, BETAS), 2)
    h = batch.h.flatten()[None, None]
    J = torch.block_diag(*batch.J)[None]
    J[0, 0, 4] = J[0, 4, 0] = cross = 0.0
    one = thermodynamic_curves(IsingBatch(h, J), BETAS)
    for name in ("num_spins", *EXTENSIVE):
        assert torch.allclose(getattr(both, name), getattr(one, name)), name
    J[0, 0, 4] = J[0, 4, 0] = cross + 1.0
    coupled = thermodynamic_curves(IsingBatch(h, J), BETAS)
    assert not torch.allclose(both.heat_capacity, coupled.heat_capacity, rtol=0.05)


def test_heads_of_softmax_add():
    scores = torch.randn(2, 3, 5, generator=torch.Generator().manual_seed(0)).double()
    both = summed(softmax_curves(scores, BETAS), 2)
    pairs = (scores[0, :, :, None] + scores[1, :, None]).flatten(1)  # every pair of positions
    one = softmax_curves(pairs, BETAS)
    for name in ("log_Z", *EXTENSIVE):
        assert torch.allclose(getattr(both, name)[0], getattr(one, name)), name


def test_errors_of_a_mean_and_undefined_values():
    values = torch.tensor([[1.0, math.nan], [3.0, 5.0]]).double()
    found = average(values, torch.tensor([[0.3, math.nan], [0.4, 0.2]]).double())
    assert found.mean.tolist() == [2.0, 5.0]
    assert np.allclose(found.error, [0.25, 0.2])
    assert found.to_dict()["high"] == [2.5, 5.0]


@pytest.mark.parametrize("betas", [[0.5, 1.0], [0.0, 1.0, 2.0], [0.5, 1.0, math.inf]])
def test_betas_that_make_no_curve(betas):
    with pytest.raises(ValueError, match="Argument `betas` must have three positive numbers"):
        with_working_point(torch.tensor(betas))


def test_the_working_point_is_there_once():
    rounded = torch.linspace(0.1, 3, 30)  # float32: its 1 is not quite one
    assert (with_working_point(rounded) == 1).sum() == 1
    assert len(with_working_point(rounded)) == 30
    assert with_working_point(torch.tensor([2.0, 3.0, 4.0])).tolist() == [1, 2, 3, 4]


def test_a_peak_at_the_edge_is_none():
    """The Schottky peak of a field of 1 lies at β = 1.1997: outside of ranges that end before."""
    batch = IsingBatch(torch.ones(1, 1, 2).double(), torch.zeros(1, 2, 2).double())
    within = thermo_of_problems({"free": batch}, torch.linspace(0.2, 2, 37).double())
    outside = thermo_of_problems({"free": batch}, torch.linspace(0.2, 1, 17).double())
    assert rows_of(within)["free"]["β_c (C)"] == "1.20 ± 0.00"
    assert rows_of(outside)["free"]["β_c (C)"] == "–"
    assert outside.systems[0].to_dict()["critical"]["heat_capacity"]["value"] is None


@pytest.fixture
def two_layers(monkeypatch):
    """A run of a layer with couplings and one of softmax, without a training."""
    generator = torch.Generator().manual_seed(3)
    scores = 2 * torch.randn(2, 6, 5, generator=generator).double()
    J = 0.4 * torch.randn(2, 5, 5, generator=generator).double().triu(1)
    batch = IsingBatch(scores / 2, J + J.mT)
    weights = exact.occupations(batch)
    layer = LayerQueries(scores, weights, batch, torch.arange(2))
    monkeypatch.setattr(measure, "queries_of_run", lambda *_, **__: [layer, layer])
    return layer


def test_regimes_and_the_control_without_couplings(two_layers, tmp_path):
    section = thermo_of_run(tmp_path, BETAS)
    assert [[s.name for s in row] for row in section.rows] == [["0.0", "0.1"], ["1.0", "1.1"]]
    for head, found in enumerate(section.rows[0]):
        assert sum(found.regimes.values()) == pytest.approx(1)
        sorted_weights = two_layers.weights[head].sort(-1, descending=True).values
        held = sorted_weights.cumsum(-1) / sorted_weights.sum(-1, keepdim=True)
        assert found.attended == pytest.approx(float((1 + (held < 0.9).sum(-1)).double().median()))
        C = exact.pair_correlations(two_layers.batch)[head]
        m = exact.mean_spins(two_layers.batch)[head]
        connected = (C - m[:, :, None] * m[:, None]).diagonal(1, 1, 2).mean()
        assert found.correlations.mean[0] == pytest.approx(float(connected))
    together, free = section.together[0], section.uncoupled[0]
    for name in EXTENSIVE:
        total = sum(s.at_work[name] for s in section.rows[0])
        assert together.at_work[name] == pytest.approx(total)
    F = -torch.log(2 * torch.cosh(two_layers.scores / 2)).sum(-1).mean()
    assert free.at_work["free_energy"] == pytest.approx(float(F))
    assert free.at_work["free_energy"] != pytest.approx(section.systems[0].at_work["free_energy"])


def test_softmax_heads_have_no_spins(two_layers, monkeypatch, tmp_path):
    softmax = replace(two_layers, batch=None, weights=two_layers.scores.softmax(-1))
    monkeypatch.setattr(measure, "queries_of_run", lambda *_, **__: [softmax])
    section = thermo_of_run(tmp_path, BETAS)
    assert section.uncoupled == []
    assert all(s.kind == "softmax" and s.correlations is None for s in section.systems)
    largest = softmax.weights.amax(-1).mean(-1).tolist()
    work = section.systems[0].betas.tolist().index(1.0)
    found = [s.curves["largest_weight"].mean[work] for s in section.systems]
    assert found == pytest.approx(largest)


def test_what_is_written(two_layers, monkeypatch, tmp_path):
    monkeypatch.setattr(page, "DPI", 30)
    sections = [
        thermo_of_problems({"sk": named("sk:spins=4,problems=3")}, BETAS),
        thermo_of_run(tmp_path, BETAS),
    ]
    paths = write_report(sections, tmp_path / "out", settings={"seed": 0}, command="qattn thermo")
    pictures = {"curves", "correlations"}
    expected = {f"1_{name}" for name in pictures}
    expected |= {f"2_{name}" for name in pictures | {"working_point", "regimes"}}
    suffixes = (".png", ".svg", ".pdf")
    names = {f"{name}{suffix}" for name in expected for suffix in suffixes}
    assert {path.name for path in paths} == names | {"thermo.json", "thermo.html"}
    assert all(path.is_file() for path in paths)
    data = json.loads(paths[0].read_text())
    assert len(data["sections"][1]["rows"]) == 2
    html = paths[-1].read_text()
    assert html.count("<img") == len(expected)
    assert "qattn thermo" in html
    assert "Grey dashes" in html


def test_the_terminal_table_fits(two_layers, tmp_path):
    from rich.console import Console

    console = Console(width=80, record=True, file=io.StringIO())
    console.print(table(thermo_of_run(tmp_path, BETAS)))
    lines = console.export_text().splitlines()
    (row,) = [line for line in lines if line.strip().startswith("0.1")]
    assert len(row.split()) == 10  # in one line: name, F, U, S, C, three peaks, k, shares
