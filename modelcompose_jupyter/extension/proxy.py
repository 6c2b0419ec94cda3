"""The run API of a host, behind a Jupyter server: requests go there with its owner's token.

A host is reached by its server info alone. Of a request, the path below the host's own, the query,
the body and a few headers go on; of an answer, its status, its body as it comes, and a few headers.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

import httpx
from jupyter_server.auth.decorator import authorized
from tornado import web
from tornado.http1connection import HTTP1Connection
from tornado.iostream import StreamClosedError

from ..errors import ComposeError, UsageError
from ..server.server import ServerSettings
from ..server.server_info import ServerInfo
from .handlers import RESOURCE, HostsHandler
from .host_manager import HostError, HostManager, gone

_CONNECT_SECONDS = 5.0
_MAX_BODY = ServerSettings().max_body
_MAX_FIELDS = 1000  # of a query, as a host itself has it
_ASKED = ("Accept", "Content-Type", "Last-Event-ID")
_ANSWERED = ("Content-Type", "Content-Length", "Cache-Control", "Retry-After", "X-Accel-Buffering")
_OF_JUPYTER = ("token", "_xsrf", "no_track_activity")  # in a query, and nobody else's business


def http_client() -> httpx.AsyncClient:
    """What requests to hosts are sent with; of one event loop."""
    return httpx.AsyncClient(
        # A run may say nothing for as long as it takes.
        timeout=httpx.Timeout(None, connect=_CONNECT_SECONDS),
        limits=httpx.Limits(max_connections=None, max_keepalive_connections=20),
        trust_env=False,  # a proxy has nothing to do with this computer
    )


class ProxyHandler(HostsHandler):
    """Everything below a host, or below ``api`` where only one runs."""

    def initialize(self, hosts: HostManager, client: httpx.AsyncClient) -> None:  # type: ignore[override]
        super().initialize(hosts)
        self._client = client
        self._exchanging: asyncio.Task[None] | None = None
        self._gone = False

    @web.authenticated
    @authorized("read", resource=RESOURCE)
    async def get(self, id: str | None = None) -> None:
        await self._pass_on(id)

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def post(self, id: str | None = None) -> None:
        await self._pass_on(id)

    async def _pass_on(self, id: str | None) -> None:
        host = self.hosts.find(id)
        own = 2 if id is None else 3  # modelcompose/api, modelcompose/hosts/ID
        segments = self.request.path.removeprefix(self.base_url).split("/")[own:]
        url = _target(host, segments, self.request.query)
        headers = self._headers_for(host)
        if len(self.request.body) > _MAX_BODY:
            raise ComposeError(f"the body is larger than {_MAX_BODY:,} bytes", code="too_large")
        if self._gone:
            return
        self._exchanging = asyncio.create_task(self._exchange(url, headers))
        try:
            await self._exchanging
        except asyncio.CancelledError:
            if not self._gone:
                raise

    def on_connection_close(self) -> None:
        """The client has gone: so does its request to the host, which ends its run."""
        super().on_connection_close()
        self._gone = True
        if self._exchanging is not None:
            self._exchanging.cancel()

    def _headers_for(self, host: ServerInfo) -> dict[str, str]:
        given = self.request.headers
        headers = {name: given[name] for name in _ASKED if name in given}
        for name, value in headers.items():
            if not value.isascii():
                raise UsageError(f"the header '{name}' is not ASCII text", code="invalid_request")
        return headers | {"Accept-Encoding": "identity", "Authorization": f"Bearer {host.token}"}

    async def _exchange(self, url: str, headers: Mapping[str, str]) -> None:
        request = self._client.build_request(
            self.request.method or "GET", url, content=self.request.body, headers=headers
        )
        try:
            answer = await self._client.send(request, stream=True)
            try:
                await self._give(answer)
            finally:
                # Cancelled here, it would leave the connection open, and the run going.
                await asyncio.shield(answer.aclose())
        except httpx.HTTPError:
            if not self._headers_written:
                raise gone() from None
            # So that what has come is not taken for the whole.
            connection = self.request.connection
            if isinstance(connection, HTTP1Connection):
                connection.stream.close()
        except StreamClosedError:
            pass  # the client has gone

    async def _give(self, answer: httpx.Response) -> None:
        if answer.status_code == 401:  # it is the host that does not know this server's token
            raise gone()
        self.set_status(answer.status_code)
        for name in _ANSWERED:
            if name in answer.headers:
                self.set_header(name, answer.headers[name])
        async for piece in answer.aiter_raw():
            self.write(piece)
            await self.flush()
        self.finish(set_content_type=answer.headers.get("Content-Type", "application/json"))


def _target(host: ServerInfo, segments: Sequence[str], query: str) -> str:
    """Where a request goes to: below the run API, or among the routes of OpenAI's clients.

    Raises:
        HostError: a path that could lead somewhere else, or that is not for everybody.
        UsageError: a query of very many fields.
    """
    names = [unquote(each) for each in segments]
    if names and not names[-1]:
        names.pop()  # a slash at the end
    checked = names
    if names[:2] == ["v1", "models"] and len(names) == 3:
        # Ids of models on the Hub have a slash; it goes on as one that separates nothing.
        checked = [*names[:2], *names[2].split("/")]
    if any(name in ("", ".", "..") or set(name) & set("/\\\0") for name in checked):
        raise HostError(404, "there is nothing at this path", code="not_found")
    if names == ["shutdown"]:
        raise HostError(
            403,
            "a host is not ended through its own API here",
            hint=f"Use DELETE /modelcompose/hosts/{host.id}.",
            code="forbidden",
        )
    parts = urlsplit(host.url)
    base = f"{parts.scheme}://{parts.netloc}" if names[:1] == ["v1"] else host.url
    try:
        asked = parse_qsl(query, keep_blank_values=True, max_num_fields=_MAX_FIELDS)
    except ValueError:
        raise UsageError(
            f"the query has more than {_MAX_FIELDS} fields", code="invalid_request"
        ) from None
    kept = urlencode([(name, value) for name, value in asked if name not in _OF_JUPYTER])
    path = "/".join(quote(name, safe="") for name in names)
    return f"{base}/{path}" + (f"?{kept}" if kept else "")
