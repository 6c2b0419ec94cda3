"""The handler of a document's page, for whichever server renders it."""

from __future__ import annotations

from typing import Any

from jupyter_core.utils import ensure_async
from tornado.ioloop import IOLoop
from voila.tornado.handler import TornadoVoilaHandler


class PageHandler(TornadoVoilaHandler):
    """Renders a page in a kernel of its own, and ends that where nobody opens the page.

    Attributes:
        connect_seconds: for which a page may take to connect to its kernel.
    """

    connect_seconds = 60.0
    _kernels: _PageKernels | None = None

    def initialize(self, **options: Any) -> None:
        super().initialize(**options)
        self._kernels = _PageKernels(super().kernel_manager)

    @property
    def kernel_manager(self) -> Any:
        """Voila starts the page's kernel with this."""
        return self._kernels or super().kernel_manager

    async def answer_page(self) -> None:
        """Start a kernel and answer with the page.

        Its cookie is what a page that is left proves itself with, to have its kernel ended.
        """
        _ = self.xsrf_token  # sets the cookie
        await super().get()

    def on_finish(self) -> None:
        super().on_finish()
        if self._kernels is not None and self._kernels.started is not None:
            loop: Any = IOLoop.current()
            loop.call_later(self.connect_seconds, self._kernels.end_unless_connected)


class _PageKernels:
    """A server's kernels, among which a page starts its own."""

    def __init__(self, manager: Any) -> None:
        self._manager = manager
        self.started: str | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._manager, name)

    async def start_kernel(self, **options: Any) -> str:
        id: str = await ensure_async(self._manager.start_kernel(**options))
        self.started = id
        return id

    async def end_unless_connected(self) -> None:
        """End the page's kernel where the page was never opened: it cannot do so itself then."""
        id, manager = self.started, self._manager
        if id in manager and not manager._kernel_connections.get(id):
            await ensure_async(manager.shutdown_kernel(id))
