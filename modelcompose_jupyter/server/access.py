"""Who may call: tokens, and the checks that keep web pages of others away from a local server."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import IntEnum
from urllib.parse import urlsplit

from ..errors import ComposeError, UsageError
from ..redaction import remember

TOKEN_VARIABLE = "MODELCOMPOSE_TOKEN"
"""The environment variable that holds the token; arguments can be seen by other users."""


class Caller(IntEnum):
    """What a caller is allowed.

    A guest runs the workflows that are served and sees the runs of guests. The owner is this
    user's other programs: any document, every run, the models, the end of the server.
    """

    GUEST = 1
    OWNER = 2


class AccessError(ComposeError):
    """A request that may not be answered."""


def is_loopback(host: str) -> bool:
    """Whether an address or name is this computer's own, reached by nobody else."""
    name = host.strip("[]").lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False


@dataclass(frozen=True)
class Access:
    """The rules of one server.

    Args:
        host: the address that it listens at.
        token: what clients must present; None lets everybody in, which only loopback may.
        origins: origins of web pages, such as ``https://example.org``, that may call besides the
            server's own.
        owner_token: what this user's other programs present.
    """

    host: str
    token: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    owner_token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)

    def __post_init__(self) -> None:
        remember(self.token)
        remember(self.owner_token)
        if self.token is None and not is_loopback(self.host):
            raise UsageError(
                f"an API at {self.host} can be reached from other computers and needs a token",
                hint="Leave the address out to listen at 127.0.0.1, or set a token.",
            )
        if "*" in self.origins:
            raise UsageError(
                "'*' would let every web page use the models",
                hint="Name the origins that may call, such as https://example.org.",
            )

    def check_host(self, header: str) -> None:
        """Refuse names that a foreign page made its own name point here under (DNS rebinding).

        Raises:
            AccessError: ``forbidden``.
        """
        if self.token is not None and not is_loopback(self.host):
            return  # the names of this computer are not known; the token keeps pages away
        try:
            name = urlsplit(f"//{header}").hostname or ""
        except ValueError:
            name = ""
        if not is_loopback(name) and name != self.host:
            raise AccessError(
                "this server is not known by that name",
                hint="Use http://127.0.0.1.",
                code="forbidden",
            )

    def check_origin(self, method: str, host: str, headers: Mapping[str, str]) -> None:
        """Refuse what a page of another origin sends to the server that it calls ``host``.

        Raises:
            AccessError: ``forbidden``.
        """
        origin = headers.get("Origin")
        if origin is not None:
            if origin in (f"http://{host}", f"https://{host}", *self.origins):
                return
        else:
            follows_link = method in ("GET", "HEAD") and headers.get("Sec-Fetch-Mode") == "navigate"
            if headers.get("Sec-Fetch-Site") in (None, "same-origin", "none") or follows_link:
                return
        raise AccessError(
            "pages of other origins may not use this server",
            hint="Its owner can allow an origin with 'origins' in the controller.",
            code="forbidden",
        )

    def is_owner(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header is the owner's."""
        return _is_same_secret(_bearer_token(authorization), self.owner_token)

    def caller(self, authorization: str | None) -> Caller:
        """Who calls, by an ``Authorization`` header.

        Raises:
            AccessError: ``unauthorized``.
        """
        presented = _bearer_token(authorization)
        if self.is_owner(authorization):
            return Caller.OWNER
        if self.token is None or _is_same_secret(presented, self.token):
            return Caller.GUEST
        raise AccessError(
            "the token is wrong" if presented else "a token is needed",
            hint="Send 'Authorization: Bearer TOKEN'.",
            code="unauthorized",
        )


def _bearer_token(authorization: str | None) -> str:
    """The token in an ``Authorization`` header; empty where there is none."""
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() if scheme.lower() == "bearer" else ""


def _is_same_secret(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), expected.encode())
