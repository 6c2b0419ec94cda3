"""The command line: what it prints, where to, and its exit status.

Most of it runs in the tests' own process. What a process has of its own, signals and pipes, is
tested in one.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from standins.terminal import COMMAND, Terminal

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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder with the document, and nothing else."""
    (tmp_path / "model-compose.yml").write_text(DOCUMENT)
    return tmp_path


@pytest.fixture
def terminal(folder: Path) -> Iterator[Terminal]:
    terminal = Terminal(folder)
    yield terminal
    terminal.close()


def test_run_prints_the_result_alone_as_json(folder: Path) -> None:
    command = [*COMMAND, "run", "--input", '{"prompt": "Once"}']
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")
    result = json.loads(done.stdout)
    assert list(result) == ["generated"]
    assert result["generated"].startswith("Once")


def test_inputs_come_in_every_form_and_the_last_wins(terminal: Terminal) -> None:
    one = terminal.call("run", "-i", "prompt=A", "-i", "length:=3", "-i", "prompt=Hi", "--stream")
    other = terminal.call("run", "--stream", "-i", "-", stdin='{"prompt": "Hi", "length": "3"}')
    assert one.stdout == other.stdout
    assert one.stdout.startswith("Hi")


def test_a_conversation_as_a_client_keeps_it(terminal: Terminal, folder: Path) -> None:
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
    done = terminal.call("run", "-f", "chat.yml", "--input", json.dumps(given))
    assert (done.exit_code, json.loads(done.stdout)) == (0, {"generated": ""})
    messages[2]["content"] = None
    done = terminal.call("run", "-f", "chat.yml", "--input", json.dumps(given))
    assert done.exit_code == 2
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
    terminal: Terminal, stdin: bytes, status: int, words: str
) -> None:
    done = terminal.call("run", "-i", "-", stdin=stdin)
    assert done.exit_code == status
    assert words in (done.stdout if status == 0 else done.stderr)


def test_arguments_and_documents_may_begin_with_a_mark(terminal: Terminal, folder: Path) -> None:
    (folder / "model-compose.yml").write_text(DOCUMENT, encoding="utf-16")
    done = terminal.call("run", "-i", '\ufeff{"prompt": "Hi"}', "-i", "length:=\ufeff3")
    assert json.loads(done.stdout)["generated"].startswith("Hi")


def test_a_text_output_is_printed_as_it_is(terminal: Terminal, folder: Path) -> None:
    (folder / "text.yml").write_text(DOCUMENT + "workflow: {input: '${input}'}\n")
    done = terminal.call("run", "-f", "text.yml", "-i", "prompt=한글 ${env.HOME} {}")
    assert done.stdout.startswith("한글 ${env.HOME} {}")


def test_output_goes_to_a_file_and_nothing_else_does(terminal: Terminal, folder: Path) -> None:
    done = terminal.call("run", "-i", "prompt=Once", "-o", "result.json")
    assert (done.exit_code, done.stdout) == (0, "")
    assert json.loads((folder / "result.json").read_text())["generated"].startswith("Once")
    assert sorted(path.name for path in folder.iterdir()) == ["model-compose.yml", "result.json"]


def test_warnings_go_to_standard_error(terminal: Terminal) -> None:
    (terminal.folder / "model-compose.yml").write_text(f"{DOCUMENT}  do_sample: true\n")
    done = terminal.call("run", "-i", "prompt=Once", "-i", "temperature=0")
    assert done.exit_code == 0
    assert "warning: do_sample is off" in done.stderr
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
        (["run", "-i", "n:=" + "[" * 100_000], "cannot be read"),
        (["run", "-i", "n:=" + "9" * 5000], "cannot be read"),
        (["run", "-i", 'prompt:="\\ud800"'], "not valid Unicode"),
        (["run", "nothing"], "there is no workflow 'nothing'"),
        (["run", "-f", "nowhere.yml"], "nowhere.yml: cannot read it"),
        (["run", "-i", "prompt=a", "-o", "no/such/out.json"], "cannot be written: no such"),
        (["run", "--inptu", "a"], "No such option"),
        (["validate", "-f", "nowhere.yml"], "cannot read it"),
        (["nothing"], "No such command"),
    ],
    ids=lambda value: "" if isinstance(value, list) else value,
)
def test_bad_use_is_exit_status_2_with_what_is_wrong(
    terminal: Terminal, arguments: list[str], message: str
) -> None:
    done = terminal.call(*arguments)
    assert (done.exit_code, done.stdout) == (2, "")
    assert message in done.stderr


def test_an_input_out_of_range_is_bad_use_too(terminal: Terminal) -> None:
    done = terminal.call("run", "-i", "prompt=a", "-i", "temperature=-1")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "model-compose.yml:7:16: 'temperature' must be at least 0, and it is -1.0" in done.stderr


