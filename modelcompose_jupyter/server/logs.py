"""Structured logs: one JSON object a line, of the server, its requests and the host's runs.

They go through `logging`, under the name ``modelcompose_jupyter.server``. What was asked and what
was answered is not in them, unless `configure` is told so; tokens never are.
"""

from __future__ import annotations

import json
import logging
import os
import time
from collections.abc import Callable
from logging.handlers import WatchedFileHandler
from pathlib import Path
from typing import IO, Any

from ..errors import UsageError
from ..redaction import get_logger
from ..workflow import Run, State
from .observer import Observer, RequestRecord

_ROOT = "modelcompose_jupyter"
log = get_logger(f"{_ROOT}.server")


class JsonFormatter(logging.Formatter):
    """A record as one line of JSON: time, level, logger, event, and the event's facts.

    Line breaks of every kind are escaped, so no value can pass for a line of its own. The facts
    come from ``extra={"facts": {…}}``.
    """

    # UTC, to the millisecond: 2026-01-31T23:59:59.123Z.
    converter = staticmethod(time.gmtime)
    default_time_format = "%Y-%m-%dT%H:%M:%S"
    default_msec_format = "%s.%03dZ"

    def format(self, record: logging.LogRecord) -> str:
        data: dict[str, Any] = {
            "time": self.formatTime(record),
            "level": record.levelname.lower(),
            "logger": record.name,
            "event": record.getMessage(),
            **getattr(record, "facts", {}),
        }
        if record.exc_text:  # made, and redacted, by the logger
            data["traceback"] = record.exc_text
        return json.dumps(data, default=str)


class _Options:
    log_prompts = False


def configure(
    destination: IO[str] | str | os.PathLike[str] | None = None,
    level: int | str = logging.INFO,
    log_prompts: bool = False,
) -> Callable[[], None]:
    """Write the package's log as lines of JSON, warnings of all its parts included.

    Args:
        destination: a stream, or a file that is added to; a new one is its owner's alone. None is
            standard error.
        level: the least that is written, such as ``"WARNING"``.
        log_prompts: whether what runs were given and gave is written too.

    Returns:
        How to undo it.

    Raises:
        UsageError: the file cannot be written.
    """
    handler: logging.StreamHandler[Any]
    if isinstance(destination, str | os.PathLike):
        path = Path(destination)
        try:
            os.close(os.open(path, os.O_CREAT | os.O_APPEND | os.O_WRONLY, 0o600))
        except OSError as error:
            raise UsageError(f"the log {path} cannot be written: {error.strerror}") from None
        handler = WatchedFileHandler(path, encoding="utf-8")
    else:
        handler = logging.StreamHandler(destination)
    handler.setFormatter(JsonFormatter())
    handler.setLevel(level)
    logger = logging.getLogger(_ROOT)
    level_before, prompts_before = logger.level, _Options.log_prompts
    logger.addHandler(handler)
    logger.setLevel(handler.level)
    _Options.log_prompts = log_prompts

    def undo() -> None:
        logger.removeHandler(handler)
        logger.setLevel(level_before)
        _Options.log_prompts = prompts_before
        if isinstance(handler, logging.FileHandler):
            handler.close()

    return undo


def log_event(event: str, level: int = logging.INFO, **facts: Any) -> None:
    """Log an event with its facts; those that are None are left out."""
    if log.isEnabledFor(level):
        given = {name: value for name, value in facts.items() if value is not None}
        log.log(level, event, extra={"facts": given})


class Logger(Observer):
    """Logs what it is told."""

    def run_began(self, run: Run) -> None:
        prompts = run.input if _Options.log_prompts else None
        log_event("run began", run=run.id, workflow=run.workflow, input=prompts)

    def run_ended(self, run: Run, seconds: float) -> None:
        log_event(
            "run ended",
            logging.WARNING if run.state is State.FAILED else logging.INFO,
            run=run.id,
            workflow=run.workflow,
            state=str(run.state),
            finish_reason=run.finish_reason,
            tokens=run.usage,
            seconds=round(seconds, 3),
            error=run.error.code if run.error is not None else None,
            warnings=len(run.warnings) or None,
            text=run.text if _Options.log_prompts else None,
        )

    def request_ended(self, record: RequestRecord) -> None:
        log_event(
            "request",
            method=record.method,
            route=record.route,
            status=record.status,
            left=record.disconnected or None,
            ms=round(record.seconds * 1000, 1),
            caller=record.caller.kind,
            user=record.caller.user,
            run=record.run_id,
        )
