"""Jupyter servers on the loopback, each a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import psutil

START_SECONDS = 60
STOP_SECONDS = 20


@dataclass
class Server:
    """A running server and the folder that it serves."""

    url: str
    folder: Path
    log: Path
    process: subprocess.Popen[bytes]

    def check(self) -> None:
        """Fail with the end of its log if it is no longer there."""
        if self.process.poll() is not None:
            end = self.log.read_text(encoding="utf-8", errors="replace")[-4000:]
            raise AssertionError(f"the server ended with status {self.process.returncode}:\n{end}")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def serve(
    command: Sequence[str], port: int, folder: Path, environment: Mapping[str, str]
) -> Iterator[Server]:
    """A server that works in ``folder`` and listens on ``port`` of 127.0.0.1.

    At the end it is stopped, and with it every process that it has started.
    """
    log = folder.with_suffix(".log")
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    server = Server(f"http://127.0.0.1:{port}", folder, log, process)
    try:
        _wait_until_it_listens(server, port)
        yield server
    finally:
        _stop(process)


def _wait_until_it_listens(server: Server, port: int) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        server.check()
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)


def _stop(process: subprocess.Popen[bytes]) -> None:
    """End a server; kernels that outlive it are ended too."""
    kernels = [] if process.poll() is not None else psutil.Process(process.pid).children(True)
    process.terminate()
    try:
        process.wait(STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    _, alive = psutil.wait_procs(kernels, timeout=0)
    for each in alive:
        each.kill()
    psutil.wait_procs(alive, timeout=STOP_SECONDS)
