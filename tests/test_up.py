"""`model-compose up` as a user meets it: real processes, real ports, nothing left behind.

`test_supervisor.py` has what ends it, and when. Here are few services, each of which many look at.
"""

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
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
from click.testing import CliRunner
from standins.terminal import COMMAND, Terminal
from standins.waiting import until

from modelcompose_jupyter.cli import main
from modelcompose_jupyter.cli.up import _runtime as runtime_of
from modelcompose_jupyter.document import RayRuntime, load_document
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.processes import own_start
from modelcompose_jupyter.server.server_info import ServerInfo
from modelcompose_jupyter.up.launch_config import LaunchConfig, given_token, launch_config
from modelcompose_jupyter.up.lifecycle import follow_log

ROOT = Path(__file__).parent.parent
DOCUMENT = ROOT / "notebooks" / "model-compose.yml"
README = (ROOT / "README.md").read_text("utf-8")
SERVING = (ROOT / "docs" / "serving.md").read_text("utf-8")
SECONDS = 90.0

# The example's workflow, and one whose run takes minutes.
STORIES = """\
components:
  - id: short
    type: model
    task: text-generation
    model: bundled:storyteller
    text: ${input.prompt as text}
    max_output_length: 20
  - id: long
    type: model
    task: text-generation
    model: bundled:storyteller
    text: ${input.prompt as text}
    min_output_length: 480
    max_output_length: 490
workflows:
  - id: short
    default: true
    jobs: [{id: tell, component: short, input: "${input}"}]
    output: {generated: "${jobs.tell.output}"}
  - id: long
    jobs: [{id: tell, component: long, input: "${input}", repeat_count: 2000}]
"""


class Home(Terminal):
    """A terminal with the document, and with nothing of other users or programs."""

    def __init__(self, folder: Path, document: str | None = None) -> None:
        self.runtime, self.temporary = folder / "runtime", folder / "tmp"
        self.temporary.mkdir()
        self.document = folder / "model-compose.yml"
        self.document.write_text(document or DOCUMENT.read_text("utf-8"), encoding="utf-8")
        super().__init__(
            folder,
            JUPYTER_RUNTIME_DIR=str(self.runtime),
            IPYTHONDIR=str(folder / "ipython"),
            TMPDIR=str(self.temporary),
        )

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
        super().close()


class Service:
    """An `up` that is ready, and its processes."""

    def __init__(self, home: Home, process: subprocess.Popen[str], page: bool) -> None:
        self.process = process
        self.api = self._said("API")
        self.page = self._said("Page") if page else ""
        (self.server_info,) = home.server_infos()
        self.supervisor = psutil.Process(process.pid)
        self.host = psutil.Process(self.server_info["pid"])
        self.children = self.supervisor.children(recursive=True)

    def _said(self, name: str) -> str:
        assert self.process.stdout is not None
        words = self.process.stdout.readline().split()
        if not words:
            raise AssertionError(f"up is not ready: {self.process.communicate(timeout=SECONDS)}")
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
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path)
    yield home
    home.close()


@pytest.fixture(scope="module")
def detached(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Home, dict[str, Any]]]:
    """A document that is up in the background, and what its status says."""
    home = Home(tmp_path_factory.mktemp("detached"), STORIES)
    process = home.start("up", "-d", "--port=0", "--webui-port=0")
    stdout, stderr = process.communicate(timeout=SECONDS)
    assert (process.returncode, stderr) == (0, "")
    status = json.loads(home.call("status").stdout)
    said = f"API   {status['api']}\nPage  {status['page']}\n"
    names = ("localhost", "127.0.0.1")  # either is said, as it is free
    assert stdout.replace(*names) == said.replace(*names)
    yield home, status
    home.close()


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


def tasks(api: str, home: Home) -> list[dict[str, Any]]:
    """The runs of a host, the newest first."""
    (server_info,) = home.server_infos()
    _, text = ask(f"{api}/tasks", token=server_info["token"])
    found: list[dict[str, Any]] = json.loads(text)
    return found


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


# In the foreground


def test_the_api_the_page_and_the_command_use_one_host(home: Home) -> None:
    service = home.up("--max-tokens=5", "--base-path=/v2", page=True)
    assert service.api.endswith("/v2")
    status, text = ask(f"{service.api}/workflows/runs", {"input": {"prompt": "Once"}})
    assert status == 200
    assert json.loads(text)["output"]["generated"].startswith("Once")
    assert json.loads(text)["usage"]["generated"] == 5

    status, html = ask(service.page)
    assert status == 200
    assert "Generate Text from Prompt" in html

    done = home.call("run", "--input", '{"prompt": "Two"}')
    assert json.loads(done.stdout)["generated"].startswith("Two")
    assert [each["input"]["prompt"] for each in tasks(service.api, home)] == ["Two", "Once"]

    code, stderr = service.end(signal.SIGINT)
    assert (code, stderr) == (130, "")
    assert len(service.children) > 2, "a visitor of the page has a kernel"
    assert all(map(has_ended, service.children))
    assert home.left() == []


