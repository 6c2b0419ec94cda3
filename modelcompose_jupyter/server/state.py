"""What the handlers of one server share: its host, documents, rules, tasks, counts and settings.

Used on the server's loop, but for the host and the event, which any thread may use.
"""

from __future__ import annotations

import asyncio
import threading
from dataclasses import dataclass, field

from ..host import LocalHost
from .access import Access
from .catalog import Documents
from .connections import (
    HEADER_SECONDS,
    IDLE_SECONDS,
    MAX_CONNECTIONS,
    MAX_HELD_BYTES,
    RESERVED_CONNECTIONS,
)
from .metrics import Metrics
from .observer import Observer
from .tasks import Tasks

_CHUNKED_BODIES = 8  # at once; few clients send such, and theirs are there in a moment


@dataclass(frozen=True)
class ServerSettings:
    """How a server behaves.

    Attributes:
        port: to listen at; 0 takes any that is free.
        base_path: what the paths of the run API begin with.
        max_body: bytes of a request's body.
        max_connections: open at a time; see `GuardedServer` for what happens beyond.
        reserved_connections: of those, that guests' requests leave to the owner's.
        max_held: bytes of bodies and answers that are kept for guests.
        header_seconds: in which the header of a request must have come.
        idle_seconds: for which a connection may say nothing between requests.
        body_seconds: in which a body must have come.
        write_seconds: for which a reader may take nothing of a stream.
    """

    port: int = 8080
    base_path: str = "/api"
    max_body: int = 4 * 2**20
    max_connections: int = MAX_CONNECTIONS
    reserved_connections: int = RESERVED_CONNECTIONS
    max_held: int = MAX_HELD_BYTES
    header_seconds: float = HEADER_SECONDS
    idle_seconds: float = IDLE_SECONDS
    body_seconds: float = 60.0
    write_seconds: float = 60.0


@dataclass
class ServerState:
    """What the handlers of one server share.

    Attributes:
        host: runs the workflows.
        documents: what is served, and what the owner brought.
        access: who may call.
        settings: how the server behaves.
        tasks: the host's runs, as callers see them.
        metrics: what is counted.
        observers: who is told of each request that is over.
        chunked_bodies: what guests' bodies in chunks take one of, while they come.
        end_requested: set by who asks the server to end; any thread.
        is_closing: whether it ends, and takes nothing new.
    """

    host: LocalHost
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
