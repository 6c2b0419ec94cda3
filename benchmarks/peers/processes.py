"""Peers as processes: their environments, what they are told, and that only one of them runs."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import threading
import time
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

import psutil

from .protocol import PeerSettings, Request

_HERE = Path(__file__).parent
_INSTALLED = "installed.txt"
_STOP_SECONDS = 5


@dataclass(frozen=True)
class Peer:
    """One way to generate text.

    Attributes:
        script: the folder with its ``peer.py``, and ``requirements.txt`` where it has an
            environment of its own; else it runs in that of this process.
        kind: ``engine`` takes the requests themselves, ``http`` serves them.
        ours: the peer of ours that it is compared with, which has weights of as many bits.
        options: what its script is told.
        build: environment variables for its installation.
    """

    name: str
    script: str
    title: str
    kind: Literal["engine", "http"] = "engine"
    ours: str = "ours"
    options: dict[str, Any] = field(default_factory=dict)
    build: dict[str, str] = field(default_factory=dict)


PEERS = {
    peer.name: peer
    for peer in (
        Peer("ours", "ours", "modelcompose-jupyter"),
        Peer(
            "ours-on-torch",
            "ours",
            "modelcompose-jupyter, without a C compiler",
            options={"native": False},
        ),
        *(
            Peer(
                f"ours-{bits}",
                "ours",
                f"modelcompose-jupyter, quantization: {bits}",
                options={"quantization": bits},
            )
            for bits in ("int8", "int4")
        ),
        *(
            Peer(
                f"llama.cpp-{type.lower()}",
                "llama_cpp",
                f"llama.cpp, {type}",
                ours=f"ours-{bits}",
                options={"quantization": type},
                build={"CMAKE_ARGS": "-DGGML_NATIVE=ON"},
            )
            for type, bits in (("Q8_0", "int8"), ("Q4_K_M", "int4"), ("Q4_0", "int4"))
        ),
        *(
            Peer(
                f"openvino-{bits}",
                "openvino",
                f"OpenVINO GenAI ContinuousBatchingPipeline, weights in {bits}",
                ours=f"ours-{bits}",
                options={"pipeline": "continuous-batching", "quantization": bits},
            )
            for bits in ("int8", "int4")
        ),
        Peer("generate", "generate", "transformers generate(), one by one"),
        Peer("static-batch", "static_batch", "transformers generate(), what waits as one batch"),
        Peer("continuous-batching", "continuous_batching", "transformers continuous batching"),
        Peer("openvino", "openvino", "OpenVINO GenAI LLMPipeline", options={"pipeline": "llm"}),
        Peer(
            "openvino-cb",
            "openvino",
            "OpenVINO GenAI ContinuousBatchingPipeline",
            options={"pipeline": "continuous-batching"},
        ),
        Peer(
            "llama.cpp",
            "llama_cpp",
            "llama.cpp, slots as its server has them",
            build={"CMAKE_ARGS": "-DGGML_NATIVE=ON"},
        ),
        Peer(
            "ours-http", "ours_http", "modelcompose-jupyter, run API", kind="http", ours="ours-http"
        ),
        Peer("model-compose", "model_compose", "model-compose", kind="http", ours="ours-http"),
        Peer(
            "model-compose-serial",
            "model_compose",
            "model-compose, max_concurrent_count: 1",
            kind="http",
            ours="ours-http",
            options={"max_concurrent_count": 1},
        ),
    )
}
USUAL_PEERS = [name for name, peer in PEERS.items() if "quantization" not in peer.options]
"""Those that are asked unless others are named: all but those with weights in fewer bits."""


class PeerError(Exception):
    """A peer cannot be installed, does not load, or failed; says why."""


def environment(peer: Peer, venvs: Path) -> Path:
    """The Python of a peer, whose environment is made if it is not there or has other pins.

    Raises:
        PeerError: it cannot be installed.
    """
    wanted = _HERE / peer.script / "requirements.txt"
    if not wanted.exists():
        return Path(sys.executable)
    folder = venvs / peer.script
    python, installed = folder / "bin" / "python", folder / _INSTALLED
    pins = wanted.read_text("utf-8")
    if not installed.exists() or installed.read_text("utf-8") != pins:
        _install([sys.executable, "-m", "venv", "--clear", str(folder)], {})
        # The list is complete: resolving it again could bring wheels for other hardware.
        pip = [str(python), "-m", "pip", "install", "--quiet", "--no-deps", "-r", str(wanted)]
        _install(pip, peer.build)
        installed.write_text(pins, "utf-8")
    return python


def _install(command: list[str], variables: dict[str, str]) -> None:
    done = subprocess.run(
        command, env={**os.environ, **variables}, capture_output=True, text=True, check=False
    )
    if done.returncode:
        lines = [line for line in done.stderr.splitlines() if "ERROR" in line or "error" in line]
        raise PeerError(f"not installed: {' '.join(' '.join(lines[:2]).split())[:300]}")


class PeerProcess:
    """A peer that runs, and is stopped by the system while it is not asked anything.

    A stopped process does not spin, poll or answer: nothing of it disturbs the others.

    Args:
        patience: seconds that it may take to load, or to answer. It is ended where it takes longer.

    Raises:
        PeerError: it does not load.
    """

    def __init__(
        self, peer: Peer, python: Path, settings: PeerSettings, patience: float = 1800
    ) -> None:
        settings.cache.mkdir(parents=True, exist_ok=True)
        self.peer = peer
        self._patience = patience
        self._log = settings.cache / f"{peer.name}.log"
        with self._log.open("w", encoding="utf-8") as log:
            self._process = subprocess.Popen(
                [str(python), str(_HERE / peer.script / "peer.py")],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                encoding="utf-8",
                env=_variables(settings.threads),
                start_new_session=True,
            )
        self._answers: queue.SimpleQueue[str] = queue.SimpleQueue()
        threading.Thread(target=self._read, daemon=True).start()
        paths = {"folder": str(settings.folder), "cache": str(settings.cache)}
        try:
            told = {"do": "load", "settings": {**asdict(settings), **paths}}
            self.facts: dict[str, Any] = self._ask(told)
        except BaseException:
            self.close()
            raise
        self.pause()

    def run(self, requests: list[Request]) -> dict[str, Any]:
        """Carry out requests; returns ``requests``, a record for each, and ``counters``.

        Raises:
            PeerError: it failed, or took too long.
        """
        return self._awake({"do": "run", "requests": [asdict(request) for request in requests]})

    def settle(self) -> None:
        """Have it choose by trials again: what else the machine does has changed."""
        self._awake({"do": "settle"})

    def _awake(self, message: dict[str, Any]) -> dict[str, Any]:
        self.resume()
        try:
            return self._ask(message)
        finally:
            self.pause()

    def pause(self) -> None:
        """Stop the process and all that it started; returns when they stand still."""
        tree = self._tree()
        for process in tree:
            process.suspend()
        until = time.monotonic() + _STOP_SECONDS
        while any(_moves(process) for process in tree) and time.monotonic() < until:
            time.sleep(0.001)

    def resume(self) -> None:
        """Let them run again."""
        for process in reversed(self._tree()):
            process.resume()

    def close(self) -> None:
        """End the process and all that it started."""
        tree = self._tree()
        for process in tree:
            process.kill()
        psutil.wait_procs(tree, timeout=30)
        self._process.wait()

    def _tree(self) -> list[psutil.Process]:
        try:
            parent = psutil.Process(self._process.pid)
            return [parent, *parent.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def _read(self) -> None:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            self._answers.put(line)
        self._answers.put("")

    def _ask(self, message: dict[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        try:
            self._process.stdin.write(json.dumps(message) + "\n")
            self._process.stdin.flush()
            line = self._answers.get(timeout=self._patience)
        except queue.Empty:
            self.close()  # or its answer to this would be taken for one to the next
            raise PeerError(f"no answer within {self._patience:.0f} s") from None
        except BrokenPipeError:
            line = ""
        if not line:
            raise PeerError(f"ended: {last_words(self._log.read_text('utf-8', errors='replace'))}")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerError(answer["error"])
        return dict(answer["ok"])


def last_words(log: str) -> str:
    """The last line of what a process printed that is not empty."""
    lines = log.split("\n")
    return next((line for line in reversed(lines) if line.strip()), "without a word")[:300]


def _moves(process: psutil.Process) -> bool:
    try:
        return bool(process.status() not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE))
    except psutil.NoSuchProcess:
        return False


def _variables(threads: int) -> dict[str, str]:
    return {
        **os.environ,
        # The package is that of this checkout, also where another one is installed.
        "PYTHONPATH": os.pathsep.join([str(_HERE.parent), str(_HERE.parent.parent)]),
        "OMP_NUM_THREADS": str(threads),
        "HF_HUB_OFFLINE": "1",
        "TOKENIZERS_PARALLELISM": "false",
    }
