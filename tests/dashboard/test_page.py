"""The page as a widget: what it shows of a document, and what an address fills in."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import ipywidgets
import pytest
from standins.kernel import kernel
from widgets.conftest import updated, wait_until

from modelcompose_jupyter import dashboard, load
from modelcompose_jupyter.dashboard import page
from modelcompose_jupyter.dashboard.live_preview import LivePreview
from modelcompose_jupyter.dashboard.page_view import About, PageView
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.models.weights.source import bundled
from modelcompose_jupyter.widgets.panel import Panel

ONE = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as slider/10,400,10 | 60}
  temperature: ${input.temperature as number | 0.7}
  seed: ${input.seed as integer | null}
  do_sample: ${input.sample as boolean | true}
  stop_sequences: ${input.stops as string[] | []}
workflow:
  title: Tell a <story>
"""
SEVERAL = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text} ${input.workflow as text | ""}
workflows:
  - id: first
    title: The first
    job: {}
  - id: second
    default: true
    job: {}
  - id: hidden
    private: true
    job: {}
"""


@pytest.fixture
def document(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Writes a document, names it in the environment, and sets a page's query."""

    def write(text: str = ONE, query: str = "") -> Path:
        path = tmp_path / "secret place" / "story.yml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
        monkeypatch.setenv("MODELCOMPOSE_DOCUMENT", str(path))
        monkeypatch.setenv("QUERY_STRING", query)
        return path

    return write


def parts(widget: Any, kind: type) -> Iterator[Any]:
    """The widgets of a kind in a widget."""
    if isinstance(widget, kind):
        yield widget
    for child in getattr(widget, "children", ()):
        yield from parts(child, kind)


def texts(view: Any) -> str:
    """All HTML of a page but its style sheet."""
    found = (each.value for each in parts(view, ipywidgets.HTML))
    return "\n".join(value for value in found if not value.startswith("<style>"))


def values(view: PageView, id: str = "__workflow__") -> dict[str, Any]:
    inputs = view.panels[id].inputs
    return {name: inputs[name].value for name in inputs}


def test_one_workflow_has_a_panel_a_diagram_and_a_command_and_no_tabs(document: Any) -> None:
    document()
    view = page()
    assert isinstance(view, PageView)
    assert [*parts(view, Panel)] == [*view.panels.values()]
    assert not [*parts(view, ipywidgets.Tab)]
    (about,) = parts(view, About)
    assert about.diagram.startswith("<svg")
    assert "curl -X POST http://localhost:8080/api/workflows/runs" in about.curl
    assert '"prompt": "…"' in about.curl  # it is required
    assert "Tell a &lt;story&gt;" in texts(view)
    assert "role=" not in texts(view)


def test_the_page_sets_nothing_that_diagrams_and_panels_read() -> None:
    """What is set for the whole page would reach into both."""
    [page_style] = Path(dashboard.__file__).parent.glob("**/modelcompose.css")
    of_page = set(re.findall(r"^\s*(--mc-[a-z-]+):", page_style.read_text(), re.MULTILINE))
    package = Path(load.__code__.co_filename).parent
    others = [*(package / "widgets").glob("*.css"), *(package / "diagram").glob("*.py")]
    read = {name for path in others for name in re.findall(r"--mc-[a-z-]+", path.read_text())}
    assert of_page and read
    assert not of_page & read


