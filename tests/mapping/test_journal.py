"""Results in a file: no row is lost or done twice, whatever happens in between."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
from codecs import BOM_UTF8
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins.processes import environment
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import ComposeError, InputError, LocalHost, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.mapping.flight import MAP_THREAD_NAME
from modelcompose_jupyter.mapping.journal import JOURNAL_THREAD_NAME, Journal

from .conftest import BODY, InstantHost, instant, rows_that_raise

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def shout(given: Any) -> dict[str, str]:
    return {"generated": f"{given['prompt']}!"}


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def prompts(host: InstantHost) -> list[str]:
    return [each["prompt"] for each in host.submitted]


def test_each_row_is_a_line_with_its_input_output_and_record(
    flow: Workflow, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    outputs = flow.map(["안녕", {"promt": "b"}], save_to=path, progress=False)
    good, bad = sorted(lines_of(path), key=lambda line: line["index"])
    assert list(good) == ["index", "input", "output", "record"]
    assert good["input"] == {"prompt": "안녕"}
    assert good["output"] == outputs[0] == {"generated": "<안녕>"}
    assert good["record"]["generations"][0]["model"] == {"source": "scripted"}
    assert good["record"]["document"] == flow.document.hash
    assert list(bad) == ["index", "input", "error", "record"]
    assert ComposeError.from_dict(bad["error"]).hint == "Did you mean 'prompt'?"
    assert "안녕" in path.read_text(encoding="utf-8")


def test_a_row_is_in_the_file_before_it_is_handed_out(flow: Workflow, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    for row in flow.imap(map(str, range(100)), save_to=str(path), progress=False):
        written, _, _ = path.read_bytes().rpartition(b"\n")  # the next row may be half there
        assert row.index in {json.loads(line)["index"] for line in written.splitlines()}


def test_rows_that_end_while_nobody_asks_are_written(
    flow: Workflow, models: ScriptedModels, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    models.hold = ("held",)
    stream = flow.imap(["held", "go"], save_to=path, progress=False)
    assert next(stream).index == 1
    models.gate.set()
    until(lambda: path.read_bytes().count(b"\n") == 2)
    assert [line["index"] for line in lines_of(path)] == [1, 0]
    stream.close()
    assert [line["index"] for line in lines_of(path)] == [1, 0]


@pytest.fixture(scope="module")
def three_rows(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("whole") / "out.jsonl"
    instant(shout)[0].map(["안", "b\u2028", "c"], save_to=path, progress=False)
    return path.read_bytes()


def test_a_file_that_ends_at_any_byte_is_gone_on_with(three_rows: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    ends = [number for number, byte in enumerate(three_rows) if byte == ord("\n")]
    for cut in range(len(three_rows) + 1):
        path.write_bytes(three_rows[:cut])
        flow, host = instant(shout)
        outputs = flow.map(["안", "b\u2028", "c"], save_to=path, progress=False)
        done = sum(end <= cut for end in ends)
        assert prompts(host) == ["안", "b\u2028", "c"][done:]
        assert outputs == [shout({"prompt": each}) for each in ("안", "b\u2028", "c")]
        assert [line["index"] for line in lines_of(path)] == [0, 1, 2]
        whole = ends[done - 1] if done else 0
        assert path.read_bytes()[:whole] == three_rows[:whole]


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_sessions_end_with_all_rows_done_once(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Rows of any data, some of which fail at first, in sessions that are cut off anywhere."""
    path = tmp_path_factory.mktemp("sessions") / "out.jsonl"
    rows = data.draw(st.lists(VALUES, min_size=1, max_size=5))
    written: set[int] = set()
    for last in (False, False, True):
        fails = set() if last else data.draw(st.sets(st.integers(0, len(rows) - 1)))

        def answer(given: Any, fails: set[int] = fails) -> Any:
            if given["prompt"][0] in fails:
                raise InputError("not now")
            return given["prompt"]

        flow, host = instant(answer, BODY.replace("as text", "as list"))
        # A row's own number in its input tells equal rows apart.
        given_rows = [{"prompt": [number, row]} for number, row in enumerate(rows)]
        outputs = flow.map(given_rows, save_to=path, progress=False)
        assert {number for number, _ in prompts(host)} == set(range(len(rows))) - written
        for number, row in enumerate(rows):
            if number in fails - written:
                assert isinstance(outputs[number], InputError)
            else:
                assert outputs[number] == [number, row]
        if not last:
            text = path.read_bytes()
            path.write_bytes(text[: data.draw(st.integers(0, len(text)))])
            whole = [json.loads(line) for line in path.read_bytes().split(b"\n") if is_whole(line)]
            written = {line["index"] for line in whole if "output" in line}
    done = [line["index"] for line in lines_of(path) if "output" in line]
    assert sorted(done) == list(range(len(rows)))


