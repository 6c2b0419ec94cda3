"""What a JupyterHub says of tokens: the routes of its API that a service asks."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs

from modelcompose_jupyter.server.jupyterhub import HubService

ACCESS = "access:services!service=model"


class HubApi:
    """Answers whose a token is, and gives one for a code that is its name, as JupyterHub 6 does.

    Attributes:
        owners: what it says of each token.
        asked: the tokens that it was asked of.
        status: that it answers with in any case, if it is set.
        gate: it answers when this is set.
    """

    def __init__(self) -> None:
        self.owners: dict[str, Any] = {}
        self.asked: list[str] = []
        self.status: int | None = None
        self.gate = threading.Event()
        self.gate.set()
        api = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                scheme, _, token = self.headers.get("Authorization", "").partition(" ")
                assert (self.path, scheme) == ("/hub/api/user", "token")
                api.asked.append(token)
                api.gate.wait(30)
                owner = api.owners.get(token)
                status = api.status or (403 if owner is None else 200)
                body = json.dumps({"status": status} if status != 200 else owner).encode()
                self.send_response(status)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def do_POST(self) -> None:
                assert self.path == "/hub/api/oauth2/token"
                form = parse_qs(self.rfile.read(int(self.headers["Content-Length"])).decode())
                assert form["client_secret"] == ["own"]
                body = json.dumps({"access_token": form["code"][0]}).encode()
                self.send_response(200)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    @property
    def service(self) -> HubService:
        """The service ``model`` of this Hub."""
        port = self._server.server_address[1]
        return HubService(
            api_url=f"http://127.0.0.1:{port}/hub/api",
            prefix="/services/model",
            url="http://127.0.0.1:10101",
            scopes=("access:services", ACCESS),
        )

    @property
    def environment(self) -> dict[str, str]:
        """What it tells that service."""
        return {
            "JUPYTERHUB_API_URL": self.service.api_url,
            "JUPYTERHUB_API_TOKEN": "own",
            "JUPYTERHUB_BASE_URL": "/",
            "JUPYTERHUB_CLIENT_ID": "service-model",
            "JUPYTERHUB_SERVICE_PREFIX": f"{self.service.prefix}/",
            "JUPYTERHUB_OAUTH_CALLBACK_URL": f"{self.service.prefix}/oauth_callback",
        }

    def add(self, name: str, *scopes: str, admin: bool = False, kind: str = "user") -> str:
        """A token of a user's, with access to the service or with these scopes."""
        token = f"token-of-{name}-{len(self.owners)}"
        self.owners[token] = {
            "name": name, "kind": kind, "admin": admin, "groups": [],
            "scopes": list(scopes) or [ACCESS, f"read:users:name!user={name}"],
        }  # fmt: skip
        return token

    def close(self) -> None:
        """Answer nobody any more."""
        self._server.shutdown()
        self._server.server_close()
