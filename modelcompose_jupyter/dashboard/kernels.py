"""The kernels of visitors: this interpreter's, whatever kernels the user has installed."""

from __future__ import annotations

import sys
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_server import CallContext
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import IOLoop
from traitlets import Float

_NAME = "python3"


class ThisInterpreter(KernelSpecManager):
    """Gives this interpreter's ipykernel for every name."""

    def find_kernel_specs(self) -> dict[str, str]:
        return {_NAME: ""}

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        return KernelSpec(
            argv=[
                *(sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"),
                # Visitors leave nothing in the user's history, and their kernels are quiet.
                "--HistoryManager.enabled=False",
                "--log-level=ERROR",
            ],
            display_name="Python 3",
            language="python",
        )

    def get_all_specs(self) -> dict[str, Any]:
        spec = self.get_kernel_spec(_NAME).to_dict()
        return {_NAME: {"resource_dir": "", "spec": spec}}


class VisitorKernels(AsyncMappingKernelManager):
    """Ends the kernels of those who ask for the page and do not open it, as programs do."""

    connect_seconds = Float(60.0, help="Seconds that a page has to connect to its kernel.").tag(
        config=True
    )

    async def start_kernel(self, **options: Any) -> str:  # type: ignore[override]
        kernel_id = str(await super().start_kernel(**options))
        handler = CallContext.get(CallContext.JUPYTER_HANDLER)
        if handler is not None:
            handler.kernel_id = kernel_id  # of the page that it answers with
        return kernel_id

    def expect_page(self, kernel_id: str) -> None:
        """Begin to wait for the page of a kernel to connect."""
        loop: Any = IOLoop.current()
        loop.call_later(self.connect_seconds, self._end_unless_connected, kernel_id)

    async def _end_unless_connected(self, kernel_id: str) -> None:
        if kernel_id in self and not self._kernel_connections.get(kernel_id):
            await self.shutdown_kernel(kernel_id)  # type: ignore[no-untyped-call]
