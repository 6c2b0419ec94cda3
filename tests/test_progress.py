"""Progress, results and amounts in words."""

from __future__ import annotations

from typing import Any

import pytest

from modelcompose_jupyter.errors import InputError
from modelcompose_jupyter.formatting import duration
from modelcompose_jupyter.progress import (
    Progress,
    ProgressMeter,
    as_text,
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
    assert shown == Progress("Downloading m 1.0 GB · 100 MB/s", None)


@pytest.mark.parametrize(
    ("data", "text", "share"),
    [
        ({"phase": "load", "done": 3, "total": 12}, "Loading m 3/12", 0.25),
        ({"phase": "job", "done": 1, "total": 2}, "1 of 2 jobs", 0.5),
        ({"phase": "repeat", "done": 1, "total": 4, "unit": "repeats"}, "1 of 4 repeats", 0.25),
    ],
)
def test_other_progress_is_counted(data: dict[str, Any], text: str, share: float) -> None:
    assert ProgressMeter().see(event(0, **data)) == Progress(text, share)


def test_a_run_waits_for_models_on_their_way_and_for_its_turn() -> None:
    meter = ProgressMeter()
    assert meter.waiting(event(0, phase="load", done=1, total=2)) == "Loading m 1/2"
    queued = {"phase": "queue", "total": 2, "unit": "requests"}
    assert meter.waiting(event(0, **queued, ahead=2, done=0)) == "2 ahead in the queue"
    assert meter.waiting(event(0, **queued, ahead=0, done=2)) == ""
    assert meter.waiting(event(0, phase="job", done=1, total=2)) is None
    assert meter.waiting(Event(0, "state", 0, {"state": "running"})) is None


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


def test_a_run_that_failed_is_not_called_by_the_end_of_its_other_texts() -> None:
    run = Run("w", {}, lambda: None)
    text = {"stream": ("job", 1, 0, 0), "offset": 0, "text": "", "finish_reason": "cancelled"}
    run.add("text", text)
    run.add("error", InputError("the prompt is too long").to_dict())
    run.add("state", {"state": State.FAILED, "summary": {"usage": {"generated": 3}}})
    assert run.finish_reason == "cancelled"
    assert status_line(run) == "failed · 3 tokens"
