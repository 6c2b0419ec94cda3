"""`model-compose up` as a user meets it: real processes, real ports, nothing left behind."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from modelcompose_jupyter.up.lifecycle import follow_log

COMMAND = [sys.executable, "-m", "modelcompose_jupyter.cli"]
ROOT = Path(__file__).parent.parent
NOTEBOOKS = ROOT / "notebooks"
README = (ROOT / "README.md").read_text("utf-8")
SERVING = (ROOT / "docs" / "serving.md").read_text("utf-8")
SECONDS = 90.0

LONG = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  min_output_length: 480
  max_output_length: 490
workflow:
  input: ${input}
  repeat_count: 2000
"""


class Terminal:
    """A user's terminal: a folder with the document, and nothing of other users' or programs'."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.runtime = folder / "runtime"
        self.temporary = folder / "tmp"
        self.temporary.mkdir()
        self.started: list[subprocess.Popen[str]] = []
        shutil.copy(NOTEBOOKS / "model-compose.yml", folder)
        self.environment = {
            **{key: value for key, value in os.environ.items() if "MODELCOMPOSE" not in key},
            "JUPYTER_RUNTIME_DIR": str(self.runtime),
            "IPYTHONDIR": str(folder / "ipython"),
            "TMPDIR": str(self.temporary),
        }

    def call(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            timeout=SECONDS,
        )

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env=self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.started.append(process)
        return process

    def up(self, *arguments: str, page: bool = False) -> Service:
        """`up` in the foreground, on ports that are free, once it is ready."""
        ports = ("--port=0", "--webui-port=0" if page else "--no-webui")
        return Service(self, self.start("up", *ports, *arguments), page)

    def server_infos(self) -> list[dict[str, Any]]:
        return [json.loads(path.read_text()) for path in self.runtime.glob("modelcompose-*.json")]

    def left(self) -> list[str]:
        """What is left in Jupyter's runtime folder and in that of temporary files."""
        paths = [*self.runtime.glob("*"), *self.temporary.glob("*")]
        # torch keeps a cache among the temporary files, one for each user.
        return sorted(path.name for path in paths if not path.name.startswith("torchinductor_"))

    def close(self) -> None:
        self.call("down", "--all")
        for process in self.started:
            process.kill()
            process.communicate()


class Service:
    """An `up` that is ready, and its processes."""

    def __init__(self, terminal: Terminal, process: subprocess.Popen[str], page: bool) -> None:
        assert process.stdout is not None
        self.process = process
        self.api = self._said("API", process)
        self.page = self._said("Page", process) if page else ""
        (self.server_info,) = terminal.server_infos()
        self.supervisor = psutil.Process(process.pid)
        self.host = psutil.Process(self.server_info["pid"])
        self.children = self.supervisor.children(recursive=True)

    @staticmethod
    def _said(name: str, process: subprocess.Popen[str]) -> str:
        assert process.stdout is not None
        words = process.stdout.readline().split()
        if not words:
            raise AssertionError(f"up is not ready: {process.communicate(timeout=SECONDS)}")
        assert words[0] == name
        return words[1]

    def end(self, number: int | None = None) -> tuple[int, str]:
        """Send a signal, if one is given, and wait; its exit status and standard error."""
        self.children = self.supervisor.children(recursive=True)
        if number is not None:
            self.process.send_signal(number)
        _, stderr = self.process.communicate(timeout=SECONDS)
        return self.process.returncode, stderr


@pytest.fixture
def terminal(tmp_path: Path) -> Iterator[Terminal]:
    terminal = Terminal(tmp_path)
    yield terminal
    terminal.close()


def ask(
    url: str, body: Any = None, token: str | None = None, method: str | None = None
) -> tuple[int, str]:
    """The status and the text of an answer."""
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"}
    if token is not None:
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(url, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=SECONDS) as response:
            return response.status, response.read().decode()
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode()


