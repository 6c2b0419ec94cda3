"""What `up` is about to start, and the checks that come before anything slow."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import re
import secrets
import socket
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter

from ..document import Document, RayRuntime
from ..errors import ComposeError, UsageError
from ..server.access import TOKEN_VARIABLE, is_loopback
from ..server.jupyterhub import HubService
from ..server.ports import try_bind
from ..server.server_info import find_servers, path_of, runtime_folder
from ..text_encoding import EncodingError, decode

_ANYWHERE = ("", "0.0.0.0", "::")
_SHORTEST_TOKEN = 8


@dataclass(frozen=True)
class Address:
    """Where something listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        """A URL that people on this computer can open."""
        name = f"[{self.host}]" if ":" in self.host else self.host
        if self.host in ("127.0.0.1", *_ANYWHERE):
            # Programs that know localhost by both its addresses try this one first.
            elsewhere = self.host in ("127.0.0.1", "0.0.0.0") and _answers("::1", self.port)
            name = "127.0.0.1" if elsewhere else "localhost"
        return f"http://{name}:{self.port}"

    @property
    def is_public(self) -> bool:
        """Whether other computers can reach it."""
        return not is_loopback(self.host)


@dataclass(frozen=True)
class LaunchConfig:
    """All that a supervisor needs to know.

    Attributes:
        document: the path of the document.
        title: what it is called.
        api: where the run API listens.
        base_path: what its paths begin with.
        page: where the page listens; None is no page.
        token: what clients of the run API must present, if anything.
        page_token: what visitors of the page must present, if anything.
        token_from: who gave the token: a file's path, or None where it was made.
        limits: of the host; see `LocalHost.limit`.
        ray: the cluster whose replicas are the host; None where the run API's process is.
        application: what it is called there.
        on_jupyterhub: whether it is the service of a JupyterHub, which the environment tells of.
        root_path: what all paths begin with there.
        user_documents: whether users may run documents of theirs there.
        log_level: the least that the log says.
        log_prompts: whether inputs and texts are in the log.
        id: of the host's server.
    """

    document: str
    title: str
    api: Address
    base_path: str
    page: Address | None
    token: str | None = field(default=None, repr=False)
    page_token: str | None = field(default=None, repr=False)
    token_from: str | None = None
    limits: Mapping[str, Any] = field(default_factory=dict)
    ray: RayRuntime | None = None
    application: str = "modelcompose"
    on_jupyterhub: bool = False
    root_path: str = ""
    user_documents: bool = False
    log_level: str = "WARNING"
    log_prompts: bool = False
    id: str = field(default_factory=lambda: secrets.token_hex(6))

    def to_json(self) -> str:
        return json.dumps(dataclasses.asdict(self))

    @classmethod
    def from_json(cls, text: str) -> LaunchConfig:
        return TypeAdapter(cls).validate_json(text)

    @property
    def api_url(self) -> str:
        return f"{self.api.url}{self.root_path}/{self.base_path.strip('/')}".rstrip("/")

    @property
    def page_url(self) -> str | None:
        return self.page.url if self.page else None

    @property
    def server_info_path(self) -> Path:
        """The file that tells where the host is, once it serves."""
        return path_of(self.id)

    @property
    def connection_file(self) -> Path:
        """The file that Jupyter's programs find the host's kernel by."""
        return runtime_folder() / f"kernel-{self.id}.json"

    def check(self) -> None:
        """Raise ComposeError where the document is up already, or a port is taken."""
        if self.page is not None and self.page.port == self.api.port:
            raise UsageError(
                f"the API and the page cannot both have port {self.api.port}",
                hint="Choose others with --port and --webui-port.",
            )
        for each in find_servers(document=self.document):
            if each.supervisor is not None and self.ray is None:  # one of many that offer it
                page = f", page {each.webui}" if each.webui else ""
                raise ComposeError(
                    f"{Path(self.document).name} is up already: API {each.url}{page}",
                    hint="End it with 'model-compose down', or look at it with "
                    "'model-compose status'.",
                    code="already_up",
                )
        taken: dict[int, str] = {}
        for name, address in (("API", self.api), ("page", self.page)):
            if address is None:
                continue
            try:
                try_bind(address.host, address.port)
            except ComposeError as error:
                taken[address.port] = f"{name}: {error.message}"
        if taken:
            raise ComposeError(
                "; ".join(taken.values()),
                hint=_holder(taken),
                code="port_taken",
            )


