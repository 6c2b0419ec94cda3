"""Every example notebook runs from top to bottom, and one of them again in a new kernel."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
import pytest
from standins.kernel import Kernel, KernelIn, kernel

NOTEBOOKS = Path(__file__).parent.parent / "notebooks"
DOCUMENTS = {"text-generation": "model-compose.yml"}
TWICE = "sliders"  # it samples with several temperatures
RUN_ID = re.compile(r"\b[0-9a-f]{12}\b")

each_notebook = pytest.mark.parametrize(
    "path", sorted(NOTEBOOKS.glob("*.ipynb")), ids=lambda path: path.stem
)


def run_all(shell: Kernel, notebook: nbformat.NotebookNode) -> str:
    """Run all cells; what they printed."""
    printed = ""
    for each in notebook.cells:
        if each.cell_type == "code":
            cell = shell.run(each.source)
            assert cell.status == "ok", f"{each.source}\n{cell.error}"
            printed += cell.stdout
    return RUN_ID.sub("<run>", printed)


@each_notebook
def test_the_notebook_runs(path: Path, kernel_in: KernelIn) -> None:
    notebook = nbformat.read(path, as_version=4)
    assert not any(cell.get("outputs") for cell in notebook.cells), "it is kept without outputs"
    printed = run_all(kernel_in(NOTEBOOKS), notebook)
    assert len(printed) > 200
    if path.stem == TWICE:
        with kernel(NOTEBOOKS) as fresh:
            assert run_all(fresh, notebook) == printed


@each_notebook
def test_the_notebook_shows_the_document_beside_it(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    declared = next(cell.source for cell in notebook.cells if cell.source.startswith("%%compose"))
    document = path.with_name(DOCUMENTS.get(path.stem, f"{path.stem}.yml")).read_text()
    assert declared.partition("\n")[2].strip() == document.strip()
