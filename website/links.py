"""Links of the finished site: each must lead to a file of it, and to a place in that where it names
one. Links to other sites are not followed, so that nothing is asked of other computers."""

from __future__ import annotations

from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urldefrag, urlsplit


class _Page(HTMLParser):
    """What a page links to, and the places in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.places: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            if value is None:
                continue
            if name in ("href", "src"):
                self.links.append(value)
            elif name == "srcset":
                self.links += [each.split()[0] for each in value.split(",")]
            elif name == "id" or (name == "name" and tag == "a"):
                self.places.add(value)


def broken_links(site: Path) -> Iterator[str]:
    """What is wrong with the links of a site, a sentence each."""
    # What a server answers where there is no page stands at no place of its own.
    files = (path for path in sorted(site.rglob("*.html")) if path.name != "404.html")
    pages = {path: _Page(path) for path in files}
    for path, page in pages.items():
        for link in dict.fromkeys(page.links):
            if urlsplit(link).scheme or link.startswith("//"):
                continue
            target, place = urldefrag(link)
            folder = site if target.startswith("/") else path.parent
            file = (folder / unquote(urlsplit(target).path).lstrip("/")).resolve()
            file = path.resolve() if not target else file / "index.html" if file.is_dir() else file
            shown = path.relative_to(site)
            if not file.is_file():
                yield f"{shown} has a link to {link}, which is not there"
            elif place and file in pages and unquote(place) not in pages[file].places:
                yield f"{shown} has a link to {link}, and there is no such place"
