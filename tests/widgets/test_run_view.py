"""How texts travel to the browser: changes that make what it has what there is."""

from __future__ import annotations

import threading
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.widgets.run_view import Beside, RunView, _Changes, _Shown, labels
from modelcompose_jupyter.widgets.update_thread import UPDATE_THREAD_NAME, UpdateThread
from modelcompose_jupyter.workflow import Run, State

from .conftest import updated, wait_until

TEXTS = st.text(alphabet="ab\n한😀é", max_size=6)

QUIET: dict[str, Any] = {
    "for_guests": False,
    "beside": Beside,
    "on_message": lambda _: None,
    "on_updated": lambda _: None,
}


def units(text: str) -> bytes:
    return text.encode("utf-16-le")


@given(st.lists(st.tuples(st.integers(0, 12), TEXTS, st.booleans()), max_size=30))
def test_the_changes_add_up_whatever_is_corrected(events: list[tuple[int, str, bool]]) -> None:
    shown, text, browser = _Shown(), "", b""
    for back, piece, tells in [*events, (0, "", True)]:
        offset = max(0, len(text) - back)
        shown.put(offset, piece)
        text = text[:offset] + piece
        if tells and (change := shown.change()) is not None:
            start, put = change
            assert start * 2 <= len(browser)
            browser = browser[: start * 2] + units(put)
    assert browser == units(text)


def test_nothing_new_is_no_change() -> None:
    shown = _Shown()
    assert shown.change() is None
    shown.put(0, "a")
    assert shown.change() == (0, "a")
    assert shown.change() is None


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 4), TEXTS, st.booleans())))
def test_a_run_is_shown_whole_though_its_end_makes_it_compact(
    steps: list[tuple[int, int, str, bool]],
) -> None:
    run = Run("flow", {}, lambda: None)
    changes, browser = _Changes(run), dict.fromkeys(range(3), b"")

    def update() -> None:
        for index, start, put in changes.advance():
            assert start * 2 <= len(browser[index])
            browser[index] = browser[index][: start * 2] + units(put)

    for stream in range(3):
        run.add("text", {"stream": ("job", 0, 0, stream), "offset": 0, "text": ""})
    for stream, back, piece, updates in steps:
        offset = max(0, len(run.streams["job", 0, 0, stream]) - back)
        run.add("text", {"stream": ("job", 0, 0, stream), "offset": offset, "text": piece})
        if updates:
            update()
    run.add("state", {"state": State.COMPLETED})
    update()
    assert changes.ended
    assert list(browser.values()) == [units(text) for text in run.streams.values()]


def test_a_place_in_the_queue_is_shown_until_the_turn_comes() -> None:
    run = Run("flow", {}, lambda: None)
    changes = _Changes(run)
    queue = {"phase": "queue", "job": "job", "unit": "requests", "total": 2}
    shown = []
    for done in range(3):
        run.add("progress", {**queue, "ahead": 2 - done, "done": done})
        changes.advance()
        shown.append(changes.progress)
    began = run.events_so_far()[0].time
    assert shown == [
        {"text": "2 ahead in the queue", "share": 0.0, "since": began},
        {"text": "1 ahead in the queue", "share": 0.5, "since": began},
        {},
    ]


def test_headings_say_only_what_differs() -> None:
    assert labels([("a", 0, 0, 0)]) == [""]
    assert labels([("a", 0, 0, 0), ("b", 0, 0, 0)]) == ["a", "b"]
    assert labels([("a", 0, 0, 0), ("a", 1, 0, 0)]) == ["repeat 1", "repeat 2"]


def test_updates_are_joined_and_run_on_one_thread() -> None:
    update_thread = UpdateThread()
    names: list[str] = []
    inside, go_on, done = threading.Event(), threading.Event(), threading.Event()

    def first() -> None:
        inside.set()
        assert go_on.wait(30)

    def update() -> None:
        names.append(threading.current_thread().name)

    update_thread.soon(first)
    assert inside.wait(30)
    for _ in range(100):
        update_thread.soon(update)
    update_thread.soon(done.set)
    go_on.set()
    assert done.wait(30)
    assert names == [UPDATE_THREAD_NAME]


def test_an_update_that_fails_ends_nothing() -> None:
    update_thread = UpdateThread()
    done = threading.Event()

    def broken() -> None:
        raise RuntimeError

    update_thread.soon(broken)
    update_thread.soon(done.set)
    assert done.wait(30)


class Sent(RunView):
    """A view that keeps what it sends to the browser."""

    def __init__(self) -> None:
        self.sent: list[dict[str, Any]] = []
        super().__init__((), snippets=lambda _: [], **QUIET)

    def _send(self, msg: dict[str, Any], buffers: Any = None) -> None:
        self.sent.append(msg)


def a_run() -> Run:
    run = Run("w", {}, lambda: None)
    run.add("state", {"state": State.RUNNING})
    return run


def say(run: Run, offset: int, text: str, **more: Any) -> None:
    run.add("text", {"stream": ("job", 0, 0, 0), "offset": offset, "text": text, **more})


def test_texts_are_appended_and_the_whole_is_sent_at_the_end() -> None:
    view, run = Sent(), a_run()
    view.show(run)
    updated()
    view.sent.clear()
    for number in range(500):
        say(run, 2 * number, "ab")
    updated()
    changes = [msg["content"]["changes"] for msg in view.sent if msg["method"] == "custom"]
    assert 0 < len(changes) < 100
    assert "".join(change[0][2] for change in changes) == "ab" * 500
    assert not any("texts" in msg.get("state", {}) for msg in view.sent)
    run.add("state", {"state": State.COMPLETED, "summary": {}})
    wait_until(view, lambda: view.ended)
    whole = [msg["state"]["texts"] for msg in view.sent if "texts" in msg.get("state", {})]
    assert whole == [["ab" * 500]]


def test_a_page_that_comes_late_gets_the_text_so_far_and_can_ask_again() -> None:
    view, run = Sent(), a_run()
    view.show(run)
    say(run, 0, "Once")
    updated()
    assert view.get_state()["texts"] == ["Once"]
    view.sent.clear()
    view._handle_custom_msg({"type": "resync"}, [])
    updated()
    assert [msg["state"]["texts"] for msg in view.sent] == [["Once"]]


def test_what_a_run_says_after_its_view_shows_another_is_not_shown() -> None:
    view, first, second = Sent(), a_run(), a_run()
    view.show(first)
    say(first, 0, "first")
    updated()
    view.show(second)
    say(first, 5, " more")
    say(second, 0, "second")
    updated()
    assert view.get_state("texts") == {"texts": ["second"]}
    assert view.run_id == second.id


def test_a_run_that_begins_while_another_ends_is_shown_to_its_end() -> None:
    first, second = a_run(), a_run()
    began = threading.Event()

    def in_the_midst_of_the_end(run: Run) -> list[tuple[str, str]]:
        if run is first:
            view.show(second)
            began.set()
        return []

    view = RunView((), snippets=in_the_midst_of_the_end, **QUIET)
    view.show(first)
    first.add("error", InputError("it failed").to_dict())
    first.add("state", {"state": State.FAILED, "summary": {}})
    assert began.wait(30)
    wait_until(view, lambda: view.run_id == second.id)
    second.add("state", {"state": State.COMPLETED, "summary": {}})
    wait_until(view, lambda: view.ended)
    assert (view.run_id, view.state, view.error) == (second.id, "completed", "")
