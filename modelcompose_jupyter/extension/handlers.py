"""What a Jupyter server answers at ``modelcompose/hosts``: the hosts themselves.

Who may ask is Jupyter's own affair: its login, its check of cookies and origins, and its
authorizer, which is asked for ``read`` or ``execute`` on the resource ``modelcompose``.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Awaitable
from typing import Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from pydantic import Field
from tornado import web

from ..errors import ComposeError, DocumentError, UsageError
from ..server.handler import status_of
from ..server.wire import Body, failure, parse_body
from .hosts import HostError, Hosts

RESOURCE = "modelcompose"
"""What Jupyter's authorizer is asked about."""


class StartRequest(Body):
    """What to serve."""

    path: str = Field(description="Of the document, among the Jupyter server's files.")
    kernel_name: str = Field(NATIVE_KERNEL_NAME, description="The kernelspec to run it in.")


class HostsHandler(APIHandler):
    """What all handlers share."""

    auth_resource = RESOURCE

    def initialize(self, hosts: Hosts) -> None:
        self.hosts = hosts

    async def _answer(self, work: Awaitable[None]) -> None:
        try:
            await work
        except ComposeError as error:
            self._fail(error)

    def _reply(self, data: Any, status: int = 200) -> None:
        self.set_status(status)
        self.finish(json.dumps(data))

    def _fail(self, error: ComposeError) -> None:
        body = failure(error, public=False)
        if isinstance(error, DocumentError):
            body["error"]["problems"] = [dataclasses.asdict(each) for each in error.problems]
        self._reply(body, error.status if isinstance(error, HostError) else status_of(error))


class HostListHandler(HostsHandler):
    """All hosts: what they are, and a new one."""

    @web.authenticated
    @authorized("read", resource=RESOURCE)
    async def get(self) -> None:
        self._reply(await self.hosts.all())

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def post(self) -> None:
        await self._answer(self._start())

    async def _start(self) -> None:
        try:
            body = self.get_json_body()
        except UnicodeDecodeError:
            raise UsageError("the body is not UTF-8 text", code="invalid_request") from None
        request: StartRequest = parse_body(StartRequest, body)
        host, is_new = await self.hosts.start(request.path, request.kernel_name)
        self.set_header("Location", url_path_join(self.base_url, "modelcompose/hosts", host.id))
        self._reply(await self.hosts.describe(host), 201 if is_new else 200)


class HostHandler(HostsHandler):
    """One host: what it is, and its end."""

    @web.authenticated
    @authorized("read", resource=RESOURCE)
    async def get(self, id: str) -> None:
        await self._answer(self._describe(id))

    async def _describe(self, id: str) -> None:
        self._reply(await self.hosts.describe(self.hosts.find(id)))

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def delete(self, id: str) -> None:
        await self._answer(self._stop(id))

    async def _stop(self, id: str) -> None:
        self.set_status(204 if await self.hosts.stop(id) else 202)
        self.finish()
