"""A peer that serves over HTTP, and its clients: a thread for each request."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request
from abc import abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from peers.protocol import CallingEngine, PeerSettings, Request, Timeline, die_with_parent

_START_SECONDS = 300
_RUN_SECONDS = 1800
_DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class HttpEngine(CallingEngine):
    """Serves a document with a command; each request is a run that is waited for."""

    @abstractmethod
    def document(self, settings: PeerSettings, port: int) -> dict[str, Any]:
        """What is served, with the API at ``/api`` of that port."""

    @abstractmethod
    def command(self, file: Path, port: int) -> Sequence[str]: ...

    @abstractmethod
    def environment(self, settings: PeerSettings) -> dict[str, str]: ...

    def start(self, settings: PeerSettings) -> None:
        """Start the server, and wait until it answers.

        Raises:
            RuntimeError: it ended, or did not answer in time.
        """
        port = _free_port()
        file = settings.cache / "model-compose.yml"
        file.write_text(json.dumps(self.document(settings, port)), "utf-8")  # JSON is YAML
        self._url = f"http://127.0.0.1:{port}/api"
        server = subprocess.Popen(
            self.command(file, port),
            cwd=settings.cache,
            env=self.environment(settings),
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            preexec_fn=die_with_parent,
        )
        until = time.monotonic() + _START_SECONDS
        while not self._healthy():
            if server.poll() is not None:
                raise RuntimeError(f"the server ended with status {server.returncode}")
            if time.monotonic() > until:
                raise RuntimeError(f"the server did not answer within {_START_SECONDS} s")
            time.sleep(0.2)

    def submit(self, number: int, request: Request, timeline: Timeline) -> None:
        threading.Thread(target=self._ask, args=(number, request, timeline), daemon=True).start()

    def _ask(self, number: int, request: Request, timeline: Timeline) -> None:
        try:
            answer = self._post({"prompt": request.text, "tokens": request.tokens})
            if answer.get("status") != "completed":
                raise RuntimeError(str(answer.get("error"))[:300])
            usage = answer.get("usage") or {}
            timeline.token(number)
            timeline.end(number, usage.get("generated", request.tokens))
        except Exception as error:
            timeline.fail(error)

    def _post(self, input: dict[str, Any]) -> dict[str, Any]:
        asked = urllib.request.Request(
            f"{self._url}/workflows/runs",
            json.dumps({"input": input}).encode(),
            {"Content-Type": "application/json"},
        )
        try:
            with _DIRECT.open(asked, timeout=_RUN_SECONDS) as answer:
                return dict(json.load(answer))
        except urllib.error.HTTPError as error:
            raise RuntimeError(error.read().decode(errors="replace")[:300]) from None

    def _healthy(self) -> bool:
        try:
            with _DIRECT.open(f"{self._url}/health", timeout=5) as answer:
                return bool(answer.status == 200)
        except (urllib.error.URLError, OSError):
            return False


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])
