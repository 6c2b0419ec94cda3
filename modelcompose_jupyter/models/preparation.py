"""Having what a load will need before anybody waits for it: modules, and kernels that are compiled.

Nothing is loaded or fetched, and what is wrong with a model is left to its load.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace

from ..redaction import get_logger
from .spec import LoadProgress, ModelSpec

PREPARE_THREAD_NAME = "modelcompose-prepare"
_NICE = 5  # of 19: cells that run meanwhile go first, and a run that waits for it is not starved

_log = get_logger(__name__)


def prepare(specs: Iterable[ModelSpec]) -> None:
    """Import and compile what models that are on this disk will need, on the caller's thread.

    torch is imported where one of them is left to it.
    """
    if sys.platform == "linux":  # where a thread has a priority of its own
        with suppress(OSError):
            os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), _NICE)
    for spec in specs:
        try:
            if not spec.trust_remote_code:  # which is run with a load, and not before
                _prepare(_on_this_disk(spec))
        except Exception as error:
            _log.debug("%s was not prepared: %s", spec.source, error)


def _prepare(spec: ModelSpec) -> None:
    from .engine import scheduler  # noqa: F401 - what it imports
    from .weights import loader, source

    def ignore(_: LoadProgress) -> None:
        pass

    loader.plan(spec, source.resolve(spec, ignore), ignore)


def _on_this_disk(spec: ModelSpec) -> ModelSpec:
    """A model, and its adapters, without the network."""
    adapters = tuple(
        replace(each, model=replace(each.model, local_files_only=True)) for each in spec.adapters
    )
    return replace(spec, local_files_only=True, adapters=adapters)
