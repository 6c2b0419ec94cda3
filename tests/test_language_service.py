"""What editors are told about a text that is being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from seed import blocks

from modelcompose_jupyter.language_service import LONGEST, complete, diagnostics, explain
from modelcompose_jupyter.models.weights.source import bundled

ROOT = Path(__file__).parent.parent
SETTINGS = json.loads((ROOT / "labextension" / "schema" / "plugin.json").read_text())
TEMPLATES = SETTINGS["properties"]["templates"]["default"]
DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
"""


def marked(text: str) -> list[tuple[str, str]]:
    """What a browser would underline, and as what."""
    units = text.encode("utf-16-le")
    found: list[dict[str, Any]] = diagnostics(text) or []
    return [
        (units[2 * each["from"] : 2 * each["to"]].decode("utf-16-le"), each["severity"])
        for each in found
    ]


def test_what_is_right_has_no_problems() -> None:
    for text in (DOCUMENT, blocks.SEED_INSTRUCTION, blocks.SEED_TEMPLATE):
        assert diagnostics(text) == diagnostics(f"%%compose story\n{text}") == []


@pytest.mark.parametrize(
    ("was", "written", "under"),
    [
        ("task", "tsk", "tsk"),
        ("text-generation", "text-generaton", "text-generaton"),
        ("as text", "as txt", "${input.prompt as txt}"),
        ("  type: model\n", "  type: model\n  type: model\n", "type"),
        ("bundled:storyteller", "'open", "'"),
    ],
)
@pytest.mark.parametrize("above", ["", "# 🙂 é\r\n", "%%compose story --run\n", "%%compose\n#🙂\n"])
def test_the_offending_characters_are_found(above: str, was: str, written: str, under: str) -> None:
    assert (under, "error") in marked(above + DOCUMENT.replace(was, written))


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda each: str(each["name"]))
def test_templates_of_jupyterlab_are_right(template: dict[str, str]) -> None:
    assert diagnostics(template["text"]) == []


def test_hints_come_along() -> None:
    (problem,) = diagnostics(DOCUMENT.replace("model: b", "modle: b")) or []
    assert "Did you mean 'model'?" in problem["hint"]


def test_keys_without_effect_are_warnings() -> None:
    assert marked(f"{DOCUMENT}  streaming: true\n") == [("streaming", "warning")]


def test_a_place_ends_with_its_line() -> None:
    text = DOCUMENT.replace("text: ${", "text: |\n    one ${").replace("as text", "as txt")
    assert marked(text)[0][0] == "${input.prompt as txt}"
    (first, _), *_ = marked("component:\n  type: model\n  # none\n")
    assert "\n" not in first


def test_the_magics_own_line_is_checked_too() -> None:
    assert marked(f"%%compose story --rum\n{DOCUMENT}") == [(" story --rum", "error")]
    assert marked(f"%%compose a 'b\n{DOCUMENT}")[0][1] == "error"
    # What Python would have to compute is not computed.
    assert diagnostics(f"%%compose story x:=1/0\n{DOCUMENT}") == []


def test_nothing_is_said_of_what_is_too_long() -> None:
    assert diagnostics("#" * (LONGEST + 1)) is None
    assert complete("#" * (LONGEST + 1), 3)["items"] == []


@pytest.mark.parametrize("text", ["", "\n", "%%compose", "%%compose\n", "%%composer\n", "\ud83d"])
def test_every_text_has_an_answer(text: str) -> None:
    for each in diagnostics(text) or []:
        assert 0 <= each["from"] <= each["to"] <= len(text)


def test_environment_variables_are_those_of_the_asker() -> None:
    text = DOCUMENT.replace("bundled:storyteller", "${env.WHICH}")
    assert diagnostics(text, environ={})
    assert diagnostics(text, environ={"WHICH": "bundled:storyteller"}) == []


def test_completion_counts_as_browsers_do() -> None:
    text = "# 🙂\ncomponent:\n  mod"
    answer = complete(text, len(text) + 1)
    assert answer["start"] == len(text) + 1 - len("mod")
    (item,) = answer["items"]
    assert (item["text"], item["kind"]) == ("model: ", "key")
    assert "bundled:storyteller" in item["help"]


def completed(marked: str) -> list[str]:
    before, _, after = marked.partition("▮")
    answer = complete(before + after, len(before))
    assert before[answer["start"] :] == "" or all(
        each["text"].startswith(before[answer["start"] :]) for each in answer["items"]
    )
    return [each["text"] for each in answer["items"]]


def test_cells_are_completed_below_their_magic_and_on_its_line() -> None:
    assert completed(f"%%compose story\n{DOCUMENT}  temper▮") == ["temperature: "]
    assert completed("%%compose story\n▮")[:2] == ["component:", "workflow:"]
    assert completed(f"%%compose story ▮\n{DOCUMENT}") == ["prompt=", "--run", "--no-panel"]
    assert completed(f"%%compose story pr▮\n{DOCUMENT}") == ["prompt="]
    assert completed(f"%%comp▮ose\n{DOCUMENT}") == []


@pytest.mark.parametrize("above", ["", "%%compose story\n", "# 🙂\n"])
def test_what_stands_there_is_explained(above: str) -> None:
    text = above + DOCUMENT
    units = text.encode("utf-16-le")
    for word, kind, about in (
        ("task", "key", "go on from a text"),
        ("text-generation", "value", "from a prompt"),
        ("bundled:storyteller", "model", "ships with the package"),
        ("input", "source", "workflow's input"),
    ):
        place = text.encode("utf-16-le").index(word.encode("utf-16-le")) // 2
        found = explain(text, place)
        assert found is not None
        assert (found["name"], found["kind"]) == (word, kind)
        assert units[2 * found["from"] : 2 * found["to"]].decode("utf-16-le") == word
        assert about in found["help"]
    assert explain(text, 0) == (explain(DOCUMENT, 0) if not above else None)
    assert explain("#" * (LONGEST + 1), 3) is None


@pytest.mark.parametrize(
    ("model", "message", "hint"),
    [
        ("bundled:storytellr", "there is no bundled model 'storytellr'", "'storyteller'?"),
        ("storyteller", "'storyteller' is a repository of the Hub here", "bundled:storyteller"),
        ("./nosuch", "nosuch does not exist", "Check the path"),
        ("./nosuch.gguf", "nosuch.gguf does not exist", "Check the path"),
        ("./empty", "empty", ""),
    ],
)
def test_models_that_are_not_there_are_warnings(
    model: str, message: str, hint: str, tmp_path: Path
) -> None:
    (tmp_path / "empty").mkdir()
    text = f"%%compose\n{DOCUMENT.replace('bundled:storyteller', model)}"
    (problem,) = diagnostics(text, folder=tmp_path) or []
    assert text[problem["from"] : problem["to"]] == model
    assert problem["severity"] == "warning"
    assert message in problem["message"]
    assert hint in (problem["hint"] or "")
    assert explain(text, problem["from"], folder=tmp_path) is None


@pytest.mark.parametrize(
    "model", ["bundled:storyteller", "some/repository", "gpt2", "${env.X|a/b}"]
)
def test_models_that_may_be_there_are_none(model: str, tmp_path: Path) -> None:
    text = DOCUMENT.replace("bundled:storyteller", model)
    assert diagnostics(text, folder=tmp_path) == []


def test_a_folder_with_a_model_is_right(tmp_path: Path) -> None:
    (tmp_path / "own").symlink_to(bundled()["storyteller"])
    assert diagnostics(DOCUMENT.replace("bundled:storyteller", "./own"), folder=tmp_path) == []