def test_an_address_for_others_needs_the_token_that_is_made(home: Home) -> None:
    service = home.up("--host=0.0.0.0", "--webui-host=0.0.0.0", page=True)
    (path,) = home.runtime.glob("modelcompose-*.json")
    assert path.stat().st_mode & 0o777 == 0o600
    token = service.server_info["client_token"]
    assert ask(f"{service.api}/workflows")[0] == 401
    assert ask(f"{service.api}/workflows", token="guessed-wrong")[0] == 401
    assert ask(f"{service.api}/workflows", token=token)[0] == 200
    assert "Generate Text from Prompt" not in ask(service.page)[1]
    assert "Generate Text from Prompt" in ask(f"{service.page}/?token={token}")[1]
    commands = [" ".join(each.cmdline()) for each in [service.supervisor, *service.children]]
    assert not any(token in each for each in commands)

    # Its children end when it is killed, those of visitors too.
    children = service.supervisor.children(recursive=True)
    assert len(children) > 2
    service.process.kill()
    until(lambda: all(map(has_ended, children)))
    _, stderr = service.process.communicate(timeout=SECONDS)
    assert token not in stderr
    assert str(path) in stderr
    assert home.left() == []


def test_a_host_that_dies_in_a_run_is_an_error_here_and_there(home: Home) -> None:
    home.document.write_text(STORIES)
    (home.folder / "token").write_text("correct-horse\r\n", encoding="utf-16")
    service = home.up("--token-file=token")
    assert ask(f"{service.api}/workflows")[0] == 401
    assert ask(f"{service.api}/workflows", token="correct-horse")[0] == 200
    run = begun(home)
    service.host.kill()

    _, stderr = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "is gone or does not answer" in stderr
    assert "Traceback" not in stderr
    status, stderr = service.end()
    assert status == 1
    assert "the host was ended by SIGKILL\n" in stderr
    assert "correct-horse" not in stderr
    assert list(home.runtime.glob("*")) == []


def test_a_host_that_is_terminated_ends_well(home: Home) -> None:
    service = home.up()
    service.host.terminate()
    assert service.end() == (0, "")
    assert home.left() == []


def begun(home: Home) -> subprocess.Popen[str]:
    """A command that runs the long workflow, once it says something."""
    process = home.start("run", "long", "--stream", "-i", "prompt=Once")
    assert process.stdout is not None
    assert process.stdout.read(4) == "Once"
    return process


# In the background


def test_status_and_logs_tell_of_it(detached: tuple[Home, dict[str, Any]]) -> None:
    home, status = detached
    assert (status["answers"], status["runs"], status["document"]) == (True, 0, str(home.document))
    assert ask(f"{status['api']}/workflows/runs", {"input": {"prompt": "Once"}})[0] == 200

    (now,) = json.loads(home.call("status", "--all").stdout)
    assert now["pid"] == status["pid"]
    assert [each["source"] for each in now["models"]] == ["bundled:storyteller"]
    events = [json.loads(line)["event"] for line in home.call("logs").stdout.splitlines()]
    assert events[0] == "server started"
    assert "run ended" in events
    assert len(home.call("logs", "-n", "1").stdout.splitlines()) == 1


@pytest.mark.parametrize("detach", [[], ["-d"]])
def test_what_is_up_already_is_said_with_its_urls(
    detached: tuple[Home, dict[str, Any]], detach: list[str]
) -> None:
    home, status = detached
    done = home.call("up", "--port=0", "--webui-port=0", *detach)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "is up already" in done.stderr
    assert status["api"] in done.stderr
    assert status["page"] in done.stderr


def test_a_port_of_another_document_says_whose_it_is(
    detached: tuple[Home, dict[str, Any]],
) -> None:
    home, status = detached
    shutil.copy(home.document, home.folder / "other.yml")
    port = status["api"].split(":")[2].split("/")[0]
    done = home.call("up", "-f", "other.yml", f"--port={port}", "--no-webui")
    assert done.exit_code == 1
    assert f"model-compose down -f {home.document}" in done.stderr


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
def test_the_commands_of_the_documentation_ask_it(detached: tuple[Home, dict[str, Any]]) -> None:
    _, status = detached
    for text in (README, SERVING):
        answer = json.loads(printed(example(text, "curl -X POST"), status["api"]))
        assert answer["output"]["generated"].startswith("Once upon a time in a distant galaxy")
    stream = printed(example(SERVING, "curl -N -X POST"), status["api"])
    assert "event: text\n" in stream and stream.endswith("\n\n")


