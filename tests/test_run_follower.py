"""Following a run in the foreground: its progress, its text, its end, and interrupts."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from modelcompose_jupyter import InputError, Run, State, run_follower
from modelcompose_jupyter.run_follower import await_end, follow, stop


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A line is shown from the beginning on, at each look."""
    monkeypatch.setattr(run_follower, "QUIET_SECONDS", 0.0)
    monkeypatch.setattr(run_follower, "_TICK", 0.0)
    monkeypatch.setattr("modelcompose_jupyter.progress.Progress.line", lambda self, now: self.text)


class Line:
    """A progress line that hands on what it shows, in ``<>``, where that is something else."""

    def __init__(self, take: Callable[[str], object], *, is_among_text: bool) -> None:
        self.is_among_text = is_among_text
        self._take = take
        self._shown = ""

    def show(self, text: str) -> None:
        if text != self._shown:
            self._shown = text
            self._take(f"<{text}>")


def tell(run: Run, number: int, text: str) -> None:
    """One more text, which waits for its turn first."""
    run.add("progress", {"phase": "queue", "total": 1, "done": 0, "unit": "requests", "ahead": 1})
    stream = {"stream": ("job", number, 0, 0), "offset": 0}
    run.add("text", {**stream, "text": text, "finish_reason": "eos"})


@pytest.mark.parametrize("is_among_text", [False, True])
def test_progress_is_shown_and_not_over_the_text(is_among_text: bool) -> None:
    run = Run("w", {}, lambda: None)
    tell(run, 0, "Once")
    shown: list[str] = []

    def write(text: str) -> None:
        shown.append(text)
        if text == "Once":
            tell(run, 1, "Twice")
            run.add("state", {"state": State.COMPLETED})

    follow(run, line=Line(shown.append, is_among_text=is_among_text), write=write)

    turn = "<1 ahead in the queue>"
    later = [] if is_among_text else [turn, "<>"]
    assert shown == [turn, "<>", "Once", *later, "\n\nTwice", "\n"]


def test_progress_goes_on_where_no_text_is_written() -> None:
    run = Run("w", {}, lambda: None)
    tell(run, 0, "Once")
    shown: list[str] = []

    def take(text: str) -> None:
        shown.append(text)
        if len(shown) == 2:
            tell(run, 1, "Twice and more")
            run.add("state", {"state": State.COMPLETED})

    follow(run, line=Line(take, is_among_text=True))

    turn = "<1 ahead in the queue>"
    assert shown == [turn, "<Writing, 1 word>", turn, "<Writing, 4 words>", "<>"]


def test_a_run_of_which_nothing_is_heard_is_told_of_all_the_same() -> None:
    run = Run("w", {}, lambda: None)
    shown: list[str] = []

    def take(text: str) -> None:
        shown.append(text)
        if len(shown) == 1:
            run.add("state", {"state": State.COMPLETED})

    follow(run, line=Line(take, is_among_text=True))
    assert shown == ["<Starting>", "<>"]


def test_a_short_wait_shows_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_follower, "QUIET_SECONDS", 1000.0)
    run = Run("w", {}, lambda: None)
    tell(run, 0, "Once")
    run.add("state", {"state": State.COMPLETED})
    shown: list[str] = []
    follow(run, line=Line(shown.append, is_among_text=True), write=shown.append)
    assert shown == ["Once", "\n"]


def test_a_wait_for_text_ends_where_it_begins() -> None:
    run = Run("w", {}, lambda: None)
    tell(run, 0, "Once")
    await_end(run, or_text=True)
    assert not run.done


def test_what_went_wrong_is_raised_behind_the_text() -> None:
    run = Run("w", {}, lambda: None)
    tell(run, 0, "Once")
    run.add("error", InputError("the prompt is too long").to_dict())
    run.add("state", {"state": State.FAILED})
    written: list[str] = []
    with pytest.raises(InputError, match="too long"):
        follow(run, write=written.append)
    assert written[-1] == "\n"


@pytest.mark.parametrize("error", [KeyboardInterrupt, BrokenPipeError])
def test_what_breaks_the_wait_stops_the_run(error: type[BaseException]) -> None:
    def write(_: str) -> None:
        raise error

    run = Run("w", {}, lambda: run.add("state", {"state": State.CANCELLED}))
    tell(run, 0, "Once")
    with pytest.raises(error):
        follow(run, write=write)
    assert run.state == State.CANCELLED


def test_an_interrupt_is_told_though_the_reader_has_gone_too() -> None:
    """As where Ctrl-C ends all programs of a pipe."""
    run = Run("w", {}, lambda: run.add("state", {"state": State.CANCELLED}))
    tell(run, 0, "Once")
    tell(run, 1, "Twice")

    def write(text: str) -> None:
        if text != "Once":
            raise KeyboardInterrupt if "Twice" in text else BrokenPipeError

    with pytest.raises(KeyboardInterrupt):
        follow(run, write=write)
    assert run.state == State.CANCELLED


def test_a_second_interrupt_does_not_keep_a_run_from_being_stopped() -> None:
    pressed: list[str] = []

    def cancel() -> None:
        pressed.append("")
        if len(pressed) == 1:
            raise KeyboardInterrupt
        run.add("state", {"state": State.CANCELLED})

    run = Run("w", {}, cancel)
    error = KeyboardInterrupt()
    stop(run, error)
    assert run.state == State.CANCELLED
    assert error._render_traceback_() == [  # type: ignore[attr-defined]
        f"KeyboardInterrupt: run {run.id} was stopped after 0 tokens"
    ]


def test_of_a_run_that_has_not_ended_yet_no_number_is_told() -> None:
    run = Run("w", {}, lambda: None)
    error = KeyboardInterrupt()
    stop(run, error, 0.01)
    assert error._render_traceback_() == [  # type: ignore[attr-defined]
        f"KeyboardInterrupt: run {run.id} was stopped"
    ]


def test_a_log_has_a_line_for_each_job_that_ends_and_none_for_elements() -> None:
    run = Run("w", {}, lambda: None)
    types = {"a": "component", "check": "if", "b": "component"}
    for name, type_ in types.items():
        run.add("job", {"job": name, "type": type_, "state": "pending"})
    run.add("job", {"job": "a", "type": "component", "state": "running"})
    run.add("item", {"job": "a", "index": 0, "state": "completed"})
    run.add("job", {"job": "a", "type": "component", "state": "completed", "seconds": 1.5})
    run.add("job", {"job": "check", "type": "if", "state": "completed", "route": "c"})
    run.add("job", {"job": "b", "type": "component", "state": "skipped"})
    run.add("state", {"state": State.COMPLETED})
    lines: list[str] = []
    follow(run, note=lines.append)
    assert sorted(lines) == ["Done: a · 1.5 s", "Skipped: b", "Took the branch 'c' · check"]


def test_one_job_alone_is_nothing_to_note() -> None:
    run = Run("w", {}, lambda: None)
    run.add("job", {"job": "a", "type": "component", "state": "completed", "seconds": 1.5})
    run.add("state", {"state": State.COMPLETED})
    lines: list[str] = []
    follow(run, note=lines.append)
    assert lines == []
