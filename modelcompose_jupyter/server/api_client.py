"""Short questions to a server of this user, asked in one request.

They need neither a thread nor httpx, which takes long to import. What goes on for longer
is asked by a `RemoteHost`, which keeps its connections and follows runs.
"""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from ..errors import ComposeError
from .server_info import ServerInfo

_SECONDS = 5.0

# A proxy has nothing to do with this computer.
_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


def ask(server_info: ServerInfo, method: str, path: str) -> Any:
    """The answer to a request of the server's owner, to a path below its run API's base path.

    Raises:
        ComposeError: it says no (``refused``), or does not answer (``host_gone``).
    """
    url = server_info.url
    request = urllib.request.Request(
        url + path,
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
    except urllib.error.HTTPError as error:
        with error:
            message = f"the host at {url} answers with status {error.code}"
        raise ComposeError(message, code="refused") from None
    except (OSError, http.client.HTTPException, ValueError):
        raise ComposeError(f"the host at {url} does not answer", code="host_gone") from None


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
