"""What editors are told about a text that is being written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from seed import blocks

from modelcompose_jupyter.language_service import LONGEST, complete, diagnostics

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
    assert {"text": "model: ", "kind": "key"} in answer["items"]
