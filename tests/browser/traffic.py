"""What goes between a page and its kernel, seen from the browser's side."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_server.services.kernels.connection.base import deserialize_msg_from_ws_v1
from playwright.sync_api import WebSocket

_CHANNELS = re.compile(r"/api/kernels/[^/]+/channels\b")


@dataclass(frozen=True)
class Frame:
    """One message of the Jupyter protocol as it was on the websocket."""

    sent: bool  # by the page; else it came from the kernel
    channel: str
    type: str
    content: Mapping[str, Any]
    size: int  # bytes, before the connection's own compression


class Traffic:
    """Records the messages on the connections to kernels that it is told of.

    Playwright tells of frames while a test is inside one of its calls; whatever came before the
    change of the page that a test has waited for is here.
    """

    def __init__(self) -> None:
        self.frames: list[Frame] = []

    def connect(self, websocket: WebSocket, wanted: Callable[[], bool]) -> None:
        """Record a connection, if it is one to a kernel, for as long as it is wanted."""

        def add(payload: str | bytes, *, sent: bool) -> None:
            if wanted():
                self.frames.append(_decode(payload, sent))

        if _CHANNELS.search(websocket.url):
            websocket.on("framesent", lambda payload: add(payload, sent=True))
            websocket.on("framereceived", lambda payload: add(payload, sent=False))

    def clear(self) -> None:
        """Forget all messages so far."""
        self.frames.clear()

    def received(self, type: str, channel: str = "iopub") -> list[Frame]:
        """Messages of a type that came from the kernel, oldest first."""
        return self._select(False, channel, type)

    def sent(self, type: str, channel: str = "shell") -> list[Frame]:
        """Messages of a type that the page sent, oldest first."""
        return self._select(True, channel, type)

    def _select(self, sent: bool, channel: str, type: str) -> list[Frame]:
        wanted = (sent, channel, type)
        return [each for each in self.frames if (each.sent, each.channel, each.type) == wanted]


def size(frames: list[Frame]) -> int:
    """The bytes of some messages together."""
    return sum(each.size for each in frames)


def _decode(payload: str | bytes, sent: bool) -> Frame:
    """Read a frame of the v1 websocket protocol (binary) or of the older one (JSON)."""
    if isinstance(payload, str):
        message = json.loads(payload)
        channel, header, content = message["channel"], message["header"], message["content"]
        length = len(payload.encode())
    else:
        channel, parts = deserialize_msg_from_ws_v1(payload)  # type: ignore[no-untyped-call]
        header, content = json.loads(parts[0]), json.loads(parts[3])
        length = len(payload)
    return Frame(sent, channel, header["msg_type"], content, length)
