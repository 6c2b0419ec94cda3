"""What is up: looking at it, starting it detached, ending it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from ..errors import ComposeError
from ..private_files import make_folder, open_for_writing
from ..processes import descendants, end_all, find_process, terminate, wait_for_exit
from ..server.api_client import ask
from ..server.server_info import ServerInfo, read
from .child import apart
from .launch_config import LaunchConfig, log_path
from .supervisor import is_ready

_TICK = 0.1
_END_SECONDS = 35.0  # more than a supervisor takes that has to kill
_SHOWN_LINES = 30
_ENDED = ("completed", "failed", "cancelled")


def start_detached(config: LaunchConfig) -> ServerInfo:
    """Start a supervisor that stays when this process ends, and wait until all is ready.

    Raises:
        ComposeError: it did not get ready; what it said is on standard error, and it has ended.
    """
    path = log_path(config.document)
    descriptor = _log(path)
    command = [sys.executable, "-m", "modelcompose_jupyter.up"]
    with open(descriptor, "wb") as log:  # noqa: PTH123 - not a path
        supervisor = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=log, stderr=log, text=True, **apart()
        )
    try:
        assert supervisor.stdin is not None
        with contextlib.suppress(BrokenPipeError), supervisor.stdin as stdin:
            stdin.write(config.to_json())
        while supervisor.poll() is None:
            server_info = read(config.server_info_path)
            if server_info is not None and is_ready(server_info):
                return server_info
            with contextlib.suppress(subprocess.TimeoutExpired):
                supervisor.wait(_TICK)
    except BaseException:
        supervisor.terminate()
        supervisor.wait(_END_SECONDS)
        raise
    for line in last_lines(path, _SHOWN_LINES):
        sys.stderr.write(line + "\n")
    raise ComposeError(f"{Path(config.document).name} is not up", hint=f"The log is {path}.")


def _log(path: Path) -> int:
    """A descriptor of an empty log, which children write as well."""
    try:
        make_folder(path.parent)
        os.close(open_for_writing(path))
        return open_for_writing(path, append=True)
    except OSError as error:
        raise ComposeError(
            f"the log {path} cannot be written: {(error.strerror or str(error)).lower()}",
            hint="Set JUPYTER_RUNTIME_DIR to a folder of your own.",
        ) from None


def server_status(server_info: ServerInfo) -> dict[str, Any]:
    """A server as it is now, as plain data: ``uptime`` in seconds, ``models`` those in memory."""
    answers = True
    tasks: list[Any] = []
    models: list[Any] = []
    try:
        tasks = ask(server_info, "GET", "/tasks")
        models = ask(server_info, "GET", "/models")["models"]
    except ComposeError:
        answers = False
    shown = ("id", "source", "device", "precision", "state", "memory_bytes")
    return {
        "title": server_info.title,
        "document": server_info.document,
        "api": server_info.url,
        "page": server_info.webui,
        "pid": server_info.pid,
        "supervisor": server_info.supervisor,
        "uptime": round(time.time() - server_info.started, 1),
        "answers": answers,
        "runs": sum(each["status"] not in _ENDED for each in tasks),
        "models": [{key: each[key] for key in shown} for each in models],
        "log": server_info.log,
    }


def end(server_info: ServerInfo) -> None:
    """End what an `up` started, and wait until all of it has ended."""
    assert server_info.supervisor is not None
    found = find_process(server_info.supervisor)
    supervisor = [] if found is None else [found]
    processes = [*supervisor, *descendants(found)]
    try:
        ask(server_info, "POST", "/shutdown")
    except ComposeError:  # it hangs; its supervisor does not wait for ever
        terminate(supervisor)
    alive = wait_for_exit(processes, _END_SECONDS)
    terminate(alive)
    end_all(alive)
    server_info.withdraw()


def last_lines(path: Path, count: int) -> list[str]:
    """The last lines of a log. What was set aside is not among them."""
    with path.open(encoding="utf-8", errors="replace") as file:
        return [line.rstrip("\n") for line in deque(file, count)]


def follow_log(path: Path, count: int, goes_on: Callable[[], bool]) -> Iterator[str]:
    """The last lines of a log, and those that come while ``goes_on`` says that somebody writes it.
    The log may be set aside for a new one at any time."""
    file = path.open(encoding="utf-8", errors="replace")
    try:
        yield from (line.rstrip("\n") for line in deque(file, count))
        rest = ""
        while True:
            last, is_old = not goes_on(), _is_other(path, file.fileno())
            for line in file:
                rest += line
                if rest.endswith("\n"):
                    yield rest.rstrip("\n")
                    rest = ""
            if last:
                return
            if is_old:
                file.close()
                file = path.open(encoding="utf-8", errors="replace")
                continue
            time.sleep(_TICK)
    finally:
        file.close()


def _is_other(path: Path, descriptor: int) -> bool:
    """Whether another file is there now than the one that is open."""
    with contextlib.suppress(OSError):
        return not os.path.samestat(path.stat(), os.fstat(descriptor))
    return False
