"""Interrupts of maps on the bundled model, in a real kernel and in a process of Python's own."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pyarrow.parquet
import pytest
from standins.kernel import Cell, Kernel, KernelIn

ROWS = 500
DECLARE = """\
%%compose story --no-panel
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 4}
"""
SETUP = f"""
import threading
import pandas
from pathlib import Path

frame = pandas.DataFrame({{"prompt": [f"Story {{number}}" for number in range({ROWS})], "x": 1}})

def announce(path, count):
    "Print HALF from a thread as soon as a file has so many lines."
    def watch():
        for _ in range(10_000):
            if path.exists() and path.read_bytes().count(b"\\n") >= count:
                print("HALF", flush=True)
                return
            threading.Event().wait(0.01)
    threading.Thread(target=watch).start()
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("notebook")


@pytest.fixture(scope="module")
def shell(folder: Path, kernel_in: KernelIn) -> Kernel:
    shell = kernel_in(folder)
    for code in ("%load_ext modelcompose_jupyter", DECLARE, SETUP, "story(prompt='warm')"):
        assert shell.run(code).status == "ok"
    return shell


def run_and_interrupt(shell: Kernel, code: str) -> Cell:
    """Run a cell, and interrupt it when it says HALF."""
    interrupted: list[bool] = []

    def watch(cell: Cell) -> None:
        if "HALF" in cell.stdout and not interrupted:
            interrupted.append(True)
            shell.interrupt()

    cell = shell.run(code, watch=watch)
    assert interrupted
    assert cell.error is not None
    assert cell.error["ename"] == "KeyboardInterrupt"
    return cell


def traceback(cell: Cell) -> list[str]:
    assert cell.error is not None
    return list(cell.error["traceback"])


def lines_of(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def run_ids(lines: list[dict[str, Any]]) -> set[str]:
    return {line["record"]["run"] for line in lines}


def test_a_map_that_is_interrupted_half_way_goes_on_with_no_row_lost_or_done_twice(
    shell: Kernel, folder: Path
) -> None:
    path = folder / "out.jsonl"
    code = 'out = story.map(frame, save_to="out.jsonl")'
    cell = run_and_interrupt(shell, f'announce(Path("out.jsonl"), {ROWS // 2})\n{code}')
    half = lines_of(path)
    assert ROWS // 2 <= len(half) < ROWS
    assert traceback(cell) == [
        f"KeyboardInterrupt: stopped after {len(half)} of {ROWS} rows; "
        "run it again to go on, out.jsonl has what is done"
    ]
    assert shell.value("len(story.last_map)") == str(ROWS)
    assert shell.value("sum(each is not None for each in story.last_map)") == str(len(half))
    assert shell.value("{run.done for run in story.host.runs()}") == "{True}"
    assert "ready" in shell.run("%compose models").text

    cell = shell.run(code)
    assert cell.status == "ok", cell.error
    lines = lines_of(path)
    assert lines[: len(half)] == half
    assert Counter(line["index"] for line in lines) == Counter(range(ROWS))
    assert len(run_ids(lines)) == ROWS
    assert all("output" in line for line in lines)
    assert shell.value("out.index.equals(frame.index), out.dtype") == "(True, dtype('O'))"
    outputs = shell.value("[each['generated'] for each in out]")
    by_index = {line["index"]: line["output"]["generated"] for line in lines}
    assert outputs == repr([by_index[number] for number in range(ROWS)])
    assert all(text.startswith(f"Story {number}") for number, text in by_index.items())

    assert shell.run(f"{code}; print(out.equals(pandas.Series(story.last_map)))").stdout == "True\n"
    assert lines_of(path) == lines


def test_a_parquet_file_is_written_at_an_interrupt_too(shell: Kernel, folder: Path) -> None:
    path = folder / "out.parquet"
    code = 'out = story.map(frame.head(200), save_to="out.parquet")'
    run_and_interrupt(shell, f'announce(Path("out.parquet.jsonl"), 100)\n{code}')
    half = pyarrow.parquet.read_table(path)["record"].to_pylist()
    assert 100 <= len(half) < 200
    assert not (folder / "out.parquet.jsonl").exists()

    assert shell.run(code).status == "ok"
    table = pyarrow.parquet.read_table(path)
    assert table["index"].to_pylist() == list(range(200))
    assert set(half) <= set(table["record"].to_pylist())
    assert table["error"].null_count == 200


@pytest.mark.parametrize("place", ["in the iterator", "in the loop"])
def test_an_interrupt_of_a_loop_over_rows(shell: Kernel, folder: Path, place: str) -> None:
    path = folder / f"{place}.jsonl"
    lines = 20 if place == "in the iterator" else 1
    announcing = f"announce(Path({path.name!r}), {lines})"  # once it is where it is to be stopped
    head = f"for row in story.imap(frame, save_to={path.name!r}):"
    code = {
        "in the iterator": f"{announcing}\n{head} pass",
        "in the loop": f"{head}\n    {announcing}\n    threading.Event().wait()",
    }
    cell = run_and_interrupt(shell, code[place])
    assert (len(traceback(cell)) == 1) == (place == "in the iterator")
    assert shell.value("{run.done for run in story.host.runs()}") == "{True}"
    done = len(lines_of(path))
    assert lines <= done < ROWS
    assert shell.run(f"{head} pass").status == "ok"
    assert Counter(line["index"] for line in lines_of(path)) == Counter(range(ROWS))


def test_the_bar_is_one_widget(shell: Kernel) -> None:
    cell = shell.run("story.map(['a', 'b'])")
    bars = [each for each in cell.data if "application/vnd.jupyter.widget-view+json" in each]
    assert len(bars) == 1


SCRIPT = f"""
from modelcompose_jupyter import load

story = load({DECLARE.partition(chr(10))[2]!r})
rows = [f"Story {{number}}" for number in range(200)]
story.map(rows, save_to="plain.jsonl", progress=False)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="it is another signal there")
def test_a_script_is_interrupted_and_goes_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "plain.jsonl"
    first = subprocess.Popen(
        [sys.executable, "-c", SCRIPT], cwd=tmp_path, stderr=subprocess.PIPE, text=True
    )
    for _ in range(10_000):
        if path.exists() and path.read_bytes().count(b"\n") >= 100:
            break
        with pytest.raises(subprocess.TimeoutExpired):
            first.wait(0.01)
    first.send_signal(signal.SIGINT)
    _, shown = first.communicate(timeout=60)
    assert shown.rstrip().endswith("KeyboardInterrupt")
    half = lines_of(path)
    assert 100 <= len(half) < 200

    monkeypatch.chdir(tmp_path)
    exec(SCRIPT)
    assert capfd.readouterr() == ("", "")
    lines = lines_of(path)
    assert Counter(line["index"] for line in lines) == Counter(range(200))
    assert len(run_ids(lines)) == 200
    assert lines[: len(half)] == half
