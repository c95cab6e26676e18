"""``qattn compare``: samplers side by side, and the report."""

import base64
import json
import re
from datetime import UTC, datetime, timedelta

import pytest
import torch
import typer
from typer.testing import CliRunner

from qattn import exact, quality, register_backend
from qattn.backends import Backend, registry
from qattn.cli.compare import compare as command
from qattn.compare import CompareSettings, compare, page, parse_samplers
from qattn.compare import bench as bench_module
from qattn.compare.report import reference_noise, write_report
from qattn.compare.table import COLUMNS, table, table_rows
from qattn.ising.batch import IsingBatch
from qattn.ising.samples import SpinSamples
from qattn.problems import named

SET = "synthetic:spins=5,problems=10"


class EmulatedDevice(Backend):
    """Exact reads, in histogram form, that say they come from an emulated QPU."""

    name = "test_device"
    description = "for tests"

    def sample(self, batch, *, num_reads, seed=None):
        samples = exact.sample(batch, num_reads, seed)
        weights = torch.ones(samples.spins.shape[:3], dtype=torch.float64)
        info = {
            "solver": "emulated_zephyr",
            "emulated": True,
            "qpu_access_seconds": 0.25,
            "calibration_age_hours": 3.5,
            "betas": (10.0, 11.0),
            "break_rates": torch.zeros(3),
        }
        return SpinSamples(samples.spins, weights, info)


class Failing(Backend):
    """A sampler that stops."""

    name = "test_failing"
    description = "for tests"

    def __init__(self, *, at_opening: bool = False) -> None:
        self.at_opening = at_opening

    def open(self, folder=None):
        if self.at_opening:
            raise RuntimeError("no device")

    def sample(self, batch, *, num_reads, seed=None):
        raise MemoryError("too large")


@pytest.fixture(autouse=True)
def backends(monkeypatch):
    monkeypatch.setattr(registry, "_registered", dict(registry._registered))
    monkeypatch.setattr(page, "DPI", 40)  # drawing takes most of the time
    monkeypatch.setattr(page, "FORMATS", ("png",))
    register_backend("test_device", EmulatedDevice)
    register_backend("test_failing", Failing)


def compared(samplers, *, names=(SET,), **settings):
    options = {"num_reads": 300, "floor_repeats": 3} | settings
    problems = {name: named(name) for name in names}
    return compare(parse_samplers(samplers), problems, CompareSettings(**options))


def test_samplers_are_read_with_their_options():
    exact_, default, neal, diabatic, replay = parse_samplers(
        "exact, neal:default,neal:num_sweeps=50,ramp_sweeps=10,"
        "diabatic:betas=2.5/3,schedule=a/b.csv,field_encoding=ghost,replay:journal=runs/j"
    )
    assert (exact_.name, default.name, default.variant) == ("exact", "neal", "default")
    assert neal.options == {"num_sweeps": 50, "ramp_sweeps": 10}
    assert neal.label == "neal:num_sweeps=50,ramp_sweeps=10"
    assert diabatic.options["betas"] == (2.5, 3.0)
    assert diabatic.label == "diabatic:betas=2.5/3,schedule=b.csv,field_encoding=ghost"
    takers = [s.takes("annealing_time") for s in (exact_, default, neal, diabatic, replay)]
    assert takers == [False, False, False, True, True]
    # Recorded reads of a QPU are that QPU's reads, however it was reached.
    (device,) = parse_samplers("dwave:solver=x,annealing_time=7")
    assert device.label == "dwave:annealing_time=7"
    assert replay.label == "dwave"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must name a sampler, but is empty"),
        ("num_sweeps=3", "must begin with a name"),
        ("neal,neal", "must name each sampler once, but neal twice"),
        ("neal:", "with a colon"),
    ],
)
def test_wrong_lists_are_refused(text, message):
    with pytest.raises(ValueError, match=message):
        parse_samplers(text)


def test_unknown_samplers_and_options_are_refused_before_anything_is_sampled():
    with pytest.raises(ValueError, match="must be a registered backend, but is 'magic'"):
        compared("exact,magic")
    with pytest.raises(ValueError, match="has no option 'sweeps'"):
        compared("neal:sweeps=3")
    with pytest.raises(ValueError, match="has no variant 'fast'"):
        compared("neal:fast")
    with pytest.raises(ValueError, match="must hold a set of problems"):
        compared("exact", names=())


