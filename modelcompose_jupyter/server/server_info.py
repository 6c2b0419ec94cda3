"""The registry of this user's servers: a file for each in Jupyter's runtime folder.

A file holds the owner's token, so its mode is 0600, and it goes when the server ends.
"""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import json
import os
import re
import time
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlsplit

from pydantic import TypeAdapter

from .. import private_files
from ..processes import find_process, is_alive
from ..text_encoding import decode

_adapter = functools.cache(TypeAdapter)
_PREFIX = "modelcompose-"
_MAX_BYTES = 2**20
_ID = re.compile(r"[\w-]{1,100}", re.ASCII)  # it stands in paths and addresses


@dataclass(frozen=True)
class ServerInfo:
    """A server that runs on this computer, as its file tells of it.

    Attributes:
        id: a name that is unique among the servers of this user.
        url: of the run API, with its base path.
        token: the owner's.
        pid: of the server's process.
        started: when that process started, in seconds since the epoch: pids are used again.
        title: what it serves, for people.
        version: of the package.
        document: the path of the document that it serves, if it serves a file.
        kernel_id: of the kernel that it runs in, if it does.
        supervisor: the pid of the `up` that looks after it, if one does.
        webui: the URL of the web page, if there is one.
        client_token: what clients must present, if anything.
        log: the path of its log, if it has one.
    """

    id: str
    url: str
    token: str = field(repr=False)
    pid: int
    started: float
    title: str
    version: str
    document: str | None = None
    kernel_id: str | None = None
    supervisor: int | None = None
    webui: str | None = None
    client_token: str | None = field(default=None, repr=False)
    log: str | None = None

    @property
    def path(self) -> Path:
        return path_of(self.id)

    @property
    def ports(self) -> set[int | None]:
        """Those that its run API and its page listen at."""
        return {urlsplit(each).port for each in (self.url, self.webui) if each}

    @property
    def alive(self) -> bool:
        """Whether the process that wrote it still runs."""
        return is_alive(find_process(self.pid, self.started))

    @property
    def stands(self) -> bool:
        """Whether the server is still there: it has not withdrawn its file, and its process runs.

        Where it is not, another program may listen at its address.
        """
        return self.path.exists() and self.alive

    def publish(self) -> None:
        """Write the file, whole or not at all."""
        folder = runtime_folder()
        private_files.make_folder(folder)
        fresh = folder / f".{_PREFIX}{self.id}.{os.getpid()}.{time.monotonic_ns()}.tmp"
        descriptor = private_files.open_for_writing(fresh)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                json.dump(dataclasses.asdict(self), file)
            fresh.replace(self.path)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise

    def withdraw(self) -> None:
        """Remove the file."""
        with contextlib.suppress(OSError):
            self.path.unlink(missing_ok=True)


def path_of(id: str) -> Path:
    """Where the file of a server is."""
    return runtime_folder() / f"{_PREFIX}{id}.json"


def find_servers(
    *,
    id: str | None = None,
    document: str | os.PathLike[str] | None = None,
    url: str | None = None,
    port: int | None = None,
    other_processes: bool = False,
) -> list[ServerInfo]:
    """The servers of this user that run, the newest first; all of them, or those that are meant.

    Files of dead ones are removed. A file that has another name than that of its server is a copy,
    and passed over.

    Args:
        id: the server's, or that of its kernel, which the kernel keeps when it is restarted.
        document: the path of the file that it serves.
        url: of its run API.
        port: that its run API or its page listens at.
        other_processes: whether the server of this process is left out.
    """
    path = None if document is None else str(Path(document).resolve())
    return [
        each
        for each in _running_servers()
        if (id is None or id in (each.id, each.kernel_id))
        and (path is None or each.document == path)
        and (url is None or each.url == url.rstrip("/"))
        and (port is None or port in each.ports)
        and not (other_processes and each.pid == os.getpid())
    ]


def _running_servers() -> list[ServerInfo]:
    found = []
    for path in sorted(runtime_folder().glob(f"{_PREFIX}*.json")):
        server_info = read(path)
        if server_info is None:
            continue
        if not server_info.alive:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
        elif path == server_info.path:
            found.append(server_info)
    return sorted(found, key=lambda each: each.started, reverse=True)


def read(path: Path) -> ServerInfo | None:
    """What a file tells of a server; None where it is no such file, or could be somebody else's."""
    try:
        content = private_files.read(path, _MAX_BYTES)
        if content is None:
            return None
        found: ServerInfo = _adapter(ServerInfo).validate_json(decode(content), strict=True)
        _ = found.ports  # raises where a URL is none
        return found if _ID.fullmatch(found.id) else None
    except (OSError, ValueError):
        return None


def runtime_folder() -> Path:
    """Jupyter's folder for files of running programs, which only this user reads."""
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir())
