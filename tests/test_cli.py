"""The command line as a user meets it: real processes, their output and exit status."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

import modelcompose_jupyter

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.length as integer | 6}
  temperature: ${input.temperature as number | 0.7}
  seed: 1
"""
COMMAND = [sys.executable, "-m", "modelcompose_jupyter.cli"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "model-compose.yml").write_text(DOCUMENT)
    return tmp_path


def call(folder: Path, *arguments: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *arguments], cwd=folder, input=stdin, capture_output=True, text=True
    )


def test_run_prints_the_result_alone_as_json(folder: Path) -> None:
    done = call(folder, "run", "--input", '{"prompt": "Once"}')
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert list(result) == ["generated"]
    assert result["generated"].startswith("Once")


def test_inputs_come_in_every_form_and_the_last_wins(folder: Path) -> None:
    one = call(folder, "run", "-i", "prompt=A", "-i", "length:=3", "-i", "prompt=Hi", "--stream")
    other = call(folder, "run", "--stream", "-i", "-", stdin='{"prompt": "Hi", "length": "3"}')
    assert one.stdout == other.stdout
    assert one.stdout.startswith("Hi")


def test_a_conversation_as_a_client_keeps_it(folder: Path) -> None:
    (folder / "chat.yml").write_text(
        DOCUMENT.replace("text-generation", "chat-completion").replace(
            "text: ${input.prompt as text}", "messages: ${input.messages}"
        )
    )
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "a"}]},
        {"role": "assistant", "content": None, "refusal": None, "tool_calls": None},
        {"role": "user", "content": "b"},
    ]
    given = {"messages": messages, "length": 0}
    done = call(folder, "run", "-f", "chat.yml", "--input", json.dumps(given))
    assert (done.returncode, json.loads(done.stdout)) == (0, {"generated": ""})
    messages[2]["content"] = None
    done = call(folder, "run", "-f", "chat.yml", "--input", json.dumps(given))
    assert done.returncode == 2
    assert "message 3: the user's message has no content" in done.stderr


@pytest.mark.parametrize(
    ("stdin", "status", "words"),
    [
        ('\ufeff{"prompt": "Hi"}'.encode(), 0, "Hi"),
        ('{"prompt": "Hi"}\r\n'.encode("utf-16"), 0, "Hi"),
        ('{"prompt": "Hi"}'.encode("utf-16-le"), 2, "it is UTF-16 without a byte order mark"),
        (b'{"prompt": "\xff"}', 2, "it is not UTF-8 text"),
    ],
    ids=["utf-8", "utf-16", "no mark", "no text"],
)
def test_standard_input_may_begin_with_a_mark(
    folder: Path, stdin: bytes, status: int, words: str
) -> None:
    command = [*COMMAND, "run", "-i", "-"]
    done = subprocess.run(command, cwd=folder, input=stdin, capture_output=True)
    assert done.returncode == status
    assert words in (done.stdout if status == 0 else done.stderr).decode()
    assert b"Traceback" not in done.stderr


def test_arguments_and_documents_may_begin_with_a_mark(folder: Path) -> None:
    (folder / "model-compose.yml").write_text(DOCUMENT, encoding="utf-16")
    done = call(folder, "run", "-i", '\ufeff{"prompt": "Hi"}', "-i", "length:=\ufeff3")
    assert json.loads(done.stdout)["generated"].startswith("Hi")


def test_a_text_output_is_printed_as_it_is(folder: Path) -> None:
    (folder / "text.yml").write_text(DOCUMENT + "workflow: {input: '${input}'}\n")
    done = call(folder, "run", "-f", "text.yml", "-i", "prompt=한글 ${env.HOME} {}")
    assert done.stdout.startswith("한글 ${env.HOME} {}")


def test_output_goes_to_a_file_and_nothing_else_does(folder: Path) -> None:
    done = call(folder, "run", "-i", "prompt=Once", "-o", "result.json")
    assert (done.returncode, done.stdout) == (0, "")
    assert json.loads((folder / "result.json").read_text())["generated"].startswith("Once")
    assert sorted(path.name for path in folder.iterdir()) == ["model-compose.yml", "result.json"]


