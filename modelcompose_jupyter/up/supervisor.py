"""What is behind `up`: starts host and page, and ends both whatever ends first."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import queue
import shutil
import signal
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import FrameType
from typing import Any

from ..errors import ComposeError
from ..host_selection import HOST_VARIABLE
from ..private_files import make_folder
from ..processes import descendants, end_all, find_process
from ..ray.cluster_folder import folder_of
from ..ray.ingress import serve_ingress
from ..server.access import TOKEN_VARIABLE
from ..server.api_client import answers, ask
from ..server.server_info import ServerInfo, read
from ..server.serving_kernel import dedicated_kernel_arguments, serve_dedicated
from .child import Child, Sink
from .launch_config import LaunchConfig

_TICK = 0.1
_START_SECONDS = 120.0
_CLUSTER_SECONDS = 900.0  # in which a cluster may get nodes
_HOST_SECONDS = 25.0  # for a load that is deep in a library, say
_PAGE_SECONDS = 5.0


class Supervisor:
    """Starts what a launch configuration says, and ends all of it. One use, on the main thread.

    Args:
        config: what to start.
        sink: takes the lines of the log.
        log: where these are kept, if they are.
    """

    def __init__(self, config: LaunchConfig, sink: Sink, log: Path | None = None) -> None:
        self._config = config
        self._sink = sink
        self._log = log
        self._host: Child | None = None
        self._page: Child | None = None
        self._signals: queue.SimpleQueue[int] = queue.SimpleQueue()
        self._ending = False

    def run(self, on_ready: Callable[[ServerInfo], None] | None = None) -> int:
        """Start all, and look after it to its end.

        Args:
            on_ready: is called once everything answers.

        Returns:
            The exit status: 0 where the host was asked to end, 128 and the signal after one.

        Raises:
            ComposeError: a process ended that should not, or does not get ready. All has ended.
        """
        with self._listening():
            try:
                self._start()
                return self._look_after(on_ready)
            finally:
                self._ending = True
                self._end()

    def _look_after(self, on_ready: Callable[[ServerInfo], None] | None) -> int:
        seconds = _START_SECONDS if self._config.ray is None else _CLUSTER_SECONDS
        deadline = time.monotonic() + seconds
        ready = False
        while True:
            with contextlib.suppress(queue.Empty):
                return 128 + self._signals.get(timeout=_TICK)
            for child in self._children:
                status = child.process.poll()
                if status is None:
                    continue
                if ready and child is self._host and status == 0:
                    return 0  # it was asked to
                raise child.failure()
            if ready:
                continue
            server_info = read(self._config.server_info_path)
            if server_info is not None and is_ready(server_info):
                ready = True
                if on_ready is not None:
                    on_ready(server_info)
            elif time.monotonic() > deadline:
                raise ComposeError(f"nothing answers after {seconds:.0f} seconds", code="not_ready")

    # Children

    @property
    def _children(self) -> list[Child]:
        return [each for each in (self._host, self._page) if each is not None]

    def _start(self) -> None:
        config = self._config
        options = {
            "path": config.document,
            "address": config.api.host,
            "port": config.api.port,
            "base_path": config.base_path,
            "limits": dict(config.limits),
            "on_jupyterhub": config.on_jupyterhub,
            "user_documents": config.user_documents,
            "parent": os.getpid(),
            "log_level": config.log_level,
            "log_prompts": config.log_prompts,
            "id": config.id,
            "supervisor": os.getpid(),
            "webui": config.page_url,
            "log": str(self._log) if self._log else None,
        }
        make_folder(config.connection_file.parent)
        kernel = [
            *(sys.executable, "-m", "ipykernel_launcher", "-f", str(config.connection_file)),
            *_kernel_arguments(config, options),
        ]
        self._host = Child("host", kernel, _environment(config.token), self._sink)
        if config.page is None:
            return
        page = [
            *(sys.executable, "-m", "modelcompose_jupyter.dashboard", config.document),
            *(f"--ip={config.page.host}", f"--port={config.page.port}", f"--parent={os.getpid()}"),
        ]
        environment = _environment(config.page_token)
        environment[HOST_VARIABLE] = str(config.server_info_path)
        self._page = Child("page", page, environment, self._hand_on_page)

    def _hand_on_page(self, line: str) -> None:
        if not line.startswith("page: "):  # where it is, which is said once all is ready
            self._sink(line)

    def _end(self) -> None:
        processes = [find_process(child.process.pid) for child in self._children]
        started = [each for process in processes for each in descendants(process)]
        for child in self._children:
            child.is_asked_to_end = True
        if self._page is not None:
            self._page.process.terminate()
        if self._host is not None:
            self._ask_to_end(self._host)
        if self._page is not None:
            self._page.end(_PAGE_SECONDS)
        if self._host is not None:
            self._host.end(_HOST_SECONDS)
        end_all(started)
        if self._config.ray is not None:
            shutil.rmtree(folder_of(self._config.id), ignore_errors=True)
        for path in (self._config.server_info_path, self._config.connection_file):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)

    def _ask_to_end(self, host: Child) -> None:
        """Let the host end its runs and withdraw its file; before it serves there are none."""
        server_info = read(self._config.server_info_path)
        if host.process.poll() is None and server_info is not None:
            with contextlib.suppress(ComposeError):
                ask(server_info, "POST", "/shutdown")
                return
        host.process.terminate()

    # Signals

    @contextlib.contextmanager
    def _listening(self) -> Iterator[None]:
        """Take the signals that end a program; those that are ignored on purpose stay ignored."""
        names = ("SIGINT", "SIGTERM", "SIGHUP", "SIGBREAK")
        numbers = [getattr(signal, name) for name in names if hasattr(signal, name)]
        before = {each: signal.getsignal(each) for each in numbers}
        for number, handler in before.items():
            if handler is not signal.SIG_IGN:
                signal.signal(number, self._on_signal)
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def _on_signal(self, number: int, _: FrameType | None) -> None:
        if self._ending or not self._signals.empty():  # again: whoever sends it will not wait
            for child in self._children:
                child.process.kill()
        self._signals.put(number)  # which may be done in a signal's handler


def _kernel_arguments(config: LaunchConfig, options: dict[str, Any]) -> list[str]:
    """What makes a kernel serve: on a host of its own, or in front of a cluster's replicas."""
    if config.ray is None:
        return dedicated_kernel_arguments(serve_dedicated, **options)
    runtime = dataclasses.asdict(config.ray)
    return dedicated_kernel_arguments(
        serve_ingress, runtime=runtime, application=config.application, **options
    )


def is_ready(server_info: ServerInfo) -> bool:
    """Whether the host takes requests and its page, if it has one, answers."""
    if server_info.webui is not None and not answers(server_info.webui):
        return False
    try:
        ask(server_info, "GET", "/health")
    except ComposeError:
        return False
    return True


def _environment(token: str | None) -> dict[str, str]:
    """This process's environment, less what concerns other hosts and kernels."""
    own = (HOST_VARIABLE, TOKEN_VARIABLE, "JPY_PARENT_PID", "JPY_INTERRUPT_EVENT")
    environment = {key: value for key, value in os.environ.items() if key not in own}
    return environment if token is None else {**environment, TOKEN_VARIABLE: token}
