"""A real JupyterHub with its real proxy, as docs/jupyterhub.md configures it, and its users.

Where it may, each user's server runs as that user of this computer, and the service as another one;
they are made for it, and go with it. Elsewhere all of it runs as whoever runs the tests.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import pwd
import re
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import psutil
from tornado.httpclient import HTTPRequest
from tornado.websocket import websocket_connect

from .processes import python_path
from .waiting import until

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "jupyterhub.md"
SECONDS = 180.0  # of a first run, whose kernels are compiled for its user

# What a recipe does not say: addresses, how people log in here, and a program that manages all.
_REST = """
c.JupyterHub.bind_url = "http://127.0.0.1:{port}" + BASE
c.JupyterHub.hub_port = {hub_port}
c.ConfigurableHTTPProxy.api_url = "http://127.0.0.1:{api_port}"
c.ConfigurableHTTPProxy.command = [{proxy!r}]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.Authenticator.admin_users = {{{admin!r}}}
c.JupyterHub.services.append({{"name": "tester", "api_token": {token!r}}})
c.JupyterHub.load_roles.append(
    {{
        "name": "tester",
        "services": ["tester"],
        "scopes": ["admin:users", "admin:servers", "tokens", "access:servers", "access:services"],
    }}
)
"""

# Where the users are not this computer's.
_SIMPLE = """
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = {folder!r} + "/{{username}}"
c.Spawner.args = ["--allow-root"]
del c.JupyterHub.services[0]["user"]
c.JupyterHub.services[0]["environment"] = {{"JUPYTER_RUNTIME_DIR": {folder!r} + "/runtime"}}
"""


def commands() -> tuple[str, str] | None:
    """JupyterHub and its proxy; None where one of them is not here."""
    places = [str(Path(sys.executable).parent), os.environ.get("PATH", "")]
    modules = Path(sys.prefix) / "proxy" / "node_modules" / ".bin"  # where `make` puts it
    hub = shutil.which("jupyterhub", path=os.pathsep.join(places))
    proxy = shutil.which("configurable-http-proxy", path=os.pathsep.join([str(modules), *places]))
    return (hub, proxy) if hub and proxy else None


def may_make_users() -> bool:
    """Whether there can be users of this computer who can run this Python and read this project."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or not shutil.which("useradd"):
        return False
    needed = [ROOT, Path(sys.executable), Path(sys.executable).resolve(), Path(sys.prefix)]
    folders = {folder for each in needed for folder in (each, *each.parents)}
    return all(folder.stat().st_mode & 0o005 == 0o005 for folder in folders)