def test_the_path_may_be_given(document: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    path = document()
    monkeypatch.delenv("MODELCOMPOSE_DOCUMENT")
    assert isinstance(page(path), PageView)
    assert isinstance(page(str(path)), PageView)
    with pytest.raises(UsageError, match="no document to show"):
        page()


def test_the_command_follows_the_inputs(document: Any) -> None:
    document()
    view = page()
    (about,) = parts(view, About)
    panel = view.panels["__workflow__"]
    panel.inputs.prompt.value = "It's raining"
    panel.inputs.length.value = 30
    assert '"prompt": "It\'"\'"\'s raining"' in about.curl
    assert '"length": 30' in about.curl


def test_an_address_fills_in_inputs_by_their_types(document: Any) -> None:
    document(
        query="prompt=Once+%26+again&length=30&temperature=0.3&seed=7&sample=no&stops=a&stops=b"
    )
    view = page()
    assert values(view) == {
        "prompt": "Once & again",
        "length": 30,
        "temperature": 0.3,
        "seed": "7",
        "sample": False,
        "stops": "a\nb",
    }
    assert "role=" not in texts(view)
    view.panels["__workflow__"].submit().cancel()


def test_what_cannot_be_used_is_a_note_and_the_rest_is_used(document: Any) -> None:
    document(query="prompt=Hi&length=9999&temperatur=1&temperature=<b>&token=x&theme=dark")
    view = page()
    found = texts(view)
    assert 'role="note"' in found
    assert "input &#x27;length&#x27;: &quot;9999&quot; is not between 10 and 400" in found
    assert "no input &#x27;temperatur&#x27;. Did you mean &#x27;temperature&#x27;?" in found
    assert "&lt;b&gt;" in found and "<b>" not in found
    assert "&#x27;token&#x27;" not in found and "theme" not in found
    assert values(view)["prompt"] == "Hi"
    assert values(view)["length"] == 60


@pytest.mark.parametrize(
    "query",
    [
        "&&=&%ff%00=%ff&;",
        "&".join(f"a{number}=1" for number in range(1000)),
        "prompt=" + "x" * 10**5,
    ],
    ids=["odd", "many", "long"],
)
def test_no_address_breaks_the_page(document: Any, query: str) -> None:
    document(query=query)
    assert isinstance(page(), PageView)


def test_several_workflows_have_tabs_and_private_ones_have_none(document: Any) -> None:
    document(SEVERAL)
    view = page()
    (tabs,) = parts(view, ipywidgets.Tab)
    assert tabs.titles == ("The first", "second")
    assert tabs.selected_index == 1  # the default one
    assert [*view.panels] == ["first", "second"]
    assert all('"workflow_id"' in about.curl for about in parts(view, About))


@pytest.mark.parametrize(
    ("text", "id", "call"),
    [
        (ONE, "__workflow__", 'load("story.yml")'),
        (SEVERAL, "first", 'load("story.yml", "first")'),
    ],
    ids=["one", "several"],
)
def test_a_run_is_copied_as_python_that_anybody_has(
    document: Any, text: str, id: str, call: str
) -> None:
    document(text, query="prompt=Once")
    panel = page().panels[id]
    panel.inputs.prompt.value = "It"
    run = panel.submit()
    run.cancel()
    python = panel._snippets(run)[0]["text"]
    assert re.match(rf"{re.escape(call)}(\(prompt=|\.start\({{'prompt': )'It'", python)


def test_an_address_chooses_the_workflow_that_it_fills_in(document: Any) -> None:
    document(SEVERAL, query="workflow=first&prompt=Hello")
    view = page()
    (tabs,) = parts(view, ipywidgets.Tab)
    assert tabs.selected_index == 0
    assert values(view, "first")["prompt"] == "Hello"
    assert values(view, "second")["prompt"] == ""


@pytest.mark.parametrize("name", ["frist", "hidden"])
def test_a_workflow_that_is_not_there_is_a_note(document: Any, name: str) -> None:
    document(SEVERAL, query=f"workflow={name}")
    view = page()
    (tabs,) = parts(view, ipywidgets.Tab)
    assert tabs.selected_index == 1
    assert f"there is no workflow &#x27;{name}&#x27;" in texts(view)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (ONE.replace("temperature:", "temprature:"), "Did you mean &#x27;temperature&#x27;?"),
        (ONE.replace("workflow:", "workflow:\n  private: true"), "no public workflow"),
        ("a: [", "story.yml:1"),
    ],
)
def test_a_wrong_document_is_told_in_place_of_the_page(
    document: Any, text: str, message: str
) -> None:
    document(text)
    view = page()
    assert not [*parts(view, Panel)]
    assert 'role="alert"' in texts(view)
    assert message in texts(view)
    assert "secret place" not in texts(view)


def states() -> str:
    """What the browser has of all widgets, as text."""
    known = list(ipywidgets.widgets.widget._instances.values())
    return json.dumps([each.get_state() for each in known], ensure_ascii=False, default=str)


