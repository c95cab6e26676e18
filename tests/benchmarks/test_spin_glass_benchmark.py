"""The benchmark of spin glasses from its command line, on problems that are tiny."""

import json

import pytest
import spin_glass
import spin_glass_table
import torch
from spin_glass_figures import Problem, cumulative_overlaps, figures
from spin_glass_peers import OfNet, chains

from qattn.simulators.autoregressive import Models
from qattn.simulators.autoregressive.build import build_net
from qattn.simulators.autoregressive.settings import NetSettings

TINY = "--seconds 0.1 --instances 1 --reads 300 --chain-reads 100 --reads-a-step 16"


def run(file, *arguments):
    spin_glass.main([*arguments, *TINY.split(), "--json", str(file)])
    return json.loads(file.read_text())


def test_a_run_and_its_table(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(chains, "FIRST_SWEEPS", 128)
    file = tmp_path / "results.json"
    nets = ["auto", "fitted", "made", "pixelcnn-cached:2:3:1", "tempering", "gibbs"]
    given = ["--problems", "sk:14:1", "ea:3:0.5", "--nets", *nets, "--optimisers"]
    rows = run(file, *given, "1e-3:1", "5e-3:10")
    assert len(rows) == (5 + 2) + (4 + 2 * 2)
    left_out = capsys.readouterr().err
    assert "left out, PixelCNN needs a square lattice" in left_out
    assert "all spins are drawn exactly" in left_out
    # What is finished is not run again.
    assert run(file, *given, "1e-3:1") == rows
    assert capsys.readouterr().err.count("left out") == 2
    page = tmp_path / "page.md"
    page.write_text("\n".join(["before", *spin_glass_table.MARKERS, "after"]))
    spin_glass_table.main([str(file), "--into", str(page)])
    text = page.read_text()
    assert text.startswith("before")
    assert text.endswith("after")
    assert capsys.readouterr().out.strip() in text
    spin_glass_table.main([str(file), "--into", str(page)])
    assert page.read_text() == text
    assert "| tempering |" in text
    assert "`ea:3:0.5`, 1 instance, against enumeration:" in text


def test_unknown_names_are_refused(tmp_path):
    with pytest.raises(SystemExit, match="names no net: 'mode'"):
        run(tmp_path / "x.json", "--nets", "mode")


def test_figures_of_a_net_that_is_exact():
    """Two spins: the logit without later correlations is exact."""
    problem = Problem("sk:2:1", 0, reads_of_p=500)
    net = build_net(NetSettings(logit="pair"), problem.batch)
    found = figures(OfNet(net, Models.arranged(problem.batch, net.plan)), problem, 500, 0)
    for name in ("F_q", "F_IS", "KL", "KL_forward"):
        assert abs(found[name]) < 1e-6, name
    assert abs(found["ESS"] - 1) < 1e-6
    assert abs(found["forward_ESS"] - 1) < 1e-6


def test_overlaps_of_weighted_reads():
    """Weights count for what they are: a read twice is the read with weight 2."""
    spins = torch.tensor([[1, 1], [1, 1], [-1, 1], [1, -1]], dtype=torch.int8)
    # |q| is 1 for equal or opposite reads, else 0; neighbours 1, 2, 3, … behind.
    assert cumulative_overlaps(spins).tolist() == pytest.approx([8 / 12, 1])
    assert cumulative_overlaps(spins, torch.tensor([1.0, 0, 0, 1]).double()).tolist() == [1, 1]


def test_break_even():
    rows = [{"seed": 0, "training_seconds": 10.0, "seconds_a_read_over_ESS": 1e-4}]
    assert spin_glass_table.break_even(rows, {0: {"seconds": 3e-4}}) == "5.0e4"
    assert spin_glass_table.break_even(rows, {0: {"seconds": 0.5e-4}}) == "never"
    assert spin_glass_table.break_even(rows, {}) == "–"


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.000"),
        (0.00123, "1.2e-3"),
        (-0.0123, "-0.012"),
        (0.9987, "0.999"),
        (1.234, "1.23"),
        (12345, "1.2e4"),
    ],
)
def test_numbers(value, text):
    assert spin_glass_table.number(value) == text