def is_whole(line: bytes) -> bool:
    try:
        json.loads(line)
    except ValueError:
        return False
    return True


def test_rows_that_failed_are_tried_again_and_the_newest_line_counts(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    def fail(given: Any) -> Any:
        raise InputError("not now")

    first = instant(fail)[0].map(["a", "b"], save_to=path, progress=False)
    assert all(isinstance(output, InputError) for output in first)
    flow, host = instant(shout)
    assert flow.map(["a"], save_to=path, progress=False) == [shout({"prompt": "a"})]
    assert flow.map(["a", "b"], save_to=path, progress=False)[1] == shout({"prompt": "b"})
    assert prompts(host) == ["a", "b"]
    assert [line["index"] for line in lines_of(path)] == [0, 1, 0, 1]
    failed, done = lines_of(path)[1:3]
    path.write_text(f"{json.dumps(done)}\n{json.dumps({**failed, 'index': 0})}\n")
    flow.map(["a"], save_to=path, progress=False)
    assert prompts(host) == ["a", "b", "a"]


def test_restored_rows_come_as_they_are_reached(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    flow, host = instant(shout)
    flow.map(["a", "b"], save_to=path, progress=False)
    stream = flow.imap(iter(["a", "b", "c"]), save_to=path, progress=False)
    assert [next(stream).index, next(stream).index] == [0, 1]
    assert prompts(host) == ["a", "b"]
    assert next(stream) == (2, {"generated": "c!"})


def test_inputs_that_json_cannot_tell_apart_are_the_same(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    flow, host = instant(lambda given: None)
    day = pandas.Timestamp("2024-05-01")
    flow.map([{"prompt": (1, np.int64(2), {3: day})}], save_to=path, progress=False)
    flow.map([{"prompt": [1, 2, {"3": str(day)}]}], save_to=path, progress=False)
    assert len(host.submitted) == 1


def test_another_input_is_found_before_anything_runs(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"

    def answer(given: Any) -> Any:
        if given["prompt"] == "bad":
            raise InputError("not this one")
        return shout(given)

    flow, host = instant(answer)
    flow.map(["bad", "b"], save_to=path, progress=False)
    before = path.read_bytes()
    with pytest.raises(InputError, match=r"row 1 of .*out\.jsonl was done with ano") as caught:
        flow.map(["a", "new", "c"], save_to=path, progress=False)
    assert str(caught.value.hint).startswith('It was {"prompt": "b"}, and is {"prompt": "new"} now')
    with pytest.raises(InputError, match="row 1 of"):
        flow.map(["a", "b"], {"length": 2}, save_to=path, progress=False)
    assert prompts(host) == ["bad", "b"]
    assert path.read_bytes() == before
    # A generator's rows are compared as they are reached.
    with pytest.raises(InputError, match="row 1 of"):
        flow.map(iter(["a", "new", "c"]), save_to=path, progress=False)
    assert flow.last_map in ([], [shout({"prompt": "a"})])
    assert prompts(host) in (["bad", "b"], ["bad", "b", "a"])


SEVERAL = (
    BODY
    + """\
workflows:
  - {id: draft, default: true}
  - {id: final}
"""
)


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
@pytest.mark.parametrize(
    ("document", "workflow", "what"),
    [(SEVERAL, "final", "workflow"), (SEVERAL.replace("| 4", "| 5"), "draft", "document")],
)
def test_results_of_another_document_or_workflow_are_refused(
    document: str, workflow: str, what: str, name: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    flow, host = instant(shout, SEVERAL)
    flow.map(["a"], save_to=path, progress=False)
    before = path.read_bytes()
    other = load(document, workflow, host=host)  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"{name} holds results of another {what}") as caught:
        other.map(["a"], save_to=path)
    assert "remove this one" in str(caught.value.hint)
    assert prompts(host) == ["a"]
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_file_that_an_editor_saved_with_a_mark_goes_on(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    lines = path if name.endswith("jsonl") else tmp_path / f"{name}.jsonl"
    flow, host = instant(shout)
    first = flow.map(["a", "b"], save_to=tmp_path / "first.jsonl", progress=False)
    written = (tmp_path / "first.jsonl").read_bytes()
    lines.write_bytes(BOM_UTF8 + written.replace(b"\n", b"\r\n"))
    assert flow.map(["a", "b", "c"], save_to=path, progress=False)[:2] == first
    assert prompts(host) == ["a", "b", "c"]


def test_a_line_cut_short_behind_a_mark_is_mended(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    flow, _ = instant(shout)
    for torn in (b"", b'{"ind', b'{"index": 0, "inp'):
        path.write_bytes(BOM_UTF8 + torn)
        flow.map(["a"], save_to=path, progress=False)
        assert [line["index"] for line in lines_of(path)] == [0]


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-32"])
def test_a_file_in_another_encoding_is_left_as_it_is(encoding: str, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    flow, _ = instant(shout)
    flow.map(["a", "b"], save_to=path, progress=False)
    path.write_bytes(path.read_bytes().decode().encode(encoding))
    before = path.read_bytes()
    with pytest.raises(UsageError, match="is not UTF-8 text"):
        flow.map(["a", "b"], save_to=path)
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    [b"notes\n", b"notes", b'{"index": 0}\n', b'{"a": 1}', b"[]\n", b"\n", b"\xff\xfe\n", b"1"],
)
def test_a_file_of_something_else_is_left_as_it_is(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    path.write_bytes(text)
    flow, host = instant(shout)
    with pytest.raises(UsageError, match=r"line 1 of .* is no result of a row"):
        flow.map(["a"], save_to=path)
    assert path.read_bytes() == text
    assert host.submitted == []


def folder(path: Path) -> Path:
    (path / "out.jsonl").mkdir()
    return path / "out.jsonl"


def below_a_file(path: Path) -> Path:
    (path / "file").touch()
    return path / "file" / "out.jsonl"


@pytest.mark.parametrize("suffix", [".jsonl", ".parquet"])
@pytest.mark.parametrize("make", [folder, below_a_file, lambda path: path / "no" / "out.jsonl"])
def test_a_file_that_cannot_be_written_is_found_before_anything_runs(
    make: Callable[[Path], Path], suffix: str, tmp_path: Path
) -> None:
    path = make(tmp_path)
    if suffix != path.suffix:
        path = path.rename(path.with_suffix(suffix)) if path.exists() else path.with_suffix(suffix)
    flow, host = instant(shout)
    with pytest.raises(UsageError, match=f"{path} cannot be written"):
        flow.imap(["a"], save_to=path)
    assert host.submitted == []


def test_a_suffix_that_does_not_exist(flow: Workflow) -> None:
    with pytest.raises(UsageError, match=r"out\.json") as caught:
        flow.imap(["a"], save_to="out.json")
    assert caught.value.hint == "Did you mean '.jsonl'?"
    with pytest.raises(UsageError) as caught:
        flow.imap(["a"], save_to="out.xyz")
    assert str(caught.value.hint).startswith("Name a file that ends in .jsonl or .parquet, or a f")


@pytest.mark.skipif(sys.platform == "win32", reason="no such locks there")
def test_only_one_map_at_a_time_has_a_file(flow: Workflow, tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    stream = flow.imap(["a", "b"], save_to=path, progress=False)
    next(stream)
    with pytest.raises(UsageError, match="is being written by another map"):
        flow.map(["a", "b"], save_to=path)
    stream.close()
    assert len(flow.map(["a", "b"], save_to=path, progress=False)) == 2


def test_nothing_is_written_behind_a_line_that_could_not_be(tmp_path: Path) -> None:
    path = tmp_path / "out.jsonl"
    journal = Journal(path, "flow", "sha256:0")
    told: list[ComposeError | None] = []

    def line(index: int) -> Callable[[], dict[str, Any]]:
        return lambda: {"index": index, "input": 1 / index, "output": 1, "record": {}}

    for number, index in enumerate((1, 0, 2), 1):
        journal.add(line(index), lambda: told.append(journal.error))
        until(lambda number=number: len(told) == number)
    journal.close()
    assert [line["index"] for line in lines_of(path)] == [1]
    assert [error and error.code for error in told] == [None, "not_saved", "not_saved"]


FULL = """
import json, resource, sys
from modelcompose_jupyter import ComposeError
from mapping.conftest import instant

flow, host = instant(lambda given: given["prompt"] * 1000)
rows = [str(number) for number in range(10)]
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
try:
    flow.map(rows, save_to="out.jsonl", progress=False)
except ComposeError as error:
    print(json.dumps([error.code, str(error), flow.last_map]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of that kind there")
def test_a_disk_that_is_full_ends_the_map_and_loses_nothing(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", FULL],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        # No other file may be written there either, such as one of coverage.
        env={k: v for k, v in environment().items() if not k.startswith("COVERAGE_")},
    )
    assert done.stderr == ""
    code, message, outputs = json.loads(done.stdout)
    assert code == "not_saved"
    assert message.startswith("out.jsonl cannot be written: file too large")
    path = tmp_path / "out.jsonl"
    assert path.stat().st_size <= 5000
    ended = [output for output in outputs if output is not None]
    written = [line for line in path.read_bytes().split(b"\n") if is_whole(line)]
    assert len(ended) >= len(written)
    assert set(ended) <= {str(number) * 1000 for number in range(10)}

    flow, host = instant(lambda given: given["prompt"] * 1000)
    outputs = flow.map([str(number) for number in range(10)], save_to=path, progress=False)
    assert outputs == [str(number) * 1000 for number in range(10)]
    assert len(host.submitted) == 10 - len(written)


KILLED = """
import os
from modelcompose_jupyter import load
from mapping.conftest import instant

flow, host = instant(lambda given: given["prompt"])
for row in flow.imap(map(str, range(1000)), save_to={name!r}, progress=False):
    if row.index == 100:
        os._exit(9)
"""


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet"])
def test_a_process_that_dies_loses_no_row_that_was_handed_out(name: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", KILLED.format(name=name)],
        cwd=tmp_path,
        env=environment(),
    )
    assert done.returncode == 9
    flow, host = instant(lambda given: given["prompt"])
    rows = [str(number) for number in range(1000)]
    assert flow.map(rows, save_to=tmp_path / name, progress=False) == rows
    assert 0 < len(host.submitted) < 900
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_stopped_row_is_not_written(
    flow: Workflow, models: ScriptedModels, tmp_path: Path
) -> None:
    path = tmp_path / "out.jsonl"
    models.hold = ("held",)

    rows = rows_that_raise(flow.host, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt) as caught:
        flow.map(rows, save_to=path, progress=False)
    assert [line["index"] for line in lines_of(path)] == [1]
    (line,) = caught.value._render_traceback_()  # type: ignore[attr-defined]
    assert "after 1 row;" in line
    assert line.endswith(f"run it again to go on, {path} has what is done")


def test_no_thread_is_left(flow: Workflow, tmp_path: Path) -> None:
    flow.map(["a"], save_to=tmp_path / "out.jsonl", progress=False)
    with pytest.raises(InputError):
        flow.map(["b"], save_to=tmp_path / "out.jsonl", progress=False)
    names = [thread.name for thread in threading.enumerate()]
    assert not any(name.startswith((JOURNAL_THREAD_NAME, MAP_THREAD_NAME)) for name in names)


def test_a_script_may_end_with_an_iterator_open(tmp_path: Path) -> None:
    script = f"""
from modelcompose_jupyter import LocalHost, load
from standins.processes import environment
from standins.scripted import ScriptedModels
from standins.waiting import until

flow = load({BODY!r}, host=LocalHost(ScriptedModels(hold=("held",))))
stream = flow.imap(["held", "go"], save_to="out.jsonl", progress=False)
print(next(stream).index)
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env=environment(),
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "1\n", "")
    flow = load(BODY, host=LocalHost(ScriptedModels()))  # type: ignore[arg-type]
    flow.map(["held", "go"], save_to=tmp_path / "out.jsonl", progress=False)
    flow.host.close()
    done_lines = [line for line in lines_of(tmp_path / "out.jsonl") if "output" in line]
    assert [line["index"] for line in done_lines] == [1, 0]
