"""Progress, results and amounts in words."""

from __future__ import annotations

from typing import Any

import pytest

from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.formatting import duration
from modelcompose_jupyter.progress import (
    Progress,
    ProgressMeter,
    Waiting,
    as_text,
    change_words,
    ending,
    says_only,
    status_line,
)
from modelcompose_jupyter.workflow import Event, Run, State

GB = 10**9


def event(time: float, **data: Any) -> Event:
    return Event(0, "progress", time, {"model": "m", **data})


def test_a_download_says_how_much_how_fast_and_how_long_still() -> None:
    meter = ProgressMeter()
    downloads = [
        meter.see(event(time, phase="download", done=done, total=6 * GB, unit="B")).text
        for time, done in ((100.0, 1 * GB), (100.5, 1.5 * GB), (110.0, 2 * GB))
    ]
    assert downloads == [
        "Downloading m 1.0 GB of 6.0 GB",
        "Downloading m 1.5 GB of 6.0 GB",
        "Downloading m 2.0 GB of 6.0 GB · 100 MB/s · 40 s left",
    ]


def test_a_download_of_unknown_size_has_no_end() -> None:
    meter = ProgressMeter()
    meter.see(event(0, phase="download", done=0, total=None, unit="B"))
    shown = meter.see(event(10, phase="download", done=GB, total=None, unit="B"))
    assert shown == Progress("Downloading m 1.0 GB · 100 MB/s", None, since=0)


STEPS = {"phase": "start", "done": 0, "total": None, "unit": "steps"}
BYTES = {"phase": "load", "unit": "B"}


@pytest.mark.parametrize(
    ("data", "text", "share"),
    [
        ({**STEPS, "step": "engine"}, "Starting the engine", None),
        ({**STEPS, "step": "torch"}, "Importing torch", None),
        ({**STEPS, "step": "kernels"}, "Compiling the kernels, once on this computer", None),
        ({**STEPS, "step": "of another version"}, "Starting", None),
        ({**BYTES, "done": 3 * GB, "total": 12 * GB}, "Loading m 3.0 GB of 12.0 GB", 0.25),
        ({**BYTES, "done": 0, "total": None}, "Loading m", None),
        (
            {"phase": "prefill", "done": 1024, "total": 4096, "unit": "tokens"},
            "Reading the prompt, 1,024 of 4,096 tokens",
            0.25,
        ),
        ({"phase": "job", "done": 1, "total": 2}, "1 of 2 jobs", 0.5),
        ({"phase": "repeat", "done": 1, "total": 4, "unit": "repeats"}, "1 of 4 repeats", 0.25),
        (
            {"phase": "item", "job": "each", "done": 750, "total": 1000, "unit": "items"},
            "750 of 1,000 items · each",
            0.75,
        ),
        (
            {"phase": "round", "job": "improve", "done": 1, "total": 4, "unit": "rounds"},
            "Round 2 of at most 4 · improve",
            0.25,
        ),
    ],
)
def test_other_progress_is_counted(data: dict[str, Any], text: str, share: float | None) -> None:
    assert ProgressMeter().see(event(7, **data)) == Progress(text, share, since=7)


def test_progress_is_since_its_phase_began_and_begins_anew_with_the_next() -> None:
    meter = ProgressMeter()
    told = [
        event(1, **STEPS, step="engine"),
        event(2, **STEPS, step="torch"),
        event(5, **BYTES, done=0, total=2),
        event(6, **BYTES, done=1, total=2),
        event(7, **BYTES, done=2, total=2),
        event(9, **BYTES, done=0, total=2),  # another run of the job
    ]
    assert [meter.see(each).since for each in told] == [1, 2, 5, 5, 5, 9]


@pytest.mark.parametrize(
    ("now", "line"),
    [
        (7.9, "Importing torch"),
        (8.0, "Importing torch · 1 s"),
        (90, "Importing torch · 1 min 23 s"),
    ],
)
def test_a_line_says_for_how_long_from_the_first_second_on(now: float, line: str) -> None:
    assert Progress("Importing torch", None, since=7).line(now) == line


