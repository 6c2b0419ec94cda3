"""Cases that may fail, crash or hang: those of a part share a process, which is made anew then."""

from __future__ import annotations

import multiprocessing
import resource
import sys
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

from peers import weights
from peers.protocol import die_with_parent

Told = dict[str, Any]
"""What a case found: ``summary`` in one line; ``error`` and ``traceback`` where it failed."""

NO_TIME = "no time was left"
_LOOK_SECONDS = 0.2
_END_SECONDS = 5


@dataclass(frozen=True)
class Settings:
    """Where and on what.

    Attributes:
        tokens: at most so many a text; None is as each part has them.
        folder: of models.
    """

    shape: str
    precision: str
    device: str
    threads: int
    rounds: int
    tokens: int | None
    folder: Path

    @property
    def model(self) -> Path:
        return weights.folder_of(self.shape, self.precision, self.folder)


Run = Callable[[Settings, str, float], Told]
"""``run(settings, case, seconds)``: a function of a module, since another process calls it."""


@dataclass(frozen=True)
class Part:
    """Cases that run one after the other.

    Attributes:
        share: of the time that is left to it and those after it.
        longest: seconds of a case.
        needs_model: whether it takes the model of the shape that was chosen.
    """

    name: str
    cases: Callable[[Settings], Sequence[str]]
    run: Run
    share: float
    longest: float = float("inf")
    needs_model: bool = False


def run(part: Part, settings: Settings, seconds: float) -> dict[str, Told]:
    """Run the cases of a part within so many seconds; what each found."""
    until = time.monotonic() + seconds
    found: dict[str, Told] = {}
    worker: _Worker | None = None
    try:
        for case in part.cases(settings):
            left = min(until - time.monotonic(), part.longest)
            if left <= 0:
                found[case] = {"error": NO_TIME}
                continue
            worker = worker or _Worker(part, settings)
            began = time.monotonic()
            found[case] = worker.ask(case, left)
            found[case]["seconds"] = round(time.monotonic() - began, 2)
            if not worker.is_sound:
                worker.close()
                worker = None
    finally:
        if worker is not None:
            worker.close()
    return found


def failure(error: BaseException) -> Told:
    """What is told of an error."""
    line = " ".join(f"{type(error).__name__}: {error}".split())[:300]
    return {"error": line, "traceback": "".join(traceback.format_exception(error))}


class _Worker:
    """The process of a part, as the one that asks it sees it.

    Attributes:
        is_sound: whether it can be asked again.
    """

    def __init__(self, part: Part, settings: Settings) -> None:
        spawning = multiprocessing.get_context("spawn")  # a fork could not use the device
        self._connection, theirs = spawning.Pipe()
        self._process = spawning.Process(
            target=_serve, args=(part.run, settings, theirs), daemon=True
        )
        self._process.start()
        theirs.close()
        self.is_sound = True

    def ask(self, case: str, seconds: float) -> Told:
        """Run a case; an error where it does not end in time, or the process does."""
        answer: Told = {"error": f"no answer within {seconds:.0f} s"}
        try:
            self._connection.send((case, seconds))
            if self._connection.poll(seconds):
                answer, self.is_sound = self._connection.recv()
                return answer
        except (EOFError, ConnectionError):
            self._process.join()
            answer = {"error": f"its process ended with {self._process.exitcode}"}
        self.is_sound = False
        return answer

    def close(self) -> None:
        """End the process, and with it what it started."""
        self._connection.close()
        if self.is_sound:
            self._process.join(_END_SECONDS)
        self._process.kill()
        self._process.join()


def _serve(run: Run, settings: Settings, connection: Connection) -> None:
    """Run cases until nobody asks any more."""
    die_with_parent()
    while True:
        try:
            case, seconds = connection.recv()
        except EOFError:
            return
        try:
            told = run(settings, case, seconds)
        except Exception as error:
            told = failure(error)
        connection.send(({**_memory(), **told}, _works()))


def _works() -> bool:
    """Whether this process can still use the device; after some errors only another one can."""
    torch = sys.modules.get("torch")
    if torch is None or not torch.cuda.is_initialized():
        return True
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return False
    return True


def _memory() -> Told:
    """The most memory that this process has had: of its own, and of the device."""
    told = {"resident_bytes_at_most": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        told["device_bytes_at_most"] = torch.cuda.max_memory_reserved()
    return told


@contextmanager
def device_watched(device: str) -> Iterator[Callable[[], int]]:
    """Gives a function that tells the most bytes of the device that all processes had so far.

    Not for a process that records CUDA graphs: meanwhile no other thread of it may ask.
    """
    most = 0
    done = threading.Event()

    def watch() -> None:
        nonlocal most
        import torch

        while not done.wait(_LOOK_SECONDS):
            free, total = torch.cuda.mem_get_info()
            most = max(most, total - free)

    thread = threading.Thread(target=watch, daemon=True)
    if device == "cuda":
        thread.start()
    try:
        yield lambda: most
    finally:
        done.set()
        if device == "cuda":
            thread.join()
