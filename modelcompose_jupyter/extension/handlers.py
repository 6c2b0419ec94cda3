"""What a Jupyter server answers at ``modelcompose/hosts`` and ``modelcompose/ask``.

Hosts are listed, started and ended; editors are told what they ask about a text.

Who may ask is Jupyter's own affair: its login, its check of cookies and origins, and its
authorizer, which is asked for ``read`` or ``execute`` on the resource ``modelcompose``.
"""

from __future__ import annotations

import asyncio
import dataclasses
import json
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Literal

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME
from jupyter_server.auth.decorator import authorized
from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from pydantic import Field
from tornado import web

from .. import language_service
from ..background_worker import BackgroundWorker
from ..document import load_document, signature
from ..errors import ComposeError, DocumentError, UsageError
from ..host_selection import Endpoint
from ..server.http import status_of
from ..server.schemas import Body, failure, parse_body
from ..server.server_info import find_servers
from ..text_encoding import EncodingError, decode
from ..translation import reply_in
from ..widgets.snippets import as_curl, examples
from .host_manager import HostError, HostManager

RESOURCE = "modelcompose"
"""What Jupyter's authorizer is asked about."""
_MAX_BODY = 8 * 2**20
"""Bytes: a document of the greatest length, with all of its characters escaped."""


class StartRequest(Body):
    """What to serve."""

    path: str = Field(description="Of the document, among the Jupyter server's files.")
    kernel_name: str = Field(NATIVE_KERNEL_NAME, description="The kernelspec to run it in.")


class Question(Body):
    """What an editor asks about a text; see `language_service`."""

    question: Literal["check", "complete", "explain", "curl"]
    text: str = Field(description="A document, or a cell of ``%%compose``; of curl a document.")
    path: str | None = Field(None, description="Of its file, among the Jupyter server's files.")
    cursor: int = Field(0, ge=0, description="The place that is asked about, in UTF-16 units.")
    root: str = Field("", description="The address of ``modelcompose/``, as the page sees it.")


class HostsHandler(APIHandler):
    """What all handlers share."""

    auth_resource = RESOURCE

    def initialize(self, hosts: HostManager) -> None:
        self.hosts = hosts

    def _body(self, model: type[Body]) -> Any:
        """The request's body as its model.

        Raises:
            UsageError: it is something else, or too large.
        """
        if len(self.request.body) > _MAX_BODY:
            message = f"the body has more than {_MAX_BODY:,} bytes"
            raise UsageError(message, code="too_large")
        try:
            self.request.body = decode(self.request.body).encode()
            body = self.get_json_body()
        except EncodingError as error:
            message = f"the body cannot be read: {error}"
            raise UsageError(message, code="invalid_request") from None
        return parse_body(model, body)

    def _reply(self, data: Any, status: int = 200) -> None:
        self.set_status(status)
        self.finish(json.dumps(data))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        error = kwargs.get("exc_info", (None, None))[1]
        if not isinstance(error, ComposeError):
            super().write_error(status_code, **kwargs)
            return
        body = reply_in(failure(error, is_guest=False), self._language)
        if isinstance(error, DocumentError):
            body["error"]["problems"] = [dataclasses.asdict(each) for each in error.problems]
        self._reply(body, error.status if isinstance(error, HostError) else status_of(error))

    @property
    def _language(self) -> str:
        """That of JupyterLab, which the extension's requests name."""
        return str(self.request.headers.get("Accept-Language", ""))

    def log_exception(self, kind: Any, error: Any, traceback: Any) -> None:
        if not isinstance(error, ComposeError):  # which are answers
            super().log_exception(kind, error, traceback)


class HostListHandler(HostsHandler):
    """All hosts: what they are, and a new one."""

    @web.authenticated
    @authorized("read", resource=RESOURCE)
    async def get(self) -> None:
        self._reply(await self.hosts.all())

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def post(self) -> None:
        request: StartRequest = self._body(StartRequest)
        host, is_new = await self.hosts.start(request.path, request.kernel_name)
        self.set_header("Location", url_path_join(self.base_url, "modelcompose/hosts", host.id))
        self._reply(await self.hosts.describe(host), 201 if is_new else 200)


class HostHandler(HostsHandler):
    """One host: what it is, and its end."""

    @web.authenticated
    @authorized("read", resource=RESOURCE)
    async def get(self, id: str) -> None:
        self._reply(await self.hosts.describe(self.hosts.find(id)))

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def delete(self, id: str) -> None:
        self.set_status(204 if await self.hosts.stop(id) else 202)
        self.finish()


class AskHandler(HostsHandler):
    """Answers editors where no kernel does, out of the server's environment.

    One question after another, beside the server's loop; one whose client has gone, or that was
    overtaken by a newer one about the same file, is not answered.
    """

    def initialize(self, hosts: HostManager, questions: BackgroundWorker) -> None:  # type: ignore[override]
        super().initialize(hosts)
        self._questions = questions
        self._asked: Future[Any] | None = None

    def on_connection_close(self) -> None:
        super().on_connection_close()
        if self._asked is not None:
            self._asked.cancel()

    @web.authenticated
    @authorized("execute", resource=RESOURCE)
    async def post(self) -> None:
        asked: Question = self._body(Question)
        file = await self._file(asked.path)
        # A notebook has many cells, each of which may be asked about.
        is_one_text = asked.path is not None and not asked.path.endswith(".ipynb")
        user = getattr(self.current_user, "username", None)
        about = (user, asked.path, asked.question) if is_one_text else None
        self._asked = self._questions.ask(lambda: _answer(asked, file), about=about)
        try:
            self._reply(reply_in(await asyncio.wrap_future(self._asked), self._language))
        except asyncio.CancelledError:
            if not self._asked.cancelled():
                raise
            message = "a newer question about this text has taken the place of this one"
            raise HostError(409, message, code="overtaken") from None

    async def _file(self, path: str | None) -> Path | None:
        """A file on this computer; None where it is not here."""
        if path is None:
            return None
        try:
            return Path((await self.hosts.file(path))[1])
        except HostError:
            return None


def _answer(asked: Question, file: Path | None) -> Any:
    """The answer to a question about a text, which is that of a file if it is given."""
    folder = file and file.parent
    match asked.question:
        case "check":
            return language_service.diagnostics(asked.text, folder=folder)
        case "complete":
            return language_service.complete(asked.text, asked.cursor)
        case "explain":
            return language_service.explain(asked.text, asked.cursor, folder=folder)
    # A command that runs the document: on the host that serves its file, or where it says itself.
    document = load_document(f"{asked.text}\n", folder=folder)
    workflow, endpoint = document.default_workflow, None
    if found := find_servers(document=file) if file else []:
        url = url_path_join(asked.root, "hosts", found[0].id)
        endpoint = Endpoint(url, None, "JUPYTER_TOKEN")
    return as_curl(document, workflow.id, examples(signature(document, workflow)), endpoint)
