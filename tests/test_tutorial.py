"""The tutorial, followed from its first cell to its last."""

from __future__ import annotations

import re

import pytest
from standins.kernel import KernelIn
from standins.pages import ROOT, page

from modelcompose_jupyter import DocumentError
from modelcompose_jupyter.document import load_document

TUTORIALS = [page("docs/tutorial.md"), page("docs/ko/tutorial.md")]
each_tutorial = pytest.mark.parametrize("tutorial", TUTORIALS, ids=["en", "ko"])


@each_tutorial
def test_each_cell_runs_and_gives_what_it_says(tutorial: str, kernel_in: KernelIn) -> None:
    shell = kernel_in(ROOT)
    cells = re.findall(
        r"^```(?:ipython|yaml|python)\n(.*?)^```(?:\n\n```text\n(.*?)^```)?", tutorial, re.M | re.S
    )
    told = 0
    for code, output in cells:
        cell = shell.run(code)
        assert cell.status == "ok", f"{code}\n{cell.error}"
        if output:
            told += 1
            assert f"\n{cell.text}".endswith(f"\n{output.strip()}"), code  # bars come before it
    assert told == 5


@each_tutorial
def test_the_mistake_is_told_as_it_says(tutorial: str) -> None:
    (document,) = re.findall(r"^```yaml\n(%%compose story\n.*?)^```", tutorial, re.M | re.S)[:1]
    (message,) = re.findall(r"^```text\n(cell:.*?)\n```", tutorial, re.M | re.S)
    wrong = "\n" + document.partition("\n")[2].replace("prompt as text", "promt as txet")
    with pytest.raises(DocumentError) as caught:
        load_document(wrong, name="cell")
    assert str(caught.value) == message


@each_tutorial
def test_the_models_of_ones_own_are_names_that_a_document_may_have(tutorial: str) -> None:
    (lines,) = re.findall(r"^```text\n(  model: .*?)^```", tutorial, re.M | re.S)
    for line in lines.splitlines():
        document = f"component:\n  type: model\n  task: text-generation\n{line}\n  text: a\n"
        assert load_document(document, environ={}).workflows
