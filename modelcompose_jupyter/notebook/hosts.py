"""``%compose serve``, ``connect``, ``models``, ``unload``: what concerns hosts, not workflows."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from getpass import getpass
from typing import TYPE_CHECKING, Any

from .. import host_selection
from ..errors import ComposeError, UsageError, did_you_mean
from ..host import LocalHost, local_host
from ..models.weights.source import folder_of, is_folder
from ..notebook_records import this_notebook
from ..server.access import Access
from ..server.catalog import Catalog, Served
from ..server.server import Server, ServerSettings
from ..table import Table
from ..terminal import say
from .table import models_table

if TYPE_CHECKING:
    from ..callable import Workflow
    from ..host import Host
    from ..magic_args import MagicArgs
    from ..models import ModelInfo

_SETTINGS = ("port", "host", "base_path", "token")


def serve(
    line: MagicArgs,
    workflow: Callable[[str], Workflow],
    workflows: Callable[[], Mapping[str, Workflow]],
) -> str:
    """Offer workflows over HTTP, or stop to; says what is served now, and where.

    Args:
        line: names of workflows or files and settings, or ``off``.
        workflow: gives a workflow by such a name.
        workflows: gives those of the notebook, by their names.

    Raises:
        UsageError: there is nothing to serve.
        ComposeError: the port is taken.
    """
    if line.words == ["off"]:
        return (
            "nothing is served any more" if host_selection.stop_serving() else "nothing was served"
        )
    for key in line.inputs.keys() - set(_SETTINGS):
        hint = did_you_mean(key, _SETTINGS) or f"Known here: {', '.join(_SETTINGS)}."
        raise UsageError(f"'%compose serve' has no '{key}'", hint=hint)

    def catalog() -> Catalog:
        """What is served now: a cell that is run again serves its new form."""
        return Catalog(
            {
                name: Served(each.document, each.document.workflow(each.id), each.functions)
                for name, each in chosen().items()
            }
        )

    def chosen() -> Mapping[str, Workflow]:
        return {name: workflow(name) for name in line.words} if line.words else workflows()

    flows = list(chosen().values())
    if not flows:
        raise UsageError("there is no workflow to serve yet", hint="Declare one: %%compose story")
    settings = {**vars(flows[0].document.controller), **line.inputs}
    notebook = this_notebook()
    before = host_selection.serving()
    server = host_selection.serve(
        Server(
            local_host(),
            catalog,
            Access(str(settings["host"]), line.inputs.get("token"), settings["origins"]),
            ServerSettings(port=_port(settings["port"]), base_path=str(settings["base_path"])),
            title=notebook.name if notebook else "a notebook",
        )
    )
    moved = f", no longer at {before.url}" if before and before.url != server.url else ""
    return f"serving {', '.join(chosen())} at {server.url}{moved}"


def _port(value: Any) -> int:
    try:
        port = int(value)
    except (TypeError, ValueError):
        port = -1
    if not 0 <= port <= 65535:
        raise UsageError(f"'{value}' is no port", hint="Write port:=8080; 0 is any that is free.")
    return port


def connect(line: MagicArgs) -> None:
    """Run everything on another host from now on, by its URL and ``token`` or neither; or no longer
    where the line is ``off``."""
    if line.words == ["off"]:
        host_selection.disconnect()
        say("workflows run where they ran before")
        return
    url = line.words[0] if line.words else None
    token = line.inputs.get("token")
    try:
        host = host_selection.connect(url, token)
    except ComposeError as error:
        if error.code != "unauthorized" or token is not None:
            raise
        # Asked for, so that it does not stand in the notebook.
        host = host_selection.connect(url, getpass("Token: "))
    say(f"workflows run on {host.url} now")


def models() -> Table:
    """The models of all hosts that this notebook has to do with, and their memory."""
    return models_table([(_place(host), models, host.memory()) for host, models in _reached()])


def unload(name: str | None = None) -> None:
    """Give back the memory of a model by its id or source, wherever it is; None is all idle ones of
    this process. Other hosts have other users, so theirs go by name alone."""
    chosen: list[Host] = [local_host()]
    if name is not None and is_folder(name):
        name = str(folder_of(name))  # as models are called whose document names them so
    if name is not None:  # where it is; else this process says what there is
        chosen = [h for h, models in _reached() if any(name in (m.id, m.source) for m in models)]
    for host in chosen or [local_host()]:
        where = "" if isinstance(host, LocalHost) else f" at {_place(host)}"
        for model in host.unload(name):
            say(f"unloaded {model.id}{where}")
        for model in host.models() if name is None else ():
            say(f"{model.id} is in use and stays")


def _reached() -> Iterator[tuple[Host, list[ModelInfo]]]:
    """The hosts that this notebook has to do with, and their models; not those that are gone."""
    for host in host_selection.in_use():
        try:
            yield host, host.models()
        except ComposeError as error:
            if error.code != "host_gone":
                raise


def _place(host: Host) -> str:
    """Where a host is, for people."""
    return "this process" if isinstance(host, LocalHost) else repr(host)