def given_token(file: str | None) -> tuple[str | None, str | None]:
    """The token that a file holds, else the environment or nothing, and where it is from.

    Raises:
        UsageError: it cannot be read, or is no token.
    """
    if file is not None:
        try:
            token, origin = decode(Path(file).read_bytes()).strip(), str(Path(file).resolve())
        except (OSError, EncodingError) as error:
            reason = getattr(error, "strerror", None) or str(error)
            raise UsageError(f"cannot read the token in {file}: {reason}") from None
    elif (given := os.environ.get(TOKEN_VARIABLE)) is not None:
        token, origin = given.strip(), f"the environment variable {TOKEN_VARIABLE}"
    else:
        return None, None
    if len(token) < _SHORTEST_TOKEN or not all("!" <= each <= "~" for each in token):
        raise UsageError(
            f"what is in {origin} is no token",
            hint=f"A token is {_SHORTEST_TOKEN} ASCII characters or more, without spaces.",
        )
    return token, origin


def launch_config(
    path: Path,
    document: Document,
    *,
    host: str | None = None,
    port: int | None = None,
    webui_host: str | None = None,
    webui_port: int | None = None,
    base_path: str | None = None,
    webui: bool = True,
    token_file: str | None = None,
    ray: RayRuntime | None = None,
    on_jupyterhub: bool = False,
    **others: Any,
) -> LaunchConfig:
    """What to start for a document; what is None is as the document has it, a port of 0 any that is
    free. A JupyterHub says where its service listens, and has no page. ``others`` are of
    `LaunchConfig`.

    Raises:
        UsageError: the token cannot be read, or the environment tells of no JupyterHub.
    """
    controller = document.controller
    service = HubService.of_environment() if on_jupyterhub else None
    if service is None:
        api = _with_port(host or controller.host, controller.port if port is None else port)
    else:
        api = Address(*service.address)
    page = None
    if webui and service is None:
        port = controller.webui_port if webui_port is None else webui_port
        page = _with_port(webui_host or controller.webui_host, port)
    token, origin = given_token(token_file)
    is_public = api.is_public or (page is not None and page.is_public)
    made = secrets.token_urlsafe(32) if token is None and is_public else None
    titles = [each.title for each in document.workflows if each.title and not each.private]
    return LaunchConfig(
        document=str(path.resolve()),
        title=document.name or ", ".join(titles) or path.name,
        api=api,
        base_path=controller.base_path if base_path is None else base_path,
        page=page,
        # One that was made is asked for only where others can come in.
        token=token or (made if api.is_public and service is None else None),
        page_token=token or (made if page is not None and page.is_public else None),
        token_from=origin,
        ray=ray,
        application=_application(document.name or path.stem),
        on_jupyterhub=on_jupyterhub,
        root_path="" if service is None else service.prefix,
        **others,
    )


def _application(name: str) -> str:
    """What a document is called in a cluster, whichever machine it is on."""
    return f"modelcompose-{re.sub(r'[^a-z0-9]+', '-', name.lower()).strip('-')}".rstrip("-")


def log_path(document: str | os.PathLike[str]) -> Path:
    """Where the log of a document is that is up detached."""
    path = Path(document).resolve()
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    return runtime_folder() / f"modelcompose-{path.stem}-{digest}.log"


def _with_port(host: str, port: int) -> Address:
    """Where to listen, with a port that is free where any will do."""
    return Address(host, port or try_bind(host, 0))


def _answers(host: str, port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection((host, port), timeout=0.5):
        return True
    return False


def _holder(ports: Iterable[int]) -> str:
    """What to do about ports that somebody has, of this user's documents if it is one."""
    for each in (server for port in ports for server in find_servers(port=port)):
        if each.supervisor is None:
            return (
                f"{each.title} is served there, by the process {each.pid}. "
                "Or choose others with --port and --webui-port; 0 is any that is free."
            )
        return (
            f"{each.document} is up there; 'model-compose down -f {each.document}' ends it. "
            "Or choose others with --port and --webui-port; 0 is any that is free."
        )
    return (
        "End what listens there. "
        "Or choose others with --port and --webui-port; 0 is any that is free."
    )
