"""The repository's texts as pages: copied to where mkdocs reads them, with links that lead there.

A text is written once, where those who read the repository look for it. So its links are relative
to that place; here each is turned into one to the page that the text becomes.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from posixpath import normpath, relpath

ROOT = Path(__file__).parent.parent
_FENCE = re.compile(r"^ *(```+|~~~+)")
_LINK = re.compile(r'(\]\(|(?:src|srcset|href)=")([^)"\s#]+)(#[^)"\s]*)?([)"])')
_OPEN = re.compile(r"\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_ELSEWHERE = re.compile(r"[a-z][a-z0-9+.-]*:|/")


@dataclass(frozen=True)
class Tree:
    """The pages of a language.

    Attributes:
        base: where they are in the site, such as ``ko/``; empty for the site's root.
        pages: the page that each text becomes, both as paths, below the repository and the tree.
    """

    base: str
    pages: dict[str, str]

    def url(self, text: str) -> str:
        """Where a text's page is in the site, ending in a slash, or the root's empty path."""
        page = PurePosixPath(self.pages[text])
        folder = page.parent if page.name == "index.md" else page.with_suffix("")
        return self.base + ("" if folder == PurePosixPath(".") else f"{folder}/")


def english() -> Tree:
    pages = {
        "README.md": "index.md",
        "CHANGELOG.md": "changelog.md",
        "CONTRIBUTING.md": "contributing.md",
        "SECURITY.md": "security.md",
        "benchmarks/README.md": "benchmarks.md",
        "notebooks": "notebooks/index.md",
    }
    pages |= {f"docs/{path.name}": path.name for path in (ROOT / "docs").glob("*.md")}
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        pages[f"notebooks/{path.name}"] = f"notebooks/{path.stem}.md"
    return Tree("", pages)


def korean() -> Tree:
    pages = {f"docs/ko/{path.name}": path.name for path in (ROOT / "docs" / "ko").glob("*.md")}
    return Tree("ko/", {**pages, "docs/ko/index.md": "start.md", "README.ko.md": "index.md"})


class Stage:
    """Writes a tree's pages to a folder.

    Args:
        folder: which is made anew.
        tree: its pages.
        others: trees that texts may have links to.
        repository: the address of the repository's files; links to what is no page lose their
            target where it is None.
    """

    def __init__(
        self, folder: Path, tree: Tree, others: tuple[Tree, ...], repository: str | None
    ) -> None:
        self.folder = folder
        self._tree = tree
        self._others = others
        self._repository = repository
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)

    def copy(self) -> None:
        """Write all texts that are Markdown already."""
        for text in self._tree.pages:
            if text.endswith(".md"):
                self.write(text, (ROOT / text).read_text(encoding="utf-8"))

    def write(self, text: str, content: str) -> None:
        """Write the page of a text, whatever its content was made from."""
        lines = []
        for line, is_code in _lines(content):
            lines.append(line if is_code else self._linked(line, text))
        page = self._tree.pages[text]
        hidden = "---\nhide: [navigation]\n---\n\n" if page == "index.md" else ""
        self.write_page(page, hidden + "".join(lines))

    def write_page(self, page: str, content: str) -> None:
        """Write a page that no text of the repository is."""
        path = self.folder / page
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")

    def _linked(self, line: str, text: str) -> str:
        line = _OPEN.sub(lambda found: self._without_dead(found, text), line)

        def target(found: re.Match[str]) -> str:
            begin, link, anchor, end = found.groups()
            is_html = not begin.endswith("(")
            return f"{begin}{self._target(link, text, is_html) or link}{anchor or ''}{end}"

        return _LINK.sub(target, line)

    def _without_dead(self, found: re.Match[str], text: str) -> str:
        """A link, or its words alone where it leads to no page."""
        link = found[2].partition("#")[0]
        is_picture = found.string[: found.start()].endswith("!")
        if is_picture or not link or self._target(link, text) is not None:
            return found[0]
        return found[1]

    def _target(self, link: str, text: str, is_html: bool = False) -> str | None:
        """What a link of a text is on its page; None where it leads nowhere in the site. mkdocs
        leaves those in HTML as they are, from where the page is shown."""
        if _ELSEWHERE.match(link):
            return link
        named = normpath(str(PurePosixPath(text).parent / link))
        own = self._tree.pages[text]
        if named in self._tree.pages:
            return relpath(self._tree.pages[named], str(PurePosixPath(own).parent))
        for tree in self._others:
            if named in tree.pages:
                return relpath(f"/{tree.url(named)}", f"/{self._tree.url(text)}") + "/"
        path = ROOT / named
        if path.is_file() and path.suffix in (".svg", ".png", ".webp", ".gif"):
            copy = self.folder / "files" / named
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, copy)
            if is_html:
                return relpath(f"/{self._tree.base}files/{named}", f"/{self._tree.url(text)}")
            return relpath(f"files/{named}", str(PurePosixPath(own).parent))
        if not path.exists():
            raise SystemExit(f"{text} has a link to {link}, which is not there")
        return None if self._repository is None else f"{self._repository}/{named}"


def _lines(content: str) -> Iterator[tuple[str, bool]]:
    """Lines, and whether each is code."""
    fence = None
    for line in content.splitlines(keepends=True):
        found = _FENCE.match(line)
        if fence is None and found is not None:
            fence = found[1]
            yield line, True
        elif fence is not None:
            if found is not None and found[1].startswith(fence) and not line.strip(" `~\n"):
                fence = None
            yield line, True
        else:
            yield line, False