def test_bad_samplers_are_told_from_good_ones():
    comparison = compared(
        "exact,neal:default,neal,diabatic:annealing_time=3", num_reads=1000, refine_sweeps=2
    ).sets[0]
    ratios = {
        result.label: result.quality.scores["energy_distance"].ratio
        for result in comparison.results
    }
    error = comparison.results[0].quality.scores["energy_distance"].ratio_error
    for label in ("exact", "neal", "diabatic:annealing_time=3 + 2 sweeps"):
        # Three repeats of the floor: its spread is itself known to about 40%.
        assert abs(ratios[label] - 1) < 10 * error, label
    assert ratios["neal:default"] > 10
    assert 1 + 10 * error < ratios["diabatic:annealing_time=3"] < ratios["neal:default"]
    assert ratios["neal:default + 2 sweeps"] < ratios["neal:default"] / 5
    # Gibbs sweeps with equal draws would have made these reads the same.
    swept = [result.samples.spins for result in comparison.results if "+" in result.label]
    assert not torch.equal(swept[0], swept[1])


def test_equal_reads_give_equal_digits_and_others_do_not():
    options = {"reads_sweep": (50, 100), "strengths": (1.0,), "annealing_times": (2.0,)}
    first, second = (
        json.dumps(compared("exact,neal,diabatic", num_reads=100, **options).to_dict())
        for _ in range(2)
    )
    assert first == second
    other = json.dumps(compared("exact,neal,diabatic", num_reads=100, seed=1, **options).to_dict())
    assert other != first
    sweeps = json.loads(first)["sets"][0]["sweeps"]
    assert [point["value"] for point in sweeps["num_reads"]["neal"]] == [50, 100]
    # Sweeps at the comparison's own values repeat its figures.
    main = json.loads(first)["sets"][0]["samplers"]["neal"]["scores"]
    assert sweeps["num_reads"]["neal"][1]["scores"] == main
    assert sweeps["strength"]["neal"][0]["scores"] == main
    assert list(sweeps["annealing_time"]) == ["diabatic"]
    assert sweeps["annealing_time"]["diabatic"][0]["scores"]


def test_a_sampler_that_fails_does_not_stop_the_others(tmp_path):
    comparison = compared("test_failing,exact", num_reads=100, strengths=(1.0,))
    one = comparison.sets[0]
    assert one.results[0].error == "too large"
    assert one.results[1].quality is not None
    assert one.sweeps["strength"]["test_failing"][0].error == "too large"
    assert "failed: too large" in table_rows(one)[1]
    assert "failed: too large" in write_report(comparison, tmp_path)[-1].read_text(encoding="utf-8")
    comparison = compared("test_failing:at_opening=true,exact", num_reads=100)
    assert comparison.sets[0].results[0].error == "no device"
    alone = compared("test_failing", num_reads=100)
    assert write_report(alone, tmp_path / "alone")[-1].name == "report.html"


def test_report_is_one_file_that_says_what_the_device_was(tmp_path):
    comparison = compared(
        "exact,test_device,diabatic",
        names=(SET, "sk:spins=4,problems=3"),
        num_reads=200,
        reads_sweep=(50, 200),
        annealing_times=(2.0, 3.0),
    )
    paths = write_report(
        comparison, tmp_path / "report", command="qattn compare <&>", created="today"
    )
    assert all(path.is_file() for path in paths)
    pictures = [path for path in paths if path.suffix == ".png"]
    assert len(pictures) == 12
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pictures)
    html = paths[-1].read_text(encoding="utf-8")
    # Nothing is fetched: every picture is inside, and there are no other references.
    sources = [s for s in re.findall(r'(?:src|href)="([^"]*)"', html) if s != "data:,"]  # icon
    assert len(sources) == 12
    for source in sources:
        kind, _, data = source.partition(",")
        assert kind == "data:image/png;base64"
        assert base64.b64decode(data).startswith(b"\x89PNG")
    assert "http" not in re.sub(r"base64,[^\"]*", "", html)
    assert "qattn compare &lt;&amp;&gt;" in html
    assert html.count("EMULATED") >= 3
    assert "emulated_zephyr" in html
    assert "betas = 10, 11" in html
    data = json.loads(paths[0].read_text(encoding="utf-8"))
    device = data["context"]["samplers"][SET]["test_device (EMULATED)"]
    assert device["qpu_access_seconds"] == 0.25
    assert device["qpu_seconds_per_effective_read"] == pytest.approx(0.25 / 200 / 10)
    assert "break_rates" not in device["info"]
    assert data["comparison"] == comparison.to_dict() | {
        "settings": data["comparison"]["settings"],
    }
    heading = dict(zip(COLUMNS, table_rows(comparison.sets[0])[2], strict=True))
    assert heading["QPU µs / eff. read"] == "125"
    calibrated = datetime.now(UTC) - timedelta(hours=3.5)
    assert f"{calibrated:%Y-%m-%d %H:}" in html
    assert page.cpu() in html
    assert page.git_revision() in html
    table_of_latex = (tmp_path / "report" / "1_table.tex").read_text(encoding="utf-8")
    assert r"test\_device (EMULATED) & " in table_of_latex
    assert table_of_latex.count(r"\\") == 5  # a heading, the floor and three samplers
    # Nothing emulated, no such word.
    plain = write_report(compared("exact", num_reads=50), tmp_path / "plain")
    assert "EMULATED" not in plain[-1].read_text(encoding="utf-8")


