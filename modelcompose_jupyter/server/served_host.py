"""What a server needs of the host that it offers, whatever that is."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from typing import Any, Protocol, Unpack

from ..document import Document
from ..host import Host
from ..run_store import Forgotten, Kept, RunStore
from ..tools import FunctionStep
from ..workflow import Run, RunOptions


class ServedHost(Host, Protocol):
    """A host that keeps the runs that callers ask for, until they have fetched them.

    `LocalHost.submit` explains what it is told beside what every host is, `HostedRuns` the rest.
    """

    run_store: RunStore
    begun_anew: Counter[str]

    def submit(
        self,
        document: Document,
        workflow: str | None = None,
        input: Any = None,
        *,
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
        steps: Mapping[str, FunctionStep] | None = None,
        **options: Unpack[RunOptions],
    ) -> Run: ...

    def rerun(
        self,
        id: str,
        *,
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
    ) -> Run: ...

    def extend(
        self,
        id: str,
        tokens: int | None = None,
        *,
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
    ) -> Run: ...

    def branch(
        self,
        id: str,
        token: int,
        alternative: int,
        text: int = 0,
        *,
        owed_to: Any = None,
        metadata: Mapping[str, Any] | None = None,
        is_guest: bool = False,
        user: str | None = None,
    ) -> Run: ...

    def observe(self, callback: Callable[[Run], None]) -> Callable[[], None]: ...

    async def accepted(self, run: Run) -> None: ...

    async def find(
        self, id: str, owed_to: Callable[[Mapping[str, Any]], Any]
    ) -> Kept | Forgotten | None: ...

    async def goes_on_without(self) -> bool: ...
