"""The history of a workflow: a table of runs to look at, to run again and to put side by side."""

from __future__ import annotations

import json
import math
import re
import sys
import time
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import nbformat
import pandas
import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import InputError, LocalHost, Workflow, load
from modelcompose_jupyter.errors import UsageError

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt}
  max_output_length: ${input.length as integer | 8}
"""
COLUMNS = [
    "when", "prompt", "length", "seed", "text", "finish", "finish_reason", "tokens",
    "prompt_tokens", "tokens_per_second", "seconds", "model", "output", "parameters", "record",
    "remembered",
]  # fmt: skip


@pytest.fixture
def flow(host: LocalHost) -> Workflow:
    return load(DOCUMENT, host=host)


@pytest.fixture
def notebook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file of the notebook that this process belongs to."""
    path = tmp_path / "notebook.ipynb"
    monkeypatch.setenv("JPY_SESSION_NAME", str(path))
    return path


def save(path: Path, *metadata: dict[str, Any]) -> None:
    """Write a notebook whose cells have shown outputs with such metadata."""
    outputs = [nbformat.v4.new_output("display_data", metadata=each) for each in metadata]
    cells = [nbformat.v4.new_code_cell(outputs=[each]) for each in outputs]
    nbformat.write(nbformat.v4.new_notebook(cells=cells), path)


def test_there_is_a_row_for_each_run(flow: Workflow, models: ScriptedModels) -> None:
    before = int(time.time())
    first = flow.run(prompt="a", length=3)
    flow.map(["b", "c"], progress=False)
    models.failure = UsageError("there is no model")
    failed = flow.run(prompt="d")

    table = flow.history

    assert list(table) == COLUMNS
    assert table.index.name == "run"
    assert table.index[[0, 3]].to_list() == [first.id, failed.id]
    assert table["prompt"].to_list() == ["a", "b", "c", "d"]
    assert table["length"].to_list() == [3, 8, 8, 8]
    assert table["text"].to_list() == ["<a>", "<b>", "<c>", ""]
    assert table["output"].to_list()[:1] == [{"generated": "<a>"}]
    assert table["finish"].to_list() == ["Finished"] * 3 + ["Failed: there is no model"]
    assert table["seed"].to_list()[0] == first.parameters["seed"]
    assert table["tokens"].to_list() == [1, 1, 1, 0]
    assert table["model"].to_list()[:3] == ["scripted"] * 3 and pandas.isna(table["model"].iloc[3])
    assert table.loc[first.id, "parameters"] == first.parameters
    assert table.loc[first.id, "record"] == first.record
    assert not table["remembered"].any()
    when = table["when"].iloc[0]
    assert before <= when.timestamp() <= time.time()
    assert when.utcoffset() is not None and str(table["when"].dtype).startswith("datetime64")
    assert table["seconds"].iloc[0] == round(first.timings["total"], 3)


def test_without_runs_it_is_empty_and_has_its_columns(flow: Workflow) -> None:
    assert list(flow.history) == COLUMNS and len(flow.history) == 0


def test_a_run_that_goes_on_is_there(flow: Workflow, models: ScriptedModels) -> None:
    models.hold = ("a",)
    run = flow.submit(prompt="a")
    models.started.acquire()
    row = flow.history.loc[run.id]
    assert (row["text"], row["finish"], row["record"]) == ("<a>", "Running", {})
    with pytest.raises(InputError, match="the run has no record: it has not ended"):
        flow.rerun(row)
    models.gate.set()
    run.wait(30)


def test_other_workflows_and_earlier_states_of_a_document_are_left_out(
    flow: Workflow, host: LocalHost
) -> None:
    earlier = load(DOCUMENT.replace("| 8", "| 9"), host=host)
    earlier(prompt="a")
    run = load("\n# the same, written otherwise\n" + DOCUMENT, host=host).run(prompt="b")
    assert list(flow.history.index) == [run.id]