def test_a_run_that_fails_is_exit_status_1(terminal: Terminal, folder: Path) -> None:
    (folder / "gone.yml").write_text(DOCUMENT.replace("bundled:storyteller", "./no-model"))
    done = terminal.call("run", "-f", "gone.yml", "-i", "prompt=a")
    assert (done.exit_code, done.stdout) == (1, "")
    assert "gone.yml:4:10" in done.stderr
    assert "no-model" in done.stderr


def test_without_a_document_it_says_where_it_looked(terminal: Terminal, folder: Path) -> None:
    (folder / "model-compose.yml").unlink()
    done = terminal.call("run")
    assert done.exit_code == 2
    assert "there is no model-compose.yml or model-compose.yaml" in done.stderr


def test_validate_reports_every_problem_with_its_line(terminal: Terminal, folder: Path) -> None:
    assert terminal.call("validate").exit_code == 0
    (folder / "model-compose.yml").write_text(DOCUMENT + "  top_p: 7\n  top_kk: 3\n")
    done = terminal.call("validate")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "model-compose.yml:9:10: 'top_p' must be at most 1, and it is 7" in done.stderr
    assert "model-compose.yml:10:3: unknown key 'top_kk'" in done.stderr


def test_schema_prints_inputs_and_outputs(terminal: Terminal) -> None:
    described = json.loads(terminal.call("schema").stdout)
    assert [each["name"] for each in described["input"]] == ["prompt", "length", "temperature"]
    assert described["output"] == [{"name": "generated", "type": "text", "is_list": False}]
    assert "$defs" in json.loads(terminal.call("schema", "--document").stdout)


def test_models_lists_what_is_on_the_computer(terminal: Terminal) -> None:
    listed = json.loads(terminal.call("models").stdout)
    assert "bundled:storyteller" in [model["source"] for model in listed["models"]]
    assert listed["kept_bytes"] >= 0


def test_a_document_may_be_named_without_an_option(terminal: Terminal, folder: Path) -> None:
    (folder / "model-compose.yml").rename(folder / "story.yml")
    assert "story.yml is valid" in terminal.call("validate", "story.yml").stderr
    named = terminal.call("schema", "story.yml").stdout
    assert named == terminal.call("schema", "-f", "story.yml").stdout != ""
    done = terminal.call("run", "story.yml", "-i", "prompt=Once", "-i", "length=3")
    assert json.loads(done.stdout)["generated"].startswith("Once")
    twice = terminal.call("validate", "story.yml", "-f", "other.yml")
    assert "two documents are named: other.yml and story.yml" in twice.stderr
    assert "cannot read it" in terminal.call("up", "nowhere.yml").stderr


def test_ctrl_c_stops_cleanly(terminal: Terminal, folder: Path) -> None:
    (folder / "long.yml").write_text(DOCUMENT + "  min_output_length: 480\n")
    process = terminal.start(
        "run", "-f", "long.yml", "--stream", "-i", "prompt=Once", "-i", "length=490"
    )
    assert process.stdout is not None
    assert process.stdout.read(20).startswith("Once")
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "stopped after" in stderr
    assert "Traceback" not in stderr


def test_a_reader_that_goes_away_is_no_crash(terminal: Terminal) -> None:
    process = terminal.start("schema", "--document")
    assert process.stdout is not None and process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(60) == 1


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


def test_output_follows_links_and_keeps_modes(terminal: Terminal, folder: Path) -> None:
    target, link = folder / "real.json", folder / "link.json"
    target.write_text("old")
    target.chmod(0o640)
    link.symlink_to(target)
    assert terminal.call("run", "-i", "prompt=a", "-o", "link.json").exit_code == 0
    assert link.is_symlink()
    assert json.loads(target.read_text())["generated"].startswith("a")
    assert target.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(not Path("/dev/fd").exists(), reason="pipes have no paths")
def test_output_to_a_device_writes_to_it(terminal: Terminal) -> None:
    reading, writing = os.pipe()
    with open(reading, encoding="utf-8") as pipe:  # noqa: PTH123 - not a path
        assert terminal.call("run", "-i", "prompt=Once", "-o", f"/dev/fd/{writing}").exit_code == 0
        os.close(writing)
        assert json.loads(pipe.read())["generated"].startswith("Once")
    assert terminal.call("run", "-i", "prompt=a", "-o", "/proc/x.json").exit_code == 2


