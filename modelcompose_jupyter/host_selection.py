"""Which host runs a document: this process, or another one of this user that serves it.

What was decided for a document holds for this process, until that host is gone.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._version import __version__
from .document import Document
from .errors import ComposeError, InputError, UsageError
from .host import SERVING_LIMITS, Host, LocalHost, local_host
from .tools import NamedFunctions
from .workflow import Run

if TYPE_CHECKING:
    from .server.client import RemoteHost
    from .server.remote_models import FunctionHost
    from .server.server import Server
    from .server.server_info import ServerInfo

HOST_VARIABLE = "MODELCOMPOSE_HOST"
"""The environment variable that names the file of the server to use, and no other, as its guest."""

HUB_SERVICE_VARIABLE = "MODELCOMPOSE_HUB_SERVICE"
"""The environment variable with the URL of the run API of a JupyterHub's service, which runs what
it takes. The token is that of this user's own server at the Hub."""

HUB_TOKEN_VARIABLE = "JUPYTERHUB_API_TOKEN"

_PAGE_VARIABLE, _PAGE_SERVER = "SERVER_SOFTWARE", "voila/"

_lock = threading.RLock()
_connected: RemoteHost | None = None
_service: RemoteHost | None = None
_remote: dict[str, RemoteHost] = {}
_chosen: dict[str, LocalHost | RemoteHost] = {}
_driving: dict[RemoteHost, FunctionHost] = {}
_server: Server | None = None


class Endpoint(NamedTuple):
    """Where the run API has a workflow, which is named there unless it is the default one.

    ``token`` is the environment variable that is to hold what callers must present, if anything.
    """

    url: str
    workflow: str | None
    token: str | None = None


def endpoint_of(document: Document, workflow: str) -> Endpoint:
    """Where a workflow can be called: where it is served, or else where the document says."""
    served = served_at(document, workflow)
    if served is not None:
        return served
    controller = document.controller
    url = f"http://localhost:{controller.port}{controller.base_path}"
    return Endpoint(url, workflow if len(document.workflows) > 1 else None)


def served_at(document: Document, workflow: str) -> Endpoint | None:
    """Where a workflow can be called now: at this process's server if it serves it, or at the host
    that runs the document; None where it is not served."""
    from .server.access import TOKEN_VARIABLE

    server = serving()
    if server is not None:
        catalog = server.documents.catalog
        for id, each in catalog.workflows.items():
            if each.document.key == document.key and each.workflow.id == workflow:
                name = None if id == catalog.default else id
                return Endpoint(server.url, name, TOKEN_VARIABLE if server.access.token else None)
    host = _connected or _chosen.get(document.key)
    if host is None or isinstance(host, LocalHost) or host.closed:
        return None
    variable = HUB_TOKEN_VARIABLE if host is _service else TOKEN_VARIABLE
    token = variable if host.wants_token else None
    return Endpoint(host.url, workflow if len(document.workflows) > 1 else None, token)


def serve_also(functions: NamedFunctions, workflow: str, name: str) -> Endpoint:
    """Serve a workflow, beside what this process serves already, and say where it can be called.

    Where nothing is served yet, that is for this computer alone, at the document's port or, where
    that is taken, at any that is free. One that is served stays as it is.

    Args:
        functions: those of the document that the workflow is of.
        name: what callers name it by; a number is added where another workflow has it.

    Raises:
        UsageError: this is the kernel of a page's visitor.
        ComposeError: no port can be had.
    """
    from .server.catalog import Catalog, Served
    from .server.server import Server, ServerSettings

    if is_page():
        raise UsageError("a page's visitors serve nothing", hint="Ask who serves the page.")
    document = functions.document
    with _lock:
        if (endpoint := served_at(document, workflow)) is not None:
            return endpoint
        server = serving()
        if server is None:
            ports = (document.controller.port, 0)
            servers = (
                Server(
                    local_host(),
                    lambda: Catalog({}),
                    settings=ServerSettings(port=port, base_path=document.controller.base_path),
                    title="a notebook",
                )
                for port in ports
            )
            server = _started(servers)
        server.documents.add(name, Served(document, document.workflow(workflow), functions))
        endpoint = served_at(document, workflow)
    assert endpoint is not None
    return endpoint


def _started(servers: Iterator[Server]) -> Server:
    """The first of some servers that finds its port free."""
    taken: ComposeError | None = None
    for each in servers:
        try:
            return serve(each)
        except ComposeError as error:
            if error.code != "port_taken":
                raise
            taken = error
    assert taken is not None
    raise taken


