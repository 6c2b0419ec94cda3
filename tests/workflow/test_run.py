"""The Run as its observers see it: a fold over events, fed here by hand."""

from __future__ import annotations

import asyncio
import threading
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelcompose_jupyter import InputError, Run, RunCancelled
from modelcompose_jupyter.errors import Where
from modelcompose_jupyter.workflow import Event
from modelcompose_jupyter.workflow import run as run_module
from modelcompose_jupyter.workflow.run import MERGED_AT


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


async def gathered(feed: Any) -> list[Any]:
    return [item async for item in feed]


def test_coroutines_get_what_others_get(run: Run) -> None:
    run.add("state", {"state": "running"})
    for stream, text in ((0, "A"), (1, "B"), (0, "a")):
        put(run, stream, len(run.streams.get(("job", 0, 0, stream), "")), text)
    put(run, 0, 2, "", finish_reason="eos")
    put(run, 1, 1, "b", finish_reason="length")

    async def ended_meanwhile(feed: Any) -> list[Any]:
        asyncio.get_running_loop().call_soon(end, run)  # not heard where the loop is blocked
        return await gathered(feed)

    streamed = asyncio.run(ended_meanwhile(run.stream()))
    assert "".join(streamed) == run.text == "Aa\n\nBb"
    assert asyncio.run(gathered(run.follow())) == list(run.follow())
    assert asyncio.run(gathered(run.events(after=1))) == list(run.events(after=1))
    assert run._watchers == []


def test_a_coroutine_that_reads_while_the_text_grows_loses_nothing(run: Run) -> None:
    def write() -> None:
        for number in range(2000):
            put(run, 0, number, "x")
        end(run)

    async def read() -> list[str]:
        writer = threading.Thread(target=write)
        writer.start()
        pieces = await gathered(run.stream())
        writer.join(30)
        return pieces

    assert "".join(asyncio.run(read())) == "x" * 2000


def test_others_have_their_turn_however_much_there_is_to_read(run: Run) -> None:
    for number in range(100):
        run.add("progress", {"phase": "job", "done": number})
    turns: list[int] = []

    async def other() -> None:
        while True:
            turns.append(1)
            await asyncio.sleep(0)

    async def main() -> int:
        task = asyncio.ensure_future(other())
        feed = run.events()
        for _ in range(100):
            await anext(feed)
        task.cancel()
        return len(turns)

    assert asyncio.run(main()) >= 99


def test_a_reader_may_change_from_one_kind_of_loop_to_the_other(run: Run) -> None:
    put(run, 0, 0, "a")
    feed = run.events()
    assert next(feed).data["text"] == "a"
    put(run, 0, 1, "b")
    end(run)
    assert [event.type for event in asyncio.run(gathered(feed))] == ["text", "result", "state"]
    assert list(feed) == []


def test_a_cancelled_reader_leaves_the_run_alone(run: Run) -> None:
    async def main() -> None:
        task = asyncio.ensure_future(gathered(run.stream()))
        await asyncio.sleep(0)
        while not run._watchers:  # until it waits
            await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(main())
    assert run._watchers == []
    assert run.state == "queued"


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


def test_done_callbacks_are_called_once_in_order_and_before_watchers(run: Run) -> None:
    calls: list[Any] = []
    run.watch(lambda: calls.append(run.state) if run.done else None)
    run.add_done_callback(lambda ended: calls.append((1, ended)))
    run.add_done_callback(lambda ended: calls.append((2, ended)))
    forget = run.add_done_callback(lambda ended: calls.append("forgotten"))
    forget()
    forget()
    put(run, 0, 0, "x")
    assert calls == []
    end(run)
    assert calls == [(1, run), (2, run), "completed"]
    assert run._done_callbacks == []


def test_a_done_callback_of_a_run_that_has_ended_is_called_at_once(run: Run) -> None:
    end(run)
    calls: list[Any] = []
    run.add_done_callback(lambda ended: calls.append((ended, threading.current_thread())))()
    assert calls == [(run, threading.current_thread())]


