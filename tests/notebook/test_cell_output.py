"""The output of a cell that waits for a run: a text that grows, and what is waited for below it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import IPython.display
import pytest

from modelcompose_jupyter import cell_output
from modelcompose_jupyter.cell_output import CellOutput, wait
from modelcompose_jupyter.workflow import Run, State


class Handle:
    """Takes the place of a display, and notes what it shows."""

    shown: list[str]

    def display(self, data: dict[str, str], raw: bool) -> None:
        Handle.shown = [*Handle.shown, data["text/plain"]]

    update = display


class Clock:
    """Stands still until it is told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[Clock]:
    Handle.shown = []
    clock = Clock()
    monkeypatch.setattr(IPython.display, "DisplayHandle", Handle)
    monkeypatch.setattr(cell_output, "time", clock)
    return clock


def test_the_line_stands_below_the_text_and_goes_at_the_end(clock: Clock) -> None:
    output = CellOutput()
    output.show("Importing torch")
    clock.now += 1
    output.show("")
    clock.now += 1
    output.write("Once")
    clock.now += 1
    output.show("Reading the prompt")
    output.end()
    assert Handle.shown == [
        "Importing torch", "", "Once", "Once\nReading the prompt", "Once",
    ]  # fmt: skip


def test_a_long_text_is_sent_sparingly_and_to_its_end(clock: Clock) -> None:
    output = CellOutput()
    words = [f"word{number} " for number in range(20_000)]
    for word in words:
        output.write(word)
        clock.now += 0.01
    output.write("\n")
    output.end()
    assert Handle.shown[-1] == "".join(words)
    seconds = 200
    assert len(Handle.shown) <= seconds / cell_output._SECONDS + 2
    sent = sum(map(len, Handle.shown))
    assert sent / seconds <= cell_output._CHARACTERS_A_SECOND


def test_nothing_is_displayed_where_there_is_nothing(clock: Clock) -> None:
    output = CellOutput()
    output.show("")
    output.end()
    assert Handle.shown == []


def test_a_line_that_has_not_changed_is_not_sent_again(clock: Clock) -> None:
    output = CellOutput()
    for _ in range(3):
        output.show("Starting")
        clock.now += 1
    assert Handle.shown == ["Starting"]


def test_html_is_escaped_and_has_a_direction() -> None:
    html = cell_output._html("<b> שלום", "a & b")
    assert "&lt;b&gt; שלום" in html and "a &amp; b" in html and "<b>" not in html
    assert 'dir="auto"' in html and "overflow-wrap:anywhere" in html
    assert cell_output._html("", "") == ""


def test_outside_of_ipython_a_wait_shows_nothing(capfd: Any, monkeypatch: Any) -> None:
    monkeypatch.setattr(cell_output, "_shell", lambda: None)
    run = Run("w", {}, lambda: None)
    run.add("state", {"state": State.COMPLETED})
    wait(run)
    assert capfd.readouterr() == ("", "")
