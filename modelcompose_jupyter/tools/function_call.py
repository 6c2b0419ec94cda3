"""One call of a function, on a thread of its own, so that it blocks nobody.

The thread ``modelcompose-function`` belongs to a FunctionCall, and ends with the function.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from ..errors import ComposeError

FUNCTION_THREAD_NAME = "modelcompose-function"

Called = Callable[[Mapping[str, Any]], Any]
"""What calls a function with arguments by name: a `FunctionTool`, a `FunctionStep`."""


@dataclass(frozen=True)
class Outcome:
    """How a call has ended: with a value, or with an error, which a function's exit is, too.

    ``has_returned`` tells that the error is in reading what the function gave.
    """

    value: Any = None
    error: BaseException | None = None
    has_returned: bool = False


MAX_FUNCTIONS = 500
"""Functions that run at a time in this process. One that cannot be stopped goes on when nobody
waits for it any more, so that who begins and stops runs could have any number of them."""
_running = threading.BoundedSemaphore(MAX_FUNCTIONS)


class FunctionCall:
    """A call that has begun.

    Args:
        read: makes the outcome's value of what the function gives; of a generator that is all that
            it gave: one text where it gave nothing but texts, else a list. On the function's
            thread, since a value may be large, and has code of the user's.
        on_text: gets each text that a generator gives, while it has given nothing else; on the
            function's thread.

    Attributes:
        future: ends with the `Outcome`; of an async function, when that has come to one.

    Raises:
        ComposeError: `MAX_FUNCTIONS` run already (``busy``).
    """

    def __init__(
        self,
        function: Called,
        arguments: Mapping[str, Any],
        read: Callable[[Any], Any],
        on_text: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.future: Future[Outcome] = Future()
        self.future.set_running_or_notify_cancel()
        self._function = function
        self._arguments = arguments
        self._read = read
        self._on_text = on_text
        self._lock = threading.Lock()
        self._is_given_up = False
        self._is_stoppable = False
        self._awaited: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        if not _running.acquire(blocking=False):
            raise ComposeError(
                f"{MAX_FUNCTIONS} functions run already, and no more may at a time",
                hint="Try again when some have ended; those that cannot be stopped end with the"
                " process.",
                code="busy",
            )
        threading.Thread(target=self._main, name=FUNCTION_THREAD_NAME, daemon=True).start()

    def give_up(self) -> bool:
        """Want no result any more; whether it can be stopped. What is async is cancelled, and a
        generator ends where it gives the next thing; any other function goes on, since nothing can
        stop it."""
        with self._lock:
            self._is_given_up = True
            awaited, is_stoppable = self._awaited, self._is_stoppable
        if awaited is not None:
            loop, task = awaited
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(task.cancel)
        return is_stoppable

    def _main(self) -> None:
        has_returned = False
        try:
            value = self._value(self._function(self._arguments))
            has_returned = True
            outcome = Outcome(self._read(value))
        except BaseException as error:  # sys.exit() of a function is its error, too
            outcome = Outcome(error=error, has_returned=has_returned)
        finally:
            _running.release()
        self.future.set_result(outcome)

    def _value(self, given: Any) -> Any:
        if inspect.isgenerator(given):
            self._is_stoppable = True
            return self._collected(given)
        if inspect.isasyncgen(given) or inspect.isawaitable(given):
            self._is_stoppable = True
            return asyncio.run(self._await(given))
        return given

    async def _await(self, given: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            self._awaited = (asyncio.get_running_loop(), task)
            if self._is_given_up:
                task.cancel()
        if inspect.isasyncgen(given):
            return await self._collected_async(given)
        return await given

    def _collected(self, pieces: Iterator[Any]) -> Any:
        found = _Pieces(self._on_text)
        with contextlib.closing(pieces):  # type: ignore[type-var]
            for piece in pieces:
                if self._is_given_up:
                    break
                found.add(piece)
        return found.value

    async def _collected_async(self, pieces: AsyncIterator[Any]) -> Any:
        found = _Pieces(self._on_text)
        async with contextlib.aclosing(pieces):  # type: ignore[type-var]
            async for piece in pieces:
                found.add(piece)
        return found.value


class _Pieces:
    """What a generator has given so far."""

    def __init__(self, on_text: Callable[[str], None]) -> None:
        self._on_text = on_text
        self._pieces: list[Any] = []
        self._are_texts = True

    def add(self, piece: Any) -> None:
        self._pieces.append(piece)
        self._are_texts = self._are_texts and isinstance(piece, str)
        if self._are_texts and piece:
            self._on_text(piece)

    @property
    def value(self) -> Any:
        is_text = self._are_texts and bool(self._pieces)
        return "".join(self._pieces) if is_text else self._pieces
