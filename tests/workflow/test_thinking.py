"""Thoughts in runs: a stream of their own, wherever a run is looked at."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from standins.thinker import BUDGET, SAID, THINKER

from modelcompose_jupyter import LocalHost, Run, Workflow, load
from modelcompose_jupyter.progress import Waiting, status_line
from modelcompose_jupyter.workflow import METADATA_KEY


@pytest.fixture(scope="module")
def host() -> Iterator[LocalHost]:
    """A host with the bundled model."""
    host = LocalHost()
    yield host
    host.close()


@pytest.fixture
def flow(host: LocalHost) -> Workflow:
    return load(THINKER, host=host)


def run_of(flow: Workflow, **options: Any) -> Run:
    given = {name: options.pop(name) for name in ("length", "budget") if name in options}
    run = flow.start({"messages": SAID, **given}, seed=3, **options)
    assert run.wait(30)
    return run


def seen(run: Run) -> Any:
    return run.reasoning_streams, run.reasoning_tokens, run.streams, run.finish_reasons


def test_a_run_has_its_thoughts_beside_its_text(flow: Workflow) -> None:
    run = run_of(flow)
    assert run.reasoning and run.text
    assert "think>" not in run.reasoning + run.text
    assert run.output == {"generated": run.text}
    assert run.usage["reasoning"] == BUDGET < run.usage["generated"]
    assert list(run.reasoning_tokens.values()) == [BUDGET]
    assert f"{BUDGET} of thought" in status_line(run)
    assert flow(messages=SAID) and run.record["generations"][0]["usage"]["reasoning"] == BUDGET


def test_thoughts_come_as_events_before_the_text(flow: Workflow) -> None:
    run = flow.start({"messages": SAID}, seed=3)
    waiting, thought, lines = Waiting(0.0), "", set()
    for event in run.events():
        waiting.take(event)
        lines.add(waiting.line(0.0))
        if event.type == "reasoning":
            thought = thought[: event.data["offset"]] + event.data["text"]
            assert event.data["tokens"] <= BUDGET
    assert thought == run.reasoning
    assert any(line.startswith("Thinking, ") for line in lines)
    kept = [event for event in run.events_so_far() if event.type == "reasoning"]
    assert [(event.data["text"], event.data["tokens"]) for event in kept] == [(thought, BUDGET)]
    assert "".join(run.stream()) == run.text


def test_a_run_that_is_restored_has_them(flow: Workflow) -> None:
    run = run_of(flow)
    again = Run.restored(run.saved())
    kept = json.loads(json.dumps(run.notebook_metadata()))[METADATA_KEY]
    for each in (again, Run.from_notebook(kept)):
        assert seen(each) == seen(run)
        assert each.reasoning == run.reasoning


def test_it_goes_on_from_within_its_thought(flow: Workflow) -> None:
    cut = run_of(flow, length=BUDGET - 4)
    assert (cut.text, cut.finish_reason) == ("", "length")
    assert cut.usage["reasoning"] == BUDGET - 4
    extended = flow.extend(cut, 20)
    told = [event.data["text"] for event in extended.events() if event.type == "reasoning"]
    assert seen(extended) == seen(run_of(flow, length=BUDGET + 16))
    assert extended.reasoning.startswith(cut.reasoning)
    assert told
    once = run_of(flow)
    further = flow.extend(once, 10)
    assert further.wait(30)
    assert further.reasoning == once.reasoning
    assert further.text.startswith(once.text)


def test_a_branch_goes_on_from_another_token_of_the_thought(flow: Workflow) -> None:
    run = run_of(flow, logprobs=3)
    tokens = run.tokens[0]
    parts = [each.part for each in tokens]
    thought = parts.count("reasoning")
    assert parts == ["reasoning"] * thought + ["text"] * (len(parts) - thought)
    assert "".join(each.text for each in tokens[:thought]).rstrip() == run.reasoning
    assert "".join(each.text for each in tokens[thought:]) == run.text
    other = next(each for each in tokens[4].alternatives if each.id != tokens[4].id)
    branched = flow.branch(run, 4, other.id)
    assert branched.wait(30)
    assert [each.id for each in branched.tokens[0][:5]] == [*(t.id for t in tokens[:4]), other.id]
    assert branched.reasoning != run.reasoning
    assert branched.usage["reasoning"] == BUDGET
    place = next(n for n in range(thought + 1, len(tokens)) if len(tokens[n].alternatives) > 1)
    other = next(each for each in tokens[place].alternatives if each.id != tokens[place].id)
    later = flow.branch(run, place, other.id)
    assert later.wait(30)
    assert later.reasoning == run.reasoning


def test_a_score_has_no_thoughts(flow: Workflow) -> None:
    assert flow.score("A <think> tag", messages=SAID).text == "A <think> tag"