def test_a_run_waits_for_the_engine_models_its_turn_and_its_prompt() -> None:
    waiting = Waiting(since=0)
    seen = [waiting.line(2)]
    queue = {"phase": "queue", "total": 2, "unit": "requests"}
    for each in (
        Event(0, "state", 0, {"state": "running"}),
        event(2, **STEPS, step="engine"),
        event(2, **BYTES, done=1000, total=2000),
        event(2, **BYTES, done=2000, total=2000),
        event(2, **queue, ahead=2, done=0),
        event(2, **queue, ahead=0, done=2),
        event(2, phase="prefill", done=128, total=200, unit="tokens"),
        event(2, phase="job", done=1, total=2),
    ):
        waiting.take(each)
        seen.append(waiting.line(2))
    assert seen == [
        "Starting · 2 s",
        "Starting · 2 s",
        "Starting the engine",
        "Loading m 1.0 kB of 2.0 kB",
        "Reading the prompt",
        "2 ahead in the queue",
        "Reading the prompt",
        "Reading the prompt, 128 of 200 tokens",
        "Reading the prompt, 128 of 200 tokens",
    ]


def test_a_text_that_is_not_shown_is_counted_in_words() -> None:
    waiting = Waiting(since=0)
    lines = []
    for piece in ("Once", " up", "on a", " \n", "time."):
        waiting.wrote(piece, is_shown=False)
        lines.append(waiting.line(0))
    counts = ["1 word", "2 words", "3 words", "3 words", "4 words"]
    assert lines == [f"Writing, {count}" for count in counts]
    waiting.wrote(" And", is_shown=True)
    assert waiting.line(0) == ""


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.123, "0.12 s"), (3.21, "3.2 s"), (41.6, "42 s"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text


def test_outputs_as_text() -> None:
    assert as_text("한글") == "한글"
    assert as_text({"a": "한글"}) == '{\n  "a": "한글"\n}'
    assert says_only({"generated": "x"}, "x")
    assert not says_only({"a": "x", "b": 1}, "x")
    assert says_only({"generated": {"a": [1]}}, '{"a": [1]}')
    assert says_only({"a": 1}, '{"a": 1}')
    assert not says_only({"a": 2}, '{"a": 1}')
    assert not says_only({"a": 1}, '{"a": ')


def ended(
    reasons: list[str],
    state: State = State.COMPLETED,
    *,
    limits: tuple[tuple[int, str | None], ...] = (),
    **summary: Any,
) -> Run:
    """A run that has ended, with a text for each finish reason and limit of its length."""
    run = Run("w", {}, lambda: None)
    generations = []
    for number, reason in enumerate(reasons):
        stream = ("job", number, 0, 0)
        run.add("text", {"stream": stream, "offset": 0, "text": "a", "finish_reason": reason})
        length, limited_by = limits[number % len(limits)] if limits else (None, None)
        generations.append(
            {
                "model": {"source": f"m{number % summary.get('models', 1)}"},
                "parameters": {} if length is None else {"max_output_length": length},
                "limited_by": limited_by,
                "finish_reasons": [reason],
            }
        )
    given = {"record": {"generations": generations}} | summary
    if state is State.FAILED:
        run.add("error", InputError("the prompt is too long").to_dict())
    run.add("state", {"state": state, "summary": given})
    return run


LENGTH = ((1024, None),)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (ended(["eos"]), "Finished"),
        (ended(["stop", "eos"]), "Finished"),
        (ended([]), "Finished"),
        (ended(["length"]), "Cut"),
        (ended(["length"], limits=LENGTH), "Cut at 1,024 tokens"),
        (ended(["length"], limits=((1, None),)), "Cut at 1 token"),
        (
            ended(["length"], limits=((80, "context"),)),
            "Cut at 80 tokens, the end of the model's context",
        ),
        (ended(["length"], limits=((80, "host"),)), "Cut at 80 tokens, the host's limit"),
        (ended(["length", "eos", "length"], limits=LENGTH), "2 of 3 texts cut at 1,024 tokens"),
        (ended(["length"] * 2, limits=(*LENGTH, (3, None))), "2 of 2 texts cut"),
        (
            ended(["length"], record={}, parameters={"max_output_length": 7}, limited_by="context"),
            "Cut at 7 tokens, the end of the model's context",
        ),
        (ended(["cancelled"], State.CANCELLED), "Stopped by you"),
        (ended(["cancelled"], State.FAILED), "Failed"),
    ],
)
def test_how_a_run_ended_is_said_in_words(run: Run, words: str) -> None:
    assert ending(run) == words


