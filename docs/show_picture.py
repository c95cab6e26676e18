"""A picture of a page of ``qattn show``: ``python docs/show_picture.py PAGE PICTURE PLACE``."""

import shutil
import sys
from pathlib import Path

from playwright.sync_api import sync_playwright

WIDTH, HEIGHT = 1280, 900


def photograph(page: Path, picture: Path, place: str) -> None:
    """The whole page as it opens at a place, with the mouse nowhere."""
    with sync_playwright() as started:
        chromium = shutil.which("chromium") or shutil.which("chromium-browser")
        browser = started.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        view = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT})
        view.goto(page.resolve().as_uri() + place)
        view.wait_for_selector("#tokens button")
        view.wait_for_timeout(500)  # until the figures are drawn
        view.screenshot(path=picture, full_page=True)
        browser.close()


if __name__ == "__main__":
    photograph(Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3])
