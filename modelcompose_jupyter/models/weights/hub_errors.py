"""What goes wrong between here and the Hub, in words of our own.

The texts of libraries are never quoted: they may hold a token, a signed address or the password of
a proxy. What is said comes from the kind of an error and from a status, and a host is named by its
scheme, name and port alone.
"""

from __future__ import annotations

import email.utils
import errno
import os
import socket
import ssl
import time
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from ...errors import ModelError, causes
from ..spec import ModelSpec

_MAY_PASS = frozenset({408, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529})
"""Statuses after which the same question may get an answer."""
_LONGEST_WAIT = 10  # seconds that a server may ask for within a download

_DISK = {
    errno.EROFS: "read-only file system",
    errno.EACCES: "permission denied",
    errno.EPERM: "permission denied",
    errno.ENOTDIR: "not a folder",
    errno.EEXIST: "not a folder",
    errno.ENOENT: "no such folder",
    errno.ELOOP: "its links lead in a circle",
    errno.ENAMETOOLONG: "its name is too long",
}
_FULL = {errno.ENOSPC: "no space is left", errno.EDQUOT: "the quota of the disk is used up"}
_OFFICIAL = "https://huggingface.co"
_STATUSES = {
    400: "does not understand the request",
    401: "asks for a login",
    403: "refuses access",
    404: "does not have it",
    407: "asks for a login to the proxy",
    408: "waited too long for the request",
    410: "says that it was taken away",
    416: "does not have the rest of it",
    429: "gets too many requests",
    451: "withholds it for legal reasons",
    500: "has an error of its own",
    502: "gets no answer from behind it",
    503: "is not available",
    504: "gets no answer from behind it in time",
    511: "asks for a login to the network",
}
_CODES = dict.fromkeys((401, 403, 407, 451, 511), "access_denied")
_CODES |= dict.fromkeys((404, 410), "model_not_found")
_NO_HTTP = "it breaks off, or does not speak HTTP"
_NO_ANSWER = (
    ({"ProxyError"}, "the proxy refuses"),
    ({"ConnectionRefusedError"}, "the connection is refused"),
    ({"TimeoutException", "TimeoutError"}, "it does not answer in time"),
    ({"TooManyRedirects"}, "it redirects in a circle"),
    ({"LocalRedirect"}, "it redirects to an address of this computer or its network"),
    ({"UnsupportedProtocol", "InvalidURL"}, "it redirects to what is no address on the web"),
    ({"RemoteProtocolError", "LocalProtocolError", "DecodingError"}, _NO_HTTP),
    ({"ConnectError"}, "no connection comes about"),
)
"""Why there was no answer, by the classes of the error; the first that is known is told."""
_EXPIRED = "its certificate has expired, or the clock here is wrong"
_OF_ANOTHER = "its certificate is another host's"
_CERTIFICATES = {9: _EXPIRED, 10: _EXPIRED, 62: _OF_ANOTHER, 64: _OF_ANOTHER}
"""What is wrong with a certificate, by OpenSSL's number."""


def endpoint() -> str:
    """The Hub's address, as the environment has it now: the client reads that once, when it is
    imported."""
    return os.environ.get("HF_ENDPOINT", _OFFICIAL).rstrip("/")


def check_endpoint() -> None:
    """Raise a `ModelError` where what is set as the Hub's address is none."""
    address = endpoint()
    if _place(address) is None or not address.isprintable() or " " in address:
        raise ModelError(
            "HF_ENDPOINT is not an address on the web",
            hint=f"Write it with its scheme, like {_OFFICIAL}, or unset it.",
            code="invalid_endpoint",
        )


def host() -> str:
    """The Hub that is asked: scheme, name and port."""
    return _place(endpoint()) or "the Hub"


def _place(address: str) -> str | None:
    """Scheme, name and port of an address; None where it has no such parts."""
    try:
        parts = urlsplit(address)
        name, port = parts.hostname, parts.port
    except ValueError:
        return None
    if parts.scheme not in ("http", "https") or not name:
        return None
    name = f"[{name}]" if ":" in name else name
    return f"{parts.scheme}://{name}" + (f":{port}" if port else "")


def _proxy() -> str | None:
    """The proxy that requests to the Hub go through; None where there is none."""
    parts = urlsplit(host())
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or proxy_bypass(parts.hostname):
        return None
    return _place(proxy if "://" in proxy else f"http://{proxy}") or "the proxy"