def test_done_callbacks_are_called_on_the_thread_that_ends_the_run(run: Run) -> None:
    calls: list[threading.Thread] = []
    run.add_done_callback(lambda _: calls.append(threading.current_thread()))
    ending = threading.Thread(target=end, args=[run])
    ending.start()
    ending.join(30)
    assert calls == [ending]


def test_a_done_callback_that_fails_is_logged_and_harms_nothing(
    run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(_: Run) -> None:
        raise ZeroDivisionError

    calls: list[Run] = []
    run.add_done_callback(fail)
    run.add_done_callback(calls.append)
    end(run)
    assert calls == [run]
    run.add_done_callback(fail)  # nor at once
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 2 and all(run.id in message for message in messages)


def test_who_waits_for_the_end_in_a_coroutine_may_go_without_stopping_the_run() -> None:
    stopped: list[bool] = []
    run = Run("flow", {}, cancel=lambda: stopped.append(True))

    async def main() -> None:
        assert not await run.until_done(0)
        waiting = asyncio.ensure_future(run.until_done())
        await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.gather(waiting, return_exceptions=True)
        assert run._done_callbacks == [] == stopped
        threading.Thread(target=end, args=[run]).start()
        assert await run.until_done(30)

    asyncio.run(main())


def progress(run: Run, phase: str, job: str, done: int) -> None:
    run.add("progress", {"phase": phase, "job": job, "done": done, "total": 9, "unit": "things"})


def described(events: list[Event]) -> list[Any]:
    """What events say, briefly: texts and counts; otherwise their type."""
    return [event.data.get("text", event.data.get("done", event.type)) for event in events]


def test_an_ended_run_keeps_what_its_events_come_to(run: Run) -> None:
    run.add("state", {"state": "running"})
    put(run, 0, 0, "")
    put(run, 1, 0, "")
    for number in range(1000):
        put(run, 0, number, "a")
        progress(run, "queue", "job", 9 - number % 9)
        put(run, 1, number, "b")
        progress(run, "repeat", "job", number % 9)
    put(run, 1, 1000, "", finish_reason="length")
    put(run, 0, 999, "!", finish_reason="eos")
    end(run, "out")
    events = run.events_so_far()
    texts = ["", "", "b" * 1000, "a" * 999 + "!"]
    assert described(events) == ["state", *texts[:2], 9, 0, *texts[2:], "result", "state"]
    numbers = [event.number for event in events]
    assert numbers == [0, 1, 2, 4000, 4002, 4003, 4004, 4005, 4006]
    assert run.last_event == 4006
    assert [event.data.get("finish_reason") for event in events[5:7]] == ["length", "eos"]
    assert run.ended_at == events[-1].time
    assert 2000 < run.size < 20_000


def test_a_run_that_goes_on_does_not_keep_the_pieces_of_very_many_texts(run: Run) -> None:
    for number in range(1000):
        for place in range(50):
            put(run, number, place, "a")
            progress(run, "item", "job", number)
        put(run, number, 50, "", finish_reason="eos")
    assert len(run.events_so_far()) < 2 * MERGED_AT
    assert set(run.streams.values()) == {"a" * 50}


def test_a_run_that_goes_on_keeps_every_event_of_few(run: Run) -> None:
    for number in range(10):
        put(run, 0, number, "a")
    assert [event.number for event in run.events_so_far()] == list(range(10))
    assert (run.ended_at, run.size, run.last_event) == (None, 0, 9)


STREAMS = st.tuples(st.sampled_from(["a", "b"]), st.integers(0, 1), st.just(0), st.integers(0, 1))
TEXT = st.tuples(
    st.just("text"),
    STREAMS,
    st.integers(0, 3),
    st.text(max_size=3),
    st.sampled_from([None, None, "eos", "length"]),
)
PROGRESS = st.tuples(
    st.just("progress"),
    st.sampled_from(["queue", "load", "repeat"]),
    st.sampled_from(["a", "b"]),
    st.integers(0, 9),
)
ENDS = st.sampled_from(["completed", "failed", "cancelled"])


def play(run: Run, step: tuple[Any, ...]) -> None:
    if step[0] == "progress":
        progress(run, *step[1:])
        return
    _, stream, back, text, reason = step
    offset = max(0, len(run.streams.get(stream, "")) - back)
    more = {} if reason is None else {"finish_reason": reason}
    run.add("text", {"stream": stream, "offset": offset, "text": text, **more})


def finish(run: Run, state: str) -> None:
    if state == "completed":
        run.add("result", {"output": run.text})
    if state == "failed":
        run.add("error", InputError("wrong").to_dict())
    run.add("state", {"state": state, "summary": {"usage": {"generated": 3}}})


def feed(reader: Run, events: list[Event]) -> int:
    for event in events:
        reader.add(event.type, event.data)
    return events[-1].number if events else -1


def folded(run: Run) -> Any:
    return (
        list(run.streams.items()), run.finish_reason, run.output, run.usage, run.state,
        run.error and run.error.to_dict(),
    )  # fmt: skip


@given(st.lists(TEXT | PROGRESS, max_size=40), ENDS, st.sampled_from([3, 10, 4096]), st.data())
def test_who_resumes_after_events_were_merged_has_what_who_read_all_has(
    steps: list[tuple[Any, ...]], state: str, merged_at: int, data: st.DataObject
) -> None:
    with mock.patch.object(run_module, "MERGED_AT", merged_at):
        check_readers(steps, state, data)


def check_readers(steps: list[tuple[Any, ...]], state: str, data: st.DataObject) -> None:
    run, whole = (Run("flow", {}, lambda: None, id="r") for _ in range(2))
    readers: list[tuple[Run, int]] = []
    for step in steps:
        play(run, step)
        play(whole, step)
        if data.draw(st.booleans()):
            reader = Run("flow", {}, lambda: None, id="r")
            readers.append((reader, feed(reader, run.events_so_far())))
    before = run.events_so_far()
    last_said = {
        (event.data["phase"], event.data["job"]): event for event in before
        if event.type == "progress"
    }  # fmt: skip
    finish(run, state)
    for reader, after in [*readers, (Run("flow", {}, lambda: None, id="r"), -1)]:
        fresh = run.events_so_far(after)
        feed(reader, fresh)
        assert folded(reader) == folded(run)
        numbers = [event.number for event in fresh]
        assert numbers == sorted(set(numbers)) and numbers[0] > after
    assert folded(run)[0] == list(whole.streams.items())
    assert [event for event in run.events_so_far() if event.type == "progress"] == sorted(
        last_said.values(), key=lambda event: event.number
    )


@given(st.lists(TEXT, max_size=40), st.integers(0, 40))
def test_a_stream_that_is_read_across_the_end_loses_nothing(
    steps: list[tuple[Any, ...]], pause: int
) -> None:
    """Texts only grow here: a piece that was shown stays shown."""
    run = Run("flow", {}, lambda: None)
    pieces = []
    stream = run.stream()
    growing = [(kind, key, 0, text, None) for kind, key, _, text, _ in steps]
    for step in growing[:pause]:
        play(run, step)
    if next(iter(run.streams.values()), ""):  # the others come after the end of the first
        pieces.append(next(stream))
    for step in growing[pause:]:
        play(run, step)
    for key in run.streams:
        play(run, ("text", key, 0, "", "eos"))
    finish(run, "completed")
    pieces += stream
    assert "".join(pieces).replace("\n\n", "") == run.text.replace("\n\n", "")


def test_readers_follow_a_run_to_its_end_while_it_is_made_compact(run: Run) -> None:
    readers = [Run("flow", None, lambda: None, id=run.id) for _ in range(4)]
    threads = [
        threading.Thread(target=lambda each=each: feed(each, list(run.events())))  # type: ignore[misc]
        for each in readers
    ]
    for thread in threads:
        thread.start()
    for number in range(3000):
        put(run, number % 3, number // 3, "x")
    for stream in range(3):
        put(run, stream, 1000, "", finish_reason="eos")
    end(run, "out")
    for thread in threads:
        thread.join(30)
    assert [folded(reader) for reader in readers] == [folded(run)] * 4
