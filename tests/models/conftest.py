"""Fixtures: tiny models on disk, a cache, and the few helpers that the tests share."""

from __future__ import annotations

import ctypes
import gc
import os
import sys
import time
import tracemalloc
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
sys.path.insert(0, str(Path(__file__).parents[2]))

import pytest
from standins import tiny_models

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.models import GenerationResult, Lease, ModelCache, ModelSpec, Prompt

WAIT = 60
Ask = Callable[..., GenerationResult]


def freeze() -> None:
    """Take what is there now out of the garbage collector's sight.

    Each load collects garbage twice, which goes through all objects of torch and transformers, and
    takes ten times as long as the rest of the load of a tiny model.
    """
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="module", autouse=True)
def frozen() -> None:
    """What was imported so far is frozen before a module's first test."""
    freeze()


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a tiny model by architecture, made when it is first asked for."""
    folders: dict[str, Path] = {}

    def folder_of(architecture: str) -> Path:
        if architecture not in folders:
            folder = tmp_path_factory.mktemp("models") / architecture
            folders[architecture] = tiny_models.save(folder, architecture)
            if len(folders) == 1:
                freeze()  # making it imported transformers
        return folders[architecture]

    return folder_of


@pytest.fixture
def cache() -> Iterator[ModelCache]:
    cache = ModelCache()
    yield cache
    cache.close()


@pytest.fixture(scope="module")
def lease_of(folder_of: Callable[[str], Path]) -> Iterator[Callable[[str], Lease]]:
    """A lease on a tiny model by architecture, shared by the tests of a module."""
    cache = ModelCache()

    def lease_of(architecture: str) -> Lease:
        return cache.acquire(ModelSpec(str(folder_of(architecture)))).result(WAIT)

    yield lease_of
    cache.close()


def done(future: Future[Any]) -> Any:
    """A future's result, with a bound on the wait."""
    return future.result(WAIT)


def ask(lease: Lease, prompt: Prompt = "Once upon a", **parameters: Any) -> GenerationResult:
    """One request, to its end: always the same, since a tiny model may end a text at any token."""
    on_text, extension = parameters.pop("on_text", None), parameters.pop("extension", None)
    if parameters.get("do_sample") is not False:
        parameters.setdefault("seed", 1)  # None draws one
    asked = GenerationParameters(**parameters)
    return lease.generate(prompt, asked, on_text, extension=extension).future.result(WAIT)


@contextmanager
def without_privileges() -> Iterator[None]:
    """Let permission bits bind root too, in this thread and those that it starts.

    Gives up, for a while, the capabilities that override them; nobody else has any.
    """
    if sys.platform != "linux":
        yield
        return
    libc = ctypes.CDLL(None, use_errno=True)
    header = (ctypes.c_uint32 * 2)(0x20080522, 0)
    before, without = (ctypes.c_uint32 * 6)(), (ctypes.c_uint32 * 6)()
    assert libc.capget(header, before) == 0
    without[:] = before[:]
    without[0] &= ~0b1111  # CHOWN, DAC_OVERRIDE, DAC_READ_SEARCH, FOWNER
    assert libc.capset(header, without) == 0
    try:
        yield
    finally:
        assert libc.capset(header, before) == 0


def eventually(condition: Callable[[], bool]) -> None:
    """Wait until something holds, with a bound."""
    end = time.monotonic() + WAIT
    while not condition():
        assert time.monotonic() < end, "it did not happen"
        time.sleep(0.01)


class Deltas:
    """Collects what is streamed, as a page that shows it would."""

    def __init__(self) -> None:
        self.texts: dict[int, str] = {}
        self.calls: list[tuple[int, int, str]] = []

    def __call__(self, sequence: int, offset: int, text: str) -> None:
        before = self.texts.get(sequence, "")
        assert offset == len(before)  # what was shown is never taken back
        self.texts[sequence] = before + text
        self.calls.append((sequence, offset, text))


def peak(action: Callable[[], object]) -> int:
    """The most bytes that something takes while it goes on."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