@pytest.mark.parametrize("closed", ["stdout", "stderr"])
def test_closed_streams_are_no_crash(folder: Path, closed: str) -> None:
    number = {"stdout": 1, "stderr": 2}[closed]
    command = f'"{sys.executable}" -m modelcompose_jupyter.cli schema {number}>&-'
    done = subprocess.run(["sh", "-c", command], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert (done.stdout != "") == (closed == "stderr")


def test_an_output_encoding_that_lacks_letters_is_no_crash(terminal: Terminal) -> None:
    done = terminal.call("run", "--stream", "-i", "prompt=안녕", charset="ascii")
    assert done.exit_code == 0
    assert done.stdout.startswith("\\uc548\\ub155")


def test_texts_are_scored(terminal: Terminal) -> None:
    given = ("score", "-i", "prompt=Once upon")
    one = json.loads(terminal.call(*given, " a time").stdout)
    assert (one["text"], one["tokens"]) == (" a time", 2)
    several = json.loads(terminal.call(*given, " a time", " the table").stdout)
    assert several[0] == one
    assert several[1]["logprob"] < one["logprob"]
    with_tokens = json.loads(terminal.call(*given, "--tokens", " a time").stdout)["tokens"]
    assert [each["token"] for each in with_tokens] == [" a", " time"]
    assert sum(each["logprob"] for each in with_tokens) == pytest.approx(one["logprob"])


def test_texts_to_score_come_from_a_file(terminal: Terminal, folder: Path) -> None:
    (folder / "texts.txt").write_text(" a time\n the table\n", "utf-8")
    (folder / "rows.jsonl").write_text('{"prompt": "The dog", "text": " ran"}\n" a"\n', "utf-8")
    given = ("score", "-i", "prompt=Once upon")
    from_lines = json.loads(terminal.call(*given, "--texts", "texts.txt").stdout)
    assert from_lines == json.loads(terminal.call(*given, " a time", " the table").stdout)
    from_rows = json.loads(terminal.call(*given, "--texts", "rows.jsonl").stdout)
    assert [each["text"] for each in from_rows] == [" ran", " a"]
    assert terminal.call(*given).exit_code == 2
    failed = terminal.call(*given, " a", " x" * 5000)
    assert failed.exit_code == 1
    assert "context" in json.loads(failed.stdout)[1]["error"]
    assert "context" in failed.stderr


def test_tools_that_are_described_are_returned_and_functions_are_no_terminals(
    terminal: Terminal, folder: Path
) -> None:
    described = """\
component:
  type: model
  task: chat-completion
  model: bundled:storyteller
  messages: Tell me of Paris.
  tools:
    - {type: function, function: {name: now, parameters: {type: object, properties: {}}}}
  tool_choice: now
workflow: {output: "${output}"}
"""
    (folder / "model-compose.yml").write_text(described)
    (call,) = json.loads(terminal.call("run").stdout)
    assert (call["name"], call["arguments"]) == ("now", {})
    (folder / "model-compose.yml").write_text(described.replace("    - {type", "    - now\n    #"))
    failed = terminal.call("run")
    assert failed.exit_code == 2
    assert "the tool 'now' is a Python function, and it is not here" in failed.stderr


def test_a_record_is_printed_as_json_and_what_was_cut_as_its_error(
    terminal: Terminal, folder: Path
) -> None:
    schema = '{"type": "object", "properties": {"kind": {"enum": ["cat"]}}, "required": ["kind"],'
    (folder / "pet.json").write_text(schema + ' "additionalProperties": false}')
    format = "  format: {json_schema: ./pet.json}\n"
    (folder / "model-compose.yml").write_text(DOCUMENT + format)
    done = terminal.call("run", "-i", "prompt=a", "-i", "length=40")
    assert done.exit_code == 0 and json.loads(done.stdout) == {"generated": {"kind": "cat"}}
    assert done.stdout.startswith('{\n  "generated": {\n    "kind"')
    streamed = terminal.call("run", "-i", "prompt=a", "-i", "length=40", "--stream")
    assert streamed.stdout == '{"kind": "cat"}\n'
    cut = terminal.call("run", "-i", "prompt=a", "-i", "length=2")
    assert (cut.exit_code, cut.stdout) == (1, "")
    assert "the text was cut after 2 tokens" in cut.stderr
    (folder / "pet.json").write_text("{")
    wrong = terminal.call("validate")
    assert wrong.exit_code == 2 and "./pet.json:1:" in wrong.stderr


def test_functions_of_a_module_beside_the_document_run_in_the_terminal(
    folder: Path, terminal: Terminal
) -> None:
    (folder / "steps.py").write_text(
        "def shout(text: str, times: int = 1) -> str:\n"
        "    if not text:\n"
        "        raise ValueError('no text')\n"
        "    return text.upper() + '!' * times\n"
    )
    (folder / "flow.yml").write_text("component: {type: function, function: 'steps:shout'}\n")
    done = terminal.call("run", "flow.yml", "-i", "text=hi", "-i", "times=3")
    assert (done.exit_code, done.stdout) == (0, "HI!!!\n")
    failed = terminal.call("run", "flow.yml", "-i", "text=")
    assert failed.exit_code == 1
    assert "steps:shout: ValueError: no text" in failed.stderr
    assert f'  File "{folder / "steps.py"}", line 3, in shout' in failed.stderr
    assert "    raise ValueError('no text')" in failed.stderr
    assert "modelcompose_jupyter" not in failed.stderr
    unknown = terminal.call("run", "flow.yml", "-i", "txt=hi")
    assert unknown.exit_code == 2 and "there is no input 'txt'" in unknown.stderr