def test_inputs_that_are_named_like_columns_have_another_name(host: LocalHost) -> None:
    document = DOCUMENT.replace("${input.prompt}", "${input.text} ${input.seed}")
    table = load(document, host=host)
    table.run(text="a", seed=5)
    assert list(table.history)[1:5] == ["input.text", "input.seed", "length", "seed"]
    document = DOCUMENT + "  seed: ${input.seed as integer | 7}\n"
    seeded = load(document, host=host)
    seeded.run(prompt="a")
    assert list(seeded.history)[1:4] == ["prompt", "length", "seed"]


def test_of_an_input_without_names_there_are_those_that_were_given(host: LocalHost) -> None:
    document = DOCUMENT.replace("${input.prompt}", "${input}")
    flow = load(document, host=host)
    flow.run("plain")
    flow.run(mood="calm")
    table = flow.history
    assert list(table)[1:4] == ["length", "input", "mood"]
    assert table["input"].iloc[0] == "plain" and table["mood"].iloc[1] == "calm"


def test_whole_numbers_stay_whole_beside_empty_places(host: LocalHost) -> None:
    document = DOCUMENT.replace("${input.prompt}", "${input.prompt} ${input.n as integer | null}")
    flow = load(document, host=host)
    flow.run(prompt="a", n=2**53 + 1)  # which no float is
    flow.run(prompt="b")
    assert flow.history["n"].to_list() == [2**53 + 1, None]


def test_the_notebook_remembers_runs_of_earlier_kernels(
    flow: Workflow, host: LocalHost, notebook: Path
) -> None:
    here, before = flow.run(prompt="here"), flow.run(prompt="before")
    other = load(DOCUMENT + "  temperature: 1\n", host=host).run(prompt="a")
    record_alone = {"modelcompose": here.record | {"run": "0" * 12}}
    kept = [run.notebook_metadata() for run in (here, before, other)]
    save(notebook, *kept, record_alone, {"modelcompose": 3}, {})
    fresh = LocalHost(ScriptedModels())  # type: ignore[arg-type]
    later = load(DOCUMENT, host=fresh)
    now = later.run(prompt="now")

    table = later.history

    assert list(table.index) == [here.id, before.id, now.id]
    assert table["remembered"].to_list() == [True, True, False]
    assert table["text"].to_list() == ["<here>", "<before>", "<now>"]
    same = [
        "when",
        "prompt",
        "finish",
        "finish_reason",
        "tokens",
        "seconds",
        "parameters",
        "record",
    ]
    assert table.loc[here.id, same].to_dict() == flow.history.loc[here.id, same].to_dict()
    assert not flow.history["remembered"].any()  # where this process has them as well
    again = later.rerun(table.loc[before.id])
    assert (again.input, again.result(30)) == ({"prompt": "before"}, before.output)
    fresh.close()


def test_a_notebook_that_cannot_be_read_is_named(flow: Workflow, notebook: Path) -> None:
    notebook.write_text("{")
    with pytest.raises(InputError, match=rf"{re.escape(str(notebook))} cannot be read"):
        _ = flow.history


HOSTILE = [
    {"metadata": []},
    {"metadata": None},
    "output",
    *({"metadata": {"modelcompose": {"runs": each}}} for each in (5, None, "ab", ["a", None])),
]


def test_what_a_strangers_notebook_has_in_the_place_of_runs_is_passed_over(
    flow: Workflow, notebook: Path
) -> None:
    kept = flow.run(prompt="a").notebook_metadata()["modelcompose"]
    changed = [
        {"timings": {"total": math.nan}},
        {"timings": {"total": math.inf}},
        {"input": {"prompt": "\ud800"}},
    ]
    records = [{**kept, "run": f"changed-{n}", **each} for n, each in enumerate(changed)]
    outputs = [*HOSTILE, *({"metadata": {"modelcompose": each}} for each in records)]
    cells = ["cell", {"outputs": None}, {"outputs": outputs}]
    notebook.write_text(json.dumps({"cells": cells}))
    assert list(flow.history.index) == [kept["run"]]
    notebook.write_text(f'{{"cells": {"[" * 100_000}')
    with pytest.raises(InputError, match="cannot be read as a notebook"):
        flow.history  # noqa: B018


