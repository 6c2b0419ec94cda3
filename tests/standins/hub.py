"""A stand-in for the Hugging Face Hub's HTTP API on the loopback, with faults to script.

Speaks what the real client asks for: model info with file sizes, file heads, files, and ranges.
Large files are redirected to another host name, as to the Hub's CDN.

    with HubStandIn() as hub:
        hub.add("owner/name", folder)
        with hub.client(cache):              # this process's huggingface_hub speaks to it
            ...
        subprocess.run(..., env=hub.environment(cache))
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

_INFO = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)(/revision/(?P<revision>[^/]+))?$")
_TREE = re.compile(r"/api/models/(?P<repo>[^/]+/[^/]+)/tree/(?P<revision>[^/]+)")
_FILE = re.compile(r"/(?P<repo>[^/]+/[^/]+)/resolve/(?P<revision>[^/]+)/(?P<file>.+)$")
_CDN = re.compile(r"/cdn/(?P<repo>[^/]+/[^/]+)/(?P<file>.+)$")
_LARGE = (".safetensors", ".bin", ".gguf")


@dataclass
class _Repository:
    files: dict[str, bytes]
    commit: str
    private: bool = False
    gated: bool = False
    revisions: set[str] = field(default_factory=lambda: {"main"})


@dataclass(frozen=True)
class Request:
    """One request that came in; ``range`` is its Range header."""

    method: str
    path: str
    range: str | None = None
    authorization: str | None = None


@dataclass(frozen=True)
class Answer:
    """What is answered in place of what is asked for, by a proxy or a mirror, say.

    ``endless`` follows the body, again and again until nobody reads it any more.
    """

    status: int = 200
    headers: Mapping[str, str] = field(default_factory=dict)
    body: bytes = b""
    endless: bytes = b""

    @classmethod
    def page(cls, status: int = 200) -> Answer:
        """A web page."""
        body = b"<!doctype html><title>Log in</title>"
        return cls(status, {"Content-Type": "text/html; charset=utf-8"}, body)


class HubStandIn:
    """The stand-in; a context manager that serves while it is open.

    Attributes:
        url: where it listens.
        requests: all that came in, in order.
        cuts: file name to a list of byte counts: each transfer of the file that has an entry ends
            the connection after so many bytes, the next one uses the next entry.
        statuses: path ending to HTTP statuses or whole answers to give, one each request.
        gates: file name to an event; a transfer stops after its first 1000 bytes until it is set.
        began: set once a transfer waits at a gate.
        sizes: file name to the size that the listing claims, where it should be wrong.
    """

    def __init__(self, certificate: Path | None = None) -> None:
        self.requests: list[Request] = []
        self.cuts: dict[str, list[int]] = {}
        self.statuses: dict[str, list[int | Answer]] = {}
        self.gates: dict[str, threading.Event] = {}
        self.began = threading.Event()
        self.sizes: dict[str, int] = {}
        self._repositories: dict[str, _Repository] = {}
        handler = type("Handler", (_Handler,), {"hub": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        if certificate is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificate)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        scheme = "http" if certificate is None else "https"
        self.url = f"{scheme}://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(
            target=self._server.serve_forever, args=(0.02,), daemon=True
        )
        self._open = False

    def __enter__(self) -> HubStandIn:
        self._thread.start()
        self._open = True
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Stop listening: from now on connections are refused. Idempotent."""
        if self._open:
            self._open = False
            for gate in self.gates.values():
                gate.set()
            self._server.shutdown()
            self._server.server_close()

    def add(
        self,
        repo: str,
        folder: Path | None = None,
        extra: Mapping[str, bytes] | None = None,
        *,
        private: bool = False,
        gated: bool = False,
        revisions: set[str] | None = None,
    ) -> str:
        """Publish a folder's files and ``extra`` ones as a repository; returns the commit."""
        files = {path.name: path.read_bytes() for path in folder.iterdir()} if folder else {}
        files |= extra or {}
        digest = hashlib.sha1()
        for name in sorted(files):
            digest.update(name.encode() + files[name])
        commit = digest.hexdigest()
        self._repositories[repo] = _Repository(
            files, commit, private, gated, {"main", commit} | (revisions or set())
        )
        return commit

    def environment(self, cache: Path) -> dict[str, str]:
        """The variables that make the client of a subprocess use this stand-in and a cache."""
        return {
            **{k: v for k, v in os.environ.items() if k not in {"HF_TOKEN", "HF_HUB_OFFLINE"}},
            "HF_ENDPOINT": self.url,
            "HF_HOME": str(cache),
            "HF_HUB_DISABLE_TELEMETRY": "1",
            "NO_PROXY": "127.0.0.1,localhost",
        }

    @contextmanager
    def client(self, cache: Path, endpoint: str | None = None) -> Iterator[None]:
        """Make the client of this process use this stand-in, or an endpoint, and a cache.

        The client reads its constants when it is imported; they are changed and put back. The
        address of the Hub is read from the environment at each download.
        """
        from huggingface_hub import constants, hf_api
        from huggingface_hub.utils import close_session

        url = self.url if endpoint is None else endpoint
        changes: list[tuple[Any, str, Any]] = [
            (constants, "HF_HUB_CACHE", str(cache)),
            (constants, "HF_HUB_OFFLINE", False),
            (constants, "HF_TOKEN_PATH", str(cache / "no-token")),
            (hf_api.api, "endpoint", url),
        ]
        before = [(thing, name, getattr(thing, name)) for thing, name, _ in changes]
        names = ("HF_TOKEN", "HF_ENDPOINT")
        environment = {name: os.environ.pop(name, None) for name in names}
        os.environ["HF_ENDPOINT"] = url
        try:
            for thing, name, value in changes:
                setattr(thing, name, value)
            yield
        finally:
            for thing, name, value in before:
                setattr(thing, name, value)
            os.environ.pop("HF_ENDPOINT", None)
            os.environ.update({k: v for k, v in environment.items() if v is not None})
            close_session()

    def fetched(self) -> list[str]:
        """Names of the files that were asked for with GET, in order."""
        matches = (_FILE.match(r.path) for r in self.requests if r.method == "GET")
        return [match["file"] for match in matches if match]

    def ranges(self, file: str) -> list[str | None]:
        """The Range headers of the transfers of a large file, in order."""
        return [r.range for r in self.requests if _CDN.match(r.path) and r.path.endswith(file)]


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: Any) -> None:
        """A client that went away in the middle is none of the tests' business."""


