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
    where = host or "0.0.0.0"
    try:
        return bind_sockets(port, host, family=family, backlog=BACKLOG)
    except (socket.gaierror, UnicodeError):
        message = f"{host} is no address of this computer"
        hint = "Listen at 127.0.0.1, or at an address that this computer has."
    except OSError as error:
        reason = (error.strerror or str(error)).lower()
        if error.errno in _TAKEN:
            message = f"port {port} of {where} is taken"
        else:
            message = f"port {port} of {where} cannot be used: {reason}"
        hint = "Choose another port, or end what listens there."
    # Not in the handler: the error would keep the sockets that were bound before, open.
    raise ComposeError(message, hint=hint, code="port_taken")


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
