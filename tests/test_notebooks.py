"""Every example notebook runs from top to bottom in a fresh kernel."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"


def outputs(notebook: nbformat.NotebookNode) -> str:
    """All text that the cells put out."""
    texts = []
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            texts.append(output.get("text", "") or output.get("data", {}).get("text/plain", ""))
    return "\n".join(texts)


@pytest.mark.parametrize("path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem)
def test_the_notebook_runs(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": path.parent}}).execute()
    assert "Once upon a time in a distant galaxy" in outputs(notebook)


def test_the_notebook_shows_the_document_beside_it() -> None:
    notebook = nbformat.read(NOTEBOOKS / "text-generation.ipynb", as_version=4)
    declared = next(cell.source for cell in notebook.cells if cell.source.startswith("%%compose"))
    document = (NOTEBOOKS / "model-compose.yml").read_text()
    assert declared.partition("\n")[2].strip() == document.strip()
