"""`qattn thermo`: from the command line to its folder."""

import json

import pytest
from _support.command_line import run
from _support.trainings import EVERY, SMALL

from qattn.cli.thermo import parsed_betas
from qattn.compare import page
from qattn.training import TrainConfig, train

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(page, "DPI", 30)
    monkeypatch.setattr(page, "FORMATS", ("png",))


def test_problems_from_exact_values_and_from_reads(monkeypatch, capsys, tmp_path):
    """Within five of its standard errors, reads have the exact F; and not that of another β."""
    found = {}
    for sampler in ("", "exact"):
        options = ["--sampler", sampler, "--num-reads", 400] if sampler else []
        out = tmp_path / f"out{sampler}"
        arguments = ["--problems", "sk:spins=4,problems=2", "--betas", "0.5:2:4", "--json"]
        status, printed, _ = run(monkeypatch, capsys, "thermo", *arguments, *options, "--out", out)
        assert status == 0
        assert json.loads(printed) == json.loads((out / "thermo.json").read_text())
        assert {path.suffix for path in out.iterdir()} == {".json", ".html", ".png"}
        found[sampler] = json.loads(printed)["sections"][0]["rows"][0][0]
    assert found[""]["method"] == "enumeration"
    assert "MBAR" in found["exact"]["method"]
    error = found["exact"]["curves"]["heat_capacity"]["error"]
    means = [found[s]["curves"]["heat_capacity"]["mean"] for s in found]
    for place, (one, other) in enumerate(zip(*means, strict=True)):
        assert abs(one - other) < 5 * error[place]
    assert abs(means[0][0] - means[1][-1]) > 5 * error[0]


def test_a_run_beside_problems(monkeypatch, capsys, tmp_path):
    settings = SMALL | EVERY | {"task": "brackets", "steps": 2}
    train(TrainConfig(**settings), tmp_path / "run", quiet=True)
    status, printed, _ = run(
        monkeypatch, capsys, "thermo", "--problems", "ring:spins=4,problems=2", "--run",
        tmp_path / "run", "--problems", f"run:{tmp_path / 'run'}", "--betas", "0.5,1,2",
        "--sequences", 2, "--positions", 2, "--out", tmp_path / "out",
    )  # fmt: skip
    assert status == 0
    sections = json.loads((tmp_path / "out/thermo.json").read_text())["sections"]
    assert len(sections) == 2  # the run that is named twice is there once
    assert sections[1]["rows"][0][1]["num_queries"] == 4
    assert "0, all" in printed


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--betas", "1:2"], "Argument `betas` must be FIRST:LAST:NUMBER"),
        (["--betas", "1:2:3:lin"], "Argument `betas` must be FIRST:LAST:NUMBER"),
        (["--betas", "-1:2:3:log"], "Argument `betas` must"),
        (["--betas", "1,2"], "three positive numbers"),
        (["--problems", "run:no/where"], "no/where"),
        (["--problems", "run:no/where,problems=3"], "takes no options"),
        (["--problems", "sk:spins=40,problems=1"], "gibbs"),
        (["--sampler", "no-such"], "no-such"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    out = tmp_path / "out"
    status, _, error = run(monkeypatch, capsys, "thermo", *arguments, "--out", out)
    assert status == 1
    assert message in error
    assert not out.exists()


def test_an_old_folder_is_kept(monkeypatch, capsys, tmp_path):
    status, _, error = run(monkeypatch, capsys, "thermo", "--out", tmp_path)
    assert status == 1
    assert "choose another --out" in error


def test_betas():
    assert parsed_betas("2").tolist() == [2.0]
    assert parsed_betas("0.1:3:30").tolist()[9] == pytest.approx(1)
