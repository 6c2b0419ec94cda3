"""Widgets in the language that the browser says."""

from __future__ import annotations

from typing import Any

import ipywidgets
import pytest

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.widgets.panel import Panel

from .conftest import updated

TEXT = """
workflow: {title: Stop, description: Settings}
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text @(placeholder Stop) @(example Stop)}
  temperature: ${input.temperature as number | 0.7}
"""


@pytest.fixture
def panel(host: LocalHost) -> Panel:
    return load(TEXT, host=host).panel()


def _said(panel: Panel) -> dict[str, str]:
    widgets: list[Any] = [panel]
    for each in widgets:
        widgets += getattr(each, "children", ())
    return {each.description: each.tooltip for each in widgets if hasattr(each, "description")}


def test_a_panel_speaks_as_the_browser_does(panel: Panel) -> None:
    panel._view.language = "ko-KR"
    said = _said(panel)
    assert {"워크플로 실행", "중지", "실시간", "시드 유지", "확률", "프롬프트 *"} <= said.keys()
    assert said["중지"] == "다음 토큰에서 중지합니다. 지금까지의 텍스트는 남습니다"
    panel._view.language = "en"
    assert {"Run Workflow", "Stop", "Prompt *"} <= _said(panel).keys()


def test_what_is_the_user_s_stays(panel: Panel) -> None:
    panel._view.language = "ko"
    chips = [each for each in _tree(panel) if "modelcompose-chip" in each._dom_classes]
    assert [each.description for each in chips] == ["Stop"]
    assert "<h3>Stop</h3>" in panel.children[0].value


def test_how_a_run_went_is_told_in_that_language(panel: Panel) -> None:
    panel.inputs["prompt"].value = "Once"
    run = panel.submit()
    run.wait(60)
    updated()
    view = panel._view
    english = view.get_state()["status"]
    assert english.startswith("Finished · ")
    view.language = "ko"
    assert view.get_state()["status"].startswith("완료 · 토큰 ")
    assert view.status == english, "in Python it stays as it was"


def test_what_is_wrong_too(panel: Panel) -> None:
    panel._view.language = "ko"
    panel.press_run()
    row = panel._form.rows["prompt"]
    assert row._error.value == '<span role="alert">값을 입력하세요.</span>'
    panel._view.fail("the panel is closed")
    updated()
    assert panel._view.get_state()["error"] == "패널이 닫혀 있습니다"


def test_what_a_notebook_keeps_is_in_that_language(panel: Panel) -> None:
    panel.inputs["prompt"].value = "Stop"
    run = panel.submit()
    run.wait(60)
    panel._view.language = "ko-KR"
    for shown in panel._bundle(run)[0].values():
        assert "[완료 · 토큰 " in shown
        assert "Finished" not in shown
        assert "Stop" in shown


def test_jobs_are_drawn_in_that_language(host: LocalHost) -> None:
    component = "{type: model, task: text-generation, model: scripted, text: '${input.prompt}'}"
    jobs = "[{id: Stop, retry: 2}, {id: done, type: delay, duration: 1, depends_on: Stop}]"
    panel = load(f"{{component: {component}, workflow: {{jobs: {jobs}}}}}", host=host).panel()
    english = panel._view.get_state()["picture"]
    panel._view.language = "ko-KR"
    korean = panel._view.get_state()["picture"]
    assert "up to 2 attempts" in english
    assert "최대 2회 시도" in korean
    assert all(f">{name}<" in korean for name in ("입력", "Stop", "1초 동안", "출력"))
    panel._view.language = "en-GB"
    assert panel._view.get_state()["picture"] == english


def _tree(root: Any) -> list[Any]:
    found = [root] if isinstance(root, ipywidgets.DOMWidget) else []
    return found + [each for child in getattr(root, "children", ()) for each in _tree(child)]
