"""The Run as its observers see it: a fold over events, fed here by hand."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest

from modelcompose_jupyter import InputError, Run, RunCancelled
from modelcompose_jupyter.errors import Where


@pytest.fixture
def run() -> Run:
    return Run("flow", {"prompt": "a"}, cancel=lambda: None)


def put(run: Run, stream: int, offset: int, text: str, **more: Any) -> None:
    run.add("text", {"stream": ("job", 0, 0, stream), "offset": offset, "text": text, **more})


def end(run: Run, output: Any = None) -> None:
    run.add("result", {"output": output})
    run.add("state", {"state": "completed", "summary": {"parameters": {"seed": 3}}})


def test_state_and_finish_reason_equal_plain_strings(run: Run) -> None:
    assert run.state == "queued"
    put(run, 0, 0, "x", finish_reason="eos")
    end(run)
    assert (run.state, run.finish_reason) == ("completed", "eos")
    assert f"{run.state}" == "completed"


def test_text_grows_and_a_correction_replaces_its_tail(run: Run) -> None:
    put(run, 0, 0, "abc")
    put(run, 0, 3, "def")
    assert run.text == "abcdef"
    put(run, 0, 2, "X")
    assert run.text == "abX"


def test_several_texts_stand_in_order(run: Run) -> None:
    put(run, 0, 0, "")
    put(run, 1, 0, "second")
    put(run, 0, 0, "first")
    assert run.text == "first\n\nsecond"


def test_the_stream_gives_one_text_after_the_other(run: Run) -> None:
    put(run, 0, 0, "")
    put(run, 1, 0, "B")
    put(run, 0, 0, "A")
    put(run, 0, 1, "a", finish_reason="eos")
    put(run, 1, 1, "b", finish_reason="length")
    end(run)
    assert "".join(run.stream()) == run.text == "Aa\n\nBb"
    assert run.finish_reason == "length"


def test_a_stream_that_is_read_while_it_grows_loses_nothing(run: Run) -> None:
    pieces: list[str] = []
    reader = threading.Thread(target=lambda: pieces.extend(run.stream()))
    reader.start()
    for number in range(2000):
        put(run, 0, number, "x")
    put(run, 0, 2000, "", finish_reason="eos")
    end(run)
    reader.join(30)
    assert "".join(pieces) == "x" * 2000


def test_events_are_numbered_and_can_be_resumed(run: Run) -> None:
    put(run, 0, 0, "a")
    end(run)
    assert [event.number for event in run.events()] == [0, 1, 2]
    assert [event.number for event in run.events(after=1)] == [2]


def test_nothing_follows_the_final_state(run: Run) -> None:
    end(run, "out")
    run.add("result", {"output": "late"})
    run.add("state", {"state": "failed"})
    assert (run.state, run.output) == ("completed", "out")


def test_a_failed_run_raises_the_error_with_its_place(run: Run) -> None:
    where = Where("f.yml", ("component", "text"), 3, 5, "  text: x")
    run.add("error", InputError("wrong", hint="Right it.", where=where).to_dict())
    run.add("state", {"state": "failed"})
    with pytest.raises(InputError) as caught:
        run.result()
    assert str(caught.value) == "f.yml:3:5: wrong\n  3 |   text: x\n    |     ^\n  Right it."


def test_a_cancelled_run_raises_that(run: Run) -> None:
    run.add("state", {"state": "cancelled"})
    with pytest.raises(RunCancelled):
        run.result()


def test_wait_and_result_end_at_their_timeout(run: Run) -> None:
    assert run.wait(0.01) is False
    with pytest.raises(TimeoutError):
        run.result(0.01)


def test_a_run_can_be_awaited(run: Run) -> None:
    async def main() -> Any:
        asyncio.get_running_loop().call_later(0.05, end, run, "out")
        return await run

    assert asyncio.run(main()) == "out"


def test_cancelling_the_awaiting_task_stops_the_run() -> None:
    cancelled = threading.Event()
    run = Run("flow", None, cancel=cancelled.set)

    async def main() -> None:
        task = asyncio.ensure_future(run.ended())
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert cancelled.is_set()


def test_watchers_are_called_until_they_leave(run: Run) -> None:
    seen: list[int] = []
    leave = run.watch(lambda: seen.append(len(run.text)))
    put(run, 0, 0, "ab")
    leave()
    put(run, 0, 2, "cd")
    assert seen == [2]
