"""Grids: which runs there are, when they run, and what is told of them."""

from __future__ import annotations

import itertools
import subprocess
import sys
import threading
from typing import Any

import pytest
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import Grid, InputError, LocalHost, ModelError, Run, compare, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.comparing.axes import MAX_CELLS
from modelcompose_jupyter.comparing.grid_runs import MAX_IN_FLIGHT
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.mapping.active_maps import stop_all
from modelcompose_jupyter.mapping.flight import MAP_THREAD_NAME

TEXT = """
component:
  type: model
  task: text-generation
  model: scripted
  text: ${input.prompt as text}
  temperature: ${input.temperature as number | 0.7}
"""
SEEDED = f"{TEXT}  seed: ${{input.seed as integer | 7}}\n"


@pytest.fixture
def flow(host: LocalHost) -> Workflow:
    return load(TEXT, host=host)


def ended(grid: Grid) -> Grid:
    assert grid.wait(30)
    return grid


def run_of(run: Run | None) -> Run:
    assert run is not None
    return run


def test_all_combinations_run_row_by_row(flow: Workflow) -> None:
    grid = ended(flow.grid(prompt=["a", "b"], temperature=[0, 0.5, 1]))
    assert [run_of(run).input for run in grid] == [
        {"prompt": prompt, "temperature": temperature}
        for prompt in ("a", "b")
        for temperature in (0, 0.5, 1)
    ]
    assert [run_of(run).text for run in grid.runs] == ["<a>"] * 3 + ["<b>"] * 3
    assert (len(grid), grid.done, [axis.name for axis in grid.axes]) == (
        6, True, ["prompt", "temperature"],
    )  # fmt: skip


def test_a_run_is_found_by_its_place_and_by_its_values(flow: Workflow) -> None:
    grid = ended(flow.grid(temperature=[0, 0.5, 1], prompt=["a", "b"]))
    run = run_of(grid[1, 2])
    assert run.input == {"prompt": "b", "temperature": 1}
    assert grid[-1, -1] is run
    assert grid.at(prompt="b", temperature=1) is grid.at({"prompt": "b"}, temperature="1") is run
    with pytest.raises(IndexError):
        _ = grid[2, 0]
    with pytest.raises(InputError, match="several runs are so: 'temperature' is not given"):
        grid.at(prompt="a")
    with pytest.raises(InputError, match="there is no axis 'promt'") as caught:
        grid.at(promt="a")
    assert caught.value.hint == "Did you mean 'prompt'?"
    with pytest.raises(InputError, match=r"0\.7 is no value of 'temperature'"):
        grid.at(prompt="a", temperature=0.7)


def test_rows_of_several_axes_are_nested(flow: Workflow) -> None:
    grid = ended(flow.grid(prompt=["a", "b"], temperature=[0, 1], seed=[1, 2, 3]))
    assert run_of(grid[2, 1]).input == {"prompt": "b", "temperature": 0}
    assert run_of(grid[2, 1]).record["seed"] == 2
    assert grid.at(prompt="b", temperature=0, seed=2) is grid[2, 1]


def test_the_seed_is_the_runs_where_no_input_is_called_so(flow: Workflow) -> None:
    grid = ended(flow.grid(prompt="a", seed=[4, 5]))
    assert [run_of(run).record["seed"] for run in grid] == [4, 5]
    assert [run_of(run).input for run in grid] == [{"prompt": "a"}] * 2
    grid = ended(flow.grid(prompt=["a", "b"], seed=6))
    assert [run_of(run).record["seed"] for run in grid] == [6, 6]


def test_without_a_seed_all_have_the_one_that_was_drawn(flow: Workflow) -> None:
    seeds = [
        {run_of(run).record["seed"] for run in ended(flow.grid(prompt=["a", "b"]))}
        for _ in range(2)
    ]
    assert [len(each) for each in seeds] == [1, 1]
    assert seeds[0] != seeds[1]


def test_the_seed_is_an_input_where_one_is_called_so(
    host: LocalHost, models: ScriptedModels
) -> None:
    grid = ended(load(SEEDED, host=host).grid(prompt="a", seed=[4, 5]))
    assert [run_of(run).input["seed"] for run in grid] == [4, 5]
    assert sorted(each["seed"] for each in models.parameters) == [4, 5]