class _Handler(BaseHTTPRequestHandler):
    hub: HubStandIn
    protocol_version = "HTTP/1.1"

    def log_message(self, *_: Any) -> None:
        """Keep quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        path = unquote(urlsplit(self.path).path)
        request = Request(
            self.command, path, self.headers.get("Range"), self.headers.get("Authorization")
        )
        self.hub.requests.append(request)
        for ending, statuses in self.hub.statuses.items():
            if path.endswith(ending) and statuses:
                return self._instead(statuses.pop(0))
        if match := _INFO.match(path):
            return self._info(match["repo"], match["revision"] or "main")
        if match := _TREE.match(path):
            return self._tree(match["repo"], match["revision"])
        if match := _FILE.match(path):
            return self._file(match["repo"], match["revision"], match["file"])
        if match := _CDN.match(path):
            files = self.hub._repositories[match["repo"]].files
            return self._content(match["file"], files[match["file"]], request)
        return self._refuse(404, None)

    def _repository(self, repo: str, revision: str) -> _Repository | None:
        found = self.hub._repositories.get(repo)
        if found is None or (found.private and not self.headers.get("Authorization")):
            self._refuse(401, "RepoNotFound")
            return None
        if revision not in found.revisions:
            self._refuse(404, "RevisionNotFound")
            return None
        return found

    def _info(self, repo: str, revision: str) -> None:
        if found := self._repository(repo, revision):
            self._json(
                {
                    "id": repo,
                    "modelId": repo,
                    "sha": found.commit,
                    "siblings": [self._sibling(*item) for item in found.files.items()],
                }
            )

    def _sibling(self, name: str, data: bytes) -> dict[str, Any]:
        size = self.hub.sizes.get(name, len(data))
        sibling: dict[str, Any] = {"rfilename": name, "size": size, "blobId": _etag(name, data)}
        if name.endswith(_LARGE):
            sibling["lfs"] = {"size": size, "sha256": _etag(name, data), "pointerSize": 130}
        return sibling

    def _tree(self, repo: str, revision: str) -> None:
        if found := self._repository(repo, revision):
            self._json(
                [
                    {"type": "file", "path": name, "size": len(data), "oid": _etag(name, data)}
                    for name, data in found.files.items()
                ]
            )

    def _file(self, repo: str, revision: str, name: str) -> None:
        found = self._repository(repo, revision)
        if found is None:
            return
        if found.gated and not self.headers.get("Authorization"):
            self._refuse(403, "GatedRepo")
        elif name not in found.files:
            self._refuse(404, "EntryNotFound")
        else:
            self._resolve(repo, name, found)

    def _resolve(self, repo: str, name: str, found: _Repository) -> None:
        data, large = found.files[name], name.endswith(_LARGE)
        self.send_response(302 if large else 200)
        if large:
            other = self.hub.url.replace("http://127.0.0.1", "http://localhost")
            self.send_header("Location", f"{other}/cdn/{repo}/{name}")
        self.send_header("Content-Length", str(0 if large else len(data)))
        self.send_header("ETag", f'"{_etag(name, data)}"')
        self.send_header("X-Repo-Commit", found.commit)
        self.send_header("X-Linked-Size", str(len(data)))
        self.send_header("X-Linked-Etag", f'"{_etag(name, data)}"')
        self.end_headers()
        if self.command == "GET" and not large:
            self._send(name, data)

    def _content(self, name: str, data: bytes, request: Request) -> None:
        start = int(request.range[len("bytes=") :].split("-")[0]) if request.range else 0
        self.send_response(206 if request.range else 200)
        self.send_header("Content-Length", str(len(data) - start))
        if request.range:
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        self.send_header("ETag", f'"{_etag(name, data)}"')
        self.end_headers()
        self._send(name, data[start:])

    def _send(self, name: str, data: bytes) -> None:
        cuts = self.hub.cuts.get(name)
        gate = self.hub.gates.get(name)
        try:
            if gate is not None and not gate.is_set():
                self.wfile.write(data[:1000])
                self.wfile.flush()
                self.hub.began.set()
                gate.wait(30)
                data = data[1000:]
            if cuts:
                self.wfile.write(data[: cuts.pop(0)])
                self.close_connection = True
            else:
                self.wfile.write(data)
        except ConnectionError:
            self.close_connection = True

    def _json(self, value: Any) -> None:
        body = json.dumps(value).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _instead(self, answer: int | Answer) -> None:
        answer = Answer(answer) if isinstance(answer, int) else answer
        self.send_response(answer.status)
        length = {"Content-Length": str(len(answer.body))}
        headers = {**({"Connection": "close"} if answer.endless else length), **answer.headers}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(answer.body)
        while answer.endless:
            self.wfile.write(answer.endless)

    def _refuse(self, status: int, code: str | None) -> None:
        self.send_response(status)
        if code:
            self.send_header("X-Error-Code", code)
        self.send_header("Content-Length", "0")
        self.end_headers()


def _etag(name: str, data: bytes) -> str:
    if name.endswith(_LARGE):
        return hashlib.sha256(data).hexdigest()
    return hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()
