"""Asking a server that its announcement tells of, in a moment and without a thread."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from ..errors import ComposeError
from ..server.server_info import ServerInfo

_SECONDS = 5.0

# A proxy has nothing to do with this computer.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(server_info: ServerInfo, method: str, path: str) -> Any:
    """The answer to a request, as its owner.

    Args:
        announcement: tells of the server.
        method: of HTTP.
        path: below the base path of its run API.

    Raises:
        ComposeError: it does not answer, or says no.
    """
    request = urllib.request.Request(
        server_info.url + path,
        data=b"{}" if method == "POST" else None,
        headers={
            "Authorization": f"Bearer {server_info.token}",
            "Content-Type": "application/json",
        },
        method=method,
    )
    try:
        with _opener.open(request, timeout=_SECONDS) as response:
            return json.load(response)
    except (OSError, http.client.HTTPException, ValueError):
        raise ComposeError(
            f"the host at {server_info.url} does not answer", code="host_gone"
        ) from None


def answers(url: str) -> bool:
    """Whether a web server answers there, whatever it says.

    It is asked for nothing: a page would start a kernel.
    """
    try:
        _opener.open(urllib.request.Request(url, method="HEAD"), timeout=_SECONDS).close()
    except urllib.error.HTTPError:
        return True
    except (OSError, http.client.HTTPException):
        return False
    return True