def is_page() -> bool:
    """Whether this process is the kernel of a page that Voila serves, to whoever visits it."""
    return os.environ.get(_PAGE_VARIABLE, "").startswith(_PAGE_SERVER)


def host_for(document: Document) -> Host:
    """The host that runs a document.

    That is the one this process is connected to; else, of this user's other programs, the one that
    serves the document; else the service of the JupyterHub that this user's server belongs to,
    where it takes the document; else this process. Functions that the document names as tools are
    here, so no other program is looked for where somebody has given them.

    Raises:
        ComposeError: the host or the service that the environment names is gone, or the latter lets
            this user not in.
    """
    named = os.environ.get(HOST_VARIABLE)
    with _lock:
        if _connected is not None:
            return _connected
        chosen = _chosen.get(document.key)
        if chosen is None or chosen.closed:
            chosen = _named(named) if named else _elsewhere(document) or local_host()
            _chosen[document.key] = chosen
        return chosen


def driver_of(host: Host) -> Host:
    """The host that drives runs whose functions are in this process, on the models of a host: that
    host where it is this process, or one that runs what it serves itself."""
    from .server.client import RemoteHost
    from .server.remote_models import FunctionHost

    if not isinstance(host, RemoteHost) or HOST_VARIABLE in os.environ:
        return host
    with _lock:
        known = _driving.get(host)
        if known is None or known.closed:
            known = _driving[host] = FunctionHost(host)
        return known


def run_on(document: Document, host: LocalHost) -> None:
    """Have this process run a document on a host of its own, whatever else is up."""
    with _lock:
        _chosen[document.key] = host


def runs_here(document: Document) -> bool:
    """Whether this process is the one that would run a document now. It may ask others, and decides
    nothing."""
    if is_page() or HOST_VARIABLE in os.environ or _connected is not None:
        return False
    chosen = _chosen.get(document.key)
    if chosen is not None and not chosen.closed:
        return isinstance(chosen, LocalHost)
    return _elsewhere(document) is None


def _elsewhere(document: Document) -> RemoteHost | None:
    """The other program that runs a document for this user, if one does."""
    if document.tools:
        return None
    return _serving(document) or _hub_service_for(document)


def _hub_service_for(document: Document) -> RemoteHost | None:
    """The service of the JupyterHub that this user's server belongs to, where it takes a document.

    Where there is one that does not answer, a class would load its model once for each of its
    members, so this process does not run what the service may be meant for.
    """
    from .server.client import RemoteHost

    global _service
    url, token = (os.environ.get(name) for name in (HUB_SERVICE_VARIABLE, HUB_TOKEN_VARIABLE))
    if not url or not token or _server is not None:
        return None
    if _service is None or _service.closed or _service.url != url.rstrip("/"):
        _service = RemoteHost(url, token)
    try:
        return _service if _service.takes(document) else None
    except ComposeError as error:
        if error.code not in ("host_gone", "unauthorized"):
            raise
        what = "does not answer" if error.code == "host_gone" else "does not let you in"
        raise ComposeError(
            f"the JupyterHub's service at {url} {what}",
            hint="Try again in a moment, or ask who runs the JupyterHub. Without the environment"
            f" variable {HUB_SERVICE_VARIABLE} models are loaded in your own server.",
            code=error.code,
        ) from None


def _named(path: str) -> RemoteHost:
    from .server.client import RemoteHost
    from .server.server_info import read

    server_info = read(Path(path))
    if server_info is None or not server_info.alive:
        raise ComposeError(
            "the host that runs the workflows is gone",
            hint="Start it again: model-compose up",
            code="host_gone",
        )
    # As a guest: who sets the variable, for a page's visitors say, need not hand on what is theirs.
    return RemoteHost(server_info.url, server_info.client_token, server_info)


def _serving(document: Document) -> RemoteHost | None:
    """Another program of this user that serves the document, or an earlier state of its file."""
    from .server.server_info import find_servers

    if _server is not None:
        return None  # this process is a host itself
    path = document.source.folder / Path(document.source.file).name
    same_file: RemoteHost | None = None
    for server_info in find_servers(other_processes=True):
        if server_info.version != __version__:
            continue
        host = _host_of(server_info)
        try:
            if host.serves(document):
                return host
        except ComposeError:  # it has just ended, or does not answer
            continue
        if server_info.document is not None and Path(server_info.document) == path.resolve():
            same_file = same_file or host  # takes the file as it is now, on the model it has
    return same_file


