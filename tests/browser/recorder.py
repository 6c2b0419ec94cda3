"""What a page does by itself while a test has it: its errors, its requests, its messages."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from playwright.sync_api import ConsoleMessage, Error, Page, Request, WebSocket

from .traffic import Traffic

# Notebook 7.6 says this by itself, of every notebook or now and then.
NOTEBOOK_7_NOISE = re.compile(
    r"Cannot read properties of undefined \(reading 'schema'\)"
    r"|Command 'filebrowser:open-path' not registered\."
    r"|Could not restore the debugger state"
)


class Recorder:
    """Records of one page at a time what is to be asserted of it.

    Attributes:
        errors: uncaught errors, and errors in the console.
        elsewhere: URLs of other hosts that it asked for.
        traffic: its messages to and from kernels.
    """

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.elsewhere: list[str] = []
        self.traffic = Traffic()
        self._page: Page | None = None

    def begin(self, page: Page) -> None:
        """Record this page, which is watched, from now on."""
        self.errors.clear()
        self.elsewhere.clear()
        self.traffic.clear()
        self._page = page

    def end(self) -> None:
        """Record nothing; what was recorded stays until the next page."""
        self._page = None

    def watch(self, page: Page) -> None:
        """Have a new page's events come here."""

        def on_error(error: Error) -> None:
            if self._page is page and not NOTEBOOK_7_NOISE.search(error.message):
                # JupyterLab may take a closed notebook's node away twice; it is none of ours.
                is_labs = "removeChild" in error.message and "/jlab_core." in (error.stack or "")
                if not is_labs:
                    self.errors.append(f"{error.message}\n{error.stack}")

        def on_console(message: ConsoleMessage) -> None:
            place = message.location["url"]
            noise = NOTEBOOK_7_NOISE.search(message.text) or not _is_here(place)
            if self._page is page and message.type == "error" and not noise:
                self.errors.append(f"{message.text} ({place})")

        def on_request(asked: Request) -> None:
            if self._page is page and not _is_here(asked.url):
                self.elsewhere.append(asked.url)

        def on_websocket(websocket: WebSocket) -> None:
            self.traffic.connect(websocket, lambda: self._page is page)

        page.on("pageerror", on_error)
        page.on("console", on_console)
        page.on("request", on_request)
        page.on("websocket", on_websocket)


def _is_here(url: str) -> bool:
    """Whether a URL asks no other host."""
    parts = urlsplit(url)
    return parts.scheme not in ("http", "https") or parts.hostname in ("127.0.0.1", "localhost")
