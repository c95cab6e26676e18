"""The page of results and the README's table are what the files in docs/results say."""

import re
from importlib import import_module
from pathlib import Path

import pytest
from _support.results import made_up

from qattn.experiments import Results, available_experiments, read_experiment
from qattn.experiments.figures import CAPTIONS
from qattn.experiments.report import content

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "docs" / "results"
FILES = sorted(FOLDER.glob("*.json"))
TEST = {"kind": "difference", "arm": "boltzmann", "than": "softmax", "metric": "perplexity"}
CLAIMS = [
    {"id": "one", "says": "One is right.", "source": "paper", "headline": True, "test": TEST},
    {"id": "two", "says": "So is another.", "source": "ours", "test": TEST},
]
AGAIN = "run `python docs/results_page.py`"


@pytest.fixture
def pages(monkeypatch):
    """docs/results_page.py as a module."""
    monkeypatch.syspath_prepend(str(ROOT / "docs"))
    return import_module("results_page")


@pytest.fixture
def reports(pages):
    return [content(results) for results in pages.read_all(FOLDER)]


@pytest.fixture
def made(tmp_path):
    """Two files of results in a folder."""
    for name in ("later", "length-scaling"):
        results = made_up(["curves"], claims=CLAIMS, seeds=10)
        Results(name, results.definition, results.trainings).write(tmp_path / f"{name}.json")
    return tmp_path


def test_the_page_and_the_readme_are_made_of_the_files(pages, reports):
    page = (ROOT / "docs" / "results.md").read_text(encoding="utf-8")
    assert page == pages.results_page(reports), AGAIN
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert all(readme.count(marker) == 1 for marker in pages.MARKERS)
    assert readme == pages.with_claims(readme, reports), AGAIN


def test_the_figures_of_the_page_are_drawn_from_the_files(pages, reports, tmp_path):
    pages.draw_all(reports, tmp_path / "_results")
    page = pages.results_page(reports)
    for target in re.findall(r"!\[[^]]*\]\(([^)]+)\)", page):
        assert (tmp_path / target).is_file()


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_results_are_of_the_catalogue_as_it_stands(pages, file):
    assert file.stem in available_experiments()
    results = Results.read(file)
    assert results.experiment == file.stem
    now = read_experiment(file.stem).definition
    for key in pages.JUDGED:
        assert results.definition.get(key) == now.get(key), AGAIN
    assert set(results.definition.get("figures", ())) <= CAPTIONS.keys()


def test_another_number_is_another_page(pages, made):
    """Negative control: the comparison would see a result that changed."""
    before = pages.results_page([content(each) for each in pages.read_all(made)])
    assert before.count("## An experiment") == 2
    assert before.count("One is right.") == 4
    file = made / "later.json"
    results = Results.read(file)
    results.trainings[0].metrics["perplexity"][0] += 0.5
    results.write(file)
    after = [content(each) for each in pages.read_all(made)]
    assert pages.results_page(after) != before
    assert [each.name for each in after] == ["length-scaling", "later"]  # the paper's first


def test_the_readme_keeps_all_but_its_table(pages, made):
    readme = "before\n" + "former\n".join(pages.MARKERS) + "after | \\1\n"
    reports = [content(each) for each in pages.read_all(made)]
    text = pages.with_claims(readme, reports)
    assert text.startswith("before\n" + pages.MARKERS[0])
    assert text.endswith(pages.MARKERS[1] + "after | \\1\n")
    assert "| One is right. | the paper | " in text
    assert "So is another." not in text  # no headline
    assert "former" not in text
    assert pages.with_claims(text, reports) == text
    assert "No experiment" in pages.with_claims(text, [])


def test_results_are_fetched_and_judged_by_the_claims_of_now(pages, tmp_path):
    name = "shakespeare-arms"
    results = made_up(claims=CLAIMS, seeds=10)
    Results(name, results.definition, results.trainings).write(
        tmp_path / "experiments" / name / "results.json"
    )
    pages.fetch(tmp_path / "experiments", tmp_path / "results")
    (fetched,) = pages.read_all(tmp_path / "results")
    definition = read_experiment(name).definition
    now = pages.judged_now(fetched, definition)
    assert now.definition["title"] == definition["title"]
    assert now.definition.get("claims") == definition.get("claims")
    assert now.definition["arms"] == fetched.definition["arms"]
