"""What each user of a host may take, so that who asks for much keeps nobody from theirs.

Users are those who ask from elsewhere and whom the host is told by name. Any thread; turns are
taken on the host's event loop.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Mapping

from .errors import ComposeError
from .workflow import Run
from .workflow.concurrency_limiter import ConcurrencyLimiter, QueueProgress

_MINUTE = 60.0
_SOON_SECONDS = 1.0  # after which who has too many runs may try again


class UserLimits:
    """The books of what users take, and what bounds it. None bounds nothing.

    Attributes:
        max_running: runs of one user at a time; others of theirs wait for these.
        max_runs: runs of one user that have not ended, those that wait included.
        tokens_per_minute: of one user, those of prompts and of given texts that had to be read, and
            those generated. Whoever has one left may begin a run, and what it takes beyond is
            taken from the minutes that follow.
    """

    def __init__(self) -> None:
        self.max_running: int | None = None
        self.max_runs: int | None = None
        self.tokens_per_minute: int | None = None
        self._lock = threading.Lock()
        self._accounts: dict[str, _Account] = {}

    def begin(self, user: str) -> None:
        """Note that a run of a user is about to begin; `end` follows.

        Raises:
            ComposeError: it may not, now: ``busy``, and when it may be tried again.
        """
        with self._lock:
            account = self._accounts.get(user) or _Account()
            if self.max_runs is not None and account.runs >= self.max_runs:
                raise ComposeError(
                    f"{account.runs} of your runs have not ended, and a user may have"
                    f" {self.max_runs}",
                    hint="Try again when one of them has ended, or stop one.",
                    code="busy",
                    retry_after=_SOON_SECONDS,
                )
            if (seconds := self._seconds_until_tokens(account)) > 0:
                raise ComposeError(
                    f"you have had your {self.tokens_per_minute:,} tokens of a minute",
                    hint=f"Try again in {max(1, round(seconds))} s.",
                    code="busy",
                    retry_after=seconds,
                )
            account.runs += 1
            self._accounts[user] = account

    def end(self, user: str, usage: Mapping[str, int]) -> None:
        """Note that a run of a user has ended, and the tokens that it took."""
        with self._lock:
            account = self._accounts[user]
            account.runs -= 1
            self._refill(account)
            # Of a given text, too, may be reused what is in memory.
            read = usage["prompt"] + usage.get("given", 0) - usage["reused"]
            account.taken += max(0, read) + usage["generated"]
            if not account.runs and (self.tokens_per_minute is None or not account.taken):
                del self._accounts[user]

    @contextlib.asynccontextmanager
    async def turn(self, user: str | None, run: Run) -> AsyncIterator[None]:
        """Wait until one more run of a user may go on, and hold that; the run says how many of
        theirs must end first. Who is no user does not wait."""
        if user is None or not self.max_running:
            yield
            return
        with self._lock:
            account = self._accounts[user]
            if account.limiter is None:
                account.limiter = ConcurrencyLimiter(self.max_running)
        with QueueProgress(run, "").position() as on_queued:
            async with account.limiter.turn(on_queued):
                yield

    def _seconds_until_tokens(self, account: _Account) -> float:
        """How long until a user has a token left; 0 where they have one."""
        if self.tokens_per_minute is None:
            return 0.0
        self._refill(account)
        beyond = account.taken - self.tokens_per_minute
        return max(0.0, (beyond + 1) * _MINUTE / self.tokens_per_minute)

    def _refill(self, account: _Account) -> None:
        """Forget what was taken as long ago as it takes to have it again."""
        now = time.monotonic()
        passed, account.seen = now - account.seen, now
        if self.tokens_per_minute is not None:
            account.taken -= passed * self.tokens_per_minute / _MINUTE
        account.taken = max(0.0, account.taken)


class _Account:
    """What one user has."""

    def __init__(self) -> None:
        self.runs = 0
        self.taken = 0.0  # tokens, less what has been given since
        self.seen = time.monotonic()
        self.limiter: ConcurrencyLimiter | None = None