def explain(spec: ModelSpec, root: Path, error: Exception) -> ModelError:
    """What a user can do about an error of the Hub's client or of the disk."""
    from huggingface_hub import errors

    cause: BaseException = error
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        cause = error.__cause__
    match cause:
        case errors.OfflineModeIsEnabled():
            return not_cached(spec)
        case errors.HFValidationError():
            return ModelError(
                f"'{spec.source}' is not the name of a model",
                hint="Give owner/name of the Hub, a folder that begins with ./ or /, or"
                " bundled:storyteller.",
                code="model_not_found",
            )
        case errors.HfHubHTTPError() if is_page(cause.response):
            return refused(spec, cause.response)
        case errors.GatedRepoError():
            return ModelError(
                f"{spec.source} is gated: its owner must grant access",
                hint=f"Accept its terms on {host()}/{spec.source}, then run `hf auth login` or"
                " set HF_TOKEN.",
                code="access_denied",
            )
        case errors.RevisionNotFoundError():
            return ModelError(
                f"{spec.source} has no revision '{spec.revision}'",
                hint="Name a branch, tag or commit of the repository, or leave revision out.",
                code="model_not_found",
            )
        case errors.RepositoryNotFoundError():
            return ModelError(
                f"there is no model repository {spec.source} on {host()}, or it is private",
                hint="Check the name. For a private one run `hf auth login` or set HF_TOKEN;"
                " a folder begins with ./ or /.",
                code="model_not_found",
            )
        case errors.DisabledRepoError():
            return ModelError(
                f"{host()} has closed the repository {spec.source}",
                hint="Choose another model.",
                code="access_denied",
            )
        case errors.HfHubHTTPError():
            return refused(spec, cause.response)
        case errors.FileMetadataError():
            return not_the_hub(spec, "leaves out what a file of the Hub has")
        case errors.HTTPError():
            return _unreachable(spec, cause)
        case OSError() if cause.errno is not None:
            return disk_error(spec, root, cause)
        case _ if _kinds(cause) & {"InvalidURL", "TooManyRedirects", "LocalRedirect"}:
            return _unreachable(spec, cause)
    return ModelError(
        f"{spec.source} could not be downloaded ({type(cause).__name__})",
        hint="Run again to resume the download.",
        code="download_failed",
    )


def refused(spec: ModelSpec, response: Any) -> ModelError:
    """What a status means that is no success."""
    status = int(response.status_code)
    place = _place(str(response.url)) or host()
    page = is_page(response)
    if status == 407 and (proxy := _proxy()):
        place = proxy
    fallback = "has an error of its own" if status >= 500 else "refuses"
    says = _STATUSES.get(status, fallback)
    number = f"{status}, with a web page" if page else str(status)
    hint = _advice(status, page, _seconds(response.headers.get("Retry-After")))
    code = _CODES.get(status, "download_failed")
    return ModelError(f"{place} {says} ({number}), for {spec.source}", hint=hint, code=code)


def _advice(status: int, page: bool, wait: int | None) -> str:
    """The next step for a status."""
    mirror = "" if host() == _OFFICIAL else f" HF_ENDPOINT is set to {host()}."
    if status == 511 or (status == 401 and page):
        return "Log in to the network or proxy with a browser, then run again."
    if status == 403 and page:
        return (
            "A proxy or firewall seems to forbid it: ask who runs it to allow the host, or set"
            f" HF_ENDPOINT to a mirror that is allowed.{mirror}"
        )
    if status in (401, 403):
        return f"Check your token: run `hf auth login` or set HF_TOKEN.{mirror}"
    if status == 407:
        return "Put user and password into the proxy's address: HTTPS_PROXY=http://user:password@…"
    if status in (404, 410):
        there = f" Or unset HF_ENDPOINT, to ask {_OFFICIAL}." if mirror else ""
        return f"Check the name of the model.{there}"
    if status == 451:
        return "Choose another model."
    if status in _MAY_PASS:
        when = f"in {wait} s" if wait else "in a while"
        token = " With a token more is allowed: set HF_TOKEN." if status == 429 else ""
        return f"Run again {when}; what has arrived is kept.{token}{mirror}"
    return f"Check HF_ENDPOINT and the proxy, then run again.{mirror}"


def _seconds(value: str | None) -> int | None:
    """How long a Retry-After asks to wait: it is a number of seconds, or a date."""
    if value is None:
        return None
    if value.strip().isdecimal():
        return int(value)
    try:
        return max(0, round(email.utils.parsedate_to_datetime(value).timestamp() - time.time()))
    except (ValueError, OverflowError):
        return None


def is_page(response: Any) -> bool:
    """Whether an answer is a web page: neither the Hub's API nor its files are."""
    return "html" in response.headers.get("Content-Type", "").lower()