def example(text: str, begins: str) -> str:
    """The command of a document's examples that begins so, with the lines it goes on over."""
    found = re.search(rf"^{re.escape(begins)}.*?[^\\\\]$", text, re.M | re.S)
    assert found, begins
    return found.group()


def printed(command: str, api: str) -> str:
    """What a command prints that asks the API at its usual address."""
    assert "http://localhost:8080/api" in command
    command = command.replace("http://localhost:8080/api", api)
    return subprocess.run(
        ["bash", "-c", command], capture_output=True, text=True, timeout=SECONDS, check=True
    ).stdout


def test_run_uses_the_host_and_imports_no_torch(detached: tuple[Home, dict[str, Any]]) -> None:
    home, status = detached
    before = len(tasks(status["api"], home))
    done = subprocess.run(
        [sys.executable, "-X", "importtime", *COMMAND[1:], "run", "-i", "prompt=Once"],
        cwd=home.folder,
        env={**os.environ, **home.environment},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 0
    imported = {line.rpartition("|")[2].strip() for line in done.stderr.splitlines()}
    assert "modelcompose_jupyter.cli" in imported
    assert imported.isdisjoint({"torch", "transformers", "IPython", "ipywidgets"})
    assert home.call("run", "--local", "-i", "prompt=Once").exit_code == 0
    assert len(tasks(status["api"], home)) == before + 1


def test_ctrl_c_stops_the_run_over_there(detached: tuple[Home, dict[str, Any]]) -> None:
    home, status = detached
    process = begun(home)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=SECONDS)
    assert process.returncode == 130
    assert "stopped after" in stderr
    assert "Traceback" not in stderr
    assert tasks(status["api"], home)[0]["status"] == "cancelled"


def test_down_ends_it_and_its_runs(detached: tuple[Home, dict[str, Any]]) -> None:
    """The last of those that look at it."""
    home, status = detached
    following = home.start("logs", "--follow", "-n", "0")
    until(lambda: following.poll() is not None or _reads(following, "modelcompose-"))
    run = begun(home)
    assert following.stdout is not None
    assert json.loads(following.stdout.readline())["event"]

    processes = [psutil.Process(status[key]) for key in ("pid", "supervisor")]
    done = home.call("down")
    assert (done.exit_code, done.stdout) == (0, "")
    assert done.stderr == f"ended {home.document}\n"
    assert all(map(has_ended, processes))
    assert following.wait(SECONDS) == 0
    _, stderr = run.communicate(timeout=SECONDS)
    assert run.returncode == 1
    assert "Traceback" not in stderr
    assert home.left() == []


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


# What does not get up


@pytest.mark.parametrize("detach", [[], ["-d"]])
def test_a_host_that_cannot_start_says_why(home: Home, detach: list[str]) -> None:
    startup = home.folder / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    code = "import os, sys; os.write(2, b'all is broken\\n'); os._exit(7)"
    (startup / "00.py").write_text(code)
    done = home.call("up", "--port=0", "--no-webui", *detach)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "all is broken\n" in done.stderr
    assert "the host ended with status 7" in done.stderr
    if detach:
        assert "all is broken\n" in home.call("logs").stdout
        assert "model-compose logs" in home.call("status").stderr
    else:
        assert home.left() == []


@pytest.mark.parametrize("command", ["down", "status", "logs"])
def test_what_is_not_up_is_status_1(home: Home, command: str) -> None:
    done = home.call(command)
    assert (done.exit_code, done.stdout) == (1, "")
    assert "not up" in done.stderr
    if command != "logs":
        assert home.call(command, "--all").stderr == "nothing is up\n"


def test_down_leaves_what_up_did_not_start(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(home.runtime))
    facts = {"url": "http://127.0.0.1:9/api", "token": "t", "title": "t", "version": "0"}
    served = ServerInfo(
        id="served", pid=os.getpid(), started=own_start(), document=str(home.document), **facts
    )
    served.publish()
    done = home.call("down")
    assert done.exit_code == 1
    assert f"the process {os.getpid()}, which 'up' did not start" in done.stderr
    assert served.stands


def test_the_ports_are_those_of_the_document(home: Home) -> None:
    plan = launch_config(home.document, load_document(home.document))
    ports = [each.port for each in (plan.api, plan.page) if each is not None]
    assert (ports, plan.base_path) == ([8080, 8081], "/api")
    assert "API   http://localhost:8080/api\nPage  http://localhost:8081\n" in SERVING