def test_the_status_says_what_is_worth_it() -> None:
    usual = {
        "usage": {"generated": 176},
        "timings": {"load": 17.3, "queue": 0.01, "total": 18.4, "tokens_per_second": 52.4},
        "parameters": {"do_sample": True, "seed": 7},
    }
    rest = "18 s (17 s loading) · 52 tokens/s · seed 7"
    assert status_line(ended(["eos"], **usual)) == f"Finished · 176 tokens · {rest}"
    cut = ended(["length"], limits=((176, None),), **usual)
    assert status_line(cut) == f"Cut at 176 tokens · {rest}"
    several = {**usual, "parameters": {"seed": 7}, "models": 2}
    slow = {"load": 0.0, "queue": 4.2, "total": 5.0, "tokens_per_second": 2.34}
    assert status_line(ended(["eos"] * 2, **{**several, "timings": slow})) == (
        "Finished · 176 tokens · 5.0 s (4.2 s in the queue) · 2.3 tokens/s · m0 · m1"
    )


def test_a_run_that_failed_is_not_called_by_the_end_of_its_other_texts() -> None:
    run = ended(["cancelled"], State.FAILED, usage={"generated": 3})
    assert run.finish_reason == "cancelled"
    assert status_line(run) == "Failed · 3 tokens"


FAILED = {"attempt": 1, "code": "busy", "message": "the model\nis busy"}


@pytest.mark.parametrize(
    ("job", "words"),
    [
        ({"state": "skipped"}, "Skipped: draft"),
        (
            {"state": "waiting", "attempt": 2, "attempts": 3, "wait": 4.0, "failures": [FAILED]},
            "Trying again in 4.0 s (attempt 2 of 3): draft, the model is busy",
        ),
        (
            {"state": "waiting", "attempt": 2, "attempts": 2, "wait": 0, "failures": []},
            "Trying again (attempt 2 of 2): draft",
        ),
        ({"state": "completed", "route": "improve"}, "Took the branch 'improve' · draft"),
        (
            {"state": "completed", "error": FAILED},
            "Failed: draft, the run goes on: the model is busy",
        ),
        (
            {"state": "failed", "error": FAILED, "route": "sorry"},
            "Failed: draft, led to 'sorry': the model is busy",
        ),
        ({"state": "failed", "error": FAILED}, ""),
        ({"state": "completed"}, ""),
        ({"state": "running"}, ""),
    ],
)
def test_changes_of_the_way_are_words(job: dict[str, Any], words: str) -> None:
    assert change_words({"job": "draft", "type": "component", **job}) == words


def test_what_is_counted_stands_before_what_is_written() -> None:
    run = Run("w", {}, lambda: None)
    waiting = Waiting(0)

    def line(kind: Any, **data: Any) -> str:
        run.add(kind, data)
        waiting.take(run.events_so_far()[-1])
        return waiting.line(0)

    counts = {"phase": "item", "job": "each", "unit": "items"}
    line("progress", **counts, done=0, total=3)
    waiting.wrote("two words", is_shown=False)
    assert waiting.line(0) == "0 of 3 items · each · Writing, 2 words"
    assert line("progress", **counts, done=1, total=3).startswith("1 of 3 items · each")
    assert line("job", job="each", type="for-each", state="completed") == "Writing, 2 words"
    assert line("job", job="no", type="component", state="skipped") == "Skipped: no"
    waiting.wrote(" more", is_shown=True)
    assert waiting.line(0) == ""
    state = {"type": "component", "attempt": 2, "attempts": 3}
    assert line("job", job="a", state="running", **state) == "2nd attempt of 3 · a"


def test_the_end_says_what_was_skipped_and_tried_again() -> None:
    run = Run("w", {}, lambda: None)
    of = {"type": "component"}
    again = {"attempt": 1, **FAILED, "again": True}
    run.add("job", {"job": "a", **of, "state": "completed", "failed": 1, "failures": [again]})
    recovered = {"attempt": 1, "place": [2], **FAILED}
    run.add("job", {"job": "h", **of, "state": "completed", "failed": 1, "failures": [recovered]})
    for name in "bcdef":
        run.add("job", {"job": name, **of, "state": "skipped"})
    run.add("job", {"job": "g", **of, "state": "completed", "failed": 2, "error": FAILED})
    run.add("state", {"state": State.COMPLETED})
    assert status_line(run) == (
        "Finished · skipped: b, c, d and 2 more · went on after a failure: g · tried again: a"
    )
