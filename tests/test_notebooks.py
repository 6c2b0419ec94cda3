"""Every example notebook runs from top to bottom, in a fresh kernel and again in another."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
DOCUMENTS = {"text-generation": "model-compose.yml"}
RUN_ID = re.compile(r"\b[0-9a-f]{12}\b")

each_notebook = pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem
)


def run_all(notebook: nbformat.NotebookNode) -> str:
    """Run all cells in a new kernel; what they printed."""
    NotebookClient(notebook, timeout=240, resources={"metadata": {"path": NOTEBOOKS}}).execute()
    outputs = (output for cell in notebook.cells for output in cell.get("outputs", []))
    printed = (output.text for output in outputs if output.get("name") == "stdout")
    return RUN_ID.sub("<run>", "".join(printed))


@each_notebook
def test_the_notebook_runs_and_gives_the_same_texts_in_another_kernel(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    printed = run_all(notebook)
    assert len(printed) > 200
    assert run_all(notebook) == printed


@each_notebook
def test_the_notebook_shows_the_document_beside_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    declared = next(cell.source for cell in notebook.cells if cell.source.startswith("%%compose"))
    document = path.with_name(DOCUMENTS.get(path.stem, f"{path.stem}.yml")).read_text()
    assert declared.partition("\n")[2].strip() == document.strip()
