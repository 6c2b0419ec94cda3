"""A kernel that serves a document: started by `up`, or by a Jupyter server.

It is an ordinary IPython kernel, so it can be listed, interrupted and looked into as any other.
There are two kinds:

- A *dedicated* kernel, which `up` starts, is there to serve and for nothing else: it ends when its
  server is asked to end, and with its parent.
- A *managed* kernel belongs to a Jupyter server, which starts, shows, restarts and culls it. It
  stays when it cannot serve, or has been asked to end serving: a Jupyter server starts kernels anew
  that end by themselves. Runs make it busy, so that it is not culled under them.
"""

from __future__ import annotations

import os
import secrets
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ComposeError, UsageError
from ..host import SERVING_LIMITS, LocalHost, local_host
from ..hosted_runs import HostedRuns
from ..processes import find_process, is_alive
from .access import TOKEN_VARIABLE, Access
from .catalog import DocumentFile
from .jupyterhub import HubService, HubUsers
from .logs import configure
from .server import Server, ServerSettings
from .state import ServerState

if TYPE_CHECKING:
    from ..workflow import Run

_END_SECONDS = 10.0
_PARENT_SECONDS = 0.25  # between looks for whether the parent is alive
# Jupyter heeds the state that a kernel tells of itself where it follows from such a message.
_CAUSE = "modelcompose_run"

_managed_server: Server | None = None


# Starting a kernel


def dedicated_kernel_arguments(serve: Callable[..., None], **options: Any) -> list[str]:
    """The arguments for ``ipykernel_launcher`` that make a kernel serve, and do nothing else.

    Args:
        serve: does it: `serve_dedicated`, or what calls that.
        options: of it, as plain data; a token has no place among them.
    """
    name = serve.__name__
    code = f"from {serve.__module__} import {name}; {name}(**{options!r})"
    return [*_arguments(code), "--HistoryManager.enabled=False", "--log-level=ERROR"]


def managed_kernel_arguments(path: str) -> list[str]:
    """The arguments for ``ipykernel_launcher`` that make a Jupyter server's kernel serve."""
    return _arguments(serve_code(path))


def serve_code(path: str) -> str:
    """The code that makes a managed kernel serve a document; it raises what is wrong."""
    return f"from {__name__} import serve_managed; serve_managed({path!r})"


def _arguments(code: str) -> list[str]:
    return [
        f"--IPKernelApp.exec_lines={[code]!r}",
        "--IPKernelApp.capture_fd_output=False",  # so that the log is where it is looked for
    ]


# In the kernel


def serve_dedicated(*, parent: int, log_level: str, log_prompts: bool, **options: Any) -> None:
    """Serve, from within a kernel that begins; what is wrong ends the kernel with status 2.

    The server, and with it the kernel, ends when it is asked to, at SIGTERM, and with its parent (a
    pid). The log goes to standard error. The other options are those of `serve_document`.
    """
    configure(sys.__stderr__, log_level, log_prompts)
    try:
        server = serve_document(token=os.environ.pop(TOKEN_VARIABLE, None), **options)
    except ComposeError as error:
        print(error, file=sys.__stderr__, flush=True)
        os._exit(2)
    except Exception:  # a kernel would go on without its server
        traceback.print_exc(file=sys.__stderr__)
        os._exit(1)
    signal.signal(signal.SIGTERM, lambda *_: server.state.end_requested.set())
    _close_when_asked(server, parent, then=_end_kernel)


def serve_managed(path: str) -> None:
    """Serve a document from within this kernel, for this user's own programs. Idempotent.

    Raises:
        ComposeError: why it cannot be served.
    """
    global _managed_server
    if _managed_server is not None and _managed_server.running:
        return
    # Others on this computer can reach the port; only the server's file tells its token.
    _managed_server = serve_document(path, token=secrets.token_urlsafe(32))
    configure(sys.__stderr__, "WARNING")
    local_host().observe(_Activity().begun)
    _close_when_asked(_managed_server)
    if threading.current_thread() is threading.main_thread() and os.name == "posix":
        # In order: without this, nothing that is registered for the end would be done.
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))


