"""A kernel that is there to serve a document: started by `up`, or by a Jupyter server.

It is an ordinary IPython kernel, so it can be listed, interrupted and looked into as any other.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ..errors import ComposeError
from ..host import SERVING_LIMITS, local_host
from ..processes import find_process, is_alive
from .access import TOKEN_VARIABLE, Access
from .catalog import DocumentFile
from .logs import configure
from .server import Server, ServerSettings

_END_SECONDS = 10.0
_LOOK_SECONDS = 0.25  # for whether the parent is there


def kernel_arguments(**options: Any) -> list[str]:
    """The arguments for ``ipykernel_launcher`` that make a kernel serve.

    Args:
        options: those of `run_in_kernel`, as plain data. A token has no place among them.
    """
    code = f"from {__name__} import run_in_kernel; run_in_kernel({options!r})"
    return [
        f"--IPKernelApp.exec_lines={[code]!r}",
        "--IPKernelApp.capture_fd_output=False",  # so that the log is where it is looked for
        "--HistoryManager.enabled=False",
        "--log-level=ERROR",
    ]


def run_in_kernel(options: dict[str, Any]) -> None:
    """Serve, from within a kernel that begins; what is wrong ends the kernel with status 2.

    The server, and with it the kernel, ends when it is asked to, at SIGTERM, and with its parent.

    Args:
        options: those of `serve_document`; the ``parent`` to end with, as a pid, if it has one;
            and for the log on standard error ``log_level`` and ``log_prompts``.
    """
    parent = options.pop("parent", None)
    log_level, log_prompts = options.pop("log_level", "WARNING"), options.pop("log_prompts", False)
    configure(sys.__stderr__, log_level, log_prompts)
    try:
        server = serve_document(token=os.environ.pop(TOKEN_VARIABLE, None), **options)
    except ComposeError as error:
        print(error, file=sys.__stderr__, flush=True)
        os._exit(2)
    signal.signal(signal.SIGTERM, lambda *_: server.ask_to_end())
    threading.Thread(
        target=_end_with, args=(server, parent), name="modelcompose-end", daemon=True
    ).start()


def serve_document(
    path: str,
    *,
    address: str | None = None,
    port: int | None = None,
    base_path: str | None = None,
    token: str | None = None,
    limits: Mapping[str, Any] | None = None,
    **server_info: Any,
) -> Server:
    """Serve a document's workflows on this process's host.

    Args:
        path: the document.
        address: to listen at; the document's if None.
        port: to listen at; the document's if None.
        base_path: of the run API; the document's if None.
        token: what clients must present, which only loopback may do without.
        limits: of the host, in place of `SERVING_LIMITS`; see `LocalHost.limit`.
        announcement: what the server's file says besides.

    Raises:
        DocumentError: all that is wrong with the document.
        UsageError: the port is taken, or the address needs a token.
    """
    catalog = DocumentFile(Path(path))
    document, controller = catalog.document, catalog.document.controller
    settings = ServerSettings(
        port=controller.port if port is None else port,
        base_path=controller.base_path if base_path is None else base_path,
    )
    titles = filter(None, (each.workflow.title for each in catalog().workflows.values()))
    facts = {
        "title": document.name or ", ".join(titles) or Path(path).name,
        "document": str(Path(path).resolve()),
        "kernel_id": _kernel_id(),
        **server_info,
    }
    access = Access(address or controller.host, token, controller.origins)
    host = local_host()
    host.limit(**{**SERVING_LIMITS, **(limits or {})})
    return Server(host, catalog, access, settings, **facts).start()


def _kernel_id() -> str | None:
    """The id of the kernel that this process is, by its connection file."""
    from ipykernel.kernelapp import IPKernelApp

    if not IPKernelApp.initialized():
        return None
    return Path(IPKernelApp.instance().connection_file).stem.removeprefix("kernel-")


def _end_with(server: Server, parent: int | None) -> None:
    """End the kernel when its server was asked to end, or when the parent has ended."""
    from ipykernel.kernelapp import IPKernelApp

    process = None if parent is None else find_process(parent)
    while (parent is None or is_alive(process)) and not server.wait(_LOOK_SECONDS):
        pass
    server.close()
    app = IPKernelApp.instance()
    if server.host.close(_END_SECONDS):
        app.io_loop.add_callback(app.io_loop.stop)
        threading.Event().wait(_END_SECONDS)
    # A load or something else in the kernel does not let go.
    app.cleanup_connection_file()
    os._exit(0)
