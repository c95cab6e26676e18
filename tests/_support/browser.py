"""Pages in a real browser: Playwright with the system's Chromium."""

import shutil
from contextlib import contextmanager

import pytest

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
ARGUMENTS = [
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]
WIDTHS = (1280, 400)


@contextmanager
def chromium():
    """The browser, or a skipped test where there is none."""
    if CHROMIUM is None:
        pytest.skip("no chromium on this machine (Debian: apt-get install chromium)")
    playwright = pytest.importorskip("playwright.sync_api", reason="pip install playwright")
    with playwright.sync_playwright() as started:
        browser = started.chromium.launch(executable_path=CHROMIUM, args=ARGUMENTS)
        yield browser
        browser.close()


def check_page(browser, path, width, pictures):
    """The page shows this many pictures, fits a window of this width and has no complaint."""
    view = browser.new_page(viewport={"width": width, "height": 900})
    complaints = []
    view.on("console", lambda m: complaints.append(m.text) if m.type == "error" else None)
    view.on("pageerror", lambda error: complaints.append(str(error)))
    view.on("requestfailed", lambda request: complaints.append(request.url))
    view.goto(path.as_uri())
    widths = view.eval_on_selector_all("img", "images => images.map(i => i.naturalWidth)")
    assert len(widths) == pictures
    assert all(w > 0 for w in widths)
    # The body fits; a wide table scrolls in a box of its own.
    assert view.evaluate("document.documentElement.scrollWidth") <= width
    assert view.evaluate("document.body.scrollWidth") <= width
    boxes = view.eval_on_selector_all(
        ".scroll", "all => all.map(b => b.scrollWidth <= b.clientWidth)"
    )
    assert len(boxes) >= 1
    if width == 1280:
        assert all(boxes), "a column is off the page"
    # No cell is a column of single letters: rows are as high as their longest text needs.
    rows = view.eval_on_selector_all(
        "tbody tr", "all => all.map(r => [[...r.cells].map(c => c.innerText), r.offsetHeight])"
    )
    assert rows
    for texts, height in rows:
        assert height <= 45 + 20 * max(map(len, texts)) / 12, texts
    assert complaints == []
    view.close()