def until(condition: Callable[[], Any]) -> None:
    """Wait for a condition, with a bound."""
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def has_ended(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.NoSuchProcess):
        return not process.is_running() or process.status() == psutil.STATUS_ZOMBIE
    return True


def listener(host: str = "127.0.0.1", port: int = 0) -> socket.socket:
    found = socket.socket()
    found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    found.bind((host, port))
    found.listen()
    return found


def test_the_api_the_page_and_the_command_use_one_host(terminal: Terminal) -> None:
    service = terminal.up(page=True)
    status, text = ask(f"{service.api}/workflows/runs", {"input": {"prompt": "Once"}})
    assert status == 200
    assert json.loads(text)["output"]["generated"].startswith("Once")

    status, html = ask(service.page)
    assert status == 200
    assert "Generate Text from Prompt" in html

    done = terminal.call("run", "--input", '{"prompt": "Two"}')
    assert json.loads(done.stdout)["generated"].startswith("Two")
    _, tasks = ask(f"{service.api}/tasks", token=service.server_info["token"])
    assert [each["input"]["prompt"] for each in json.loads(tasks)] == ["Two", "Once"]

    code, stderr = service.end(signal.SIGINT)
    assert (code, stderr) == (130, "")
    assert len(service.children) > 2, "a visitor of the page has a kernel"
    assert all(map(has_ended, service.children))
    assert terminal.left() == []


def test_the_ports_are_those_of_the_document(terminal: Terminal) -> None:
    for port in (8080, 8081):
        try:
            listener(port=port).close()
        except OSError:
            pytest.skip(f"port {port} is taken")
    process = terminal.start("up")
    assert process.stdout is not None
    assert process.stdout.readline() == "API   http://localhost:8080/api\n"
    assert process.stdout.readline() == "Page  http://localhost:8081\n"
    if shutil.which("curl") is not None:
        for text in (README, SERVING):
            answer = json.loads(printed(example(text, "curl -X POST")))
            output = answer["output"]
            assert output["generated"].startswith("Once upon a time in a distant galaxy")
        stream = printed(example(SERVING, "curl -N -X POST"))
        assert "event: text\n" in stream and stream.endswith("\n\n")
    process.send_signal(signal.SIGINT)
    assert process.wait(SECONDS) == 130


def example(text: str, begins: str) -> str:
    """The command of a document's examples that begins so, with the lines it goes on over."""
    found = re.search(rf"^{re.escape(begins)}.*?[^\\\\]$", text, re.M | re.S)
    assert found, begins
    return found.group()


def printed(command: str) -> str:
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_all_of_it(terminal: Terminal, name: str, status: int) -> None:
    service = terminal.up()
    assert service.end(getattr(signal, name)) == (status, "")
    assert all(map(has_ended, service.children))
    assert terminal.left() == []


def test_a_signal_ends_it_while_it_starts(terminal: Terminal) -> None:
    process = terminal.start("up", "--port=0", "--webui-port=0")
    supervisor = psutil.Process(process.pid)
    until(lambda: len(supervisor.children()) == 2)
    children = supervisor.children(recursive=True)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=SECONDS)
    assert process.returncode == 143
    assert all(map(has_ended, children))
    assert terminal.left() == []


def test_a_second_ctrl_c_does_not_wait(terminal: Terminal) -> None:
    service = terminal.up()
    os.kill(service.host.pid, signal.SIGSTOP)  # so that it never ends by itself
    service.process.send_signal(signal.SIGINT)
    until(service.supervisor.net_connections)  # it asks the host to end
    service.process.send_signal(signal.SIGINT)
    status, _ = service.end()
    assert status == 130
    assert has_ended(service.host)
    assert terminal.left() == []


