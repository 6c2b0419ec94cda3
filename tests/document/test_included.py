"""Workflows of other documents: read with the document, each with its own folder and ids."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelcompose_jupyter import language_service
from modelcompose_jupyter.document import Document, load_document, signature
from modelcompose_jupyter.errors import DocumentError, Problem
from modelcompose_jupyter.server.schemas import DocumentText

MAIN = """\
components:
  - {id: other, type: workflow, file: ./sub/other.yml, workflow: second}
  - {id: m, type: model, task: text-generation, model: bundled:storyteller, text: "${input.p}"}
workflow:
  jobs:
    - {id: a, component: other}
    - {id: b, component: m}
"""
OTHER = """\
component:
  {id: m, type: model, task: chat-completion, model: ./own, messages: "${input.q} ${env.GREETING}",
   chat_template: ./chat.jinja, format: {json_schema: ./s.json}}
workflows:
  - id: first
  - id: second
    jobs:
      - {id: a, input: {q: "${input.topic as text}"}}
      - {id: b, component: {type: workflow, workflow: first}, input: {q: "${jobs.a.output}"}}
      - {id: c, component: {type: workflow, file: deep/d.yml}, input: {z: "${jobs.b.output}"}}
"""
DEEP = 'component: {type: model, task: text-generation, model: ../own, text: "${input.z}"}\n'
FILES = {
    "main.yml": MAIN,
    "sub/other.yml": OTHER,
    "sub/chat.jinja": "{{ messages }}",
    "sub/s.json": '{"type": "object"}',
    "sub/deep/d.yml": DEEP,
}
ENVIRONMENT = {"GREETING": "hi"}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in FILES.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text)
    return tmp_path


def read(folder: Path) -> Document:
    return load_document(folder / "main.yml", environ=ENVIRONMENT)


def problems(folder: Path) -> list[Problem]:
    with pytest.raises(DocumentError) as caught:
        read(folder)
    return caught.value.problems


def changed(folder: Path, before: str, after: str, name: str = "sub/other.yml") -> None:
    text = (folder / name).read_text()
    assert before in text
    (folder / name).write_text(text.replace(before, after))


def test_another_document_is_a_part_of_it(folder: Path) -> None:
    document = read(folder)
    inputs = signature(document, document.default_workflow).inputs
    assert {(each.name, each.type.name) for each in inputs} == {("topic", "text"), ("p", "text")}
    names = ["./sub/other.yml", "sub/deep/d.yml", "sub/s.json", "sub/chat.jinja"]
    assert list(document.files) == names
    assert document.file_paths == [folder / name for name in names]
    assert dict(document.environment) == ENVIRONMENT
    assert [each.id for each in document.workflows] == ["__workflow__"]
    assert [each.id for each in document.all_workflows[1:]] == ["__workflow__", "first", "second"]


def test_what_it_calls_is_what_its_own_ids_say(folder: Path) -> None:
    document = read(folder)
    second = document.called(document.components[0])  # type: ignore[arg-type]
    components: list[Any] = [job.work.component for job in second.jobs]  # type: ignore[union-attr]
    chat, first, deep = components
    assert (second.id, chat.sources) == ("second", ["./own", ""])
    assert document.called(first).id == "first"
    assert document.called(first).jobs[0].call.component is chat  # type: ignore[union-attr]
    assert document.called(deep).path == (*deep.path, "file")
    assert document.source.folder_of(chat.path) == folder / "sub"
    assert document.source.folder_of(document.called(deep).path) == folder / "sub"
    model: Any = document.called(deep).jobs[0].call
    assert document.source.folder_of(model.component.path) == folder / "sub" / "deep"
    assert document.source.folder_of(second.path) == folder / "sub"
    assert document.source.folder_of(document.components[1].path) == folder


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("sub/other.yml", "topic", "subject"),
        ("sub/deep/d.yml", "${input.z}", "${input.z}!"),
        ("sub/chat.jinja", "messages", "messages[0]"),
        ("sub/s.json", "object", "array"),
    ],
)
def test_a_change_of_any_file_makes_another_document(
    folder: Path, name: str, before: str, after: str
) -> None:
    first = read(folder)
    changed(folder, before, after, name)
    second = read(folder)
    assert first.hash != second.hash and first.key != second.key


def test_layout_and_comments_of_the_other_make_no_other_document(folder: Path) -> None:
    first = read(folder)
    changed(folder, "workflows:", "# the workflows\nworkflows:")
    assert first.hash == read(folder).hash


def test_another_process_gets_all_of_it(folder: Path) -> None:
    document = read(folder)
    given = DocumentText.of(document)
    (folder / "sub" / "other.yml").unlink()
    brought = given.read()
    assert (brought.hash, brought.key) == (document.hash, document.key)


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        ("./s.json", "./t.json", "./sub/other.yml:3:55: there is no file 'sub/t.json'"),
        ("./chat.jinja", "./d.jinja", "./sub/other.yml:3:19: there is no file 'sub/d.jinja'"),
        ("chat-completion", "chat", "./sub/other.yml:2:30: 'task' cannot be \"chat\""),
        ("jobs:", "jbos:", "./sub/other.yml:7:5: unknown key 'jbos'"),
        ("workflow: first", "workflow: frist", "./sub/other.yml:9:55: there is no workflow"),
        ("deep/d.yml", "deep/e.yml", "./sub/other.yml:10:51: there is no file 'sub/deep/e.yml'"),
        ("input.topic", "inptu.topic", "./sub/other.yml:8:29: unknown source 'inptu' in ${inptu.t"),
        ("GREETING", "NONE", "./sub/other.yml:2:83: the environment variable NONE is not set"),
        ("component: {type", "compnent: {type", "./sub/other.yml:9:17: unknown key 'compnent'"),
        ("workflows:", "workflows: [", "./sub/other.yml:5:3: not YAML"),
        ("deep/d.yml", "other.yml", "./sub/other.yml:10:51: the document names itself"),
        (
            "deep/d.yml",
            "../main.yml",
            "./sub/other.yml:10:51: these documents name each other:"
            " main.yml → other.yml → main.yml",
        ),
    ],
)  # fmt: skip
def test_what_is_wrong_in_another_document(
    folder: Path, before: str, after: str, said: str
) -> None:
    changed(folder, before, after)
    first = problems(folder)[0]
    assert str(first).startswith(said)
    assert first.named_at is not None
    assert (first.named_at.file, first.named_at.line) == (str(folder / "main.yml"), 2)
    if "document" in said:
        return  # the text in an editor is in no file, so that it cannot name itself
    told = language_service.diagnostics(MAIN, folder=folder, environ=ENVIRONMENT)
    assert told is not None
    assert MAIN[told[0]["from"] : told[0]["to"]] == "./sub/other.yml"
    assert told[0]["message"] == str(first) and told[0]["hint"] == first.hint


@pytest.mark.parametrize(
    ("before", "after", "said", "hint"),
    [
        ("second", "scond", "2:66 there is no workflow 'scond'", "Did you mean 'second'?"),
        (", workflow: second", "", "2:5 'workflow' is missing", "Name one of 'first', 'second'."),
        ("other.yml", "othr.yml", "2:39 there is no file './sub/othr.yml'",
         "Did you mean 'other.yml'?"),
        ("./sub/other.yml", '"${input.file}"',
         "2:39 the file is read with the document: no expression says it",
         "Write the path of a file, such as ./other.yml."),
        ("./sub/other.yml", "./main.yml", "2:39 the document names itself",
         "Such calls have no end. Another workflow of this document is named by its id alone."),
        ("./sub/other.yml", "./sub/list.yml", "2:39 the file holds no document, but", None),
        ("./sub/other.yml", "3", "2:39 'file': 3 is not text; put it in quotes", None),
    ],
)  # fmt: skip
def test_what_is_wrong_where_one_is_named(
    folder: Path, before: str, after: str, said: str, hint: str | None
) -> None:
    changed(folder, before, after, "main.yml")
    (folder / "sub" / "list.yml").write_text("[1]")
    (problem,) = problems(folder)
    assert f"{problem.where.line}:{problem.where.column} {problem.message}".startswith(said)
    assert problem.hint == hint and problem.named_at is None


def test_ids_of_the_two_documents_do_not_meet(folder: Path) -> None:
    changed(folder, "component: other", "component: {type: workflow, workflow: second}", "main.yml")
    (problem,) = problems(folder)
    assert problem.message == "there is no workflow 'second'"


def test_how_deep_and_how_many_is_bounded(folder: Path) -> None:
    def naming(count: int, name: str) -> str:
        each = f"  - {{id: w§, type: workflow, file: {name}}}\n"
        jobs = "".join(f"    - {{id: j{n}, component: w{n}}}\n" for n in range(count))
        lines = "".join(each.replace("§", str(n)) for n in range(count))
        return f"components:\n{lines}workflow:\n  jobs:\n{jobs}"

    for depth in range(1, 7):
        (folder / f"{depth}.yml").write_text(naming(1, f"./{depth + 1}.yml"))
    (folder / "7.yml").write_text(DEEP)
    (folder / "main.yml").write_text(naming(1, "./3.yml"))
    assert len(read(folder).included) == 5
    (folder / "main.yml").write_text(naming(1, "./2.yml"))
    (problem,) = problems(folder)
    assert str(problem) == ("./6.yml:2:36: documents name each other more than 5 deep")
    (folder / "main.yml").write_text(naming(50, "./7.yml"))
    assert len(read(folder).included) == 50
    (folder / "main.yml").write_text(naming(51, "./7.yml"))
    (problem,) = problems(folder)
    assert problem.message == "more than 50 other documents are named"


def test_one_that_stands_in_an_inner_job(folder: Path) -> None:
    inner = (
        "{type: for-each, input: [1], do: {component: {type: workflow, file: ./sub/deep/d.yml}}}"
    )
    (folder / "main.yml").write_text(f"{MAIN}    - {inner}\n")
    document = read(folder)
    assert len(document.included) == 3 and "./sub/deep/d.yml" in document.files
