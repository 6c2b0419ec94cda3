"""Which ended runs a host knows: what was fetched goes first, what was not goes to the disk."""

from __future__ import annotations

import gc
import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins.processes import environment
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import ComposeError, InputError, LocalHost, ModelError, Run, run_store
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.submission import Requester

DOCUMENT = load_document(
    """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
"""
)


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder for temporary files."""
    folder = tmp_path / "temporary"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    return folder


@pytest.fixture
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """There is no room for owed results in memory."""
    monkeypatch.setattr(run_store, "OWED_BYTES", 0)


def ended(host: LocalHost, prompt: str = "a", **options: Any) -> Run:
    run = host.submit(DOCUMENT, None, {"prompt": prompt}, **options)
    assert run.wait(30)
    return run


def owed(host: LocalHost, prompt: str = "a", **options: Any) -> str:
    """The id of a run that somebody will come for, and whom nobody here holds."""
    return ended(host, prompt, requester=Requester("them"), **options).id


def files(folder: Path) -> list[Path]:
    return sorted(each for each in folder.glob("*/*") if each.name != "lock")


def spilled(host: LocalHost, *ids: str) -> None:
    """Wait until runs are on the disk alone."""

    def kept() -> list[Any]:
        return [host.run_store.find(id) for id in ids]

    until(lambda: all(each._run is None for each in kept()))
    until(lambda: (gc.collect(), not any(each.in_memory for each in kept()))[1])


def reason_of(host: LocalHost, id: str) -> str:
    """Why a run is forgotten, once it is."""
    until(lambda: isinstance(host.run_store.find(id), run_store.Forgotten))
    with pytest.raises(InputError) as caught:
        host.run(id)
    assert caught.value.code == "gone"
    assert caught.value.message.startswith(f"run {id} is forgotten: ")
    assert caught.value.hint == "Run it again."
    with pytest.raises(InputError, match="is forgotten"):
        host.rerun(id)
    return caught.value.message.partition(": ")[2]


def test_what_nobody_fetched_outlives_all_others(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "KEPT_RUNS", 3)
    waiting = [owed(host, str(number)) for number in range(5)]
    others = [ended(host).id for _ in range(10)]

    assert [run.id for run in host.own_runs()] == others[:-4:-1]
    assert [run.id for run in host.runs()] == [*others[:-4:-1], *waiting[::-1]]
    assert [host.run(id).output["generated"] for id in waiting] == [f"<{n}>" for n in range(5)]
    assert reason_of(host, others[0]) == "newer ones have taken its place"


def test_what_was_fetched_stays_for_a_while_though_it_is_old(
    host: LocalHost, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "KEPT_RUNS", 3)
    first = owed(host)
    others = [ended(host).id for _ in range(3)]
    for _ in range(2):
        host.run_store.fetched(host.run(first))

    assert [run.id for run in host.runs()] == [*others[:0:-1], first]
    ended(host)
    ended(host)
    assert host.run(first).output == {"generated": "<a>"}
    ended(host)
    assert reason_of(host, first) == "newer ones have taken its place"


def test_what_is_fetched_before_it_is_known_to_have_ended_is_fetched(
    host: LocalHost, models: ScriptedModels, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "KEPT_RUNS", 0)
    models.hold = ("held",)
    run = host.submit(DOCUMENT, None, {"prompt": "held"}, requester=Requester("them"))
    host.run_store.fetched(run)
    assert host.run(run.id) is run
    models.gate.set()
    run.result(30)
    assert reason_of(host, run.id) == "newer ones have taken its place"


def _finished(host: LocalHost, models: ScriptedModels) -> Run:
    return ended(host, "é \u2028 🦊", requester=Requester("them"), metadata={"k": [1]})


def _failed(host: LocalHost, models: ScriptedModels) -> Run:
    models.failure = ModelError("no such model", hint="Take another.", code="model_not_found")
    run = ended(host, requester=Requester("them"))
    models.failure = None  # its traceback holds the run
    return run


def _stopped(host: LocalHost, models: ScriptedModels) -> Run:
    models.hold = ("a",)
    run = host.submit(DOCUMENT, None, {"prompt": "a"}, requester=Requester("them"))
    assert models.started.acquire(timeout=30)
    run.cancel()
    assert run.wait(30)
    return run


def _never_begun(host: LocalHost, models: ScriptedModels) -> Run:
    leave = host.observe(lambda run: run.cancel())
    run = ended(host, requester=Requester("them"), seed=5)
    leave()
    return run


def _half_a_character(host: LocalHost, models: ScriptedModels) -> Run:
    models.reply = lambda prompt: ["x\ud83e", "\x00" * 50_000]
    return ended(host, requester=Requester("them"))


@pytest.mark.parametrize(
    "make",
    [_finished, _failed, _stopped, _never_begun, _half_a_character],
    ids=lambda f: f.__name__,
)
@pytest.mark.usefixtures("tiny")
def test_a_run_comes_back_from_the_disk_as_it_was(
    host: LocalHost, models: ScriptedModels, make: Callable[..., Run]
) -> None:
    run = make(host, models)

    def told(run: Run) -> Any:
        error = run.error and run.error.to_dict()
        return (
            *(run.id, run.workflow, run.input, run.metadata, run.state, run.output, error),
            *(run.text, run.streams, run.finish_reason, run.usage, run.parameters, run.timings),
            *(run.warnings, run.record, run.events_so_far(), run.ended_at, run.size, repr(run)),
        )

    before, memory = told(run), weakref.ref(run)
    id = run.id
    del run
    spilled(host, id)
    assert memory() is None

    back = host.run(id[:8])
    assert told(back) == before
    assert host.run(id) is back
    assert [event.data for event in back.events()] == [each.data for each in before[15]]
    if back.error is not None:
        with pytest.raises(type(back.error)):
            back.result(0)


@pytest.mark.usefixtures("tiny")
def test_a_run_on_the_disk_can_be_run_again(host: LocalHost, models: ScriptedModels) -> None:
    id = owed(host, "again", seed=11)
    spilled(host, id)

    run = host.rerun(id)

    assert run.result(30) == {"generated": "<again>"}
    assert [each["seed"] for each in models.parameters] == [11, 11]
    assert run.record["document"] == host.run(id).record["document"]


@pytest.mark.usefixtures("tiny")
def test_files_are_private_and_go_when_they_are_fetched_and_with_the_host(
    host: LocalHost, folder: Path
) -> None:
    ended(host)
    assert list(folder.iterdir()) == []
    ids = [owed(host, prompt) for prompt in "abc"]
    spilled(host, *ids)
    (place,) = folder.iterdir()
    assert {each.name for each in files(folder)} == set(ids)
    if os.name == "posix":
        assert stat.S_IMODE(place.stat().st_mode) == 0o700
        assert {stat.S_IMODE(each.stat().st_mode) for each in place.iterdir()} == {0o600}

    for _ in range(2):
        host.run_store.fetched(host.run(ids[0]))
    assert {each.name for each in files(folder)} == set(ids[1:])
    assert host.run(ids[0]) in host.runs()

    host.close()
    assert list(folder.iterdir()) == []
    assert reason_of(host, ids[1]) == "the host was closed"
    assert host.run(ids[0]).output == {"generated": "<a>"}
    host.close()


def test_only_the_oldest_go_to_the_disk(
    host: LocalHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    size = ended(host).size
    monkeypatch.setattr(run_store, "OWED_BYTES", 3 * size + size // 2)
    ids = [owed(host) for _ in range(5)]

    spilled(host, *ids[:2])

    assert {each.name for each in files(folder)} == set(ids[:2])
    assert all(host.run_store.find(id).in_memory for id in ids[2:])  # type: ignore[union-attr]


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("bound", ["SPILLED_BYTES", "OWED_RUNS"])
def test_beyond_what_may_be_on_the_disk_the_oldest_go(
    host: LocalHost, folder: Path, bound: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended(host)
    first = owed(host)
    spilled(host, first)
    size = files(folder)[0].stat().st_size
    limit = 3 if bound == "OWED_RUNS" else 3 * size + size // 2
    monkeypatch.setattr(run_store, bound, limit)
    ids = [first, *(owed(host) for _ in range(4))]

    for id in ids[:2]:
        assert reason_of(host, id) == "nobody fetched its result while there was room for it"
    spilled(host, *ids[2:])
    assert {each.name for each in files(folder)} == set(ids[2:])


@pytest.mark.usefixtures("tiny")
def test_what_is_larger_than_the_disk_may_hold_does_not_stay(
    host: LocalHost, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run_store, "SPILLED_BYTES", 10)
    assert reason_of(host, owed(host)).startswith("nobody fetched its result while")
    assert files(folder) == []


def test_time_goes_for_all_alike(host: LocalHost, folder: Path) -> None:
    mine, theirs, fetched = ended(host).id, owed(host), owed(host)
    host.run_store.fetched(host.run(fetched))
    host.limit(run_ttl=3600)
    assert {run.id for run in host.runs()} == {mine, theirs, fetched}
    host.limit(run_ttl=0)
    for id in (mine, theirs, fetched):
        assert reason_of(host, id) == (
            "the time for which results are kept after a run's end is over"
        )
    assert reason_of(host, owed(host))
    host.limit(run_ttl=None)
    assert host.run(owed(host))


@pytest.mark.usefixtures("tiny")
def test_time_goes_on_the_disk_too(host: LocalHost, folder: Path) -> None:
    id = owed(host)
    spilled(host, id)
    host.limit(run_ttl=0)
    host.run_store.expire()
    assert files(folder) == []
    assert "the time" in reason_of(host, id)


def test_why_is_known_for_a_while_too(host: LocalHost, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_store, "_FORGOTTEN_RUNS", 2)
    host.limit(run_ttl=0)
    ids = [owed(host) for _ in range(3)]
    until(lambda: host.run_store.find(ids[0]) is None)
    with pytest.raises(InputError) as caught:
        host.run(ids[0])
    assert caught.value.code == "unknown_run"
    assert reason_of(host, ids[2])


# Disks that fail


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("kind", ["no folder", "full"])
def test_a_disk_that_takes_nothing_costs_the_oldest_and_nothing_else(
    host: LocalHost,
    folder: Path,
    kind: str,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    if kind == "no folder":
        monkeypatch.setattr(tempfile, "tempdir", str(folder / "missing"))
        lost = owed(host)
        assert "nor could it be kept on the disk" in reason_of(host, lost)
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
    else:
        resource = pytest.importorskip("resource")
        soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (100, hard))  # a write fails in its middle
        try:
            lost = owed(host)
            assert "nor could it be kept on the disk" in reason_of(host, lost)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert f"the result of run {lost} cannot be kept" in caplog.text
    assert files(folder) == []

    kept = owed(host)
    spilled(host, kept)
    assert host.run(kept).output == {"generated": "<a>"}


@pytest.mark.usefixtures("tiny")
@pytest.mark.parametrize("damage", ["removed", "cut", "whole folder"])
def test_a_file_that_somebody_damaged_is_a_forgotten_run(
    host: LocalHost, folder: Path, damage: str, caplog: pytest.LogCaptureFixture
) -> None:
    id, other = owed(host), ""
    spilled(host, id)
    (file,) = files(folder)
    if damage == "cut":
        file.write_bytes(file.read_bytes()[:-20])
    else:
        file.unlink()
    if damage == "whole folder":
        (file.parent / "lock").unlink()
        file.parent.rmdir()
        other = owed(host)
        spilled(host, other)
    assert host.run_store.known()
    with pytest.raises(InputError, match="nor could it be kept on the disk"):
        host.run(id)
    assert f"the result of run {id} cannot be read" in caplog.text
    assert "nor could it be kept" in reason_of(host, id)
    if other:
        assert host.run(other).output == {"generated": "<a>"}
    host.close()
    assert list(folder.iterdir()) == []


class Slow:
    """Data whose writing stands still until it may go on."""

    began = threading.Event()
    gate = threading.Event()

    def __reduce__(self) -> Any:
        Slow.began.set()
        Slow.gate.wait(30)
        return (str, ())


@pytest.fixture
def slow() -> Iterator[dict[str, Any]]:
    Slow.began, Slow.gate = threading.Event(), threading.Event()
    yield {"slow": Slow()}
    Slow.gate.set()


@pytest.mark.usefixtures("tiny")
def test_what_is_fetched_while_it_is_written_stays_in_memory(
    host: LocalHost, folder: Path, slow: dict[str, Any]
) -> None:
    id = owed(host, metadata=slow)
    assert Slow.began.wait(30)
    assert ended(host, "others go on").output == {"generated": "<others go on>"}
    run = host.run(id)
    host.run_store.fetched(run)
    Slow.gate.set()
    next_one = owed(host)
    spilled(host, next_one)
    assert host.run(id) is run
    assert [each.name for each in files(folder)] == [next_one]


@pytest.mark.usefixtures("tiny")
def test_a_host_that_closes_while_a_result_is_written_leaves_nothing(
    host: LocalHost, folder: Path, slow: dict[str, Any]
) -> None:
    id = owed(host, metadata=slow)
    assert Slow.began.wait(30)
    assert host.close(10)
    Slow.gate.set()
    threads = [t for t in threading.enumerate() if t.name == run_store.SPILL_THREAD_NAME]
    for thread in threads:
        thread.join(30)
    assert list(folder.iterdir()) == []
    assert host.run(id).output == {"generated": "<a>"}


@pytest.mark.usefixtures("tiny")
def test_many_ask_while_runs_come_and_go(host: LocalHost, folder: Path) -> None:
    ids = [owed(host, str(number)) for number in range(40)]
    wrong: list[Any] = []

    def ask(mine: list[str]) -> None:
        try:
            for id in mine:
                run = host.run(id)
                if run.output != {"generated": f"<{ids.index(id)}>"}:
                    wrong.append(run)
                host.run_store.fetched(run)
        except ComposeError as error:
            wrong.append(error)

    threads = [threading.Thread(target=ask, args=(ids[n % 3 :],)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert wrong == []
    until(lambda: files(folder) == [])


# Processes that end


SCRIPT = """
import sys, time
from standins.scripted import ScriptedModels
from standins.waiting import until
from modelcompose_jupyter import LocalHost, run_store
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.submission import Requester
run_store.OWED_BYTES = 0
host = LocalHost(ScriptedModels())
run = host.submit(load_document({text!r}), None, {{"prompt": "a"}}, requester=Requester("them"))
run.wait(30)
kept = host.run_store.find(run.id)
until(lambda: kept._run is None)
print("there", flush=True)
"""


def _process(folder: Path, then: str) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT.format(text=DOCUMENT.source.text) + then],
        stdout=subprocess.PIPE,
        text=True,
        env={**environment(), "TMPDIR": str(folder), "TEMP": str(folder)},
    )
    assert process.stdout is not None and process.stdout.readline() == "there\n"
    return process


@pytest.mark.parametrize("then", ["", "raise SystemExit(3)", "host.close()"])
def test_a_process_that_ends_leaves_no_files(folder: Path, then: str) -> None:
    process = _process(folder, then)
    assert process.wait(60) == (3 if then.startswith("raise") else 0)
    assert list(folder.iterdir()) == []


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_child_that_ends_leaves_its_parents_files(folder: Path) -> None:
    child = "import os, sys\npid = os.fork()\nif pid == 0: host.close(1); sys.exit(0)\n"
    after = "os.waitpid(pid, 0)\nassert host.run(run.id).output\nsys.stdin.read()"
    process = _process(folder, child + after)
    assert process.wait(60) == 0
    assert list(folder.iterdir()) == []


def test_what_a_killed_process_left_goes_with_the_next(host: LocalHost, folder: Path) -> None:
    killed, living = (_process(folder, "time.sleep(600)") for _ in range(2))
    assert len(list(folder.iterdir())) == 2
    os.kill(killed.pid, signal.SIGKILL if hasattr(signal, "SIGKILL") else signal.SIGTERM)
    killed.wait(60)
    stranger = folder / "modelcompose-runs-not-ours"
    stranger.mkdir()
    assert len(files(folder)) == 2

    owed(host)

    until(lambda: len(files(folder)) == 1)
    assert stranger.is_dir()
    living.kill()
    living.wait(60)
    other = LocalHost(ScriptedModels())  # type: ignore[arg-type]
    owed(other)
    until(lambda: list(folder.iterdir()) == [stranger])
    other.close()


def test_what_is_on_the_disk_is_what_was_said(host: LocalHost) -> None:
    """Nothing of a run is lost that JSON could tell."""
    run = ended(host, requester=Requester("them"))
    again = Run.restored(run.saved())
    assert json.dumps([e.data for e in again.events_so_far()], default=str) == json.dumps(
        [e.data for e in run.events_so_far()], default=str
    )
