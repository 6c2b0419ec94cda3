"""How texts of the repository become pages, and how links of the site are checked."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from links import broken_links
from notebook_pages import as_page, heading
from reference import http_page, python_page
from stage import ROOT, Stage, Tree, english, korean

import modelcompose_jupyter

ENGLISH = Tree("", {"README.md": "index.md", "docs/language.md": "language.md"})
KOREAN = Tree("ko/", {"docs/ko/index.md": "index.md", "docs/ko/language.md": "language.md"})


def page(tmp_path: Path, tree: Tree, text: str, content: str, repository: str | None = None) -> str:
    other = KOREAN if tree is ENGLISH else ENGLISH
    stage = Stage(tmp_path / "pages", tree, (other,), repository)
    stage.write(text, content)
    return (
        (stage.folder / tree.pages[text])
        .read_text("utf-8")
        .removeprefix("---\nhide: [navigation]\n---\n\n")
    )


@pytest.mark.parametrize(
    ("tree", "text", "link", "target"),
    [
        (ENGLISH, "README.md", "docs/language.md#jobs", "language.md#jobs"),
        (ENGLISH, "docs/language.md", "../README.md", "index.md"),
        (ENGLISH, "docs/language.md", "https://example.org/a.md", "https://example.org/a.md"),
        (ENGLISH, "docs/language.md", "#jobs", "#jobs"),
        (ENGLISH, "README.md", "docs/ko/language.md", "ko/language/"),
        (ENGLISH, "docs/language.md", "ko/index.md", "../ko/"),
        (KOREAN, "docs/ko/index.md", "language.md", "language.md"),
        (KOREAN, "docs/ko/index.md", "../language.md#jobs", "../language/#jobs"),
        (KOREAN, "docs/ko/language.md", "../../README.md", "../../"),
    ],
)
def test_links_lead_to_pages(tmp_path: Path, tree: Tree, text: str, link: str, target: str) -> None:
    assert page(tmp_path, tree, text, f"A [word]({link}).") == f"A [word]({target})."


def test_what_is_no_page_is_in_the_repository_or_no_link(tmp_path: Path) -> None:
    text = "The [licence](LICENSE) and [`make`](Makefile)."
    assert page(tmp_path, ENGLISH, "README.md", text) == "The licence and `make`."
    linked = page(tmp_path, ENGLISH, "README.md", text, "https://example.org/files")
    assert "[licence](https://example.org/files/LICENSE)" in linked
    with pytest.raises(SystemExit, match=r"README\.md has a link to lost\.md"):
        page(tmp_path, ENGLISH, "README.md", "[a](lost.md)")


def test_code_is_left_alone(tmp_path: Path) -> None:
    text = "```yaml\n[a](lost.md)\n````\n~~~\n```\n[b](docs/language.md)\n"
    assert page(tmp_path, ENGLISH, "README.md", text) == text


def test_pictures_come_along(tmp_path: Path) -> None:
    picture = next((ROOT / "benchmarks" / "results").glob("*.svg")).relative_to(ROOT)
    found = page(tmp_path, ENGLISH, "docs/language.md", f"![a](../{picture})")
    assert found == f"![a](files/{picture})"
    assert (tmp_path / "pages" / "files" / picture).read_bytes() == (ROOT / picture).read_bytes()
    # mkdocs leaves HTML as it is, and a page is in a folder of its own.
    found = page(tmp_path, ENGLISH, "docs/language.md", f'<img src="../{picture}">')
    assert found == f'<img src="../files/{picture}">'
    found = page(tmp_path, ENGLISH, "README.md", f'<img src="{picture}">')
    assert found == f'<img src="files/{picture}">'


def test_every_text_of_the_documentation_has_a_page() -> None:
    pages = {**english().pages, **korean().pages}
    texts = {str(path.relative_to(ROOT)) for path in (ROOT / "docs").rglob("*.md")}
    assert texts <= pages.keys()


def test_broken_links_are_found(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "index.html").write_text(
        '<p id="here"><a href="#here"></a><a href="#lost"></a><a href="a/"></a><a href="a/#there">'
        '</a><a href="b/"></a><img src="c.png"><a href="https://example.org/lost"></a>'
    )
    (tmp_path / "a" / "index.html").write_text('<p id="there"><a href="../#here"></a>')
    assert list(broken_links(tmp_path)) == [
        "index.html has a link to #lost, and there is no such place",
        "index.html has a link to b/, which is not there",
        "index.html has a link to c.png, which is not there",
    ]


def test_a_notebook_as_a_page(tmp_path: Path) -> None:
    cell = nbformat.v4.new_code_cell("%%compose a\ntext: b")
    cell.outputs = [
        nbformat.v4.new_output("stream", text="\x1b[1m<b>\x1b[0m"),
        nbformat.v4.new_output("display_data", {"application/vnd.jupyter.widget-view+json": {}}),
        nbformat.v4.new_output("execute_result", {"text/html": "<p>\n\nc</p>", "text/plain": "c"}),
    ]
    about = nbformat.v4.new_markdown_cell("# Title\n\nWhat it *is*. More.")
    notebook = nbformat.v4.new_notebook(cells=[about, cell])
    assert heading(notebook) == ("Title", "What it *is*.")
    (tmp_path / "a-1.webp").touch()
    shown = as_page(notebook, "a", tmp_path)
    assert "``````yaml\n%%compose a\ntext: b\n``````" in shown
    assert '<pre class="output">&lt;b&gt;</pre>' in shown
    assert "a-1.webp" in shown
    assert '<div class="output">\n<p>\nc</p>\n</div>' in shown


def test_the_reference_has_all_routes_and_names() -> None:
    routes = http_page()
    assert "## POST /api/workflows/runs\n" in routes
    assert "## POST /v1/chat/completions\n" in routes
    names = python_page()
    assert all(f".{name}\n" in names for name in modelcompose_jupyter.__all__ if name[0] != "_")
