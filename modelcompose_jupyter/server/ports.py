"""Ports to listen at: one bind, with one error, for run APIs, for pages, and to try before."""

from __future__ import annotations

import socket

from tornado.netutil import bind_sockets

from ..errors import ComposeError
from .connections import BACKLOG

_TAKEN = (98, 48, 10048, 10013)  # EADDRINUSE of Linux, macOS and Windows; and Windows' refusal


def bind(host: str, port: int) -> list[socket.socket]:
    """Sockets that listen at a port of all the addresses that a name has.

    Args:
        host: a name or an address; empty is all of this computer's.
        port: 0 is any that is free: one number, at an address of one family.

    Raises:
        ComposeError: the port is taken, or the name is none of this computer's (``port_taken``).
    """
    family = socket.AF_UNSPEC
    if port == 0:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return bind_sockets(port, host, family=family, backlog=BACKLOG)
    except OSError as error:
        reason = "is taken"
        if error.errno not in _TAKEN:
            reason = f"cannot be used: {(error.strerror or str(error)).lower()}"
        raise ComposeError(
            f"port {port} of {host or '0.0.0.0'} {reason}",
            hint="Choose another port, or end what listens there.",
            code="port_taken",
        ) from None


def try_bind(host: str, port: int) -> int:
    """The number of the port that `bind` would listen at, which is free again afterwards.

    Raises:
        ComposeError: what `bind` would raise.
    """
    listeners = bind(host, port)
    bound = int(listeners[0].getsockname()[1])
    for each in listeners:
        each.close()
    return bound