@pytest.mark.parametrize("victim", ["host", "page"])
def test_a_child_that_is_killed_ends_the_other_and_is_named(
    terminal: Terminal, victim: str
) -> None:
    service = terminal.up(page=True)
    (page,) = [each for each in service.supervisor.children() if each != service.host]
    (service.host if victim == "host" else page).kill()
    status, stderr = service.end()
    assert status == 1
    assert f"the {victim} was ended by SIGKILL\n" in stderr
    assert "memory" in stderr
    assert has_ended(service.host)
    assert has_ended(page)
    assert list(terminal.runtime.glob("*")) == []


def test_children_end_when_up_is_killed(terminal: Terminal) -> None:
    service = terminal.up(page=True)
    ask(service.page)  # a visitor, with a kernel
    children = service.supervisor.children(recursive=True)
    assert len(children) > 2
    service.process.kill()
    until(lambda: all(map(has_ended, children)))
    assert terminal.left() == []


def test_a_host_that_is_asked_to_end_ends_all(terminal: Terminal) -> None:
    service = terminal.up()
    token = service.server_info["token"]
    assert ask(f"{service.api}/shutdown", {}, token)[0] == 202
    assert service.end() == (0, "")
    service = terminal.up()
    service.host.terminate()
    assert service.end() == (0, "")
    assert terminal.left() == []


def test_detached_it_stays_until_down(terminal: Terminal) -> None:
    done = terminal.call("up", "-d", "--port=0", "--webui-port=0")
    assert (done.returncode, done.stderr) == (0, "")
    api, page = [line.split()[1] for line in done.stdout.splitlines()]
    assert ask(f"{api}/workflows/runs", {"input": {"prompt": "Once"}})[0] == 200

    found = json.loads(terminal.call("status").stdout)
    assert (found["page"], found["answers"], found["runs"]) == (page, True, 0)
    assert [each["source"] for each in found["models"]] == ["bundled:storyteller"]
    assert found["document"] == str(terminal.folder / "model-compose.yml")
    assert [each["pid"] for each in json.loads(terminal.call("status", "--all").stdout)] == [
        found["pid"]
    ]

    events = [json.loads(line)["event"] for line in terminal.call("logs").stdout.splitlines()]
    assert events[0] == "server started"
    assert "run ended" in events
    assert len(terminal.call("logs", "-n", "1").stdout.splitlines()) == 1

    following = terminal.start("logs", "--follow", "-n", "0")
    until(lambda: following.poll() is not None or _reads(following, "modelcompose-"))
    ask(f"{api}/workflows/runs", {"input": {"prompt": "Twice"}})
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["event"]

    processes = [psutil.Process(found[key]) for key in ("pid", "supervisor")]
    done = terminal.call("down")
    assert (done.returncode, done.stdout) == (0, "")
    assert done.stderr == f"ended {terminal.folder / 'model-compose.yml'}\n"
    assert all(map(has_ended, processes))
    assert following.wait(SECONDS) == 0
    assert terminal.left() == []


def _reads(process: subprocess.Popen[str], name: str) -> bool:
    return any(name in each.path for each in psutil.Process(process.pid).open_files())


