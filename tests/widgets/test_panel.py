"""What a panel does when it is used, with scripted models."""

from __future__ import annotations

import re
from typing import Any

import ipywidgets
import pytest
from ipywidgets.widgets.widget import _instances
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, ModelError, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.comparing.grid_runs import GridRuns
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.widgets.panel import Panel

from .conftest import updated, wait_until

TEXT = """
workflow: {title: A <story>, description: It goes on.}
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text}
  temperature: ${input.temperature as number | 0.7}
"""


@pytest.fixture
def panel(host: LocalHost) -> Panel:
    return load(TEXT, host=host).panel()


def run_button(panel: Panel) -> Any:
    return panel._run_button


def descriptions(widget: Any) -> list[str]:
    """What the controls in a panel are called, in their order."""
    own = getattr(widget, "description", "")
    below = [name for each in getattr(widget, "children", ()) for name in descriptions(each)]
    return [*([own] if own else []), *below]


def ended(panel: Panel) -> None:
    view = panel._view
    wait_until(view, lambda: view.run is not None and view.ended and view.run_id == view.run.id)


def run(panel: Panel, **values: Any) -> None:
    for name, value in values.items():
        panel.inputs[name].value = value
    run_button(panel).click()
    ended(panel)


def test_run_streams_and_says_how_it_ended(panel: Panel) -> None:
    run(panel, prompt="Hello")
    view = panel._view
    assert view.get_state("texts")["texts"] == ["<Hello>"]
    assert (view.state, view.error, view.outputs) == ("completed", "", [])
    assert view.status.startswith("Finished · 1 token · ")
    assert (run_button(panel).disabled, panel._stop_button.disabled) == (False, True)


def test_the_header_is_text(panel: Panel) -> None:
    assert "<h3>A &lt;story&gt;</h3>" in panel.children[0].value


def said(panel: Panel, name: str) -> str:
    """What stands at a field as wrong with it."""
    text = panel._form.rows[name].children[-1].value
    return re.sub("<[^>]*>", "", text)


def test_a_missing_input_is_said_at_its_field(panel: Panel) -> None:
    run_button(panel).click()
    assert said(panel, "prompt") == "Fill this in."
    assert panel._view.error == ""
    run(panel, prompt="Hello")
    assert said(panel, "prompt") == ""


def test_all_missing_inputs_are_marked(host: LocalHost) -> None:
    text = TEXT.replace("${input.prompt as text}", "${input.a} ${input.b} ${input.c.d}")
    panel = load(text, host=host).panel()
    run_button(panel).click()
    assert [said(panel, name) for name in "abc"] == ["Fill this in."] * 3
    panel.inputs.a.value = panel.inputs.b.value = "x"
    assert [said(panel, name) for name in "abc"] == ["", "", "Fill this in."]
    panel.inputs.c.value = "{}"
    run_button(panel).click()
    wait_until(panel._view, lambda: panel._view.error.startswith("missing input 'c.d'"))


def test_inputs_that_cannot_be_used_are_said_without_the_document(host: LocalHost) -> None:
    text = TEXT.replace("as number | 0.7", "as number").replace("${input.prompt as", "${input.p as")
    panel = load(text, host=host).panel(p="Hello")
    panel.inputs.temperature.value = "hot"
    run_button(panel).click()
    assert said(panel, "temperature").startswith("&quot;hot&quot; is not a number")
    assert "|" not in said(panel, "temperature")
    assert panel._view.error == ""


def test_a_failed_run_is_said_in_the_panel(panel: Panel, models: ScriptedModels) -> None:
    models.failure = ModelError("no such model", code="model_not_found")
    run(panel, prompt="Hello")
    assert panel._view.state == "failed"
    assert "no such model" in panel._view.error


