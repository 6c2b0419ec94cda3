"""A server as a service of a JupyterHub: who its callers are, and what the Hub tells it.

A user's API token at the Hub, that of her own server say, is her identity here. The Hub is asked
with it, so the service needs no rights of its own.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from tornado.httpclient import AsyncHTTPClient, HTTPError, HTTPRequest

from ..errors import UsageError
from .access import Caller
from .identities import ASKED_AT_ONCE, RememberedIdentities, Unanswered

_SECONDS = 5.0
_MAX_BYTES = 2**20
_REFUSED = (401, 403)
_NO_ANSWER = 599  # what Tornado says then


@dataclass(frozen=True)
class HubService:
    """What a JupyterHub tells a service of its own, in the environment.

    Attributes:
        api_url: of the Hub's REST API.
        prefix: what the service's paths begin with, ``/services/model``.
        url: where the service is to listen.
        scopes: of which a token must have one.
    """

    api_url: str
    prefix: str
    url: str
    scopes: tuple[str, ...]

    @classmethod
    def of_environment(cls, environment: Mapping[str, str] = os.environ) -> HubService:
        """What the environment says.

        Raises:
            UsageError: it says nothing, or not enough.
        """

        def given(name: str, what: str) -> str:
            value = environment.get(f"JUPYTERHUB_{name}", "")
            if not value:
                raise UsageError(
                    f"no JupyterHub says {what}: JUPYTERHUB_{name} is not set",
                    hint="A JupyterHub starts this with 'command' in its configuration's services;"
                    " docs/jupyterhub.md has one.",
                )
            return value

        name = given("SERVICE_NAME", "which service this is")
        scopes = json.loads(environment.get("JUPYTERHUB_OAUTH_ACCESS_SCOPES") or "[]")
        return cls(
            api_url=given("API_URL", "where its API is").rstrip("/"),
            prefix=given("SERVICE_PREFIX", "what the service's paths begin with").rstrip("/"),
            url=given("SERVICE_URL", "where the service is to listen ('url' in its configuration)"),
            scopes=tuple(scopes) or ("access:services", f"access:services!service={name}"),
        )

    @property
    def address(self) -> tuple[str, int]:
        """The host and the port to listen at.

        Raises:
            UsageError: the URL has none.
        """
        parts = urlsplit(self.url)
        try:
            host, port = parts.hostname, parts.port
        except ValueError:
            host, port = None, None
        if parts.scheme != "http" or not host or not port:
            raise UsageError(
                f"the service's URL {self.url} is none that can be listened at",
                hint="Write it as http://127.0.0.1:PORT.",
            )
        return host, port

    def caller(self, model: Any) -> Caller | None:
        """Who the Hub says it is; None where it is nobody who may use the service.

        A service of the Hub's is a user, too, by another name.

        Raises:
            ValueError: it says something else.
        """
        try:
            name, kind, scopes = model["name"], model["kind"], model["scopes"]
            if kind not in ("user", "service") or not isinstance(name, str) or not name:
                raise ValueError("neither a user nor a service")
            if not set(self.scopes) & set(scopes):
                return None
            user = name if kind == "user" else f"service/{name}"  # as no user is called
            return Caller(user=user, is_admin=bool(model.get("admin")))
        except (KeyError, TypeError) as error:
            raise ValueError(str(error)) from None


class HubUsers(RememberedIdentities):
    """The users of a JupyterHub, by their tokens there.

    Who may come in is the Hub's to say: a token must have a scope that gives access to the service.
    """

    def __init__(self, service: HubService) -> None:
        super().__init__(self._ask_hub)
        self._service = service
        self.hint = (
            "Send 'Authorization: Bearer TOKEN', with a token of the JupyterHub that has the scope"
            f" {service.scopes[-1]}."
        )
        self._client: AsyncHTTPClient | None = None

    async def _ask_hub(self, token: str) -> Caller | None:
        if self._client is None:  # of the server's loop
            self._client = AsyncHTTPClient(
                force_instance=True, max_clients=ASKED_AT_ONCE, max_buffer_size=_MAX_BYTES
            )
        try:  # what is no token stands in no header
            request = HTTPRequest(
                f"{self._service.api_url}/user",
                headers={"Authorization": f"token {token.encode('ascii').decode()}"},
                connect_timeout=_SECONDS,
                request_timeout=_SECONDS,
                follow_redirects=False,
            )
            answer = await self._client.fetch(request)
            return self._service.caller(json.loads(answer.body))
        except UnicodeEncodeError:
            return None
        except HTTPError as error:
            if error.code in _REFUSED:
                return None
            if error.code != _NO_ANSWER:
                raise Unanswered(f"the JupyterHub answers with status {error.code}") from None
            raise Unanswered("the JupyterHub does not answer") from None
        except OSError:
            raise Unanswered("the JupyterHub does not answer") from None
        except ValueError:
            raise Unanswered("the JupyterHub's answer cannot be read") from None