def not_the_hub(spec: ModelSpec, what: str, place: str | None = None) -> ModelError:
    """The error for an answer that succeeds and is not what the Hub says."""
    where = (place and _place(place)) or host()
    return ModelError(
        f"{where} does not answer as the Hub does, for {spec.source}: it {what}",
        hint="A network or proxy may want a login first: open any page in a browser. Otherwise"
        " check HF_ENDPOINT.",
        code="download_failed",
    )


def _unreachable(spec: ModelSpec, error: BaseException) -> ModelError:
    hint = "Check the network or proxy and run again; what has arrived is kept."
    if _certificate(error) is not None:
        hint = (
            "Where a company's proxy reads what is sent, set SSL_CERT_FILE to the file (PEM) of its"
            " certificates."
        )
    elif (proxy := _proxy()) is not None:
        hint = f"Requests go through {proxy}: check HTTPS_PROXY and NO_PROXY. Then run again."
    return ModelError(
        f"{host()} cannot be reached ({reason(error)}) and {spec.source} is not completely in the"
        " local cache",
        hint=hint,
        code="no_network",
    )


def may_pass(error: BaseException) -> bool:
    """Whether trying again may help."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        response: Any = error.response
        wait = _seconds(response.headers.get("Retry-After")) or 0
        return response.status_code in _MAY_PASS and wait <= _LONGEST_WAIT
    if any(isinstance(each, ssl.SSLError) for each in causes(error)):
        return False
    return bool(_kinds(error) & {"TimeoutException", "NetworkError", "RemoteProtocolError"})


def reason(error: BaseException) -> str:
    """Why there was no answer."""
    from huggingface_hub.errors import HfHubHTTPError

    if isinstance(error, HfHubHTTPError):
        return f"it answered {error.response.status_code}"
    certificate = _certificate(error)
    if certificate is not None:
        return certificate
    for each in causes(error):
        if isinstance(each, ssl.SSLError):
            return "no secure connection (TLS) comes about"
        if isinstance(each, socket.gaierror):
            return "its name is not known"
    kinds = _kinds(error)
    return next(
        (words for names, words in _NO_ANSWER if kinds & names), "the connection was closed"
    )


def _certificate(error: BaseException) -> str | None:
    """What is wrong with a host's certificate; None where that is not it."""
    for each in causes(error):
        if isinstance(each, ssl.SSLCertVerificationError):
            number = getattr(each, "verify_code", 0)
            return _CERTIFICATES.get(number, "its certificate is not trusted here")
    return None


def _kinds(error: BaseException) -> set[str]:
    """The names of an error's classes and of those that led to it.

    By name, because the client's HTTP library is another in other versions of it.
    """
    return {kind.__name__ for each in causes(error) for kind in type(each).__mro__}


def disk_error(spec: ModelSpec, root: Path, error: OSError, doing: str = "written") -> ModelError:
    """What is wrong with the cache's folder; ``doing`` is what was tried with it."""
    if error.errno in _FULL:
        return disk_full(spec, root, _FULL[error.errno])
    number = error.errno or 0
    why = _DISK.get(number) or os.strerror(number).lower()
    path = error.filename2 or error.filename
    if isinstance(path, str) and Path(path) != root:
        why += f": {path}"
    message = f"the cache {root} cannot be written ({why}), for {spec.source}"
    hint = "Set HF_HOME or cache_dir to a folder that can be written."
    if doing == "read":
        message = f"the cache {root} cannot be read ({why}), for {spec.source}"
        hint = "Set HF_HOME or cache_dir to a folder that can be read."
    return ModelError(message, hint=hint, code="cache_unusable")


def disk_full(spec: ModelSpec, folder: Path, numbers: str) -> ModelError:
    """The error for a disk without room."""
    return ModelError(
        f"the disk has no room for {spec.source}: {numbers} in {folder}",
        hint="Free some space, or set HF_HOME or cache_dir to a larger disk.",
        code="disk_full",
    )


def not_cached(spec: ModelSpec) -> ModelError:
    """The error for what is not there, where it may not be fetched."""
    from huggingface_hub import constants

    hint = "Unset HF_HUB_OFFLINE and local_files_only, and run again with a network."
    switches = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
    if constants.is_offline_mode() and not any(map(os.environ.get, switches)):
        hint = "Restart the kernel: HF_HUB_OFFLINE was set when it began, and is read once."
    return ModelError(
        f"{spec.source} is not completely in the local cache, and downloads are switched off",
        hint=hint,
        code="not_cached",
    )