def test_a_log_is_followed_when_it_is_set_aside(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_text("a\nb\nc\n")
    written = [True]
    lines = follow_log(log, 2, lambda: written[0])
    assert [next(lines), next(lines)] == ["b", "c"]
    with log.open("a") as file:
        file.write("d\nhal")
        file.flush()
        assert next(lines) == "d"
        file.write("f\n")
    log.rename(tmp_path / "log.1")
    log.write_text("new\n")
    assert [next(lines), next(lines)] == ["half", "new"]
    written[0] = False
    assert list(lines) == []


@pytest.mark.parametrize("command", ["down", "status", "logs"])
def test_what_is_not_up_is_status_1(terminal: Terminal, command: str) -> None:
    done = terminal.call(command)
    assert (done.returncode, done.stdout) == (1, "")
    assert "not up" in done.stderr
    if command != "logs":
        assert terminal.call(command, "--all").stderr == "nothing is up\n"


def test_down_leaves_what_up_did_not_start(terminal: Terminal) -> None:
    service = terminal.up()
    path = next(terminal.runtime.glob("modelcompose-*.json"))
    path.write_text(json.dumps({**service.server_info, "supervisor": None}))
    done = terminal.call("down")
    assert done.returncode == 1
    assert "which 'up' did not start" in done.stderr
    assert not has_ended(service.host)


def test_busy_ports_are_all_said_before_anything_starts(terminal: Terminal) -> None:
    with listener() as api, listener() as page:
        ports = [each.getsockname()[1] for each in (api, page)]
        done = terminal.call("up", f"--port={ports[0]}", f"--webui-port={ports[1]}")
    assert (done.returncode, done.stdout) == (1, "")
    api, page = (f"port {port} of 127.0.0.1 is taken" for port in ports)
    assert done.stderr.startswith(f"API: {api}; page: {page}\n")
    assert "--webui-port" in done.stderr
    assert terminal.left() == []


def test_a_port_of_another_document_says_whose_it_is(terminal: Terminal) -> None:
    service = terminal.up()
    shutil.copy(terminal.folder / "model-compose.yml", terminal.folder / "other.yml")
    port = service.api.split(":")[2].split("/")[0]
    done = terminal.call("up", "-f", "other.yml", f"--port={port}", "--no-webui")
    assert done.returncode == 1
    assert f"model-compose down -f {terminal.folder / 'model-compose.yml'}" in done.stderr


def test_one_port_for_both_is_bad_use(terminal: Terminal) -> None:
    assert terminal.call("up", "--port=9999", "--webui-port=9999").returncode == 2


def test_a_bad_document_is_said_whole(terminal: Terminal) -> None:
    with (terminal.folder / "model-compose.yml").open("a") as file:
        file.write("    top_p: 7\n    top_kk: 3\n")
    done = terminal.call("up")
    assert (done.returncode, done.stdout) == (2, "")
    assert "'top_p' must be at most 1" in done.stderr
    assert "unknown key 'top_kk'" in done.stderr
    assert terminal.left() == []


@pytest.mark.parametrize("detached", [[], ["-d"]])
def test_what_is_up_already_is_said_with_its_urls(terminal: Terminal, detached: list[str]) -> None:
    service = terminal.up(page=True)
    done = terminal.call("up", "--port=0", "--webui-port=0", *detached)
    assert (done.returncode, done.stdout) == (1, "")
    assert "is up already" in done.stderr
    assert service.server_info["url"] in done.stderr
    assert service.page in done.stderr
    assert not has_ended(service.host)


@pytest.mark.parametrize("detached", [[], ["-d"]])
def test_a_host_that_cannot_start_says_why(terminal: Terminal, detached: list[str]) -> None:
    startup = terminal.folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    code = "import os, sys; os.write(2, b'all is broken\\n'); os._exit(7)"
    (startup / "00.py").write_text(code)
    done = terminal.call("up", "--port=0", "--no-webui", *detached)
    assert (done.returncode, done.stdout) == (1, "")
    assert "all is broken\n" in done.stderr
    assert "the host ended with status 7" in done.stderr
    if detached:
        assert "all is broken\n" in terminal.call("logs").stdout
        assert "model-compose logs" in terminal.call("status").stderr
    else:
        assert terminal.left() == []


def test_an_address_for_others_needs_the_token_that_is_made(terminal: Terminal) -> None:
    process = terminal.start(
        "up", "--host=0.0.0.0", "--webui-host=0.0.0.0", "--port=0", "--webui-port=0"
    )
    service = Service(terminal, process, page=True)
    (path,) = terminal.runtime.glob("modelcompose-*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    token = service.server_info["client_token"]
    assert ask(f"{service.api}/workflows")[0] == 401
    assert ask(f"{service.api}/workflows", token="guessed-wrong")[0] == 401
    assert ask(f"{service.api}/workflows", token=token)[0] == 200
    assert "Generate Text from Prompt" not in ask(service.page)[1]
    assert "Generate Text from Prompt" in ask(f"{service.page}/?token={token}")[1]
    commands = [" ".join(each.cmdline()) for each in [service.supervisor, *service.children]]
    assert not any(token in each for each in commands)
    assert terminal.call("run", "-i", "prompt=Once").returncode == 0
    status, stderr = service.end(signal.SIGINT)
    assert status == 130
    assert token not in stderr
    assert str(path) in stderr


def test_a_token_of_the_user_is_asked_for_at_the_loopback_too(terminal: Terminal) -> None:
    (terminal.folder / "token").write_text("correct-horse\r\n", encoding="utf-16")
    service = terminal.up("--token-file=token")
    assert ask(f"{service.api}/workflows")[0] == 401
    assert ask(f"{service.api}/workflows", token="correct-horse")[0] == 200
    _, stderr = service.end(signal.SIGINT)
    assert "correct-horse" not in stderr
    terminal.environment["MODELCOMPOSE_TOKEN"] = "battery-staple"
    service = terminal.up()
    assert ask(f"{service.api}/workflows", token="battery-staple")[0] == 200


@pytest.mark.parametrize("text", ["", "short", "with two words", "größer-als-acht"])
def test_what_is_no_token_is_bad_use(terminal: Terminal, text: str) -> None:
    (terminal.folder / "token").write_text(text, encoding="utf-8")
    done = terminal.call("up", "--token-file=token")
    assert done.returncode == 2
    assert "is no token" in done.stderr
    assert terminal.call("up", "--token-file=nowhere").returncode == 2


def test_limits_hold(terminal: Terminal) -> None:
    service = terminal.up("--max-tokens=5", "--base-path=/v2")
    assert service.api.endswith("/v2")
    status, text = ask(f"{service.api}/workflows/runs", {"input": {"prompt": "Once"}})
    assert status == 200
    assert json.loads(text)["usage"]["generated"] == 5


def test_run_uses_the_host_and_imports_no_torch(terminal: Terminal) -> None:
    service = terminal.up()
    command = [sys.executable, "-X", "importtime", *COMMAND[1:], "run", "-i", "prompt=Once"]
    done = subprocess.run(
        command,
        cwd=terminal.folder,
        env=terminal.environment,
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "modelcompose_jupyter.cli" in imported
    assert imported.isdisjoint({"torch", "transformers", "IPython", "ipywidgets"})
    assert terminal.call("run", "--local", "-i", "prompt=Once").returncode == 0
    _, tasks = ask(f"{service.api}/tasks", token=service.server_info["token"])
    assert len(json.loads(tasks)) == 1


@pytest.fixture
def long_run(terminal: Terminal) -> tuple[Service, subprocess.Popen[str]]:
    """A run that goes on for long, on a host that is up, once it says something."""
    (terminal.folder / "model-compose.yml").write_text(LONG)
    service = terminal.up()
    process = terminal.start("run", "--stream", "-i", "prompt=Once")
    assert process.stdout is not None
    assert process.stdout.read(4) == "Once"
    return service, process


def test_ctrl_c_stops_the_run_over_there(
    long_run: tuple[Service, subprocess.Popen[str]],
) -> None:
    service, process = long_run
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "stopped after" in stderr
    assert "Traceback" not in stderr
    _, tasks = ask(f"{service.api}/tasks", token=service.server_info["token"])
    assert [each["status"] for each in json.loads(tasks)] == ["cancelled"]


def test_a_host_that_dies_in_a_run_is_an_error(
    long_run: tuple[Service, subprocess.Popen[str]],
) -> None:
    service, process = long_run
    service.host.kill()
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "is gone or does not answer" in stderr
    assert "Traceback" not in stderr


def test_ending_a_host_ends_its_runs(
    terminal: Terminal, long_run: tuple[Service, subprocess.Popen[str]]
) -> None:
    service, process = long_run
    assert terminal.call("down").returncode == 0
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 1
    assert "Traceback" not in stderr
    assert service.end() == (0, "")
    assert terminal.left() == []
