"""Who may see a page that other computers can reach: whoever has the token."""

from __future__ import annotations

import secrets
from pathlib import Path
from typing import Any

import jinja2
from jupyter_server.auth.identity import User
from tornado import web
from voila.voila_identity_provider import VoilaIdentityProvider

from ..translation import in_all_languages

_FOLDER = Path(__file__).parent
_SAID = (
    "Token needed",
    "This page needs a token",
    "Whoever runs it can tell you.",
    "Open",
    "That is not the token.",
)


class TokenIdentity(VoilaIdentityProvider):
    """Takes the token from the page's address, from a header, or from a form that asks for it."""

    @property
    def logout_available(self) -> bool:
        return False

    def process_login_form(self, handler: web.RequestHandler) -> User | None:
        given = handler.get_argument("password", default="")
        if not secrets.compare_digest(given.encode(), self.token.encode()):
            return None
        user: User = self.generate_anonymous_user(handler)
        return user


def with_own_form(environment: jinja2.Environment) -> jinja2.Environment:
    """Templates among which the form is ours: Jupyter's speaks of other servers."""
    own = jinja2.FileSystemLoader(_FOLDER)
    loaders: list[Any] = [own, *filter(None, [environment.loader])]
    made = environment.overlay(loader=jinja2.ChoiceLoader(loaders))
    made.globals["words"] = in_all_languages(*_SAID)
    return made
