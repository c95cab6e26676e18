"""The link checker of the documentation finds what is dead, and only that."""

import runpy
from pathlib import Path

import pytest

CHECKER = Path(__file__).parent.parent / "docs" / "check_links.py"
dead_links = runpy.run_path(str(CHECKER))["dead_links"]

GOOD = (
    '<h1 id="top">a</h1><a href="#top">b</a><a href="sub/b.html#there">c</a><img src="p.png">'
    '<a href="https://example.org/nowhere">d</a><a href="sub/">e</a><a href="mailto:x@y.z">f</a>'
)


@pytest.fixture
def site(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "p.png").touch()
    (tmp_path / "index.html").write_text(GOOD)
    (tmp_path / "sub" / "index.html").write_text('<a href="../index.html#top">x</a>')
    (tmp_path / "sub" / "b.html").write_text('<p id="there">x</p><a name="old">x</a>')
    return tmp_path


def test_good_links_pass(site):
    assert list(dead_links(site)) == []


@pytest.mark.parametrize(
    ("link", "why"),
    [
        ('<a href="c.html">', "no such file"),
        ('<img src="q.png">', "no such file"),
        ('<script src="_static/x.js?v=1"></script>', "no such file"),
        ('<a href="../outside.html">', "no such file"),
        ('<a href="#bottom">', "no such anchor"),
        ('<a href="sub/b.html#elsewhere">', "no such anchor"),
    ],
)
def test_dead_links_are_found(site, link, why):
    (site.parent / "outside.html").touch()
    (site / "index.html").write_text(GOOD + link)
    (line,) = dead_links(site)
    assert line.startswith("index.html: ")
    assert line.endswith(why)


def test_a_site_without_pages_is_wrong(tmp_path):
    assert len(list(dead_links(tmp_path))) == 1