def test_pictures_are_also_written_for_papers(tmp_path, monkeypatch):
    monkeypatch.undo()
    from matplotlib.figure import Figure

    figure = Figure()
    figure.subplots().plot([0, 1])
    pictures, files = page.save_pictures({"one": figure}, tmp_path, {"one": "A line."})
    assert [file.name for file in files] == ["one.png", "one.svg", "one.pdf"]
    starts = [file.read_bytes()[:5] for file in files]
    assert starts == [b"\x89PNG\r", b"<?xml", b"%PDF-"]
    assert pictures[0]["caption"] == "A line."
    assert pictures[0]["data"].startswith("data:image/png;base64,")


def test_a_long_run_is_marked_as_such(tmp_path, monkeypatch):
    import functools

    small = functools.partial(quality.reference_of, exact_spins=3, max_width=0)
    monkeypatch.setattr(bench_module, "reference_of", small)
    comparison = compared("exact,neal", num_reads=100, tempering_sweeps=200)
    html = write_report(comparison, tmp_path)[-1].read_text(encoding="utf-8")
    assert "Reference: parallel tempering, not exact values." in html
    noise = reference_noise(comparison.sets[0])
    assert f"standard errors are {noise['mean_rms']:.2g} noise floors for ⟨s⟩" in html
    assert 0 < noise["mean_rms"] < 1
    assert 0 < noise["pair_rms"] < 1
    assert "in equilibrium" not in html
    assert "NOT exact" in str(table(comparison.sets[0]).title)
    assert not comparison.to_dict()["sets"][0]["is_exact"]


def test_warnings_are_noted_and_not_shown():
    strong = IsingBatch(torch.ones(1, 1, 4), 1.5 * (1 - torch.eye(4)).unsqueeze(0))
    settings = CompareSettings(num_reads=50, floor_repeats=2)
    comparison = compare(parse_samplers("diabatic"), {"strong": strong}, settings)
    (result,) = comparison.sets[0].results
    assert any("expected to diverge" in text for text in result.warnings)


def called(*arguments):
    app = typer.Typer()
    app.command()(command)
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.mark.usefixtures("as_users_call")
def test_command_line(tmp_path):
    out = tmp_path / "out"
    small = ["--num-reads=50", "--floor-repeats=2", "--problems", SET]
    done = called("--samplers=exact,neal", *small, "--strengths=0.5,1", "--out", out)
    assert done.exit_code == 0, done.output
    assert "report.html" in done.output
    assert "independent exact" in done.output
    assert (out / "against_strength.png").is_file()
    # The title is whole in 80 columns, and results can be read by a program.
    assert "reference: exact" in done.output
    printed = called("--samplers=exact", *small, "--json", "--out", tmp_path / "json")
    assert printed.exit_code == 0, printed.output
    written = (tmp_path / "json" / "report.json").read_text(encoding="utf-8")
    assert json.loads(printed.stdout) == json.loads(written)
    for arguments, message in (
        (["--out", out], "exists: choose another --out"),
        (["--num-reads=1"], "`num_reads` must be at least 2"),
        (["--strengths=a"], "`strengths` must be numbers"),
        (["--reads-sweep=-3"], "`reads_sweep` must hold positive numbers"),
        (["--estimator=exact"], "`estimator` must be callen, moment or score"),
        (["--problems=chess"], "must start with one of"),
        (["--samplers=replay", "--journal", tmp_path / "none"], "There is no journal in"),
    ):
        failed = called("--out", tmp_path / "new", *arguments)
        assert failed.exit_code == 1
        assert message in str(failed.exception)
        assert not (tmp_path / "new").exists()