def _host_of(server_info: ServerInfo) -> RemoteHost:
    from .server.client import RemoteHost

    known = _remote.get(server_info.id)
    if known is None or known.closed:
        known = RemoteHost(server_info.url, server_info.token, server_info)
        _remote[server_info.id] = known
    return known


def connect(url: str | None = None, token: str | None = None) -> RemoteHost:
    """Run everything on another host from now on.

    Args:
        url: of its run API; the newest one of this user if None.
        token: what it wants to see; for this user's own it is known.

    Raises:
        ComposeError: nothing answers there, or the token is wrong.
        UsageError: no other program of this user serves anything.
    """
    from .server.client import RemoteHost
    from .server.server_info import find_servers

    global _connected
    with _lock:
        found = find_servers(url=url, other_processes=True)
        if found:
            host = _host_of(found[0])
        elif url is not None:
            host = RemoteHost(url, token)
        else:
            raise UsageError(
                "there is no other host of yours to connect to",
                hint="Start one with 'model-compose up' or '%compose serve', or name its URL.",
            )
        _connected = _checked(host)
        return _connected


def _checked(host: RemoteHost) -> RemoteHost:
    """A host that answers; at its usual base path where only its address was given."""
    from .server.client import RemoteHost

    try:
        host.ping()
        return host
    except ComposeError as error:
        if host not in _remote.values():  # runs of this process may go on at one that it knows
            host.close()
        if error.code == "host_gone":
            raise ComposeError(
                f"no host answers at {host.url}",
                hint="Write the URL as 'model-compose up' or '%compose serve' says it.",
                code="host_gone",
            ) from None
        if error.code != "not_found" or host.url.endswith("/api"):
            raise
    return _checked(RemoteHost(f"{host.url}/api", host.token))


def disconnect() -> None:
    """Run things as before `connect`."""
    global _connected
    with _lock:
        _connected = None


def in_use() -> list[LocalHost | RemoteHost]:
    """The hosts that this process has to do with, the one that is connected first."""
    with _lock:
        found: list[LocalHost | RemoteHost] = [] if _connected is None else [_connected]
        found += [each for each in _chosen.values() if not each.closed]
        if not any(isinstance(each, LocalHost) for each in found):
            found.append(local_host())
        return list({id(each): each for each in found}.values())


def own_runs() -> list[Run]:
    """The runs that this process started, wherever they run, the newest first."""
    found = [run for host in (*in_use(), *_driving.values()) for run in host.own_runs()]
    return sorted(found, key=lambda run: run.began_at or time.time(), reverse=True)


def host_of(run_id: str) -> Host:
    """The host that knows a run, by its id or the beginning of it.

    Raises:
        InputError: none does, or not any more, or it is not clear which run is meant.
    """
    error: InputError | None = None
    for host in (*_driving.values(), *in_use()):
        try:
            host.run(run_id)
            return host
        except InputError as unknown:
            if error is None or error.code == "unknown_run":  # what says more stands
                error = unknown
    assert error is not None
    raise error


def serve(server: Server) -> Server:
    """Start the one server of this process, in place of one that serves already.

    That one is ended last, so that it goes on where the new one cannot start, unless both want the
    same port.

    Raises:
        ComposeError: the port is taken.
    """
    global _server
    with _lock:
        # A process's own runs know no other limit: a map of it waits for room.
        local_host().limit(
            **{name: SERVING_LIMITS[name] for name in ("max_runs", "max_generations")}
        )
        before = serving()
        if before is not None and before.port == server.settings.port:
            stop_serving()
        server.start()
        stop_serving()
        _server = server
        _chosen.clear()
        return server


def stop_serving() -> bool:
    """End the server of this process; returns whether there was one. Models stay."""
    global _server
    with _lock:
        server, _server = _server, None
    if server is None:
        return False
    server.close()
    return True


def serving() -> Server | None:
    """The server of this process."""
    return _server if _server is not None and _server.running else None


def _after_fork() -> None:
    """Forget the parent's connections: their threads are not here."""
    global _lock, _connected, _service, _server
    _lock = threading.RLock()
    _connected = _service = _server = None
    _remote.clear()
    _chosen.clear()
    _driving.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
