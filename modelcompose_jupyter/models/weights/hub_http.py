"""Requests to the Hub: no answer takes more memory, or leads further, than it may.

The Hub's client reads what answers it whole: a listing, the body of a refusal or of a redirect.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from .file_bounds import Bounds, OutOfBounds, parse_json

TIMEOUT = 10.0
"""Seconds without a byte after which an answer is given up."""
LISTING = Bounds(64 << 20, 4_000_000)
"""Of what is in a repository: 300 bytes for each file, of which the largest have 100,000."""
_MOST_REDIRECTS = 20


class TooManyRedirects(Exception):
    """An address leads to others without an end."""


class LocalRedirect(Exception):
    """A server elsewhere leads to one of this computer or its network."""


@contextmanager
def get(url: str, token: str | None, headers: Mapping[str, str] | None = None) -> Iterator[Any]:
    """The answer to a request, whose content is yet to be read.

    Goes where redirects lead, by HTTP alone, and from elsewhere to no address of this computer or
    its network.

    Raises:
        LocalRedirect, TooManyRedirects: it led where it must not, or nowhere.
        HTTPError: of the client, where there is no answer.
    """
    from huggingface_hub.utils import build_hf_headers, get_session

    session: Any = get_session()
    own = {**build_hf_headers(token=token), "Accept-Encoding": "identity", **(headers or {})}
    request = session.build_request("GET", url, headers=own, timeout=TIMEOUT)
    asked = str(request.url.host)
    for _ in range(_MOST_REDIRECTS + 1):
        response = session.send(request, stream=True, follow_redirects=False)
        try:
            if response.next_request is None:
                yield response
                return
        finally:
            response.close()
        request = response.next_request
        if _is_local(str(request.url.host)) and not _is_of_this_network(asked):
            raise LocalRedirect
    raise TooManyRedirects


def check_response(response: Any) -> None:
    """Raise the client's error for an answer that is no success. What it says is not read."""
    from huggingface_hub.utils import hf_raise_for_status

    if response.is_success:
        return
    headers = [item for item in response.headers.multi_items() if item[0] not in _OF_CONTENT]
    hf_raise_for_status(
        type(response)(response.status_code, headers=headers, request=response.request)
    )


_OF_CONTENT = ("content-length", "content-encoding", "transfer-encoding")


def read_json(response: Any, bounds: Bounds, still_wanted: Callable[[], None]) -> Any:
    """The content of an answer as plain data.

    ``still_wanted`` is asked as it comes in, so that a slow one can be given up.

    Raises:
        OutOfBounds: it is larger than may be, or packed although that was not asked for.
        BrokenFile: it is no JSON.
    """
    if response.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise OutOfBounds("it is packed")
    content = bytearray()
    for chunk in response.iter_raw():
        content += chunk
        bounds.check(len(content))
        still_wanted()
    return parse_json(bytes(content), bounds)


def _is_local(host: str) -> bool:
    """Whether a name is that of this computer, or a number of it or of a network of its own."""
    name = host.strip("[]").rstrip(".").lower()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    try:
        return _is_own(ipaddress.ip_address(name))
    except ValueError:
        pass
    try:  # the other ways to write one: 127.1, 0x7f000001
        return _is_own(ipaddress.ip_address(socket.inet_aton(name)))
    except (OSError, ValueError):
        return False


def _is_own(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> bool:
    mapped = getattr(address, "ipv4_mapped", None) or address
    return bool(mapped.is_private or mapped.is_loopback or mapped.is_link_local)


def _is_of_this_network(host: str) -> bool:
    """Whether a server is in a network of its own, as a mirror of a company may be."""
    if _is_local(host):
        return True
    try:
        found = socket.getaddrinfo(host, None)
    except OSError:
        return False
    return any(_is_local(str(each[4][0]).partition("%")[0]) for each in found)