def test_a_run_is_run_again_by_whatever_tells_of_it(notebook: Path) -> None:
    story = load(DOCUMENT, host=LocalHost())
    first = story.run(prompt="Once upon a time", length=12)
    table = story.history
    ways = (
        first,
        first.record,
        first.id,
        first.id[:8],
        table.iloc[0],
        table,
        table["record"].iloc[0],
    )
    again = [story.rerun(each) for each in ways]
    assert [run.result(30) for run in again] == [first.output] * len(ways)
    save(notebook, first.notebook_metadata())
    later = load(DOCUMENT, host=LocalHost())
    assert later.rerun(first.id).result(30) == first.output
    assert later.rerun(later.history.iloc[0]).result(30) == first.output


def test_what_names_no_run_is_said(flow: Workflow) -> None:
    runs = [flow.run(prompt=prompt) for prompt in "ab"]
    for wrong, message in (
        ("nope", "this workflow has no run 'nope'"),
        ("", "several runs of this workflow begin with ''"),
        (3, "this names no run: int"),
        (flow.history, "this names no run: DataFrame"),
        ({}, "the run has no record"),
        (runs[0].record | {"document": "sha256:0"}, "the record is of another document"),
    ):
        with pytest.raises(InputError, match=re.escape(message)):
            flow.rerun(wrong)  # type: ignore[arg-type]
    for other in ("nope", 3, runs[0].record):
        with pytest.raises(InputError, match="no run"):
            flow.side_by_side(runs[0], other)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="side by side are two runs or more, and this is 1"):
        flow.side_by_side(runs[0])


def test_runs_stand_side_by_side_with_what_differs(flow: Workflow) -> None:
    runs = [
        flow.run(prompt=prompt) for prompt in ("a red fox ran", "a red <b> ran", "a red fox ran")
    ]
    shown = flow.side_by_side(flow.history.head(2))
    root = ElementTree.fromstring(shown._repr_html_())
    fox, tag = root.iter("article")
    assert [each.text for each in fox.iter("mark")] == ["fox"]
    assert [each.text for each in tag.iter("mark")] == ["<b>"]
    assert "".join(tag.itertext()).startswith('Prompt "a red <b> ran"<a red <b> ran>Finished · ')
    assert repr(shown).startswith('Prompt "a red fox ran"\n<a red fox ran>\n[Finished · ')
    # By ids and as themselves, too; the same inputs have when and the seed in their labels.
    again = flow.side_by_side(runs[0].id[:8], runs[1], flow.history.iloc[2])
    labels = [each.text for each in ElementTree.fromstring(again._repr_html_()).iter("strong")]
    assert len(labels) == 3 and all(
        re.search(r" · \d\d:\d\d:\d\d · seed ", e or "") for e in labels
    )
    (alike, *_) = ElementTree.fromstring(flow.side_by_side(runs[0], runs[2])._repr_html_()).iter(
        "article"
    )
    assert list(alike.iter("mark")) == []


def test_it_says_what_it_needs(flow: Workflow, monkeypatch: pytest.MonkeyPatch) -> None:
    runs = [flow.run(prompt=prompt) for prompt in "ab"]
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(UsageError, match="pandas, which is not installed") as caught:
        _ = flow.history
    assert "pip install pandas" in str(caught.value)
    assert "<a>" in repr(flow.side_by_side(*runs)) and flow.rerun(runs[0].id).result(30)


def test_tokens_that_were_inputs_are_shown_nowhere(host: LocalHost, notebook: Path) -> None:
    flow = load(DOCUMENT + "  token: ${input.token}\n", host=host)
    run = flow.run(prompt="a", token="hf_4711secret0815")
    other = flow.run(prompt="b", token="hf_4711other0815")
    save(notebook, run.notebook_metadata())
    later = load(DOCUMENT + "  token: ${input.token}\n", host=LocalHost())
    told = [flow.history.to_dict(), later.history.to_dict(), flow.side_by_side(run, other)]
    text = str(told) + notebook.read_text()
    assert "•••" in text and "4711" not in text
    with pytest.raises(InputError, match="does not hold the token"):
        flow.rerun(flow.history.iloc[0])
