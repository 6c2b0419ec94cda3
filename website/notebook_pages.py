"""Example notebooks, run, as pages: what cells print, and pictures of their panels."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import nbformat
from nbclient import NotebookClient

_QUIET = ["--log-level=ERROR"]
_WIDGET = "application/vnd.jupyter.widget-view+json"
_MAGIC = re.compile(r"%%compose\b")
_STEERING = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def executed(path: Path) -> nbformat.NotebookNode:
    """A notebook with its outputs."""
    notebook: nbformat.NotebookNode = nbformat.read(path, as_version=4)  # type: ignore[no-untyped-call]
    resources = {"metadata": {"path": str(path.parent)}}
    NotebookClient(notebook, timeout=300, resources=resources, extra_arguments=_QUIET).execute()
    return notebook


def heading(notebook: nbformat.NotebookNode) -> tuple[str, str]:
    """Its title, and the sentence that follows it."""
    first = notebook.cells[0].source.strip()
    title, _, rest = first.partition("\n")
    about = " ".join(rest.split())
    return title.lstrip("# "), about.partition(". ")[0].rstrip(".") + "."


def as_page(notebook: nbformat.NotebookNode, stem: str, pictures: Path) -> str:
    """A notebook as Markdown. Panels are pictures of them, ``STEM-N.webp``, where there are."""
    parts, shown = list[str](), 0
    for cell in notebook.cells:
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        kind = "yaml" if _MAGIC.match(cell.source) else "python"
        parts.append(f"``````{kind}\n{cell.source}\n``````")
        for output in cell.outputs:
            data = output.get("data", {})
            if _WIDGET in data:
                shown += 1
                if (pictures / f"{stem}-{shown}.webp").exists():
                    link = f"../docs/pictures/notebooks/{stem}-{shown}.webp"
                    parts.append(f"![What the cell shows]({link}){{ .panel }}")
                continue
            parts.append(_output(output, data))
    return "\n\n".join(filter(None, parts)) + "\n"


def _output(output: Any, data: Any) -> str:
    if output.output_type == "stream":
        return _text(output.text)
    if output.output_type == "error":
        return _text("\n".join(output.traceback))
    if "text/html" in data:
        # One block of HTML, whatever lines it has.
        table = str(data["text/html"]).replace('border="1" class="dataframe"', "")
        lines = filter(str.strip, table.splitlines())
        return '<div class="output">\n' + "\n".join(lines) + "\n</div>"
    if "text/markdown" in data:
        return str(data["text/markdown"])
    return _text(str(data.get("text/plain", "")))


def _text(text: str) -> str:
    text = _STEERING.sub("", text).rstrip()
    return f'<pre class="output">{html.escape(text)}</pre>' if text else ""