def test_an_error_of_a_handler_is_said_in_the_panel(
    panel: Panel, host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError("it broke")

    monkeypatch.setattr(host, "submit", broken)
    panel.inputs.prompt.value = "Hello"
    run_button(panel).click()
    wait_until(panel._view, lambda: panel._view.error == "RuntimeError: it broke")


def test_stop_keeps_the_text(panel: Panel, models: ScriptedModels) -> None:
    models.hold = ("Hello",)
    models.reply = lambda prompt: ["Once", " upon", " a time"]
    panel.inputs.prompt.value = "Hello"
    run_button(panel).click()
    assert models.started.acquire(timeout=30)
    wait_until(panel._stop_button, lambda: not panel._stop_button.disabled)
    assert run_button(panel).disabled
    panel._stop_button.click()
    ended(panel)
    assert panel._view.state == "cancelled"
    assert panel._view.get_state("texts")["texts"] == ["Once"]
    assert panel._view.error == ""


def test_closing_stops_the_run(panel: Panel, models: ScriptedModels) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    pending = panel.submit()
    assert models.started.acquire(timeout=30)
    panel.close()
    assert pending.wait(30)
    assert pending.state == "cancelled"


def test_a_view_that_nobody_sees_stops_the_run(panel: Panel, models: ScriptedModels) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    pending = panel.submit()
    assert models.started.acquire(timeout=30)
    panel._view._handle_custom_msg({"type": "gone"}, [])
    assert pending.wait(30)
    assert pending.state == "cancelled"


def test_a_changed_slider_waits_for_the_next_run(panel: Panel, models: ScriptedModels) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    first = panel.submit()
    assert models.started.acquire(timeout=30)
    panel.inputs.temperature.value = 1.5
    assert panel.run is first
    models.gate.set()
    ended(panel)
    run(panel)
    assert [each["temperature"] for each in models.parameters] == [0.7, 1.5]


def test_live_restarts_at_once_and_the_latest_value_wins(
    panel: Panel, models: ScriptedModels
) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    first = panel.submit()
    assert models.started.acquire(timeout=30)
    panel.live = True
    for value in (1.0, 1.1, 1.2):
        panel.inputs.temperature.value = value
    assert panel.run is not None
    assert panel.run.input == {"prompt": "Hello", "temperature": 1.2}
    assert first.wait(30)
    assert first.state == "cancelled"
    models.gate.set()
    ended(panel)
    # Those that were overtaken are no runs to go back to.
    shown = panel.run.id
    assert [each["id"] for each in panel._view.cards if each["status"] != "cancelled"] == [shown]


def test_a_slider_on_its_way_leaves_one_run(panel: Panel) -> None:
    run(panel, prompt="Hello")
    panel.live = True
    for value in (1.0, 1.1, 1.2):
        panel.inputs.temperature.value = value
        ended(panel)
    assert [each["details"] for each in panel._view.cards] == [
        ["Temperature 1.2"],
        ["Temperature 0.7"],
    ]


def test_a_live_input_that_cannot_be_used_stops_nothing(
    panel: Panel, models: ScriptedModels
) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    first = panel.submit()
    assert models.started.acquire(timeout=30)
    panel.live = True
    panel.inputs.prompt.value = ""
    assert said(panel, "prompt") == "Fill this in."
    assert not first.done
    models.gate.set()
    assert first.wait(30)
    assert first.state == "completed"


def browser_says(panel: Panel, **message: Any) -> None:
    panel._view._handle_custom_msg(message, [])
    updated()


def test_earlier_runs_can_be_gone_back_to(panel: Panel) -> None:
    run(panel, prompt="One", temperature=0.1)
    first = panel.run
    run(panel, prompt="Two", temperature=0.2)
    assert first is not None
    shown = [(each["title"], each["details"], each["pinned"]) for each in panel._view.cards]
    assert shown == [
        ("Two", ["Temperature 0.2"], False),
        ("One", ["Temperature 0.1"], False),
    ]
    browser_says(panel, type="show", run=first.id)
    wait_until(panel._view, lambda: panel._view.run_id == first.id)
    assert panel._view.get_state("texts")["texts"] == ["<One>"]
    assert (panel.inputs.prompt.value, panel.inputs.temperature.value) == ("One", 0.1)


def test_only_the_last_runs_are_kept_and_those_that_are_pinned(panel: Panel) -> None:
    run(panel, prompt="first")
    assert panel.run is not None
    browser_says(panel, type="pin", run=panel.run.id, pinned=True)
    for number in range(25):
        run(panel, prompt=str(number))
    titles = [each["title"] for each in panel._view.cards]
    assert titles == [*map(str, range(24, 5, -1)), "first"]


def test_runs_stand_side_by_side_with_what_differs(panel: Panel, models: ScriptedModels) -> None:
    models.reply = lambda prompt: [f"The {prompt} ran home."]
    ids = []
    for prompt, temperature in [("fox", 0.5), ("old bear", 1.5)]:
        run(panel, prompt=prompt, temperature=temperature)
        assert panel.run is not None
        ids.append(panel.run.id)
    browser_says(panel, type="compare", runs=ids)
    fox, bear = panel._view.compared
    assert fox["label"] == 'Prompt "fox" · Temperature 0.5'
    assert fox["parts"] == [["same", "The "], ["other", "fox"], ["same", " ran home."]]
    assert "".join(text for _, text in bear["parts"]) == "The old bear ran home."
    assert ["other", "old bear"] in bear["parts"]
    browser_says(panel, type="compare", runs=[])
    assert panel._view.compared == []


def browser_says_of_grids(panel: Panel, **message: Any) -> None:
    panel._grid_view._handle_custom_msg(message, [])
    updated()


def grid_ended(panel: Panel) -> GridRuns:
    view = panel._grid_view
    wait_until(
        view, lambda: bool(view.progress) and view.progress["done"] == view.progress["total"]
    )
    assert panel._grid is not None
    return panel._grid


def test_three_temperatures_run_with_one_seed_beside_each_other(
    panel: Panel, models: ScriptedModels
) -> None:
    assert panel._grid_view.quick == "Three temperatures"
    panel.inputs.prompt.value = "Hello"
    browser_says_of_grids(panel, type="quick")
    grid_ended(panel)
    assert sorted(each["temperature"] for each in models.parameters) == [0.2, 0.7, 1.2]
    assert len({each["seed"] for each in models.parameters}) == 1
    heads = panel._grid_view.heads
    assert heads["columns"] == [["Temperature", f"{each}"] for each in (0.2, 0.7, 1.2)]
    assert (heads["corner"], heads["rows"]) == ([], [[]])
    assert panel.run is None  # until one of them is opened


@pytest.mark.parametrize(
    ("temperature", "quick"),
    [
        ("${input.temperature as slider/0,2,0.1 | 0.7}", [0.2, 0.7, 1.2]),
        ("${input.temperature as slider/0.5,1,0.1 | 0.7}", [0.5, 0.75, 1.0]),
        ("${input.temperature as select/0.5,1.0 | 0.5}", None),
        ("${input.temperature as number | 0.7}\n  do_sample: false", None),
    ],
)
def test_a_quick_grid_has_values_that_the_input_takes(
    host: LocalHost, models: ScriptedModels, temperature: str, quick: list[float] | None
) -> None:
    text = TEXT.replace("${input.temperature as number | 0.7}", temperature)
    panel = load(text, host=host).panel(prompt="Hello")
    assert bool(panel._grid_view.quick) == (quick is not None)
    if quick:
        browser_says_of_grids(panel, type="quick")
        grid_ended(panel)
        assert sorted(each["temperature"] for each in models.parameters) == quick


VARIED = """
component:
  type: model
  task: text-generation
  model: {repository: scripted, token: "${input.token}"}
  text: ${input.prompt as text} ${input.tags as text[] | []}
  max_output_length: ${input.length as slider/10,100,10 | 20}
  do_sample: ${input.draw as boolean | true}
  min_p: ${input.kind as select/0,0.1 | 0}
  temperature: ${input.temperature}
"""


def test_what_may_vary_is_offered_as_it_is_entered(host: LocalHost) -> None:
    view = load(VARIED, host=host).panel()._grid_view
    assert [tuple(each.values()) for each in view.choices] == [
        ("temperature", "Temperature", "numbers", [], "0.2, 0.7, 1.2"),
        ("prompt", "Prompt", "lines", [], ""),
        ("tags", "Tags", "lines", [], ""),
        ("length", "Length (tokens)", "numbers", [], "10, 55, 100"),
        ("draw", "Draw", "options", ["true", "false"], ""),
        ("kind", "Kind", "options", ["0", "0.1"], ""),
        ("seed", "Seed", "numbers", [], "1, 2, 3"),
    ]
    seeded = load(f"{TEXT}  seed: 7\n", host=host).panel()._grid_view
    assert [each["name"] for each in seeded.choices] == ["temperature", "prompt"]


def test_values_that_were_entered_run_beside_the_others(
    panel: Panel, models: ScriptedModels
) -> None:
    panel.inputs.temperature.value = 0.3
    axes = [["prompt", ["A fox", "An owl"]], ["seed", ["4", "5"]]]
    browser_says_of_grids(panel, type="grid", axes=axes)
    grid = grid_ended(panel)
    assert [run and run.input for run in grid.runs] == [
        {"prompt": prompt, "temperature": 0.3} for prompt in ("A fox", "An owl") for _ in (4, 5)
    ]
    assert sorted(each["seed"] for each in models.parameters) == [4, 4, 5, 5]
    assert panel._grid_view.caption == "Temperature 0.3"


def test_lists_are_entered_a_line_each(host: LocalHost, models: ScriptedModels) -> None:
    panel = load(VARIED.replace(', token: "${input.token}"', ""), host=host).panel(prompt="A")
    panel.inputs.temperature.value = "0.5"
    axes = [["tags", ['["a", "b"]', "c"]], ["draw", ["true", "false"]]]
    browser_says_of_grids(panel, type="grid", axes=axes)
    grid_ended(panel)
    assert sorted(set(models.prompts)) == ['A ["a", "b"]', 'A ["c"]']
    assert sorted(each["do_sample"] for each in models.parameters) == [False, False, True, True]


@pytest.mark.parametrize(
    ("axes", "failure"),
    [
        ([["temperature", ["0.2", "hot"]]], '"hot" is not a number'),
        ([["seed", ["one"]]], '"one" is not an integer'),
        ([["seed", ["-1"]]], "the seed must be an integer from 0"),
        ([["seed", map(str, range(500))]], "a grid has 400 runs at most"),
    ],
)
def test_values_that_cannot_be_used_are_said_where_they_were_entered(
    panel: Panel, models: ScriptedModels, axes: Any, failure: str
) -> None:
    panel.inputs.prompt.value = "Hello"
    axes = [[name, list(values)] for name, values in axes]
    browser_says_of_grids(panel, type="grid", axes=axes)
    wait_until(panel._grid_view, lambda: failure in panel._grid_view.failure)
    assert models.prompts == []
    browser_says_of_grids(panel, type="quick")
    grid_ended(panel)
    assert panel._grid_view.failure == ""


def test_what_a_grid_lacks_is_said_at_its_field(host: LocalHost) -> None:
    text = TEXT.replace("${input.prompt as text}", "${input.a} ${input.b}")
    panel = load(text, host=host).panel()
    browser_says_of_grids(panel, type="grid", axes=[["a", ["x", "y"]]])
    assert (said(panel, "a"), said(panel, "b")) == ("", "Fill this in.")


def test_visitors_of_a_page_have_small_grids(host: LocalHost) -> None:
    panel = Workflow(load(TEXT).document, host=host, for_guests=True).panel(prompt="Hello")
    seeds = [str(number) for number in range(17)]
    browser_says_of_grids(panel, type="grid", axes=[["seed", seeds]])
    view = panel._grid_view
    wait_until(view, lambda: view.failure.startswith("a grid has 16 runs at most"))
    browser_says_of_grids(panel, type="grid", axes=[["seed", seeds[1:]]])
    assert len(grid_ended(panel).cells) == 16


def test_a_run_of_a_grid_is_opened_with_its_inputs(panel: Panel) -> None:
    panel.inputs.prompt.value = "Hello"
    browser_says_of_grids(panel, type="quick")
    run = grid_ended(panel).runs[2]
    browser_says_of_grids(panel, type="open", cell=2)
    ended(panel)
    assert panel.run is run
    assert panel.inputs.temperature.value == 1.2
    assert panel._grid_view.opened == 2
    run_button(panel).click()
    ended(panel)
    assert [each["details"] for each in panel._view.cards] == [[], []]


def test_a_shown_run_takes_the_place_of_one_that_goes_on(
    panel: Panel, models: ScriptedModels
) -> None:
    run(panel, prompt="One", temperature=0.1)
    first = panel.run
    assert first is not None
    models.hold = ("Two",)
    panel.inputs.prompt.value = "Two"
    second = panel.submit()
    assert models.started.acquire(timeout=30)
    panel.show(first)
    assert second.wait(30) and second.state == "cancelled"
    ended(panel)
    assert (panel.run, panel.inputs.prompt.value) == (first, "One")


@pytest.mark.parametrize("stop", ["stop", "gone", "panel", "next"])
def test_a_grid_of_a_panel_is_stopped(panel: Panel, models: ScriptedModels, stop: str) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    browser_says_of_grids(panel, type="quick")
    grid = panel._grid
    assert grid is not None
    for _ in grid.cells:
        assert models.started.acquire(timeout=30)
    match stop:
        case "panel":
            panel.stop()
        case "next":
            models.hold = ()
            browser_says_of_grids(panel, type="quick")
            assert panel._grid is not grid
        case _:
            browser_says_of_grids(panel, type=stop)
    assert grid.wait(30)
    assert {str(cell.state) for cell in grid.cells} == {"cancelled"}


def labels_of_the_same_twice(panel: Panel) -> list[str]:
    ids = []
    for _ in range(2):
        run(panel, prompt="fox")
        assert panel.run is not None
        ids.append(panel.run.id)
    browser_says(panel, type="compare", runs=ids)
    return [each["label"] for each in panel._view.compared]


def test_runs_with_the_same_inputs_are_told_apart_by_time_and_seed(panel: Panel) -> None:
    assert all(" · seed " in each for each in labels_of_the_same_twice(panel))


def test_of_runs_with_the_same_inputs_the_seed_is_told_that_they_had(host: LocalHost) -> None:
    panel = load(f"{TEXT}  seed: 7\n", host=host).panel()
    assert all(each.endswith(" · seed 7") for each in labels_of_the_same_twice(panel))


def test_an_error_in_a_part_that_is_folded_unfolds_it(host: LocalHost) -> None:
    text = TEXT + "  top_p: ${input.top_p as number | null}\n"
    panel = load(text, host=host).panel(prompt="Hello", top_p="")
    (toggle,) = panel._form.rows["top_p"].folds
    panel.inputs.top_p.value = "abc"
    run_button(panel).click()
    assert "is not a number" in said(panel, "top_p")
    assert toggle.value


def test_three_temperatures_are_offered_where_there_is_one(host: LocalHost) -> None:
    text = TEXT.replace("${input.temperature as number | 0.7}", "0.7")
    assert load(text, host=host).panel()._grid_view.quick == ""


def test_a_closed_panel_runs_no_more_and_leaves_no_widget(host: LocalHost) -> None:
    before = set(_instances)
    panel = load(TEXT, host=host).panel(prompt="Hello")
    run(panel)
    panel.close()
    updated()
    assert set(_instances) == before
    with pytest.raises(UsageError, match="the panel is closed"):
        panel.submit()


def test_keep_seed_draws_as_the_run_in_view(panel: Panel, models: ScriptedModels) -> None:
    run(panel, prompt="One")
    run(panel)
    first, second = (each["seed"] for each in models.parameters)
    assert first != second
    panel._keep_seed.value = True
    run(panel, temperature=1.5)
    assert models.parameters[2]["seed"] == second


def test_keep_seed_is_not_offered_where_the_document_says_the_seed(host: LocalHost) -> None:
    flow = load(TEXT + "  seed: 3\n", host=host)
    panel = flow.panel()
    assert descriptions(panel)[-4:] == ["Run Workflow", "Stop", "Live", "Probabilities"]
    assert descriptions(load(TEXT, host=host).panel())[-2] == "Keep seed"


def test_a_run_can_be_copied_as_python_and_served_to_be_copied_as_curl(panel: Panel) -> None:
    run(panel, prompt="It's")
    assert panel.run is not None
    python, serve = panel._view.snippets
    seed = panel.run.record["seed"]
    given = {"prompt": "It's", "temperature": 0.7}
    assert python["text"] == f"workflow.start({given!r}, seed={seed}).result()"
    assert serve == {"label": "Serve and copy as curl", "message": {"type": "serve"}}


def test_inputs_can_be_linked(panel: Panel) -> None:
    other = ipywidgets.FloatSlider(min=0, max=2)
    ipywidgets.link((panel.inputs.temperature, "value"), (other, "value"))
    other.value = 1.25
    assert panel.inputs.temperature.value == 1.25


def test_markdown_and_values_are_shown_as_such(host: LocalHost, models: ScriptedModels) -> None:
    models.reply = lambda prompt: [
        "# Title\n\n<script>x</script>\n\n![pic](http://a.example/b.png)"
    ]
    flow = load(
        TEXT.replace("It goes on.", "It goes on., output: {said: '${output as markdown}', "
                     "all: {n: 1}, both: ['a', 'b']}").replace("description: It", "name: It"),
        host=host,
    )  # fmt: skip
    panel = flow.panel(prompt="x")
    run(panel)
    said, all_, first, second = panel._view.outputs
    assert (said["label"], said["kind"]) == ("said", "markdown")
    assert "<h1>Title</h1>" in said["html"]
    assert "<script" not in said["html"]
    assert "<img" not in said["html"]
    assert '<a target="_blank" rel="noopener noreferrer nofollow" href="http://a' in said["html"]
    assert (all_["label"], all_["kind"], all_["text"]) == ("all", "json", '{\n  "n": 1\n}')
    assert [first["label"], second["label"]] == ["both 1", "both 2"]


def test_several_texts_have_headings(host: LocalHost) -> None:
    flow = load(
        "component: {type: model, task: text-generation, model: m, text: '${input.p as text[]}'}\n"
        "workflow: {jobs: [{id: a, repeat_count: 2}]}",
        host=host,
    )
    panel = flow.panel(p=["x", "y"])
    run(panel)
    assert panel._view.labels == [
        f"repeat {repeat} · prompt {prompt}" for repeat in (1, 2) for prompt in (1, 2)
    ]
    assert panel._view.outputs == []


def test_progress_of_a_load_and_of_repeats_is_shown(
    host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("x",)
    flow = load(
        "component: {type: model, task: text-generation, model: m, text: '${input.p}'}\n"
        "workflow: {jobs: [{id: a}, {id: b, depends_on: a}]}",
        host=host,
    )
    panel = flow.panel(p="x")
    panel.submit()
    assert models.started.acquire(timeout=30)
    wait_until(panel._view, lambda: panel._view.progress.get("text") == "0 of 2 jobs")
    models.gate.set()
    ended(panel)
    assert panel._view.progress == {}


def test_a_closed_panel_is_updated_no_more(panel: Panel, models: ScriptedModels) -> None:
    models.hold = ("Hello",)
    panel.inputs.prompt.value = "Hello"
    pending = panel.submit()
    assert models.started.acquire(timeout=30)
    updated()
    panel.close()
    assert pending.wait(30)
    updated()
    assert panel._view.ended is False
