"""What the handlers of one server share: its host, documents, rules, tasks, counts and settings.

Used on the server's loop, but for the host and the event, which any thread may use.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from ..hosted_runs import HostedRuns
from .access import Access
from .catalog import Documents
from .connections import ConnectionLimits
from .metrics import Metrics
from .observer import Observer
from .tasks import Tasks

_CHUNKED_BODIES = 8  # at once; few clients send such, and theirs are there in a moment


@dataclass(frozen=True, kw_only=True)
class ServerSettings(ConnectionLimits):
    """How a server behaves.

    Attributes:
        port: to listen at; 0 takes any that is free.
        base_path: what the paths of the run API begin with.
        root_path: what all paths begin with, that one included: a proxy's name for this server.
        user_documents: whether users may run documents of theirs, on the models that are served.
        max_body: bytes of a request's body.
        body_seconds: in which a body must have come.
        write_seconds: for which a reader may take nothing of a stream.
    """

    port: int = 8080
    base_path: str = "/api"
    root_path: str = ""
    user_documents: bool = False

    @property
    def api_path(self) -> str:
        """What the paths of the run API begin with, as they are asked for."""
        return self.root_path + self.base_path

    max_body: int = 4 * 2**20
    body_seconds: float = 60.0
    write_seconds: float = 60.0


@dataclass
class ServerState:
    """See the module.

    Attributes:
        documents: what is served, and what the owner brought.
        observers: who is told of each request that is over.
        chunked_bodies: what guests' bodies in chunks take one of, while they come.
        end_requested: set by who asks the server to end; any thread.
        is_closing: whether it ends, and takes nothing new.
    """

    host: HostedRuns
    documents: Documents
    access: Access
    settings: ServerSettings
    tasks: Tasks
    metrics: Metrics
    observers: list[Observer]
    chunked_bodies: asyncio.Semaphore = field(
        default_factory=lambda: asyncio.Semaphore(_CHUNKED_BODIES)
    )
    end_requested: threading.Event = field(default_factory=threading.Event)
    is_closing: bool = False
