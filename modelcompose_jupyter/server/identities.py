"""Whose a token is, where others know: their answers are kept for a while.

Used on the server's loop alone.
"""

from __future__ import annotations

import asyncio
import hashlib
import time
from collections import OrderedDict
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Any

from ..errors import ComposeError
from ..redaction import get_logger
from .access import Caller

FRESH_SECONDS = 60.0
"""For which an answer is taken without asking again: so long may who is let in no more come in."""
KNOWN_SECONDS = 900.0
"""For which an answer holds where nobody answers any more."""
_REFUSED_SECONDS = 5.0  # for which nobody is asked again of a token that was nobody's
_KEPT = 10_000
ASKED_AT_ONCE = 20
"""Tokens."""

log = get_logger(__name__)


class Unanswered(Exception):
    """Who should know does not answer now."""


class RememberedIdentities:
    """`Identities` that asks somebody else of each token, now and then.

    Who is known comes in though nobody answers for some minutes; who is not has to wait.

    Args:
        ask: says whose a token is, or None; raises `Unanswered`.
    """

    def __init__(self, ask: Callable[[str], Coroutine[Any, Any, Caller | None]]) -> None:
        self._ask = ask
        self._known: OrderedDict[bytes, tuple[Caller | None, float]] = OrderedDict()
        self._asking: dict[bytes, asyncio.Task[Caller | None]] = {}
        self._room = asyncio.Semaphore(ASKED_AT_ONCE)

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is; None where it is nobody's who may come in.

        Raises:
            ComposeError: nobody can say so now (``overloaded``).
        """
        key = hashlib.sha256(token.encode("utf-8", "replace")).digest()
        found, since = self._known.get(key, (None, 0.0))
        age = time.monotonic() - since
        if since and age < (_REFUSED_SECONDS if found is None else FRESH_SECONDS):
            return found
        asking = self._asking.get(key)
        if asking is None:  # however many come with it at once, it is asked of once
            asking = self._asking[key] = asyncio.create_task(self._look_up(key, token))
            asking.add_done_callback(partial(self._answered, key))
        try:
            return await asyncio.shield(asking)
        except Unanswered as error:
            if found is not None and age < KNOWN_SECONDS:
                return found
            raise ComposeError(
                f"who you are cannot be said now: {error}",
                hint="Try again in a moment.",
                code="overloaded",
                retry_after=2.0,
            ) from None

    def _answered(self, key: bytes, asking: asyncio.Task[Caller | None]) -> None:
        del self._asking[key]
        if not asking.cancelled():
            asking.exception()  # those who asked may have gone

    async def _look_up(self, key: bytes, token: str) -> Caller | None:
        async with self._room:
            try:
                found = await self._ask(token)
            except Unanswered as error:
                log.warning("who a caller is cannot be asked: %s", error)
                raise
        self._known[key] = (found, time.monotonic())
        self._known.move_to_end(key)
        while len(self._known) > _KEPT:
            self._known.popitem(last=False)
        return found
