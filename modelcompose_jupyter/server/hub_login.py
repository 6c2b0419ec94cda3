"""The page of a JupyterHub's service in a browser: who sees it logs in at the Hub, by OAuth.

Cookies, states and the tokens of forms are JupyterHub's own code, which is imported with this
module alone. Used on the server's loop.
"""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from jupyterhub.services.auth import HubOAuth, HubOAuthCallbackHandler, HubOAuthenticated
from tornado.web import HTTPError

from ..errors import ComposeError, UsageError
from .access import AccessError, Caller
from .handler import ApiHandler
from .http import ApiResponse, Route, path_pattern
from .hub_page import PAGE_ROUTES, SECURITY_POLICY, Words, error_page, redirection
from .identities import FRESH_SECONDS
from .jupyterhub import HubService
from .state import ServerState

_LOGINS = 10_000  # that have begun and are remembered until they end: anybody may begin one


class _BoundedOAuth(HubOAuth):
    """JupyterHub's logins, of which those that began first are forgotten beyond a bound."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._begun: OrderedDict[str, None] = OrderedDict()

    def generate_state(self, next_url: str | None = None, **more: Any) -> str:
        state: str = super().generate_state(next_url, **more)
        self._begun[state] = None
        while len(self._begun) > _LOGINS:
            self.clear_oauth_state(self._begun.popitem(last=False)[0])
        return state


def hub_pages(service: HubService) -> Callable[[ServerState], list[Any]]:
    """What answers at the service's pages, as Tornado's handlers, of a server's state.

    Raises:
        UsageError: the environment does not tell what logging in takes.
    """
    for name in ("JUPYTERHUB_CLIENT_ID", "JUPYTERHUB_API_TOKEN"):  # which JupyterHub's code reads
        if not os.environ.get(name):
            raise UsageError(
                f"nobody can log in at the page: {name} is not set",
                hint="A JupyterHub sets it for a service that it starts.",
            )
    oauth = _BoundedOAuth(cache_max_age=int(FRESH_SECONDS))
    return partial(_handlers, service, oauth)


def _handlers(service: HubService, oauth: HubOAuth, state: ServerState) -> list[Any]:
    paths: dict[str, dict[str, Route]] = {}
    for route in PAGE_ROUTES:
        paths.setdefault(route.full_path(state.settings), {})[route.method] = route
    given = {"state": state, "service": service, "oauth": oauth}
    return [
        (f"{service.prefix}/oauth_callback", _CallbackHandler, {**given, "routes": {}}),
        *(
            (path_pattern(path), _PageHandler, {**given, "routes": routes})
            for path, routes in paths.items()
        ),
    ]


class _PageHandler(HubOAuthenticated, ApiHandler):
    """One path of the page, for people whom the Hub lets in; others are sent to log in there."""

    def initialize(  # type: ignore[override]
        self, service: HubService, oauth: HubOAuth, **given: Any
    ) -> None:
        super().initialize(**given)
        self._service = service
        self.hub_auth = oauth

    def set_default_headers(self) -> None:
        super().set_default_headers()
        self.set_header("Content-Security-Policy", SECURITY_POLICY)
        self.set_header("Referrer-Policy", "same-origin")

    async def _who_calls(self) -> Caller:
        model = await self._hub_user()
        caller = None if model is None else self._service.caller(model)
        if caller is None:
            raise AccessError(
                "the JupyterHub has not said who you are",
                hint="Open this page again.",
                code="unauthorized",
            )
        self.current_user = model  # or Tornado would ask again, and block
        token = self.xsrf_token
        self._form_token = token.decode() if isinstance(token, bytes) else token
        return caller

    async def _hub_user(self) -> Any:
        """What the Hub says of who is logged in; None where nobody is, or a form was not ours."""
        try:
            return await self.hub_auth.get_user(self, sync=False)
        except (HTTPError, OSError):
            raise ComposeError(
                "the JupyterHub does not answer",
                hint="Open this page again in a moment.",
                code="overloaded",
            ) from None

    def _told(self, error: ComposeError, status: int, headers: Mapping[str, str]) -> ApiResponse:
        if error.code == "unauthorized" and self.request.method == "GET":
            self.request.uri = self.request.path  # is kept until then, however long a query was
            return redirection(self.get_login_url(), 302)
        words = Words.of(self.request.headers)
        return error_page(error, status, headers, self._service.prefix, words)


class _CallbackHandler(HubOAuthCallbackHandler, _PageHandler):
    """Where the Hub sends back who has logged in there."""

    async def _check_access(self) -> None:
        self._state.access.check_host(self.request.host)
        self._body.check_absent()
        self.current_user = await self._hub_user()  # or Tornado would ask, and block