def test_warnings_go_to_standard_error(folder: Path) -> None:
    done = call(folder, "run", "-i", "prompt=Once", "-i", "length=9999")
    assert done.returncode == 0
    assert "warning: max_output_length" in done.stderr
    assert "warning" not in done.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["run"], "missing input 'prompt'"),
        (["run", "-i", "promt=a"], "Did you mean 'prompt'?"),
        (["run", "-i", "prompt"], "'prompt' is no input"),
        (["run", "-i", "{prompt: a}"], "--input is not JSON"),
        (["run", "-i", "[1]"], "is no input"),
        (["run", "-i", "-"], "standard input is not JSON"),
        (["run", "-i", "n:={"], "the value of 'n' is not JSON"),
        (["run", "-i", "prompt=a", "-i", "length=x"], '"x" is not an integer'),
        (["run", "nothing"], "there is no workflow 'nothing'"),
        (["run", "-f", "nowhere.yml"], "nowhere.yml: cannot read it"),
        (["run", "-i", "prompt=a", "-o", "no/such/out.json"], "cannot be written: no such"),
        (["run", "--inptu", "a"], "No such option"),
        (["validate", "-f", "nowhere.yml"], "cannot read it"),
        (["nothing"], "No such command"),
    ],
)
def test_bad_use_is_exit_status_2_with_what_is_wrong(
    folder: Path, arguments: list[str], message: str
) -> None:
    done = call(folder, *arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_an_input_out_of_range_is_bad_use_too(folder: Path) -> None:
    done = call(folder, "run", "-i", "prompt=a", "-i", "temperature=-1")
    assert (done.returncode, done.stdout) == (2, "")
    assert "model-compose.yml:7:16: 'temperature' must be at least 0, and it is -1.0" in done.stderr


def test_a_run_that_fails_is_exit_status_1(folder: Path) -> None:
    (folder / "gone.yml").write_text(DOCUMENT.replace("bundled:storyteller", "./no-model"))
    done = call(folder, "run", "-f", "gone.yml", "-i", "prompt=a")
    assert (done.returncode, done.stdout) == (1, "")
    assert "gone.yml:4:10" in done.stderr
    assert "no-model" in done.stderr


def test_without_a_document_it_says_where_it_looked(tmp_path: Path) -> None:
    done = call(tmp_path, "run")
    assert done.returncode == 2
    assert "there is no model-compose.yml or model-compose.yaml" in done.stderr


def test_validate_reports_every_problem_with_its_line(folder: Path) -> None:
    assert call(folder, "validate").returncode == 0
    (folder / "model-compose.yml").write_text(DOCUMENT + "  top_p: 7\n  top_kk: 3\n")
    done = call(folder, "validate")
    assert (done.returncode, done.stdout) == (2, "")
    assert "model-compose.yml:9:10: 'top_p' must be at most 1, and it is 7" in done.stderr
    assert "model-compose.yml:10:3: unknown key 'top_kk'" in done.stderr


def test_schema_prints_inputs_and_outputs(folder: Path) -> None:
    described = json.loads(call(folder, "schema").stdout)
    assert [each["name"] for each in described["input"]] == ["prompt", "length", "temperature"]
    assert described["output"] == [{"name": "generated", "type": "text", "is_list": False}]
    assert "$defs" in json.loads(call(folder, "schema", "--document").stdout)


def test_models_lists_what_is_on_the_computer(folder: Path) -> None:
    sources = [model["source"] for model in json.loads(call(folder, "models").stdout)]
    assert "bundled:storyteller" in sources


def test_ctrl_c_stops_cleanly(folder: Path) -> None:
    (folder / "long.yml").write_text(DOCUMENT + "  min_output_length: 480\n")
    process = subprocess.Popen(
        [*COMMAND, "run", "-f", "long.yml", "--stream", "-i", "prompt=Once", "-i", "length=490"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.read(20).startswith("Once")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after" in stderr
    assert "Traceback" not in stderr


def test_a_reader_that_goes_away_is_no_crash(folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "schema", "--document"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout is not None
    process.stdout.close()
    assert process.stderr is not None
    assert b"Traceback" not in process.stderr.read()
    process.wait(60)


def test_jupyter_finds_the_command(folder: Path) -> None:
    scripts = Path(sys.executable).parent
    environment = {**os.environ, "PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}"}
    done = subprocess.run(
        [str(scripts / "jupyter"), "compose", "--version"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert modelcompose_jupyter.__version__ in done.stdout


def test_output_follows_links_and_keeps_modes(folder: Path) -> None:
    target, link = folder / "real.json", folder / "link.json"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    assert call(folder, "run", "-i", "prompt=a", "-o", "link.json").returncode == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["generated"].startswith("a")
    assert target.stat().st_mode & 0o777 == 0o640


def test_output_to_a_device_writes_to_it(folder: Path) -> None:
    done = call(folder, "run", "-i", "prompt=Once", "-o", "/dev/stdout")
    assert json.loads(done.stdout)["generated"].startswith("Once")
    assert call(folder, "run", "-i", "prompt=a", "-o", "/proc/x.json").returncode == 2


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("n:=" + "[" * 100_000, "cannot be read"),
        ("n:=" + "9" * 5000, "cannot be read"),
        ('prompt:="\\ud800"', "not valid Unicode"),
    ],
)
def test_input_that_breaks_readers_is_bad_use(folder: Path, given: str, message: str) -> None:
    done = call(folder, "run", "-i", given)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_closed_streams_are_no_crash(folder: Path, closed: str) -> None:
    number = {"stdout": 1, "stderr": 2}[closed]
    command = f'"{sys.executable}" -m modelcompose_jupyter.cli schema {number}>&-'
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (done.stdout != "") == (closed == "stderr")


def test_an_output_encoding_that_lacks_letters_is_no_crash(folder: Path) -> None:
    environment = {**os.environ, "PYTHONIOENCODING": "ascii"}
    arguments = ["run", "--stream", "-i", "prompt=안녕"]
    done = subprocess.run(
        [*COMMAND, *arguments], cwd=folder, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0
    assert done.stdout.startswith("\\uc548\\ub155")
