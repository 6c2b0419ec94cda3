"""A host in a kernel of a Jupyter server, which starts, shows, restarts and culls it.

The kernel stays when it cannot serve, or has been asked to end serving: a Jupyter server starts
kernels anew that end by themselves. Runs make it busy, so that it is not culled under them.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
from typing import TYPE_CHECKING, Any

from ..host import local_host
from ..server.kernel import serve_document
from ..server.logs import configure

if TYPE_CHECKING:
    from ..server.server import Server
    from ..workflow import Run

# Jupyter heeds the state that a kernel tells of itself where it follows from such a message.
_CAUSE = "modelcompose_run"
_END_SECONDS = 10.0

_server: Server | None = None


def serve_code(path: str) -> str:
    """The code that makes a kernel serve a document; it raises what is wrong."""
    return f"from {__name__} import serve; serve({path!r})"


def kernel_arguments(path: str) -> list[str]:
    """The arguments for ``ipykernel_launcher`` that make a kernel serve a document."""
    return [
        f"--IPKernelApp.exec_lines={[serve_code(path)]!r}",
        "--IPKernelApp.capture_fd_output=False",  # so that warnings reach the Jupyter server's log
    ]


def serve(path: str) -> None:
    """Serve a document from within this kernel, for this user's own programs. Idempotent.

    Raises:
        ComposeError: why it cannot be served.
    """
    global _server
    if _server is not None and _server.running:
        return
    _server = serve_document(
        path,
        address="127.0.0.1",
        port=0,
        base_path="/api",
        # Others on this computer can reach the port; only the server's file tells its token.
        token=secrets.token_urlsafe(32),
    )
    configure(sys.__stderr__, "WARNING")
    local_host().observe(_Activity().begun)
    threading.Thread(
        target=_end_serving, args=(_server,), name="modelcompose-end", daemon=True
    ).start()
    if threading.current_thread() is threading.main_thread() and os.name == "posix":
        signal.signal(signal.SIGTERM, _end)


def _end(*_: Any) -> None:
    """End in order: without this, nothing that is registered for the end would be done."""
    sys.exit(128 + signal.SIGTERM)


def _end_serving(server: Server) -> None:
    """Let go of the models when the server was asked to end; the kernel stays."""
    server.wait()
    server.close()
    server.host.close(_END_SECONDS)


class _Activity:
    """Tells the Jupyter server that the kernel is busy while runs go."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._going = 0

    def begun(self, run: Run) -> None:
        with self._lock:
            self._going += 1
            self._tell("busy")
        run.add_done_callback(self._ended)

    def _ended(self, _: Run) -> None:
        with self._lock:
            self._going -= 1
            if not self._going:
                self._tell("idle")

    def _tell(self, state: str) -> None:
        from ipykernel.kernelapp import IPKernelApp

        kernel = IPKernelApp.instance().kernel
        kernel.session.send(
            kernel.iopub_socket,
            "status",
            {"execution_state": state},
            parent={"header": {"msg_type": _CAUSE}},
        )
