"""Dead links between the pages of the built site: `python docs/check_links.py docs/_build/html`.

Checks that what pages refer to, pictures and scripts too, is in the site, and that anchors exist.
Links to the outside are not followed. Sphinx refuses broken references in the sources; this looks
at the result.
"""

import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit


class Page(HTMLParser):
    """The anchors of a page, and where it points to.

    Attributes:
        anchors: Values of ``id`` and ``name``.
        links: Values of ``href`` and ``src``.
    """

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Collect anchors and links."""
        for name, value in attrs:
            if value is None:
                continue
            if name == "id" or (name == "name" and tag == "a"):
                self.anchors.add(value)
            elif name in ("href", "src"):
                self.links.append(value)


def dead_links(site: Path) -> Iterator[str]:
    """A line for each link of the site that leads nowhere."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site}: no pages"
    for path, page in pages.items():
        for link in page.links:
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            url = urlsplit(urljoin(path.as_uri(), link))
            target, anchor = Path(unquote(url.path)), unquote(url.fragment)
            if target.is_dir():
                target /= "index.html"
            if not target.is_file() or not target.is_relative_to(site):
                yield f"{path.relative_to(site)}: {link}: no such file"
            elif anchor and target in pages and anchor not in pages[target].anchors:
                yield f"{path.relative_to(site)}: {link}: no such anchor"


if __name__ == "__main__":
    found = list(dict.fromkeys(dead_links(Path(sys.argv[1]))))
    print("\n".join(found) or "All links lead somewhere.")
    sys.exit(bool(found))
