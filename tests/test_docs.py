"""The documentation's examples do what it says of them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path

import pytest
from pydantic import BaseModel
from standins.pages import DOCS, ROOT, blocks

from modelcompose_jupyter import load
from modelcompose_jupyter.document import load_document, render, schema
from modelcompose_jupyter.document.schema_keywords import JsonSchemaKeywords
from modelcompose_jupyter.errors import ComposeError, DocumentError

LANGUAGE, KOREAN = (
    (DOCS / f"{name}.md").read_text("utf-8") for name in ("language", "ko/language")
)
DOCUMENTS, INPUTS = (DOCS / "errors.md").read_text("utf-8").split("\n## Inputs\n")
CONTEXT = {
    "input": {
        "name": "Kim",
        "n": "3",
        "tags": ["x", "y"],
        "users": [{"id": 1}, {"id": 2}],
        "sp ace": "s",
        "list": [1, 2, 3],
        "m": {"a": 1},
    },
    "index": 1,
}


def example_rows(text: str) -> list[tuple[str, str]]:
    """The rows of the tables of templates and their results."""
    head = r"^\| (?:template \| result|템플릿 \| 결과) \|\n"
    tables = re.findall(rf"{head}(.*?)\n\n", text, re.DOTALL | re.MULTILINE)
    rows = re.findall(r"^\| `(.+)` \| `(.+)` \|$", "\n".join(tables), re.MULTILINE)
    return [(left.replace("\\|", "|"), right.replace("\\|", "|")) for left, right in rows]


FORMATS, TOOLS, PAUSES, FUNCTIONS, RAY = (
    (DOCS / f"{name}.md").read_text("utf-8")
    for name in ("structured-output", "tools", "pauses", "functions", "ray")
)


JOBS = LANGUAGE.partition("\n## Jobs\n")[2]
PAGES = "\n".join((LANGUAGE, FORMATS, TOOLS, PAUSES, FUNCTIONS, RAY))


def whole(document: str) -> str:
    """A document of a page; of the examples of jobs their component, too."""
    has_component = re.search(r"^components?:", document, re.MULTILINE)
    return document if has_component else f"{blocks(JOBS, 'yaml')[0][0]}\n{document}"


@pytest.mark.parametrize(
    "document",
    [
        each
        for page in (LANGUAGE, KOREAN, FORMATS, TOOLS, PAUSES)
        for (each,) in blocks(page, "yaml")
    ],
)
def test_every_document_of_the_reference_is_one(document: str) -> None:
    assert load_document(whole(document), environ={}).workflows


@pytest.mark.parametrize(("document", "output"), blocks(JOBS, "yaml", "json"))
def test_every_example_of_a_job_gives_what_it_says(document: str, output: str) -> None:
    assert load(whole(document))() == json.loads(output)


def test_every_type_of_a_job_has_an_example() -> None:
    documents = "".join(document for document, _ in blocks(JOBS, "yaml", "json"))
    for name in schema.JOB_TYPES:
        assert f"type: {name}" in documents or name in ("component", "action"), name
    for name in ("retry", "on_error", "timeout", "depends_on", "otherwise", "conditions"):
        assert f"{name}:" in documents, name


@pytest.mark.parametrize(("template", "result"), example_rows(LANGUAGE) + example_rows(KOREAN))
def test_every_template_of_the_reference_has_its_result(template: str, result: str) -> None:
    written = json.loads(template) if template[0] in "{[" else template
    assert render(written, CONTEXT) == json.loads(result)


def test_the_reference_has_examples() -> None:
    assert len(blocks(LANGUAGE, "yaml")) >= 4
    assert len(example_rows(LANGUAGE)) >= 30
    assert len(example_rows(KOREAN)) >= 20


def test_the_reference_names_every_key() -> None:
    models: list[type[BaseModel]] = [schema.Compose]
    known = {schema.Compose, JsonSchemaKeywords}
    while models:
        model = models.pop()
        for name, field in schema.keys_of(model).items():
            is_named = re.search(rf"`{name}[:`.]|\b{name}: ", PAGES)
            assert is_named or str(field.description).startswith("No effect"), (model, name)
            found = [each for each in schema.models_in(field.annotation) if each not in known]
            models += found
            known.update(found)


@pytest.mark.parametrize(("document", "message"), blocks(DOCUMENTS, "yaml", "text"))
def test_every_wrong_document_has_its_message(document: str, message: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_document(document + "\n", name="model-compose.yml", environ={})
    assert str(caught.value) == message


@pytest.mark.parametrize(("call", "message"), blocks(INPUTS, "python", "text"))
def test_every_wrong_input_has_its_message(call: str, message: str) -> None:
    document = blocks(INPUTS, "yaml")[0][0]
    with pytest.raises(ComposeError) as caught:
        eval(call, {"flow": load(document)})
    assert str(caught.value) == message


def test_there_are_many_of_each() -> None:
    assert len(blocks(DOCUMENTS, "yaml", "text")) == 11
    assert len(blocks(INPUTS, "python", "text")) == 10


def test_the_example_of_a_known_beginning_prints_what_it_says(
    capsys: pytest.CaptureFixture[str],
) -> None:
    generation = (DOCS / "generation.md").read_text("utf-8")
    ((code, output),) = blocks(generation, "python", "output")
    exec(code, {})
    assert capsys.readouterr().out == output + "\n"


def test_the_page_names_every_architecture_that_has_kernels() -> None:
    from modelcompose_jupyter.models.weights.decoder_families import FAMILIES

    generation = (DOCS / "generation.md").read_text("utf-8")
    listed = generation.partition("without torch and transformers: ")[2].partition(";")[0]
    assert model_types(listed) == plain(FAMILIES)


def model_types(listed: str) -> set[str]:
    """Names of architectures in a list, as model types."""
    return {re.sub(r"\W", "", name.partition("(")[0]).lower() for name in listed.split(",")}


def plain(model_types: Iterable[str]) -> set[str]:
    return {kind.removesuffix("_text").replace("_", "") for kind in model_types}


def test_links_between_pages_lead_somewhere() -> None:
    """Files that are there, and headings in them."""

    def heading(line: str) -> str:
        words = re.sub(r"[^\w\- ]", "", line.lstrip("#").strip().lower())
        return words.replace(" ", "-")

    pages = [*DOCS.rglob("*.md"), *ROOT.glob("*.md")]
    lines = {page: page.read_text("utf-8").splitlines() for page in pages}
    headings = {
        page: {heading(e) for e in text if e.startswith("#")} for page, text in lines.items()
    }
    broken = []
    for page, text in lines.items():
        for target, anchor in re.findall(r"\]\((?!\w+:)([^)#\s]*)#?([^)\s]*)\)", "\n".join(text)):
            there = (page.parent / target).resolve() if target else page
            if not there.exists() or (anchor and anchor not in headings.get(there, {anchor})):
                broken.append((str(page.relative_to(ROOT)), target, anchor))
    assert len(pages) > 8 and broken == []


@pytest.mark.parametrize(
    ("page", "count"),
    [
        ("probabilities", 3),
        ("structured-output", 2),
        ("tools", 3),
        ("functions", 3),
        ("pauses", 1),
        ("jobs", 6),
        ("ko/jobs", 5),
        ("rows", 1),
    ],
)
def test_the_examples_of_a_page_print_what_they_say(
    page: str,
    count: int,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)  # where some write files
    names: dict[str, object] = {"__name__": "__main__"}
    found = blocks((DOCS / f"{page}.md").read_text("utf-8"), "python", "output")
    assert len(found) == count
    for code, output in found:
        exec(compile(code, page, "exec", dont_inherit=True), names)
        assert capsys.readouterr().out == output + "\n"
