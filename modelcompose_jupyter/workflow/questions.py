"""The questions of a run to a person, until they are answered."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import ComposeError, Where
from ..formatting import duration
from .answers import check_choice, not_open
from .run import Run

UNANSWERED = "unanswered"
"""The code of the error where nobody has answered in time."""


@dataclass(frozen=True)
class _Open:
    """A question that waits: its data, and what its answer is told to, on a loop."""

    run: Run
    data: Mapping[str, Any]
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop


class Questions:
    """The open questions of one run.

    They are asked on the loop that drives it, and answered from any thread.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._open: dict[str, _Open] = {}
        self._named_so: Counter[str] = Counter()

    async def ask(
        self, run: Run, name: str, asked: Mapping[str, Any], seconds: float, where: Where | None
    ) -> Any:
        """Ask, and wait for the answer; None is to go on as it is.

        Args:
            name: what the question is called, with a number behind it where one was so already.
            asked: its data, without what is told here: see `events.QuestionData`.
            seconds: how long it waits.
            where: the place in the document that says so.

        Raises:
            ComposeError: nobody has answered in that time (``unanswered``).
        """
        id = self._named(name)
        loop = asyncio.get_running_loop()
        data = {"id": id, **asked, "until": time.time() + seconds}
        question = _Open(run, data, loop.create_future(), loop)
        with self._lock:
            self._open[id] = question
        run.add("question", {**question.data, "state": "open"})
        try:
            await asyncio.wait({question.future}, timeout=seconds)
            if not question.future.done() and self._close(id):
                run.add("question", {**question.data, "state": "expired"})
                raise ComposeError(
                    f"nobody has answered within {duration(seconds)}",
                    hint="Raise the interrupt's 'timeout', or say with 'on_error' what becomes of"
                    " the job then.",
                    code=UNANSWERED,
                    where=where,
                )
            return await question.future
        except asyncio.CancelledError:
            if self._close(id):
                run.add("question", {**question.data, "state": "withdrawn"})
            raise

    def _named(self, name: str) -> str:
        self._named_so[name] += 1
        number = self._named_so[name]
        return name if number == 1 else f"{name}#{number}"

    def answer(self, id: str, value: Any) -> None:
        """Answer an open question; None is to go on as it is. Any thread.

        Raises:
            InputError: it is open no more (``already_answered``), or the answer is none of its
                choices (``not_a_choice``).
        """
        with self._lock:
            question = self._open.get(id)
            if question is None:
                raise not_open(id)
            check_choice(question.data, value)
            del self._open[id]
        question.run.add("question", {**question.data, "state": "answered", "answer": value})
        with contextlib.suppress(RuntimeError):  # the loop has ended, and with it the run
            question.loop.call_soon_threadsafe(_tell, question.future, value)

    def _close(self, id: str) -> bool:
        """Take a question from those that wait; whether it was one of them."""
        with self._lock:
            return self._open.pop(id, None) is not None


def _tell(future: asyncio.Future[Any], value: Any) -> None:
    if not future.done():
        future.set_result(value)
