"""Reports of experiments: tables, verdicts, Markdown and the page."""

import re
from dataclasses import replace

import pytest
from _support.results import made_up, without

from qattn.compare import page
from qattn.experiments import Results, Store, collect, read_experiment
from qattn.experiments.claims import judge
from qattn.experiments.report import all_claims, content, short_claims, write_report
from qattn.experiments.report.claims import in_order
from qattn.experiments.report.table import Table

ARMS = ["softmax", "boltzmann", "sigmoid"]


def claim(name, arm="boltzmann", than="softmax", **others):
    test = {"kind": "difference", "arm": arm, "than": than, "metric": "perplexity"}
    return {"id": name, "says": f"{name} is right.", "source": "ours", "test": test} | others


CONTROL = claim("control", "boltzmann", "sigmoid", source="control", beside="first")
CLAIMS = [claim("first", source="paper"), claim("second", "sigmoid"), CONTROL]


@pytest.fixture(autouse=True)
def _small_pictures(monkeypatch):
    monkeypatch.setattr(page, "DPI", 40)
    monkeypatch.setattr(page, "FORMATS", ("png", "svg"))


def test_controls_stand_below_the_claims_that_they_are_beside():
    verdicts = judge(made_up(arms=ARMS, claims=CLAIMS, seeds=10))
    assert [v.claim.id for v in verdicts] == ["first", "second", "control"]
    assert [v.claim.id for v in in_order(verdicts)] == ["first", "control", "second"]
    assert [v.claim.id for v in in_order(verdicts[1:])] == ["second", "control"]


def test_the_table_of_claims_says_what_the_verdicts_say():
    results = made_up(arms=ARMS, claims=CLAIMS, seeds=10)
    report = content(results)
    first = report.verdicts[0]
    claims, whose, verdict, effect, p, size, seeds = report.claims.rows[0]
    assert (claims, whose, seeds) == ("1. first is right.", "the paper", "10")
    assert verdict == first.answer
    number = float(effect.split()[0].replace("−", "-"))
    assert number == pytest.approx(first.effect.mean, abs=0.01 * abs(first.effect.sd))
    low, high = re.search(r"\((\S+) to (\S+?)\)", effect).groups()
    assert float(low.replace("−", "-")) < number < float(high.replace("−", "-"))
    assert effect.endswith(" perplexity")
    assert float(p) == pytest.approx(first.decision.p, rel=0.5)
    assert float(size.replace("−", "-")) == pytest.approx(first.effect.size, abs=0.005)
    assert report.reasons[0] == first.reason


def test_where_the_intervals_disagree_both_are_shown():
    results = made_up(arms=ARMS[:2], claims=CLAIMS[:1], seeds=10)
    for training in results.trainings:
        training.metrics["perplexity"][:] = [6.0] * 10
    results.select(arm="boltzmann")[0].metrics["perplexity"][:] = [5.99] * 9 + [4.0]
    (verdict,) = judge(results)
    assert not verdict.effect.agree
    assert "bootstrap" in content(results).claims.rows[0][3]
    assert "bootstrap" not in content(made_up(claims=CLAIMS[:1], seeds=10)).claims.rows[0][3]


def test_the_table_of_arms_has_means_intervals_and_sizes():
    results = made_up(arms=ARMS, parts=["small", "large"])
    table = content(results).arms
    assert table.columns[:4] == ["part", "arm", "validation loss", "perplexity"]
    assert len(table.rows) == 6
    row = dict(zip(table.columns, table.rows[1], strict=True))
    mean, half = map(float, row["perplexity"].split(" ± "))
    ends = results.trainings[1].metrics["perplexity"]
    assert mean == pytest.approx(sum(ends) / 4, abs=0.005)
    assert 0 < half < 0.5
    assert (row["seeds"], row["parameters"], row["steps"], row["time"]) == (
        ("4", "1,000", "20", "60 s")
    )


def test_missing_trainings_are_named_with_what_they_take():
    results = without(made_up(["curves", "differences"], arms=ARMS, claims=CLAIMS), "boltzmann")
    report = content(results)
    assert report.missing.rows == [["boltzmann", "0 to 3", "7 of 20", "2 min"]]
    assert {row[2] for row in report.claims.rows} == {"not decided"}
    assert "Not finished: 1 more, which take 2 min." in report.effort
    assert set(report.figures) == {"curves", "differences"}
    assert "boltzmann" in report.reasons[0]
    unknown = without(made_up(arms=ARMS), "sigmoid", seconds_needed=None)
    assert content(unknown).missing.rows[0][-1] == "not known"
    failed = [replace(unknown.missing[0], failure="FloatingPointError: the loss is nan")]
    assert content(replace(unknown, missing=failed)).missing.rows[0][-1].endswith("loss is nan")
    assert "not known" in content(unknown).effort


