"""Who may call: tokens, and the checks that keep web pages of others away from a local server."""

from __future__ import annotations

import ipaddress
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar, Protocol
from urllib.parse import urlsplit

from ..errors import ComposeError, UsageError
from ..redaction import remember

TOKEN_VARIABLE = "MODELCOMPOSE_TOKEN"
"""The environment variable that holds the token; arguments can be seen by other users."""

_HINT = "Send 'Authorization: Bearer TOKEN'."
_SCHEMES = ("bearer", "token")  # the second is what Jupyter's programs say


@dataclass(frozen=True)
class Caller:
    """Who calls, and what they are allowed.

    The owner is this user's other programs: any document, every run, the models, the end of the
    server. A guest runs the workflows that are served and sees the runs of guests. A user is a
    guest whom the server knows by name: theirs are their own runs, and nobody else's.

    Attributes:
        user: the name of a guest who is known.
        is_owner: whether it is the owner.
        is_admin: whether a user may see what other users run, though not their texts, and stop it.
    """

    user: str | None = None
    is_owner: bool = False
    is_admin: bool = field(default=False, compare=False)

    GUEST: ClassVar[Caller]
    OWNER: ClassVar[Caller]

    @property
    def kind(self) -> str:
        """What it is, for logs: ``owner``, ``user`` or ``guest``."""
        return "owner" if self.is_owner else "guest" if self.user is None else "user"

    @property
    def manages(self) -> bool:
        """Whether they may see what others run."""
        return self.is_owner or self.is_admin

    def may_read(self, other: Caller) -> bool:
        """Whether the runs of another are theirs to read, and to go on from."""
        return self.is_owner or self == other

    def may_stop(self, other: Caller) -> bool:
        """Whether they may know of the runs of another, and stop them."""
        return self.may_read(other) or (self.is_admin and not other.is_owner)


Caller.GUEST = Caller()
Caller.OWNER = Caller(is_owner=True)


class Identities(Protocol):
    """Who else than this server knows whom a token belongs to.

    Attributes:
        hint: what those are to send whom nobody knows.
    """

    hint: str

    async def caller(self, token: str) -> Caller | None:
        """Whose token it is; None where it is nobody's who may come in.

        Raises:
            ComposeError: nobody can say so now (``overloaded``).
        """
        ...


class AccessError(ComposeError):
    """A request that may not be answered."""


def owner_alone() -> AccessError:
    """What those are told who are not the owner."""
    return AccessError(
        "only this user's own programs may do that",
        hint="They find the token in Jupyter's runtime folder.",
        code="forbidden",
    )


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
        token: what clients must present. None, where there are no ``identities`` either, lets
            everybody in, which only loopback may.
        origins: origins of web pages, such as ``https://example.org``, that may call besides the
            server's own.
        owner_token: what this user's other programs present.
        identities: knows the tokens of users, if anybody does.
    """

    host: str
    token: str | None = field(default=None, repr=False)
    origins: tuple[str, ...] = ()
    owner_token: str = field(default_factory=lambda: secrets.token_urlsafe(32), repr=False)
    identities: Identities | None = None

    def __post_init__(self) -> None:
        remember(self.token)
        remember(self.owner_token)
        if not self.asks and not is_loopback(self.host):
            raise UsageError(
                f"an API at {self.host} can be reached from other computers and needs a token",
                hint="Leave the address out to listen at 127.0.0.1, or set a token.",
            )
        if "*" in self.origins:
            raise UsageError(
                "'*' would let every web page use the models",
                hint="Name the origins that may call, such as https://example.org.",
            )

    @property
    def asks(self) -> bool:
        """Whether callers must present a token."""
        return self.token is not None or self.identities is not None

    def check_host(self, header: str) -> None:
        """Refuse names that a foreign page made its own name point here under (DNS rebinding).

        Raises:
            AccessError: ``forbidden``.
        """
        if self.identities is not None or (self.token and not is_loopback(self.host)):
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

    async def caller(self, authorization: str | None) -> Caller:
        """Who calls, by an ``Authorization`` header.

        Raises:
            AccessError: ``unauthorized``.
            ComposeError: who it is cannot be said now (``overloaded``).
        """
        presented = _bearer_token(authorization)
        if self.is_owner(authorization):
            return Caller.OWNER
        if not self.asks or (self.token and _is_same_secret(presented, self.token)):
            return Caller.GUEST
        if self.identities is not None and presented:
            found = await self.identities.caller(presented)
            if found is not None:
                return found
        raise AccessError(
            "the token is wrong" if presented else "a token is needed",
            hint=_HINT if self.identities is None else self.identities.hint,
            code="unauthorized",
        )


def _bearer_token(authorization: str | None) -> str:
    """The token in an ``Authorization`` header; empty where there is none."""
    scheme, _, given = (authorization or "").partition(" ")
    return given.strip() if scheme.lower() in _SCHEMES else ""


def _is_same_secret(given: str, expected: str) -> bool:
    return secrets.compare_digest(given.encode("utf-8", "replace"), expected.encode())
