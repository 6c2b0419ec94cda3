"""Workflows of other documents run with models, modules and ids of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, LocalHost, Run, Workflow, load

MAIN = """\
components:
  - {id: other, type: workflow, file: ./sub/other.yml}
  - {id: own, type: model, task: text-generation, model: ./own, text: "${input.p}"}
workflow:
  jobs:
    - {id: a, component: own}
    - {id: b, component: other, input: {q: "${jobs.a.output}"}}
"""
OTHER = """\
components:
  - {id: own, type: model, task: text-generation, model: ./own, text: "${input.p}",
     max_concurrent_count: 1}
  - {id: tidy, type: function, function: "steps:tidy"}
workflow:
  jobs:
    - {id: tell, component: own, input: {p: "${input.q}"}}
    - {id: tidied, component: tidy, input: {text: "${jobs.tell.output}"}}
"""


@pytest.fixture
def flow(tmp_path: Path, host: LocalHost) -> Workflow:
    (tmp_path / "sub").mkdir()
    (tmp_path / "main.yml").write_text(MAIN)
    (tmp_path / "sub" / "other.yml").write_text(OTHER)
    (tmp_path / "sub" / "steps.py").write_text(
        "def tidy(text: str) -> str:\n    return text[::-1]\n"
    )
    (tmp_path / "steps.py").write_text("def tidy(text):\n    raise ValueError('not this one')\n")
    return load(tmp_path / "main.yml", host=host)


def test_its_models_and_modules_are_those_beside_it(
    flow: Workflow, models: ScriptedModels, tmp_path: Path
) -> None:
    assert flow(p="hi") == ">>ih<<"
    sources = [spec.source for spec in models.specs]
    assert sources == [str(tmp_path / "own"), str(tmp_path / "sub" / "own")]
    run = flow.last_run
    assert run is not None
    assert {name: each["state"] for name, each in run.jobs.items()} == dict.fromkeys(
        ("a", "b", "b/tell", "b/tidied"), "completed"
    )


def test_its_errors_are_told_where_they_are(flow: Workflow, tmp_path: Path) -> None:
    (tmp_path / "sub" / "steps.py").write_text("def tidy(text):\n    return 1 / 0\n")
    with pytest.raises(ComposeError, match="ZeroDivisionError") as caught:
        flow(p="hi")
    where: Any = caught.value.where
    assert (where.file, where.line, where.column) == ("./sub/other.yml", 4, 42)


def test_its_functions_are_checked_with_the_document(
    tmp_path: Path, flow: Workflow, host: LocalHost
) -> None:
    text = (tmp_path / "sub" / "other.yml").read_text()
    (tmp_path / "sub" / "other.yml").write_text(text.replace("input: {text:", "input: {txt:"))
    with pytest.raises(ComposeError, match="takes no 'txt'") as caught:
        load(tmp_path / "main.yml", host=host)
    assert str(caught.value).startswith("./sub/other.yml:8:")


def test_its_components_have_limits_of_their_own(flow: Workflow, models: ScriptedModels) -> None:
    models.hold = ("<hi>",)  # which the other document's component has then, and no more
    first = flow.submit(p="hi")
    models.started.acquire()
    second = flow.submit(p="ho")
    second.wait_for(lambda: "queue" in _phases(second), 30)
    assert "<ho>" not in models.prompts and "ho" in models.prompts
    models.gate.set()
    assert (first.result(30), second.result(30)) == (">>ih<<", ">>oh<<")


def _phases(run: Run) -> list[str]:
    return [str(e.data.get("phase")) for e in run.events_so_far() if e.data.get("job") == "b"]


@pytest.mark.parametrize("name", ["", "id: main, "])
def test_a_question_of_another_document_is_one_of_the_workflow(
    tmp_path: Path, host: LocalHost, name: str
) -> None:
    call = "component: {type: workflow, file: other.yml}\nworkflow: {NAMEinput: {p: 1}}\n"
    (tmp_path / "main.yml").write_text(call.replace("NAME", name))
    (tmp_path / "other.yml").write_text(
        'component: {type: model, task: text-generation, model: ./own, text: "${input.p}"}\n'
        f"workflow: {{{name}interrupt: {{before: true}}}}\n"
    )
    flow = load(tmp_path / "main.yml", host=host)
    with pytest.raises(ComposeError, match="asks a person") as caught:
        flow.map([{}])
    assert caught.value.code == "needs_answer"
    assert caught.value.where is not None and caught.value.where.file == "other.yml"
