"""One call of a function, on a thread of its own, so that it blocks nobody.

The thread ``modelcompose-tool`` belongs to a FunctionCall, and ends with the function.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from .function_tool import FunctionTool

TOOL_THREAD_NAME = "modelcompose-tool"


class FunctionCall:
    """A call that has begun.

    Attributes:
        future: ends with what the function gives; of an async one, with what that comes to.
    """

    def __init__(self, tool: FunctionTool, arguments: Mapping[str, Any]) -> None:
        self.future: Future[Any] = Future()
        self.future.set_running_or_notify_cancel()
        self._tool = tool
        self._arguments = arguments
        self._lock = threading.Lock()
        self._is_given_up = False
        self._awaited: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None
        threading.Thread(target=self._main, name=TOOL_THREAD_NAME, daemon=True).start()

    def give_up(self) -> None:
        """Want no result any more. What is async is cancelled; any other function goes on, since
        nothing can stop it."""
        with self._lock:
            self._is_given_up = True
            awaited = self._awaited
        if awaited is not None:
            loop, task = awaited
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(task.cancel)

    def _main(self) -> None:
        try:
            value = self._tool(self._arguments)
            if inspect.isawaitable(value):
                value = asyncio.run(self._await(value))
        except BaseException as error:  # sys.exit() of a function is its error, too
            self.future.set_exception(error)
        else:
            self.future.set_result(value)

    async def _await(self, value: Any) -> Any:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            self._awaited = (asyncio.get_running_loop(), task)
            if self._is_given_up:
                task.cancel()
        return await value
