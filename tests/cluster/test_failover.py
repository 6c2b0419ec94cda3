"""What a run tells that is begun anew: nothing twice, and nothing that was not true."""

from __future__ import annotations

import itertools

from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.ray.failover import Replay
from modelcompose_jupyter.workflow import Event, Run

STREAM = ["__job__", 0, 0, 0]
OTHER = ["__job__", 0, 0, 1]


def numbered(said, first=0):
    return [Event(first + at, kind, 0.0, data) for at, (kind, data) in enumerate(said)]


def text(offset, piece, reason=None, stream=STREAM):
    end = {} if reason is None else {"finish_reason": reason}
    return "text", {"stream": stream, "offset": offset, "text": piece, **end}


def tokens(offset, ids):
    told = [{"id": each, "token": str(each), "text": str(each)} for each in ids]
    return "tokens", {"stream": STREAM, "part": "text", "offset": offset, "tokens": told}


RUNNING = ("state", {"state": "running"})


def job(state):
    return "job", {"job": "__job__", "type": "component", "state": state, "seconds": id(state)}


def end(text, state="completed"):
    return [
        ("result", {"output": text}),
        ("state", {"state": state, "summary": {"usage": {"generated": 3}}}),
    ]


def told(*said):
    run = Run("w", {}, lambda: None)
    for event in numbered(said):
        run.take(event)
    return run


def again(run, *said):
    """The run with what is told again, and the new events."""
    replay = Replay(run)
    fresh = list(replay.fresh(numbered(said, 2**32)))
    for event in fresh:
        run.take(event)
    return fresh, replay


def test_what_comes_true_is_told_once():
    run = told(RUNNING, job("running"), text(0, ""), text(0, "Once"), text(4, " upon"))
    watched = [event.data["text"] for event in run.events_so_far() if event.type == "text"]
    fresh, replay = again(
        run,
        RUNNING,
        job("running"),
        text(0, ""),
        text(0, "On"),
        text(2, "ce upon a"),
        text(11, " time", "eos"),
        job("completed"),
        *end("Once upon a time"),
    )
    assert [(e.type, e.data.get("offset"), e.data.get("text")) for e in fresh[:2]] == [
        ("text", 9, " a"),
        ("text", 11, " time"),
    ]
    assert [each.type for each in fresh[2:]] == ["job", "result", "state"]
    assert "".join([*watched, " a", " time"]) == run.text == "Once upon a time"
    assert run.finish_reason == "eos" and not run.warnings and not replay.differences


def test_where_it_differs_it_goes_on_from_there_and_says_so():
    run = told(RUNNING, text(0, ""), text(0, "Once upon"))
    fresh, replay = again(
        run, RUNNING, text(0, ""), text(0, "Once a"), text(6, " fox", "eos"), *end("Once a fox")
    )
    assert run.text == "Once a fox"
    assert fresh[0].data["offset"] == 5
    assert len(replay.differences) == 1 and "character 5" in run.warnings[0]


def test_a_text_that_ends_earlier_differs():
    run = told(RUNNING, text(0, ""), text(0, "Once upon"))
    again(run, RUNNING, text(0, ""), text(0, "Once", "eos"), *end("Once"))
    assert run.text == "Once" and run.finish_reason == "eos" and len(run.warnings) == 1


def test_parts_of_a_character_are_no_difference():
    run = told(text(0, ""), text(0, "caf\ufffd"))
    fresh, replay = again(run, text(0, ""), text(0, "caf"), text(3, "\ufffd"), text(3, "é!", "eos"))
    assert run.text == "café!" and not replay.differences
    assert [each.data["text"] for each in fresh] == ["é!"]


def test_a_text_that_was_whole_is_not_told_again():
    run = told(RUNNING, text(0, ""), text(0, "", stream=OTHER), text(0, "One", "eos"))
    fresh, _ = again(
        run,
        RUNNING,
        text(0, ""),
        text(0, "", stream=OTHER),
        text(0, "One"),
        text(3, "", "eos"),
        text(0, "Two", "eos", OTHER),
        *end(["One", "Two"]),
    )
    assert [e.data["text"] for e in fresh if e.type == "text"] == ["Two"]
    assert list(run.streams.values()) == ["One", "Two"]


def test_tokens_are_told_once():
    run = told(text(0, ""), tokens(0, [1, 2]), tokens(2, [3]))
    fresh, _ = again(run, text(0, ""), tokens(0, [1]), tokens(1, [2, 3, 4]), tokens(4, [5]))
    assert [each["id"] for e in fresh for each in e.data["tokens"]] == [4, 5]
    assert [each.id for each in run.tokens[0]] == [1, 2, 3, 4, 5]


def test_jobs_and_counts_do_not_go_back():
    def count(done):
        return "progress", {"phase": "repeat", "job": "j", "done": done, "total": 3}

    first = [job("pending"), job("running"), count(0), count(1)]
    run = told(RUNNING, *first)
    fresh, _ = again(run, RUNNING, *first, count(2), job("completed"), *end("x"))
    assert [each.type for each in fresh] == ["progress", "job", "result", "state"]
    assert run.jobs["__job__"]["state"] == "completed"


def test_what_a_new_place_is_busy_with_is_told():
    load = ("progress", {"phase": "load", "done": 1, "total": 2, "model": "m"})
    fresh, _ = again(told(RUNNING, load), RUNNING, load)
    assert [each.data["phase"] for each in fresh] == ["load"]


PIECES = st.lists(st.text("ab é\ufffd", max_size=4), max_size=8)


def cuts(whole, points):
    """A text as pieces that end at points."""
    ends = [0, *sorted(min(each, len(whole)) for each in points), len(whole)]
    return [text(a, whole[a:b]) for a, b in itertools.pairwise(ends)]


@given(
    whole=st.text("ab é", max_size=40),
    first=st.lists(st.integers(0, 40), max_size=6),
    second=st.lists(st.integers(0, 40), max_size=6),
    lost_after=st.integers(0, 8),
)
def test_however_it_is_cut_the_text_is_that_of_one_run(whole, first, second, lost_after):
    shown = ""
    run = told(text(0, ""), *cuts(whole, first)[:lost_after])
    shown = run.text
    replay = Replay(run)
    last = text(len(whole), "", "eos")
    for event in replay.fresh(numbered([text(0, ""), *cuts(whole, second), last, *end(whole)])):
        if event.type == "text":
            assert event.data["offset"] == len(shown)  # nothing that was shown is taken back
            shown += event.data["text"]
        run.take(Event(event.number + 2**32, event.type, 0.0, event.data))
    assert run.text == shown == whole and not run.warnings and run.finish_reason == "eos"


@given(one=st.text("ab", max_size=12), other=st.text("ab", max_size=12))
def test_whatever_comes_the_second_time_is_what_is_there_at_the_end(one, other):
    run = told(text(0, ""), text(0, one))
    again(run, text(0, ""), *cuts(other, [3, 6]), text(len(other), "", "eos"), *end(other))
    assert run.text == other
    assert bool(run.warnings) is not other.startswith(one)
