"""`qattn spin-glass`: from the command line to its folder."""

import json

import pytest
from _support.command_line import run
from _support.samplers import a_checkpoint, pushed

from qattn import problems
from qattn.compare import page
from qattn.spin_glass import spin_glass, untrained, write_report
from qattn.spin_glass.measure import split
from qattn.spin_glass.table import table_rows

pytestmark = pytest.mark.usefixtures("as_users_call")


@pytest.fixture(autouse=True)
def small_pictures(monkeypatch):
    monkeypatch.setattr(page, "DPI", 30)
    monkeypatch.setattr(page, "FORMATS", ("png",))


def test_a_ladder_from_the_command_line(monkeypatch, capsys, tmp_path):
    arguments = ["--problems", "sk:spins=8,problems=2", "--problems", "ea:size=3,problems=1"]
    arguments += ["--betas", "0.5:1.5:3", "--overlap-betas", "0.6", "--num-reads", 300]
    out = tmp_path / "out"
    status, printed, _ = run(
        monkeypatch, capsys, "spin-glass", *arguments, "--logit", "pair", "--out", out, "--json"
    )
    assert status == 0
    assert json.loads(printed) == json.loads((out / "spin-glass.json").read_text())
    assert {path.suffix for path in out.iterdir()} == {".json", ".html", ".png"}
    glass, lattice = json.loads(printed)["sections"]
    assert glass["betas"] == [0.5, 1.0, 1.5]
    assert "untrained" in glass["sampler"]
    assert "pair" in glass["sampler"]
    assert [len(section["problems"]) for section in (glass, lattice)] == [2, 1]
    problem = glass["problems"][0]
    assert problem["reference"] == "enumeration"
    assert [one["beta"] for one in problem["overlaps"]] == [0.5]
    free = problem["quantities"]["free_energy"]
    for value, error, exactly in zip(
        free["sampler"], free["sampler_error"], free["reference"], strict=True
    ):
        assert abs(value - exactly) < 5 * error + 1e-5
    html = (out / "spin-glass.html").read_text()
    assert "usable" in html
    assert "<strong>Collapsed</strong>" not in html
    assert html.count("<img") == 8


def test_the_table_fits_a_terminal(monkeypatch, capsys, tmp_path):
    monkeypatch.setenv("COLUMNS", "80")
    arguments = ["--problems", "sk:spins=12,problems=2", "--betas", "0.5,4", "--num-reads", 300]
    arguments += ["--logit", "pair", "--exact-width", 0, "--out", tmp_path / "out"]
    status, printed, _ = run(monkeypatch, capsys, "spin-glass", *arguments)
    assert status == 0
    assert "2 usable" in printed
    assert "too few" in printed
    assert max(map(len, printed.splitlines()[:-2])) <= 80


def test_a_collapsed_sampler_is_the_first_thing_that_a_page_says(tmp_path):
    section = spin_glass("half", problems.spin_glass(1, 8), [0.5, 1.0], pushed(25.0))
    paths = write_report([section], tmp_path, settings={"seed": 0}, command="made by hand")
    html = paths[-1].read_text()
    assert "<strong>Collapsed</strong> at β = 0.5, 1" in html
    assert html.index("<strong>Collapsed") < html.index("<table>")
    assert [row[-1] for row in table_rows(section)] == ["collapsed", "collapsed"]
    found = json.loads(paths[0].read_text())["sections"][0]["problems"][0]["judged"]
    assert [one["verdict"] for one in found] == ["collapsed", "collapsed"]


def test_more_problems_than_are_drawn(tmp_path):
    section = spin_glass("many", problems.spin_glass(6, 4), [1.0], untrained(), num_reads=300)
    html = write_report([section], tmp_path)[-1].read_text()
    assert "The first 4 problems." in html
    assert section.verdicts(0) == {"usable with weights": 6}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--betas", "2:1:3"], "must ascend"),
        (["--num-reads", "10"], "at least 230"),
        (["--problems", "nonsense"], "must start with one of"),
        (["--logit", "nonsense"], "nonsense"),
    ],
)
def test_what_cannot_be_is_one_line(monkeypatch, capsys, tmp_path, arguments, message):
    out = tmp_path / "out"
    status, _, error = run(monkeypatch, capsys, "spin-glass", *arguments, "--out", out)
    assert status != 0
    assert message in error
    assert not out.exists()


def test_what_is_done_is_kept_when_the_rest_fails(monkeypatch, capsys, tmp_path):
    folder = a_checkpoint(tmp_path / "run", split(problems.spin_glass(1, 8)), 1.0, 1.0)
    sets = ["--problems", "sk:spins=8,problems=1", "--problems", "sk:spins=8,problems=1,seed=5"]
    arguments = [*sets, "--betas", "1", "--num-reads", 300, "--checkpoint", folder]
    out = tmp_path / "out"
    status, _, error = run(monkeypatch, capsys, "spin-glass", *arguments, "--out", out)
    assert status == 1
    assert "fitted to others" in error
    (section,) = json.loads((out / "spin-glass.json").read_text())["sections"]
    assert section["name"] == "sk:spins=8,problems=1"
    assert (out / "spin-glass.html").is_file()


def test_an_old_folder_is_kept(monkeypatch, capsys, tmp_path):
    status, _, error = run(monkeypatch, capsys, "spin-glass", "--out", tmp_path)
    assert status == 1
    assert "choose another --out" in error