@pytest.mark.parametrize(
    ("given", "message", "hint"),
    [
        ({"prompt": "a"}, "nothing varies", "Give an input several values"),
        ({"prompt": []}, "input 'prompt' has no values", None),
        ({"prompt": "a", "temprature": [0, 1]}, "there is no input 'temprature'", "'temperature'?"),
        ({"temperature": [0, 1]}, "missing input 'prompt'", 'Give prompt="…"'),
        ({"prompt": "a", "temperature": [0, "hot"]}, '"hot" is not a number', None),
        ({"prompt": "a", "seed": [1, -1]}, "the seed must be an integer from 0", None),
        *(
            ({"prompt": "a", "seed": seeds}, "and 'seed' alone has more values", "Give fewer")
            for seeds in (range(MAX_CELLS + 1), range(10**12), itertools.count())
        ),
        (
            {"prompt": "abc", "temperature": range(100), "seed": range(100)},
            r"a grid has 400 runs at most, and this one would have 10,000 \(100 × 100\)",
            "Give fewer values.",
        ),
    ],
)
def test_what_cannot_be_run_is_said_before_anything_runs(
    flow: Workflow, models: ScriptedModels, given: Any, message: str, hint: str | None
) -> None:
    with pytest.raises(InputError, match=message) as caught:
        flow.grid(given)
    assert hint is None or hint in (caught.value.hint or "")
    assert models.prompts == []


def test_a_grid_takes_inputs_by_name(flow: Workflow) -> None:
    grid: Any = flow.grid
    with pytest.raises(InputError, match="a grid takes inputs by name"):
        grid(["a", "b"])


def test_a_seed_that_would_change_nothing_is_refused(host: LocalHost) -> None:
    with pytest.raises(InputError, match="a seed changes nothing"):
        load(f"{TEXT}  seed: 7\n", host=host).grid(prompt="a", seed=[1, 2])


def test_a_run_that_fails_does_not_end_the_others(flow: Workflow) -> None:
    grid = ended(flow.grid(prompt="a", temperature=[0.5, -1, 1]))
    states = [str(cell.state) for cell in grid.cells]
    assert states == ["completed", "failed", "completed"]
    assert "temperature" in str(grid.cells[1].error)