def test_busy_ports_are_all_said_before_anything_starts(home: Home) -> None:
    with listener() as api, listener() as page:
        ports = [each.getsockname()[1] for each in (api, page)]
        done = home.call("up", f"--port={ports[0]}", f"--webui-port={ports[1]}")
    assert (done.exit_code, done.stdout) == (1, "")
    api, page = (f"port {port} of 127.0.0.1 is taken" for port in ports)
    assert done.stderr.startswith(f"API: {api}; page: {page}\n")
    assert "--webui-port" in done.stderr
    assert home.left() == []


def test_one_port_for_both_is_bad_use(home: Home) -> None:
    assert home.call("up", "--port=9999", "--webui-port=9999").exit_code == 2


def test_a_bad_document_is_said_whole(home: Home) -> None:
    with home.document.open("a") as file:
        file.write("    top_p: 7\n    top_kk: 3\n")
    done = home.call("up")
    assert (done.exit_code, done.stdout) == (2, "")
    assert "'top_p' must be at most 1" in done.stderr
    assert "unknown key 'top_kk'" in done.stderr
    assert home.left() == []


def test_a_token_can_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MODELCOMPOSE_TOKEN", " battery-staple\n")
    assert given_token(None) == (
        "battery-staple",
        "the environment variable MODELCOMPOSE_TOKEN",
    )
    monkeypatch.setenv("MODELCOMPOSE_TOKEN", "short")
    with pytest.raises(UsageError, match="is no token"):
        given_token(None)


@pytest.mark.parametrize("text", ["", "short", "with two words", "größer-als-acht"])
def test_what_is_no_token_is_bad_use(home: Home, text: str) -> None:
    (home.folder / "token").write_text(text, encoding="utf-8")
    done = home.call("up", "--token-file=token")
    assert done.exit_code == 2
    assert "is no token" in done.stderr
    assert home.call("up", "--token-file=nowhere").exit_code == 2


def test_replicas_need_ray_and_an_address_that_is_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "story.yml"
    path.write_text(DOCUMENT_FOR_RAY)

    def said(*arguments: str) -> str:
        result = CliRunner().invoke(main, ["up", str(path), *arguments])
        assert result.exit_code == 2
        return result.output

    assert "--replicas is for --ray" in said("--replicas", "2")
    assert "no address of a cluster" in said("--ray", "other.yml")
    for wrong in ("0", "3-2", "a", "1-b"):
        assert "a number from 1 on" in said("--ray", "auto", "--replicas", wrong)
    monkeypatch.setattr("modelcompose_jupyter.cli.up.find_spec", lambda _: None)
    assert "modelcompose-jupyter[ray]" in said("--ray")


def test_where_replicas_are_comes_from_the_document_and_options_win(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("modelcompose_jupyter.cli.up.find_spec", lambda _: True)
    written = RayRuntime("auto", 1, 4, {"gpu": 0.5})
    assert runtime_of(written, None, None) == written
    assert runtime_of(written, "head:6379", (2, 3)) == RayRuntime("head:6379", 2, 3, {"gpu": 0.5})
    assert runtime_of(written, "", None) == replace(written, address=None)  # started here
    assert runtime_of(None, "", None) == RayRuntime()
    assert runtime_of(None, None, None) is None
    document = load_document(DOCUMENT_FOR_RAY)
    config = launch_config(tmp_path / "My story.yml", document, ray=written, port=0, webui=False)
    assert (config.application, config.title) == ("modelcompose-my-story", "My story.yml")
    assert LaunchConfig.from_json(config.to_json()) == config


DOCUMENT_FOR_RAY = """
component: {type: model, task: text-generation, model: "bundled:storyteller", text: a}
"""


def test_a_service_of_no_hub_says_what_is_missing(home: Home) -> None:
    done = home.call("up", "--jupyterhub")
    assert done.exit_code == 2
    assert "JUPYTERHUB_SERVICE_NAME is not set" in done.stderr


def test_a_hub_says_where_its_service_is(monkeypatch: pytest.MonkeyPatch) -> None:
    told = {
        "SERVICE_NAME": "model",
        "SERVICE_PREFIX": "/services/model/",
        "SERVICE_URL": "http://0.0.0.0:10101",
        "API_URL": "http://127.0.0.1:8081/hub/api",
    }
    for name, value in told.items():
        monkeypatch.setenv(f"JUPYTERHUB_{name}", value)
    config = launch_config(DOCUMENT, load_document(DOCUMENT), on_jupyterhub=True)

    assert (config.api.host, config.api.port, config.page) == ("0.0.0.0", 10101, None)
    assert config.api_url == "http://localhost:10101/services/model/api"
    assert config.token is None  # the Hub's are asked for