def recipe(language: str) -> str:
    """The first example of the page in a language."""
    found = re.search(rf"```{language}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found is not None
    return found[1]


@contextlib.contextmanager
def system_users(names: Sequence[str]) -> Iterator[None]:
    """Users of this computer, for as long as this is open, where they can be made."""
    made = []
    if not may_make_users():
        names = ()
    try:
        for name in names:
            with contextlib.suppress(KeyError):
                pwd.getpwnam(name)
                raise RuntimeError(f"there is a user '{name}' on this computer already")
            subprocess.run(["useradd", "--create-home", name], check=True, capture_output=True)
            made.append(name)
        yield
    finally:
        for name in made:
            for process in psutil.process_iter():
                with contextlib.suppress(psutil.NoSuchProcess):
                    if process.username() == name:
                        process.kill()
            until(lambda name=name: _userdel(name))


def _userdel(name: str) -> bool:
    done = subprocess.run(["userdel", "--remove", name], capture_output=True, check=False)
    return done.returncode != 8  # a process of theirs is about to end


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port: int = taken.getsockname()[1]
        return port


class JupyterHub:
    """A JupyterHub that runs. Its URLs begin with that of the proxy.

    Args:
        users: of this computer, who have servers.
        admin: a user who is an admin of the Hub.
        document: what is served, in place of the page's.
        options: of `model-compose up`, besides the page's.
        base: what all paths begin with.
    """

    def __init__(
        self,
        users: Sequence[str],
        admin: str,
        document: str = "",
        options: Sequence[str] = (),
        base: str = "/",
    ) -> None:
        self.users, self.admin = tuple(users), admin
        self.token = secrets.token_hex(16)
        self.folder = Path(tempfile.mkdtemp(prefix="jupyterhub-"))
        self.folder.chmod(0o755)
        self.port, self.service_port = free_port(), free_port()
        self.url = f"http://127.0.0.1:{self.port}{base}".rstrip("/")
        self.service = f"{self.url}/services/model"
        self.own_address = f"http://127.0.0.1:{self.service_port}{base}services/model"
        found = commands()
        assert found is not None
        self._command, proxy = found
        (self.folder / "model-compose.yml").write_text(document or recipe("yaml"), "utf-8")
        # As it stands on the page, but for the port, which may be somebody's here, and the paths.
        config = recipe("python").replace("10101", str(self.service_port))
        config = config.replace('BASE = "/"', f'BASE = "{base}"')
        config += _REST.format(
            port=self.port,
            hub_port=free_port(),
            api_port=free_port(),
            proxy=proxy,
            admin=admin,
            token=self.token,
        )
        if not may_make_users():
            config += _SIMPLE.format(folder=str(self.folder))
        config += f"c.JupyterHub.services[0]['command'] += {list(options)!r}\n"
        (self.folder / "jupyterhub_config.py").write_text(config, "utf-8")
        self._process: subprocess.Popen[bytes] | None = None
        self.http = httpx.Client(trust_env=False, timeout=SECONDS, follow_redirects=False)

    @property
    def log(self) -> Path:
        return self.folder / "log"

    def __enter__(self) -> JupyterHub:
        self.start()
        try:
            until(self._is_up)
        except BaseException:
            print(self.log.read_text("utf-8", "replace")[-6000:])
            self.__exit__()
            raise
        return self

    def start(self) -> None:
        """Start the Hub, or start it again."""
        path = [str(Path(sys.executable).parent), str(Path(self._command).parent)]
        environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith("JUPYTER")},
            "PATH": os.pathsep.join([*path, os.environ["PATH"]]),
            "PYTHONPATH": python_path(ROOT),
        }
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [self._command], cwd=self.folder, env=environment, stdout=log, stderr=log,
                start_new_session=True,
            )  # fmt: skip

    def stop(self) -> None:
        """End the Hub, its proxy and its services."""
        process, self._process = self._process, None
        if process is not None:
            process.terminate()
            try:
                process.wait(30)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.http.close()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _is_up(self) -> bool:
        assert self._process is not None and self._process.poll() is None, "the Hub has ended"
        if "JupyterHub is now running" not in self.log.read_text("utf-8", "replace"):
            return False
        with contextlib.suppress(httpx.HTTPError):
            return self.http.get(f"{self.own_address}/api/health").status_code == 200
        return False

    # What the program may do that manages it

    def ask(self, method: str, path: str, body: Any = None) -> Any:
        """An answer of the Hub's API."""
        headers = {"Authorization": f"token {self.token}"}
        answer = self.http.request(method, f"{self.url}/hub/api{path}", json=body, headers=headers)
        assert answer.status_code < 400, f"{answer.status_code} {answer.text}"
        return answer.json() if answer.content else None

    def token_of(self, user: str, *scopes: str) -> str:
        """A token of a user's, for the service or for what the scopes say."""
        with contextlib.suppress(AssertionError):  # who is known already
            self.ask("POST", f"/users/{user}", {})
        wanted = list(scopes) or ["access:services!service=model"]
        token: str = self.ask("POST", f"/users/{user}/tokens", {"scopes": wanted})["token"]
        return token

    def start_server(self, user: str) -> None:
        """Start a user's Jupyter server, and wait until it answers."""
        self.token_of(user)
        self.ask("POST", f"/users/{user}/server", {})
        until(lambda: self.ask("GET", f"/users/{user}")["servers"].get("", {}).get("ready"))

    def stop_server(self, user: str) -> None:
        """End it, as when a user leaves."""
        self.ask("DELETE", f"/users/{user}/server")
        until(lambda: not self.ask("GET", f"/users/{user}")["servers"])

    def notebook(self, user: str) -> Notebook:
        """A notebook of a user's, in a kernel of their server."""
        return Notebook(self, user)

    @contextlib.contextmanager
    def browser(self, user: str) -> Iterator[httpx.Client]:
        """A browser in which a user has logged in at the Hub."""
        login = f"{self.url}/hub/login"
        with httpx.Client(trust_env=False, timeout=SECONDS, follow_redirects=True) as browser:
            found = re.search(r'name="_xsrf" value="(.*?)"', browser.get(login).text)
            assert found is not None
            given = {"username": user, "password": "any", "_xsrf": found[1]}
            browser.post(login, data=given, follow_redirects=False)  # it leads to their server
            yield browser

    def client(self, token: str) -> httpx.Client:
        """A client of the service, behind the proxy."""
        return httpx.Client(
            base_url=f"{self.service}/api",
            headers={"Authorization": f"Bearer {token}"},
            trust_env=False,
            timeout=SECONDS,
        )


class Notebook:
    """A kernel in a user's server, reached as a browser reaches it: through the proxy."""

    def __init__(self, hub: JupyterHub, user: str) -> None:
        self._token = hub.token_of(user, f"access:servers!user={user}")
        self._url = f"{hub.url}/user/{user}/api/kernels"
        headers = {"Authorization": f"token {self._token}"}
        answer = hub.http.post(self._url, json={"name": "python3"}, headers=headers)
        assert answer.status_code == 201, answer.text
        self._id = answer.json()["id"]

    def run(self, code: str) -> str:
        """What a cell prints; an AssertionError with the traceback where it fails."""
        return asyncio.run(asyncio.wait_for(self._run(code), SECONDS))

    def begin(self, code: str) -> None:
        """Run a cell, and wait for nothing but its beginning."""
        asyncio.run(asyncio.wait_for(self._run(code, to="busy"), SECONDS))

    async def _run(self, code: str, to: str = "idle") -> str:
        url = f"{self._url}/{self._id}/channels".replace("http:", "ws:", 1)
        headers = {"Authorization": f"token {self._token}"}
        socket = await websocket_connect(HTTPRequest(url, headers=headers))
        id, said = uuid.uuid4().hex, list[str]()
        content = {
            "code": code, "silent": False, "store_history": False,
            "user_expressions": {}, "allow_stdin": False,
        }  # fmt: skip
        header = {
            "msg_id": id, "msg_type": "execute_request", "session": id, "username": "",
            "version": "5.3",
        }  # fmt: skip
        message = {
            "header": header, "parent_header": {}, "metadata": {}, "content": content,
            "channel": "shell", "buffers": [],
        }  # fmt: skip
        await socket.write_message(json.dumps(message))
        try:
            while (raw := await socket.read_message()) is not None:
                got = json.loads(raw) if isinstance(raw, str) else {}
                if got.get("parent_header", {}).get("msg_id") != id:
                    continue
                kind, content = got["msg_type"], got["content"]
                if kind == "stream" and content["name"] == "stdout":
                    said.append(content["text"])
                elif kind == "error":
                    raise AssertionError("\n".join(content["traceback"]))
                elif kind == "status" and content["execution_state"] == to:
                    return "".join(said)
        finally:
            socket.close()
        raise AssertionError("the kernel's channels were closed")