@pytest.mark.parametrize("is_there", [True, False])
def test_visitors_see_no_folders(document: Any, tmp_path: Path, is_there: bool) -> None:
    """Neither in what is shown nor in what a browser has beside it, before and after a run."""
    folder = tmp_path / "zq of jane, it's zq"
    if is_there:
        shutil.copytree(bundled()["storyteller"], folder / "model")
    model = json.dumps(str(folder / "model"))
    text = f"""\
component:
  type: model
  task: text-generation
  model: {model}
  text: ${{input.prompt as text | Once}}
  stop_sequences:
    - ${{input.words as select/a,/zq/one/b | /zq/one/b @(description see /zq/help/x)}}
  max_output_length: 1000
workflow:
  title: See /zq/help/page
  description: of /zq/help/x
"""
    document(text, query="words=…/b")
    view = page()
    panel = view.panels["__workflow__"]
    assert panel.inputs.words.value == "…/b"
    before = states() + repr(view) + repr(panel.workflow) + str(panel.workflow.describe())
    run = panel.submit()
    run.wait()
    wait_until(panel._view, lambda: panel._view.ended)
    panel._go_back(run.id)
    updated()
    assert run.input["words"] == "/zq/one/b"
    after = states()
    for said in (before, after):
        assert "…/model" in said and "…/page" in said and "…/b" in said
        assert [said[at - 200 : at + 50] for at in (said.find("zq"),) if at >= 0] == []
    assert (run.error is None) is is_there
    assert ("…/model" in panel._view.error) is not is_there
    assert "zq" not in str(panel.workflow._repr_mimebundle_())
    view.close()


@pytest.mark.parametrize("text", [ONE.replace("bundled:storyteller", "/zq/one/two: [")])
def test_visitors_see_no_line_of_a_broken_document(document: Any, text: str) -> None:
    document(text)
    shown = texts(page())
    assert "story.yml:4" in shown and "zq" not in shown


def test_in_a_page_every_panel_is_for_guests(
    document: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = document(ONE.replace("bundled:storyteller", "/zq/one/two"))
    owner = load(path)
    monkeypatch.setenv("SERVER_SOFTWARE", "voila/0.5")
    visitor = load(path)
    assert "/zq/one/two" in repr(owner) and "/zq/one/two" in str(owner._repr_mimebundle_())
    assert "zq" not in repr(visitor) + str(visitor._repr_mimebundle_())


def test_a_missing_document_is_told(document: Any) -> None:
    document().unlink()
    assert "story.yml: cannot read it: no such file" in texts(page())


@pytest.mark.parametrize("call", ["page()", "live_preview('{path}')"])
def test_the_kernel_of_a_page_is_thin(document: Any, tmp_path: Path, call: str) -> None:
    path = document(query="prompt=Once")
    with kernel(tmp_path, MODELCOMPOSE_DOCUMENT=str(path), QUERY_STRING="prompt=Once") as shell:
        name = call.partition("(")[0]
        shown = shell.run(
            f"from modelcompose_jupyter.dashboard import {name}\n{call.format(path=path)}"
        )
        assert shown.status == "ok", shown.error
        heavy = ("torch", "transformers", "huggingface_hub", "voila", "jupyter_server")
        code = f"import sys\n[name for name in {heavy} if name in sys.modules]"
        assert shell.run(code).text == "[]"


def test_a_page_follows_its_document_and_keeps_what_was_entered(document: Any) -> None:
    path = document()
    page = LivePreview(path)
    listener, shown = page.children
    assert (listener.title, list(shown.panels)) == ("Tell a <story>", ["__workflow__"])
    first = shown.panels["__workflow__"]
    first.inputs.prompt.value = "A fox"
    first.inputs.length.value = 100

    def saved(text: str) -> Any:
        path.write_text(text)
        listener._handle_custom_msg({"type": "saved"}, [])
        return page.children[1]

    broken = saved(ONE.replace("task:", "tsk:"))
    assert "Did you mean" in str(broken.children[1].value)
    assert page.children[2] is shown  # as it was, out of reach
    assert "modelcompose-dimmed" in shown._dom_classes
    other = ONE.replace("Tell a <story>", "Another").replace("as slider/10,400,10 | 60", "| 50")
    second = saved(other).panels["__workflow__"]
    assert listener.title == "Another"
    assert second.inputs.prompt.value == "A fox"
    assert second.inputs.length.value == 50  # it has another type now
    assert first.comm is None  # the panel before is gone