def test_nothing_at_all_is_a_report_too(tmp_path):
    empty = Results("x", {"title": "Nothing", "figures": ["curves"], "claims": CLAIMS}, [])
    write_report(empty, tmp_path)
    text = (tmp_path / "report.md").read_text()
    assert "# Nothing" in text
    assert text.count("not decided") == 3
    assert "No training is finished." in text


def test_commands_name_the_text_where_one_is_needed():
    results = made_up(settings={"task": "shakespeare"})
    assert content(results).commands[0].endswith("made-up.toml --download")
    assert content(made_up()).commands[0] == "qattn experiment run made-up.toml"


def test_the_report_is_whole(tmp_path):
    results = made_up(["curves", "differences"], arms=ARMS, claims=CLAIMS, seeds=10)
    paths = write_report(results, tmp_path / "new", command="qattn experiment run made-up")
    assert all(path.is_file() for path in paths)
    assert {path.name for path in paths} >= {"results.json", "report.md", "report.html"}
    assert Results.read(paths[0]) == results
    text = (tmp_path / "new" / "report.md").read_text()
    for part in ("first is right.", "What theirs shows.", "torch 2.13.0", "made-up.toml"):
        assert part in text
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", text):
        assert (tmp_path / "new" / target).is_file()
    html = (tmp_path / "new" / "report.html").read_text()
    for part in ("first is right.", "What theirs shows.", "qattn experiment run made-up"):
        assert part in html
    assert html.count("data:image/png") == 2
    assert "src=" not in html.replace('src="data:', "")  # nothing from outside


def test_texts_are_escaped(tmp_path):
    evil = "<script>alert(1)</script> & a|b"
    claims = [claim("first") | {"says": evil}]
    results = made_up(arms=["softmax", "boltzmann"], claims=claims, title=evil, paper=evil)
    write_report(results, tmp_path, command=evil, created=evil)
    html = (tmp_path / "report.html").read_text()
    assert "<script" not in html
    assert html.count("&lt;script&gt;") == 6  # title, heading, created, command, paper, claim
    text = (tmp_path / "report.md").read_text()
    assert "<script" not in text
    assert "a\\|b" in Table(["x"], [[evil]]).markdown()


def test_an_emulated_qpu_is_called_that(tmp_path):
    results = made_up()
    results.trainings[0].provenance["emulated"] = True
    write_report(results, tmp_path)
    for name in ("report.md", "report.html"):
        assert "EMULATED" in (tmp_path / name).read_text()
    assert "EMULATED" not in content(made_up()).effort
    assert not content(made_up()).emulated


def test_fits_are_in_the_report_of_lengths():
    points = [{"context": T} for T in (4, 8, 16, 32)]
    report = content(made_up(["scaling"], points=points, seeds=10))
    quantities = [row[1] for row in report.fits.rows]
    assert quantities == ["perplexity"] * 4 + ["gain over softmax in perplexity"]
    assert all("ln T" in row[2] or "T^" in row[2] for row in report.fits.rows)
    assert content(made_up(points=points)).fits.rows == []


def test_claims_of_all_experiments_stand_in_one_table():
    headline = CLAIMS[0] | {"headline": True}
    one = content(made_up(arms=ARMS, claims=[headline, CLAIMS[1]], seeds=10))
    results = made_up(arms=ARMS, claims=CLAIMS[2:], seeds=10)
    other = content(Results("controls", results.definition, results.trainings))
    table = all_claims([one, other])
    assert [row[-1] for row in table.rows] == ["made-up", "controls", "made-up"]
    assert short_claims([one, other]).rows == [table.rows[0][:4]]
    alike = [claim | {"id": f"{claim['id']} again", "source": "ours"} for claim in CLAIMS[:1]]
    results = made_up(arms=ARMS, claims=alike, seeds=10)
    other = content(Results("another", results.definition, results.trainings))
    assert {row[-1] for row in all_claims([one, other]).rows} == {"made-up", "another"}


def test_a_tiny_experiment_from_its_file_to_its_report(tmp_path):
    experiment = read_experiment("brackets-arms")
    trainings = experiment.trainings(seeds=2, steps=2, eval_every=2, context=4)
    store = Store(tmp_path)
    for training in trainings[::3]:  # softmax and boltzmann without, couplings with feed-forward
        store.train(training, quiet=True)
    results = collect(experiment, trainings, store)
    assert [t.arm for t in results.trainings] == ["softmax", "boltzmann", "couplings"]
    assert len(results.missing) == 5
    assert all(m.steps_done == 0 and m.seconds_needed > 0 for m in results.missing)
    paths = write_report(results, tmp_path / experiment.name)
    assert Results.read(paths[0]) == results
    text = paths[1].read_text()
    assert "2 seeds are fewer than the 10" in text
    assert text.count("| 2 | ") >= 3