def test_a_run_that_cannot_begin_is_a_cell_that_failed(
    flow: Workflow, host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Run:
        raise ModelError("no such host", code="host_gone")

    monkeypatch.setattr(host, "submit", refused)
    grid = ended(flow.grid(prompt=["a", "b"]))
    assert [str(cell.error) for cell in grid.cells] == ["no such host"] * 2
    assert grid.runs == [None, None]
    assert list(grid.to_frame()["finish"]) == ["failed", "failed"]


def test_many_run_at_a_time_and_no_more(flow: Workflow, models: ScriptedModels) -> None:
    prompts = [str(number) for number in range(80)]
    models.hold = tuple(prompts)
    grid = flow.grid(prompt=prompts)
    for _ in range(MAX_IN_FLIGHT):
        assert models.started.acquire(timeout=30)
    assert len(models.prompts) == MAX_IN_FLIGHT
    assert not grid.wait(0.01)
    assert not grid.done
    models.gate.set()
    ended(grid)
    assert sorted(models.prompts) == sorted(prompts)
    until(lambda: not any(each.name.startswith(MAP_THREAD_NAME) for each in threading.enumerate()))


@pytest.mark.parametrize("stop", [lambda grid: grid.cancel(), lambda grid: stop_all()])
def test_stop_ends_all_and_begins_no_other(
    flow: Workflow, host: LocalHost, models: ScriptedModels, stop: Any
) -> None:
    prompts = [str(number) for number in range(80)]
    models.hold = tuple(prompts[1:])
    grid = flow.grid(prompt=prompts)
    for _ in range(MAX_IN_FLIGHT):
        assert models.started.acquire(timeout=30)
    stop(grid)
    ended(grid)
    states = [str(cell.state) for cell in grid.cells]
    assert states == ["completed"] + ["cancelled"] * 79
    assert len(models.prompts) == len(host.runs()) == MAX_IN_FLIGHT + 1
    assert run_of(grid[1, 0]).text == "<1>"
    assert grid[79, 0] is None
    stop(grid)  # once more does nothing


def test_an_interrupt_of_a_wait_stops_all(
    flow: Workflow, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    models.hold = ("b", "c")
    grid = flow.grid(prompt=["a", "b", "c"])
    until(lambda: grid.ended == 1)

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(grid._changed, "wait", interrupted)
        with pytest.raises(KeyboardInterrupt) as caught:
            grid.wait()
    assert ended(grid).progress == "3 of 3 runs · 2 stopped"
    assert caught.value._render_traceback_() == [  # type: ignore[attr-defined]
        "KeyboardInterrupt: the grid was stopped after 1 of 3 runs"
    ]


def test_a_grid_as_a_table_of_pandas(flow: Workflow) -> None:
    grid = ended(flow.grid(temperature=[0, 1], prompt="a", seed=[4, 5]))
    frame = grid.to_frame()
    assert list(frame.columns) == [
        *("temperature", "prompt", "text", "output", "seed", "finish", "tokens"),
        *("tokens_per_second", "error", "id"),
    ]
    assert list(frame["temperature"]) == [0, 0, 1, 1]
    assert set(frame["text"]) == {"<a>"}
    assert list(frame["output"]) == [{"generated": "<a>"}] * 4
    assert list(frame["finish"]) == ["eos"] * 4
    assert list(frame["tokens"]) == [1] * 4
    assert list(frame["id"]) == [run_of(run).id for run in grid]
    assert frame["error"].isna().all()


def test_an_input_is_not_hidden_by_what_became_of_it(host: LocalHost) -> None:
    flow = load(TEXT.replace("input.prompt", "input.text"), host=host)
    frame = ended(flow.grid(text=["a", "b"])).to_frame()
    assert list(frame["text"]) == ["a", "b"]
    assert list(frame["text_"]) == ["<a>", "<b>"]


def test_without_pandas_it_is_said_what_to_install() -> None:
    code = f"""
import sys
from modelcompose_jupyter import load
sys.modules["pandas"] = None
grid = load({TEXT.replace("scripted", "bundled:storyteller")!r}).grid(prompt=["a", "b"])
grid.cancel()
try:
    grid.to_frame()
except Exception as error:
    print(type(error).__name__, error)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (
        done.stdout
        == "UsageError a DataFrame needs pandas, which is not installed\n  pip install pandas\n"
    )
    assert done.stderr == ""


def test_a_process_that_ends_before_its_grid_says_nothing() -> None:
    document = TEXT.replace("scripted", "bundled:storyteller")
    code = f"""
from modelcompose_jupyter import load
grid = load({document!r}).grid(prompt="a", seed=range(100))
while not any(grid):
    grid.wait(0.01)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert (done.stderr, done.returncode) == ("", 0)


def test_a_token_is_not_told(host: LocalHost, models: ScriptedModels) -> None:
    text = TEXT.replace("model: scripted", "model: {repository: scripted, token: '${input.token}'}")
    grid = ended(load(text, host=host).grid(prompt="a", token=["hf_one", "hf_two"]))
    assert grid.columns is not None
    assert grid.columns.labels == ("•••", "•••")
    assert "hf_" not in grid.to_frame().to_string() + repr(grid)
    assert {spec.token for spec in models.specs} == {"hf_one", "hf_two"}


def test_its_words_say_what_varies_and_how_far_it_is(
    flow: Workflow, models: ScriptedModels
) -> None:
    models.hold = ("b",)
    grid = flow.grid(prompt=["a", "b"])
    until(lambda: grid.ended == 1)
    assert repr(grid) == "<Grid prompt (a, b) · 1 of 2 runs>"
    models.gate.set()
    ended(grid)


# Side by side


def test_workflows_are_compared_with_the_same_inputs(host: LocalHost) -> None:
    story, other = (
        Workflow(load(TEXT).document, host=host, name=name) for name in ("story", "other")
    )
    grid = ended(compare(story, other, prompt=["a", "b"]))
    assert [(axis.name, axis.labels) for axis in grid.axes] == [
        ("prompt", ("a", "b")),
        ("workflow", ("story", "other")),
    ]
    assert list(grid.to_frame()["workflow"]) == ["story", "other"] * 2
    assert len({run_of(run).record["seed"] for run in grid}) == 1
    assert (
        grid.at(prompt="b", workflow="other") is grid.at(prompt="b", workflow=other) is grid[1, 1]
    )
    grid = ended(compare(story, other, {"prompt": "a"}))
    assert (len(grid), grid.rows) == (2, ())


def test_workflows_without_names_are_called_by_what_differs(host: LocalHost) -> None:
    def labels(*documents: str) -> tuple[str, ...]:
        grid = compare(*(load(text, host=host) for text in documents), prompt="a")
        grid.cancel()
        assert grid.columns is not None
        return grid.columns.labels

    def titled(title: str) -> str:
        return f"workflow: {{title: {title}}}{TEXT}"

    half, other = f"{TEXT}  precision: bfloat16\n", TEXT.replace("scripted", "other/model")
    assert labels(titled("One"), titled("Two")) == ("One", "Two")
    assert labels(TEXT, half) == ("scripted", "scripted · precision bfloat16")
    assert labels(TEXT, other) == ("scripted", "other/model")
    assert labels(TEXT, TEXT) == ("workflow 1", "workflow 2")
    text = TEXT.replace("${input.prompt as text}", "About ${input.prompt as text}")
    assert labels(TEXT, text) == (
        "scripted · text ${input.prompt as text}",
        "scripted · text About ${input.prompt as text}",
    )


def test_what_one_of_the_workflows_does_not_take_is_said_with_its_name(host: LocalHost) -> None:
    story = Workflow(load(TEXT).document, host=host, name="story")
    text = TEXT.replace("input.temperature", "input.heat")
    other = Workflow(load(text).document, host=host, name="other")
    with pytest.raises(InputError, match="other: there is no input 'temperature'"):
        compare(story, other, prompt="a", temperature=[0, 1])


@pytest.mark.parametrize("arguments", [(), ("story.yml",), ({"prompt": "a"},)])
def test_what_is_no_workflow_is_not_compared(arguments: Any) -> None:
    with pytest.raises(UsageError, match="workflows are compared, and this is one"):
        compare(*arguments)
