"""The page of an experiment in a real browser."""

import pytest
from _support.browser import WIDTHS, check_page
from _support.results import made_up, without

from qattn.compare import page
from qattn.experiments.report import write_report

TEST = {"kind": "difference", "arm": "boltzmann", "than": "softmax", "metric": "perplexity"}
CLAIM = {"says": "Boltzmann attention reaches a lower perplexity " * 3, "test": TEST}
CLAIMS = [
    CLAIM | {"id": "one", "source": "paper"},
    CLAIM | {"id": "two", "source": "control", "beside": "one"},
]


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """A page with every kind of table and several pictures."""
    points = [{"context": T} for T in (4, 8, 16, 32)]
    figures = ["curves", "differences", "scaling"]
    arms = ["softmax", "boltzmann", "sigmoid, relative bias"]
    results = made_up(figures, arms=arms, points=points, seeds=10, claims=CLAIMS)
    for claim in results.definition["claims"]:
        claim["test"] = TEST | {"where": {"context": 8}}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(page, "DPI", 40)
        patch.setattr(page, "FORMATS", ("png",))
        folder = tmp_path_factory.mktemp("report")
        write_report(without(results, arms[2]), folder, command="qattn experiment " * 20)
    return folder / "report.html"


@pytest.mark.parametrize("width", WIDTHS)
def test_page_is_whole_and_fits(browser, report, width):
    check_page(browser, report, width, pictures=3)


def test_a_reader_finds_the_verdicts_first(browser, report):
    view = browser.new_page(viewport={"width": 1280, "height": 900})
    view.goto(report.as_uri())
    headings = view.eval_on_selector_all("h2", "all => all.map(h => h.innerText)")
    assert headings[0] == "Claims"
    assert {"Arms", "Fits over the length", "Not finished", "Commands"} < set(headings)
    rows = view.eval_on_selector_all(
        ".claims tbody tr", "all => all.map(r => [...r.cells].map(c => c.innerText))"
    )
    assert [row[1] for row in rows] == ["the paper", "fair control"]
    assert all(row[2] in ("holds", "does not hold", "not decided") for row in rows)
    view.close()
