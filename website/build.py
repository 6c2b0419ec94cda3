"""Build the documentation's site, strictly: `make site`.

Nothing is asked of other computers. What is wrong with a page or a link ends it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import notebook_pages
import reference
from links import broken_links
from stage import ROOT, Stage, english, korean

BUILD = ROOT / "build" / "site"


def main() -> None:
    repository = project_urls().get("Repository")
    files = None if repository is None else f"{repository}/blob/main"
    trees = english(), korean()
    stage = Stage(BUILD / "en", trees[0], trees[1:], files)
    stage.copy()
    add_notebooks(stage)
    stage.write_page("reference/http.md", reference.http_page())
    stage.write_page("reference/commands.md", reference.COMMANDS)
    stage.write_page("reference/python.md", reference.python_page())
    korean_stage = Stage(BUILD / "ko", trees[1], trees[:1], files)
    korean_stage.copy()
    for each in (stage, korean_stage):
        each.write_page("files/extra.css", (ROOT / "website" / "extra.css").read_text())
    site = BUILD / "html"
    for config, target in (("mkdocs.yml", site), ("mkdocs.ko.yml", site / "ko")):
        build(ROOT / "website" / config, target)
    check_links(site)


def project_urls() -> dict[str, str]:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    return dict(project.get("urls", {}))


def add_notebooks(stage: Stage) -> None:
    pictures = ROOT / "docs" / "pictures" / "notebooks"
    listed = ["# Example notebooks\n", "All of them run on the model that ships.\n"]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        notebook = notebook_pages.executed(path)
        stage.write(f"notebooks/{path.name}", notebook_pages.as_page(notebook, path.stem, pictures))
        title, about = notebook_pages.heading(notebook)
        listed.append(f"- [{title}]({path.stem}.md): {about}")
    stage.write_page("notebooks/index.md", "\n".join(listed) + "\n")


def build(config: Path, target: Path) -> None:
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--quiet"]
    subprocess.run(
        [*command, "--config-file", config, "--site-dir", target],
        check=True,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
    )


def check_links(site: Path) -> None:
    if broken := list(broken_links(site.resolve())):
        raise SystemExit("\n".join(broken))


if __name__ == "__main__":
    main()
