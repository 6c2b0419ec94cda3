"""Which rows run when, and what becomes of them when somebody stops it."""

from __future__ import annotations

import contextlib
import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, InputError, LocalHost, Run, RunCancelled, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.mapping.active_maps import stop_all
from modelcompose_jupyter.mapping.row_stream import Row
from modelcompose_jupyter.models import MOST_SEQUENCES

from .conftest import BODY, Gates, instant, rows_that_raise


def said(prompt: object) -> dict[str, str]:
    return {"generated": f"<{prompt}>"}


def test_map_keeps_the_order_of_rows_and_imap_that_of_their_ends(
    flow: Workflow, models: ScriptedModels
) -> None:
    gates = Gates()
    models.reply = gates.reply
    stream = flow.imap(["a", "b", "c"], progress=False)
    for prompt, index in (("c", 2), ("a", 0), ("b", 1)):
        gates[prompt].set()
        assert next(stream) == Row(index, said(prompt))
    with pytest.raises(StopIteration):
        next(stream)

    def last_first(prompt: str) -> list[str]:
        gates[f"{int(prompt) + 1}"].wait(30)
        gates[prompt].set()
        return [f"<{prompt}>"]

    models.reply = last_first
    gates["8"].set()
    assert flow.map(map(str, range(8)), progress=False) == [said(number) for number in range(8)]
    assert flow.last_map == [said(number) for number in range(8)]


def test_many_rows_are_in_flight_and_no_more(flow: Workflow, models: ScriptedModels) -> None:
    prompts = [str(number) for number in range(100)]
    models.hold = tuple(prompts)
    pulled: list[str] = []
    outputs: list[Any] = []

    def rows() -> Iterator[str]:
        for prompt in prompts:
            pulled.append(prompt)
            yield prompt

    worker = threading.Thread(target=lambda: outputs.extend(flow.map(rows(), progress=False)))
    worker.start()
    for _ in range(MOST_SEQUENCES):
        assert models.started.acquire(timeout=30)
    assert len(pulled) == MOST_SEQUENCES
    models.gate.set()
    worker.join(60)
    assert outputs == [said(prompt) for prompt in prompts]


def test_a_generator_is_pulled_only_as_rows_are_handed_out() -> None:
    flow, _ = instant(lambda given: given["prompt"])
    handed, most = 0, 0

    def rows() -> Iterator[str]:
        nonlocal most
        for number in range(500):
            most = max(most, number + 1 - handed)
            yield str(number)

    for _ in flow.imap(rows(), progress=False):
        handed += 1
    assert handed == 500
    assert 1 <= most <= MOST_SEQUENCES


def test_nothing_is_kept_of_rows_that_were_handed_out(flow: Workflow) -> None:
    class Text(str):
        """A text whose end can be seen."""

    alive: weakref.WeakSet[Text] = weakref.WeakSet()

    def rows() -> Iterator[Text]:
        for number in range(300):
            prompt = Text(number)
            alive.add(prompt)
            yield prompt

    gc.disable()  # what is kept by a cycle is kept
    try:
        most = 0
        for row in flow.imap(rows(), progress=False):
            assert row.output == said(row.index)
            most = max(most, len(set(map(id, alive))))
        assert 1 < most <= MOST_SEQUENCES + 1
    finally:
        gc.enable()


def test_a_row_that_fails_has_its_error_in_its_place(flow: Workflow) -> None:
    rows: list[Any] = ["a", {"promt": "b"}, {"prompt": "c", "length": -1}, None, {"prompt": "e"}]
    outputs = flow.map(rows, progress=False)
    assert (outputs[0], outputs[4]) == (said("a"), said("e"))
    assert all(isinstance(outputs[number], InputError) for number in (1, 2, 3))
    assert outputs[1].hint == "Did you mean 'prompt'?"
    assert "max_output_length" in str(outputs[2])
    assert "missing input 'prompt'" in str(outputs[3])


