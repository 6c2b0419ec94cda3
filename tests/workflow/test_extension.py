"""Runs that go on where a limit has cut their texts: each is one run with a higher limit."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import InputError, LocalHost, Run, Workflow, load

HEAD = """
type: model
model: bundled:storyteller
max_output_length: ${input.length as integer | 20}
"""
PROMPT = "task: text-generation\ntext: ${input.prompt as text | Once upon a time}\n"
CHAT = "task: chat-completion\nmessages: ${input.messages as json}\n"
TWO_JOBS = """
components:
  - {id: begin, %s, text: "${input.prompt | Once}"}
  - {id: short, %s, text: "${input.text}", include_prompt: false, stop_sequences: ["."]}
workflow:
  jobs:
    - {id: one, component: begin, input: "${input}"}
    - {id: two, component: short, input: {text: "${jobs.one.output}"}, depends_on: [one]}
  output: {one: "${jobs.one.output}", two: "${jobs.two.output}"}
""".replace(
    "%s",
    "type: model, task: text-generation, model: bundled:storyteller,"
    " max_output_length: '${input.length as integer | 20}'",
)


@pytest.fixture(scope="module")
def real() -> Iterator[LocalHost]:
    """A host with the bundled model."""
    host = LocalHost()
    yield host
    host.close()


def flow_of(host: LocalHost, lines: str, more: str = "") -> Workflow:
    component = "".join(f"  {line}\n" for line in (HEAD + lines).strip().splitlines())
    return load(f"component:\n{component}{more}", host=host)


def cut(flow: Workflow, /, **given: Any) -> Run:
    """The first run in which a text was cut that the model could go on with."""
    for seed in range(100):
        run = flow.start(given, seed=seed)
        assert run.wait(30)
        if run.extendable_by:
            return run
    raise AssertionError("none was cut")


def long(flow: Workflow, run: Run, length: int) -> Run:
    """What one run with a higher limit gives."""
    wanted = flow.start({**run.input, "length": length}, seed=run.record["seed"])
    assert wanted.wait(30)
    return wanted


def of(run: Run) -> Any:
    """What a run says of its texts."""
    assert run.wait(30)
    return run.output, run.streams, run.finish_reasons, run.usage["generated"], run.extendable_by


@pytest.mark.parametrize(
    ("lines", "more", "given"),
    [
        (PROMPT + "do_sample: false", "", {}),
        (PROMPT, "", {}),
        (PROMPT + "num_return_sequences: 3", "", {}),
        (PROMPT + "stop_sequences: [zebra, ' lived in a']", "", {}),
        (PROMPT + "include_prompt: false\nrepetition_penalty: 1.2", "", {}),
        (PROMPT.replace("as text | Once upon a time", "as list"), "", {"prompt": ["A", "The"]}),
        (PROMPT, "workflow: {repeat_count: 3}\n", {}),
        (CHAT, "", {"messages": "Tell of a fox"}),
        (PROMPT + "num_beams: 2", "", {}),
    ],
)
def test_it_is_one_run_with_a_higher_limit(
    lines: str, more: str, given: dict[str, Any], real: LocalHost
) -> None:
    flow = flow_of(real, lines, more)
    run = cut(flow, **given)
    wanted = long(flow, run, 20 + 15)
    extended = flow.extend(run, 15)
    assert of(extended) == of(wanted)
    assert extended.parameters == wanted.parameters
    assert extended.record["seed"] == run.record["seed"]
    assert (extended.record["extended_by"], extended.input) == (15, run.input)
    assert "extended_by" not in run.record
    if "num_beams" not in lines:
        assert extended.usage["accepted_tokens"] == extended.usage["draft_tokens"] > 0


def test_the_text_that_there_is_comes_first(real: LocalHost) -> None:
    flow = flow_of(real, PROMPT)
    run = cut(flow)
    extended = flow.extend(run, 10)
    pieces = list(extended.stream())
    # Of a run that has ended before anybody looked, the whole is one piece.
    assert pieces[0] == run.text or pieces == [extended.text]
    assert "".join(pieces) == extended.text != run.text
    first = next(event for event in extended.events() if event.type == "text")
    assert extended.events_so_far()[0].type == "state"
    assert first.data["stream"] == ("__job__", 0, 0, 0)


def test_nothing_is_taken_back_of_what_is_told(real: LocalHost) -> None:
    """A stop sequence that has begun where the text was cut is told when it is none."""
    flow = flow_of(real, PROMPT)
    first = cut(flow)
    whole = long(flow, first, 60).text
    place = len(first.text)
    stop = whole[place - 4 : place + 6]
    stopping = flow_of(real, f"{PROMPT}stop_sequences: [{stop!r}]")
    run = stopping.start({}, seed=first.record["seed"])
    assert run.wait(30)
    assert (run.text, run.finish_reason) == (first.text, "length")
    extended = stopping.extend(run, 40)
    assert "".join(extended.stream()) == extended.text == whole[: place - 4]
    assert extended.finish_reason == "stop"


def test_as_many_again_unless_it_is_said(real: LocalHost) -> None:
    flow = flow_of(real, PROMPT + "do_sample: false")
    runs = [flow.run(length=10)]
    for _ in range(2):
        runs.append(flow.extend(runs[-1]))
        assert runs[-1].wait(30)
    assert [run.usage["generated"] for run in runs] == [10, 20, 40]
    assert [run.record.get("extended_by", 0) for run in runs] == [0, 10, 30]
    assert runs[1].extendable_by == runs[0].extendable_by - 10


def test_again_it_is_as_long(real: LocalHost) -> None:
    flow = flow_of(real, PROMPT)
    extended = flow.extend(cut(flow), 12)
    assert extended.wait(30)
    for again in (real.rerun(extended.id), flow.rerun(extended), flow.rerun(extended.record)):
        assert of(again) == of(extended)
        assert again.record["extended_by"] == 12


def test_jobs_that_follow_get_the_longer_text(real: LocalHost) -> None:
    flow = load(TWO_JOBS, host=real)
    run = cut(flow, length=8)
    wanted = flow.start({"length": 16}, seed=run.record["seed"], extended_by=0)
    extended = flow.extend(run, 8)
    assert extended.wait(30)
    assert wanted.wait(30)
    assert extended.output["one"] == wanted.output["one"]
    ended_by_itself = flow.start({"length": 8}, seed=run.record["seed"], extended_by=8)
    assert of(ended_by_itself) == of(extended)
    assert extended.output["one"].startswith(run.output["one"])
    assert len(extended.output["one"]) > len(run.output["one"])


def test_a_text_that_the_model_ended_stays(real: LocalHost) -> None:
    flow = flow_of(real, PROMPT + "num_return_sequences: 3\nstop_sequences: [' and']")
    for seed in range(50):
        run = flow.start({}, seed=seed)
        assert run.wait(30)
        if {"length", "stop"} == set(run.finish_reasons.values()):
            break
    extended = flow.extend(run, 5)
    assert extended.wait(30)
    for key, reason in run.finish_reasons.items():
        if reason == "stop":
            assert (extended.streams[key], extended.finish_reasons[key]) == (
                *(run.streams[key], "stop"),
            )
        else:
            assert extended.streams[key].startswith(run.streams[key])
            assert len(extended.streams[key]) > len(run.streams[key])


def test_in_company_it_is_the_same(real: LocalHost) -> None:
    flow = flow_of(real, PROMPT)
    run = cut(flow)
    wanted = long(flow, run, 60)
    others = [flow.submit(prompt="A dog", length=80) for _ in range(3)]
    extended = [flow.extend(run, 40) for _ in range(2)]
    assert [of(each) for each in extended] == [of(wanted)] * 2
    assert all(other.wait(30) for other in others)


@pytest.mark.parametrize("offset", [0, 1], ids=["at once", "where it goes on"])
def test_a_run_that_is_stopped_keeps_what_there_was(offset: int, real: LocalHost) -> None:
    flow = flow_of(real, PROMPT)
    run = cut(flow)

    def stop(extended: Run) -> None:
        """Stop it when text comes that is at an offset, or beyond it."""

        def look() -> None:
            texts = (each.data for each in extended.events_so_far() if each.type == "text")
            if any(each["offset"] >= offset for each in texts):
                extended.cancel()

        extended.watch(look)

    leave = real.observe(stop)
    extended = flow.extend(run, 400)
    leave()
    assert extended.wait(30)
    assert extended.state == "cancelled"
    assert extended.text.startswith(run.text)
    with pytest.raises(InputError, match="was stopped, and what goes on") as caught:
        flow.extend(extended)
    assert (caught.value.code, caught.value.hint) == ("not_extendable", "Run it again.")


def test_errors_say_why_it_cannot_go_on(real: LocalHost, host: LocalHost) -> None:
    flow = flow_of(real, PROMPT + "stop_sequences: [' ']")
    stopped = flow.run()
    with pytest.raises(InputError, match=r"nothing was cut in run .* at a stop sequence"):
        flow.extend(stopped)
    flow = flow_of(real, PROMPT)
    full = flow.run(length=10**6, prompt="Once upon a time " * 100)
    assert full.finish_reason == "length"
    with pytest.raises(InputError, match="there is no room to go on") as caught:
        flow.extend(full)
    assert caught.value.code == "not_extendable"
    run = cut(flow)
    for wrong in (0, -1, True, 1.5, "2"):
        with pytest.raises(InputError, match="token"):
            flow.extend(run, wrong)  # type: ignore[arg-type]
    with pytest.raises(InputError, match="not by -1"):
        flow.start({}, extended_by=-1)
    with pytest.raises(InputError, match="of another document"):
        flow_of(real, PROMPT + "top_k: 4").extend(run)
    with pytest.raises(InputError, match="there is no run") as caught:
        flow_of(host, PROMPT).extend(run)
    assert caught.value.code == "unknown_run"
    real.limit(run_ttl=0)
    try:
        with pytest.raises(InputError, match="is forgotten"):
            flow.extend(run)
    finally:
        real.limit(run_ttl=None)


def test_a_run_that_has_not_ended_or_failed_cannot_go_on() -> None:
    models = ScriptedModels(hold=("a",))
    host = LocalHost(models)  # type: ignore[arg-type]
    flow = flow_of(host, PROMPT)
    going = flow.submit(prompt="a")
    assert models.started.acquire(timeout=30)
    with pytest.raises(InputError, match="has not ended"):
        flow.extend(going)
    models.failure = InputError("no model")
    failed = flow.run(prompt="b")
    with pytest.raises(InputError, match="failed, and what goes on"):
        flow.extend(failed)
    models.failure = None
    models.gate.set()
    assert going.wait(30)
    with pytest.raises(InputError, match=r"nothing was cut in run .*: the model ended its text"):
        flow.extend(going)
    host.close()


def test_a_result_on_the_disk_goes_on(real: LocalHost) -> None:
    flow = flow_of(real, PROMPT)
    run = cut(flow)
    restored = Run.restored(run.saved())
    assert restored.drafts == run.drafts != {}
    assert restored.size == run.size
    eos = flow_of(real, PROMPT + "stop_sequences: [' ']").run()
    assert eos.drafts == {}
