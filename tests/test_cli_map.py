"""``model-compose map``: rows of files into a folder, what is told of them, and the exit status."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pandas
import pytest
from standins.terminal import Terminal

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 4}
"""
COUNT = 30


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model-compose.yml").write_text(DOCUMENT)
    texts = [f"Story {number}" for number in range(COUNT)]
    (tmp_path / "rows.jsonl").write_text(
        "".join(f"{json.dumps({'prompt': each, 'id': 1})}\n" for each in texts)
    )
    with (tmp_path / "texts.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text", "length"], *([each, 4] for each in texts)])
    pandas.DataFrame({"prompt": texts}).to_parquet(tmp_path / "rows.parquet")
    return tmp_path


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(folder)
    yield terminal
    terminal.close()


def outputs(folder: Path) -> list[str]:
    return list(pandas.read_parquet(folder).sort_values("index")["generated"])


def test_files_of_any_kind_give_the_same_results(terminal: Terminal, folder: Path) -> None:
    for rows in ("rows.jsonl", "rows.parquet"):
        done = terminal.call("map", "--input", rows, "--save-to", f"{rows}.out", "--seed", "7")
        assert (done.exit_code, done.stdout) == (0, "")
        assert done.stderr.startswith(f"30 rows in {rows}.out · ")
    done = terminal.call(
        "map", "-f", "model-compose.yml", "-i", "texts.csv", "--column", "prompt=text",
        "--save-to", "csv/", "--seed", "7",
    )  # fmt: skip
    assert done.exit_code == 0
    found = [outputs(folder / name) for name in ("rows.jsonl.out", "rows.parquet.out", "csv")]
    assert found[0] == found[1] == found[2]
    assert found[0][3].startswith("Story 3")


def test_the_first_rows_then_all_of_them(terminal: Terminal, folder: Path) -> None:
    command = ["map", "model-compose.yml", "--input", "rows.jsonl", "--save-to", "out"]
    assert "12 rows in out" in terminal.call(*command, "--limit", "12").stderr
    first = outputs(folder / "out")
    assert "30 rows in out" in terminal.call(*command).stderr
    assert outputs(folder / "out")[:12] == first
    assert len(outputs(folder / "out")) == COUNT


def test_rows_that_fail_are_told_and_end_no_others(terminal: Terminal, folder: Path) -> None:
    (folder / "bad.jsonl").write_text('{"prompt": "a"}\n{"prompt":\n{"id": 1}\n{"prompt": "b"}\n')
    command = ["map", "--input", "bad.jsonl", "--save-to", "out", "--format", "jsonl"]
    done = terminal.call(*command)
    assert done.exit_code == 1
    first, second, last = done.stderr.splitlines()
    assert first == "row 1: the line is not JSON: Expecting value"
    assert second == "row 2: missing input 'prompt'"
    assert last.startswith("4 rows in out · 2 failed · ")
    lines = (folder / "out" / "part-00000.jsonl").read_text().splitlines()
    assert ["output" in json.loads(line) for line in lines] == [True, False, False, True]
    assert terminal.call(*command).exit_code == 1
    (folder / "bad.jsonl").write_text('{"prompt": "a"}\n' * 4)
    refused = terminal.call(*command)
    assert refused.exit_code == 2
    assert "holds results of another job" in refused.stderr
    assert terminal.call(*command, "--overwrite").exit_code == 0


def test_failed_rows_are_done_again_when_that_is_asked_for(
    terminal: Terminal, folder: Path
) -> None:
    (folder / "rows.csv").write_text("prompt,length\na,x\nb,2\n")
    command = ["map", "--input", "rows.csv", "--save-to", "out"]
    assert "1 failed" in terminal.call(*command).stderr
    part = folder / "out" / "part-00000.parquet"
    before = part.stat().st_ino
    assert terminal.call(*command).exit_code == 1
    assert part.stat().st_ino == before
    assert terminal.call(*command, "--retry-failed").exit_code == 1
    assert part.stat().st_ino != before  # written anew


def test_inputs_for_all_rows_stand_beside_the_files(terminal: Terminal, folder: Path) -> None:
    (folder / "a=b.jsonl").write_text('{"prompt": "a"}\n{"prompt": "b", "length": 1}\n')
    done = terminal.call(
        "map", "-i", "length:=2", "-i", "./a=b.jsonl", "--save-to", "out", "--format", "jsonl"
    )
    assert done.exit_code == 0
    lines = (folder / "out" / "part-00000.jsonl").read_text().splitlines()
    assert [json.loads(line)["input"]["length"] for line in lines] == [2, 1]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--save-to", "out"], "there are no rows"),
        (["-i", "prompt=a", "--save-to", "out"], "there are no rows"),
        (["-i", "no.jsonl", "--save-to", "out"], "there is no file no.jsonl"),
        (["-i", "rows.jsonl"], "--save-to"),
        (["-i", "rows.jsonl", "--save-to", "."], "has other files in it"),
        (["-i", "rows.jsonl", "--save-to", "out", "--column", "x"], "'x' names no column"),
        (["-i", "rows.parquet", "--save-to", "out", "--column", "prompt=x"], "no column 'x'"),
        (["-i", "texts.csv", "--save-to", "out"], "no column is named like the input 'prompt'"),
        (["-i", "rows.jsonl", "--save-to", "out", "--workers", "2"], "Add --ray"),
        (["-i", "rows.jsonl", "--save-to", "out", "--limit", "0"], "--limit"),
    ],
)
def test_what_cannot_be_done_is_said_before_anything_runs(
    terminal: Terminal, folder: Path, arguments: list[str], message: str
) -> None:
    done = terminal.call("map", *arguments)
    assert done.exit_code == 2
    assert message in done.stderr
    assert not (folder / "out").exists()


@pytest.mark.skipif(find_spec("ray") is not None, reason="Ray is installed")
def test_without_ray_it_is_said_how_to_install_it(terminal: Terminal) -> None:
    done = terminal.call("map", "-i", "rows.jsonl", "--save-to", "out", "--ray")
    assert done.exit_code == 2
    assert "pip install 'modelcompose-jupyter[ray]'" in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="it is another signal there")
def test_ctrl_c_keeps_what_is_done_and_the_same_command_goes_on(
    terminal: Terminal, folder: Path
) -> None:
    rows = "".join(f"{json.dumps({'prompt': f'Story {n}'})}\n" for n in range(3000))
    (folder / "many.jsonl").write_text(rows)
    command = ["map", "--input", "many.jsonl", "--save-to", "out", "--seed", "1"]
    process = terminal.start(*command)
    lines = folder / "out" / "_part-00000.lines"
    for _ in range(10_000):
        if lines.exists() and lines.read_bytes().count(b"\n") >= 100:
            break
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(0.01)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped; the same command goes on from here" in told
    done = sum(path.read_bytes().count(b"\n") for path in (folder / "out").glob("_part-*"))
    assert 100 <= done < 3000
    assert terminal.call(*command, "--limit", "1000").exit_code == 0
    assert len(outputs(folder / "out")) == 1000
