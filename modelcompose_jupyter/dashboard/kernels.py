"""The kernels of visitors: this interpreter's, whatever kernels the user has installed."""

from __future__ import annotations

import contextlib
import sys
from typing import Any

from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
from tornado.ioloop import IOLoop
from traitlets import Float, Integer

_NAME = "python3"
_STOP_RUNS = "from modelcompose_jupyter.dashboard import stop_runs\nstop_runs()"
_REPLY_SECONDS = 30.0


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
    """Stops the runs of visitors who have gone without a word: others wait for these.

    Kernels of those who ask for the page and do not open it, as programs do, end by the page's
    handler, after `connect_seconds`.
    """

    connect_seconds = Float(60.0, help="Seconds that a page has to connect to its kernel.").tag(
        config=True
    )
    max_visitors = Integer(200, help="Kernels at a time, each with its memory.").tag(config=True)
    lost_seconds = Float(
        20.0, help="Seconds after which the runs of a page that is cut off are stopped."
    ).tag(config=True)

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)  # type: ignore[no-untyped-call]
        self._lost: dict[str, object] = {}  # what will stop the runs, by the kernel

    def notify_connect(self, kernel_id: str) -> None:
        super().notify_connect(kernel_id)  # type: ignore[no-untyped-call]
        self._found(kernel_id)

    def notify_disconnect(self, kernel_id: str) -> None:
        super().notify_disconnect(kernel_id)  # type: ignore[no-untyped-call]
        self._found(kernel_id)
        if kernel_id in self and not self._kernel_connections.get(kernel_id):
            loop: Any = IOLoop.current()
            self._lost[kernel_id] = loop.call_later(self.lost_seconds, self._stop_runs, kernel_id)

    def _found(self, kernel_id: str) -> None:
        lost = self._lost.pop(kernel_id, None)
        if lost is not None:
            IOLoop.current().remove_timeout(lost)

    async def _stop_runs(self, kernel_id: str) -> None:
        """Have a kernel stop its runs. The kernel stays for who comes back."""
        self._lost.pop(kernel_id, None)
        if kernel_id not in self:
            return
        client = self.get_kernel(kernel_id).client()
        client.start_channels(iopub=False, stdin=False, hb=False)
        try:
            with contextlib.suppress(TimeoutError):  # it may be busy, and hears of it afterwards
                await client.execute(_STOP_RUNS, silent=True, reply=True, timeout=_REPLY_SECONDS)
        finally:
            client.stop_channels()
