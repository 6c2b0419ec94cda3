"""The supervisor of `up`: when it ends, and that all ends with it. Its children are small here."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
from standins.waiting import until

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.server.api_client import ask
from modelcompose_jupyter.server.server_info import ServerInfo
from modelcompose_jupyter.up.child import Child
from modelcompose_jupyter.up.launch_config import LaunchConfig, launch_config
from modelcompose_jupyter.up.supervisor import Supervisor

DOCUMENT = Path(__file__).parent.parent / "notebooks" / "model-compose.yml"

# Answers as a host does, says where it is, and ends when it is asked to, or never.
HOST = """
import http.server, json, os, signal, sys, time
import psutil

path, port, webui, hangs = sys.argv[1:]

class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
        self.wfile.write(b"{}")

    def do_POST(self):
        # Ending with a body unread would reset the connection, and its answer be lost.
        self.rfile.read(int(self.headers["Content-Length"]))
        if hangs:
            open(path + ".asked", "w").close()
            time.sleep(600)
        self.do_GET()
        self.wfile.flush()
        os._exit(0)

    do_HEAD = do_GET

    def log_message(self, *_):
        pass

if hangs:
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
server = http.server.HTTPServer(("127.0.0.1", int(port)), Handler)
if path:
    facts = {"id": os.path.basename(path)[13:-5], "url": f"http://127.0.0.1:{port}/api"}
    facts |= {"token": "t", "title": "t", "version": "0", "webui": webui or None}
    facts |= {"pid": os.getpid(), "started": psutil.Process().create_time()}
    with open(os.open(path, os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        json.dump(facts, file)
server.serve_forever()
"""


class SmallSupervisor(Supervisor):
    """A supervisor whose host and page are small programs.

    Args:
        config: what to start.
        ready: whether the host says where it is.
        hangs: whether the host does not end when it is asked to.
    """

    def __init__(self, config: LaunchConfig, *, ready: bool = True, hangs: bool = False) -> None:
        self.said: list[str] = []
        super().__init__(config, self.said.append)
        self._is_ready, self._hangs = ready, hangs

    def _start(self) -> None:
        config = self._config
        assert config.page is not None
        config.connection_file.parent.mkdir(mode=0o700, exist_ok=True)
        config.connection_file.write_text("{}")
        info = str(config.server_info_path) if self._is_ready else ""
        url, hangs = str(config.page_url), "yes" if self._hangs else ""
        self._host = self._child("host", info, str(config.api.port), url, hangs)
        self._page = self._child("page", "", str(config.page.port), "", "")

    def _child(self, name: str, *arguments: str) -> Child:
        return Child(name, [sys.executable, "-c", HOST, *arguments], os.environ, self._sink)

    @property
    def processes(self) -> list[psutil.Process]:
        return [psutil.Process(each.process.pid) for each in self._children]


@pytest.fixture
def runtime(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path / "runtime"))
    return tmp_path / "runtime"


@pytest.fixture
def config(runtime: Path, tmp_path: Path) -> LaunchConfig:
    document = Path(shutil.copy(DOCUMENT, tmp_path))
    return launch_config(document, load_document(document), port=0, webui_port=0)


def run(supervisor: SmallSupervisor, act: Callable[[ServerInfo], None]) -> int:
    """Run a supervisor, act once all is ready, and see that both its processes have ended."""
    processes: list[psutil.Process] = []

    def on_ready(server_info: ServerInfo) -> None:
        processes.extend(supervisor.processes)
        act(server_info)

    try:
        return supervisor.run(on_ready)
    finally:
        assert len(processes) == 2
        assert not any(each.is_running() for each in processes)
        assert not supervisor._config.server_info_path.exists()
        assert not supervisor._config.connection_file.exists()


def send(number: int) -> None:
    os.kill(os.getpid(), number)


@pytest.mark.parametrize(("name", "status"), [("SIGINT", 130), ("SIGTERM", 143), ("SIGHUP", 129)])
def test_a_signal_ends_all_of_it(config: LaunchConfig, name: str, status: int) -> None:
    number = getattr(signal, name)
    before = signal.getsignal(number)
    supervisor = SmallSupervisor(config)
    assert run(supervisor, lambda _: send(number)) == status
    assert supervisor.said == []
    assert signal.getsignal(number) is before


def test_a_signal_ends_it_while_it_starts(config: LaunchConfig) -> None:
    supervisor = SmallSupervisor(config, ready=False)
    processes: list[psutil.Process] = []

    def interrupt() -> None:
        until(lambda: len(supervisor._children) == 2)
        processes.extend(supervisor.processes)
        send(signal.SIGTERM)

    thread = threading.Thread(target=interrupt)
    thread.start()
    assert supervisor.run() == 143
    thread.join()
    assert not any(each.is_running() for each in processes)


def test_a_second_ctrl_c_does_not_wait(config: LaunchConfig) -> None:
    """The host is asked to end, and never does."""
    supervisor = SmallSupervisor(config, hangs=True)
    asked = Path(f"{config.server_info_path}.asked")

    def again() -> None:
        until(asked.exists)
        send(signal.SIGINT)

    thread = threading.Thread(target=again)
    thread.start()
    assert run(supervisor, lambda _: send(signal.SIGINT)) == 130
    thread.join()
    assert supervisor._host is not None
    assert supervisor._host.process.poll() == -signal.SIGKILL


@pytest.mark.parametrize("victim", ["host", "page"])
def test_a_child_that_is_killed_ends_the_other_and_is_named(
    config: LaunchConfig, victim: str
) -> None:
    supervisor = SmallSupervisor(config)

    def kill(_: ServerInfo) -> None:
        (child,) = [each for each in supervisor._children if each.name == victim]
        child.process.kill()

    with pytest.raises(ComposeError, match=f"the {victim} was ended by SIGKILL") as caught:
        run(supervisor, kill)
    assert "memory" in str(caught.value)


def test_a_host_that_is_asked_to_end_ends_all(config: LaunchConfig) -> None:
    assert run(SmallSupervisor(config), lambda info: ask(info, "POST", "/shutdown")) == 0