def test_a_run_that_others_stop_is_a_row_that_failed(
    flow: Workflow, host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("b",)
    stream = flow.imap(["a", "b", "c"], progress=False)
    rows = [next(stream), next(stream)]
    assert models.started.acquire(timeout=30)
    (held,) = [run for run in host.runs() if run.input == {"prompt": "b"}]
    held.cancel()
    rows += stream
    assert [row.output for row in sorted(rows)[::2]] == [said("a"), said("c")]
    assert isinstance(sorted(rows)[1].output, RunCancelled)


def test_runs_that_have_ended_before_they_are_watched() -> None:
    flow, _ = instant(lambda given: given["prompt"].upper())
    assert flow.map([str(number) + "x" for number in range(100)], progress=False) == [
        f"{number}X" for number in range(100)
    ]


def leave_the_loop(flow: Workflow) -> None:
    for row in flow.imap(["held", "go"], progress=False):
        assert row == Row(1, said("go"))
        break


def raise_in_the_loop(flow: Workflow) -> None:
    with pytest.raises(ZeroDivisionError):
        for row in flow.imap(["held", "go"], progress=False):
            _ = 1 / (row.index - 1)


def close(flow: Workflow) -> None:
    stream = flow.imap(["held", "go"], progress=False)
    assert next(stream).index == 1
    stream.close()
    stream.close()
    assert list(stream) == []


def drop(flow: Workflow) -> None:
    stream = flow.imap(["held", "go"], progress=False)
    next(stream)
    del stream


def rows_that_fail(flow: Workflow) -> None:
    with pytest.raises(ZeroDivisionError):
        flow.map(rows_that_raise(flow.host, ZeroDivisionError()), progress=False)
    assert flow.last_map == [None, said("go")]


@pytest.mark.parametrize("leave", [leave_the_loop, raise_in_the_loop, close, drop, rows_that_fail])
def test_what_is_in_flight_is_stopped(
    leave: Any, flow: Workflow, host: LocalHost, models: ScriptedModels
) -> None:
    models.hold = ("held",)
    leave(flow)
    gone, held = host.runs()
    assert held.wait(30)
    assert (gone.state, held.state) == ("completed", "cancelled")
    assert models.leases == 0


def test_an_interrupt_keeps_what_is_done_and_says_how_far_it_went(
    flow: Workflow, models: ScriptedModels
) -> None:
    models.hold = ("held",)

    class Rows:
        def __len__(self) -> int:
            return 4

        def __iter__(self) -> Iterator[str]:
            return rows_that_raise(flow.host, KeyboardInterrupt())

    with pytest.raises(KeyboardInterrupt) as caught:
        flow.map(Rows(), progress=False)
    assert caught.value._render_traceback_() == [  # type: ignore[attr-defined]
        "KeyboardInterrupt: stopped after 1 of 4 rows"
    ]
    assert flow.last_map == [None, said("go"), None, None]
    assert models.leases == 0


def test_an_interrupt_in_the_moment_of_storing_loses_nothing(flow: Workflow) -> None:
    class Outputs(list[Any]):
        def __setitem__(self, *given: Any) -> None:
            if len(self) == 2 and self.count(None) == 1:
                super().append(None)
                raise KeyboardInterrupt
            super().__setitem__(*given)

    outputs = Outputs()
    with pytest.raises(KeyboardInterrupt) as caught:
        flow.imap(iter(["a", "b"]), progress=False).collect(outputs)
    assert [output for output in outputs if output is not None] == [said("a"), said("b")]
    assert "after 2 rows" in caught.value._render_traceback_()[0]  # type: ignore[attr-defined]


def test_a_run_that_is_just_being_submitted_is_stopped_too(
    models: ScriptedModels,
) -> None:
    models.hold = ("held",)
    submitting, go_on = threading.Event(), threading.Event()

    class SlowHost(LocalHost):
        """A host that takes its time to start a run, as a distant one does."""

        def submit(self, *given: Any, **more: Any) -> Run:
            submitting.set()
            assert go_on.wait(30)
            return super().submit(*given, **more)

    def rows() -> Iterator[str]:
        yield "held"
        assert submitting.wait(30)
        # Whether the stop or the run is there first, the run ends; as a rule it is the stop.
        threading.Timer(0.2, go_on.set).start()
        raise KeyboardInterrupt

    slow = SlowHost(models)  # type: ignore[arg-type]
    with pytest.raises(KeyboardInterrupt):
        load(BODY, host=slow).map(rows(), progress=False)
    assert [run.state for run in slow.runs()] == ["cancelled"]
    slow.close()


def test_a_closed_host_ends_the_map(flow: Workflow, host: LocalHost) -> None:
    host.close()
    with pytest.raises(ComposeError, match="the host is closed"):
        flow.map(["a", "b"], progress=False)


def test_the_bar_says_rows_rate_and_failures(
    flow: Workflow, capsys: pytest.CaptureFixture[str]
) -> None:
    flow.map(["a", {}, "c"])
    shown = capsys.readouterr().err
    assert "3/3" in shown
    assert "tokens/s, 1 failed]" in shown
    flow.map(iter(["a", "b"]))
    assert "2row" in capsys.readouterr().err
    flow.map(["a"], progress=False)
    assert capsys.readouterr() == ("", "")


def test_an_iterator_that_nobody_asks_runs_nothing(flow: Workflow, host: LocalHost) -> None:
    with contextlib.closing(flow.imap(["a", "b"], progress=False)):
        pass
    assert host.runs() == []


def test_a_host_without_room_is_waited_for() -> None:
    models = ScriptedModels()
    host = LocalHost(models)  # type: ignore[arg-type]
    host.limit(max_runs=2)
    rows = [f"row {number}" for number in range(50)]

    outputs = load(BODY, host=host).map(rows, progress=False)

    host.close()
    assert outputs == [said(row) for row in rows]


def test_stopping_all_ends_a_map_as_an_interrupt_does(
    flow: Workflow, models: ScriptedModels
) -> None:
    models.hold = tuple(map(str, range(100)))
    caught: list[BaseException] = []

    def run() -> None:
        try:
            flow.map(map(str, range(100)), progress=False)
        except ComposeError as error:
            caught.append(error)

    worker = threading.Thread(target=run)
    worker.start()
    assert models.started.acquire(timeout=30)
    stop_all()
    worker.join(60)
    (error,) = caught
    assert isinstance(error, RunCancelled)
    assert error.message.startswith("stopped after 0 row")
    assert len(models.prompts) <= MOST_SEQUENCES