def serve_document(
    path: str,
    *,
    address: str = "127.0.0.1",
    port: int = 0,
    base_path: str = "/api",
    token: str | None = None,
    limits: Mapping[str, Any] | None = None,
    host: Callable[[Mapping[str, Any]], HostedRuns] | None = None,
    on_jupyterhub: bool = False,
    user_documents: bool = False,
    **server_info: Any,
) -> Server:
    """Serve a document's workflows.

    Args:
        path: the document.
        address: to listen at.
        port: to listen at; 0 is any that is free.
        base_path: of the run API.
        token: what clients must present, which only loopback may do without.
        limits: of the host, in place of `SERVING_LIMITS`; see `LocalHost.limit`.
        host: gives the host, of its limits; this process's if None.
        on_jupyterhub: whether it is the service of a JupyterHub that the environment tells of. Its
            paths begin with the service's, and the Hub's users are its callers.
        user_documents: whether users may run documents of theirs, on the models that are served.
        server_info: what the server's file says besides.

    Raises:
        DocumentError: all that is wrong with the document.
        UsageError: the address needs a token; or the environment tells of no JupyterHub.
        ComposeError: the port is taken, or there is no host.
    """
    catalog = DocumentFile(Path(path))
    document = catalog.document
    titles = filter(None, (each.workflow.title for each in catalog().workflows.values()))
    facts = {
        "title": document.name or ", ".join(titles) or Path(path).name,
        "document": str(Path(path).resolve()),
        "kernel_id": _kernel_id(),
        **server_info,
    }
    service = HubService.of_environment() if on_jupyterhub else None
    identities = None if service is None else HubUsers(service)
    access = Access(address, token, document.controller.origins, identities=identities)
    settings = ServerSettings(
        port=port,
        base_path=base_path,
        root_path="" if service is None else service.prefix,
        user_documents=user_documents,
    )
    served = (host or _limited_host)({**SERVING_LIMITS, **(limits or {})})
    pages = None if service is None else _hub_pages(service)
    return Server(served, catalog, access, settings, pages, **facts).start()


def _hub_pages(service: HubService) -> Callable[[ServerState], list[Any]]:
    """The page for people whom the JupyterHub lets in.

    Raises:
        UsageError: JupyterHub is not installed, or the environment does not tell enough of it.
    """
    try:
        from .hub_login import hub_pages  # which imports JupyterHub
    except ImportError:
        raise UsageError(
            "JupyterHub is not installed here, and with it people log in at the page",
            hint="pip install jupyterhub does it.",
        ) from None
    return hub_pages(service)


def _limited_host(limits: Mapping[str, Any]) -> LocalHost:
    host = local_host()
    host.limit(**limits)
    return host


def _kernel_id() -> str | None:
    """The id of the kernel that this process is, by its connection file."""
    from ipykernel.kernelapp import IPKernelApp

    if not IPKernelApp.initialized():
        return None
    return Path(IPKernelApp.instance().connection_file).stem.removeprefix("kernel-")


def _close_when_asked(
    server: Server, parent: int | None = None, then: Callable[[bool], None] | None = None
) -> None:
    """Close a server, and let go of the models, when it was asked to end or its parent (a pid) has
    ended. A thread waits for that, and then calls ``then`` with whether all let go."""

    def close() -> None:
        process = None if parent is None else find_process(parent)
        seconds = None if parent is None else _PARENT_SECONDS
        while not server.wait(seconds) and is_alive(process):
            pass
        server.close()
        has_closed = server.host.close(_END_SECONDS)
        if then is not None:
            then(has_closed)

    threading.Thread(target=close, name="modelcompose-end", daemon=True).start()


def _end_kernel(has_closed: bool) -> None:
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    if has_closed:
        app.io_loop.add_callback(app.io_loop.stop)
        threading.Event().wait(_END_SECONDS)
    # A load or something else in the kernel does not let go.
    app.cleanup_connection_file()
    os._exit(0)


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
