"""This user's hosts as a Jupyter server sees them: found, started and ended."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_client.kernelspec import NATIVE_KERNEL_NAME, NoSuchKernel
from jupyter_core.utils import ensure_async
from jupyter_server.gateway.gateway_client import GatewayClient
from jupyter_server.utils import to_os_path
from tornado.web import HTTPError

from ..document import load_document
from ..errors import ComposeError, one_line
from ..server.api_client import ask
from ..server.server_info import ServerInfo, find_servers
from ..server.serving_kernel import managed_kernel_arguments, serve_code

if TYPE_CHECKING:
    from jupyter_server.serverapp import ServerApp

SESSION_TYPE = "modelcompose"
"""The type of the sessions by which Jupyter shows the hosts that it runs."""


class HostError(ComposeError):
    """A host that cannot be found, started or reached. ``status`` is that of HTTP."""

    def __init__(self, status: int, message: str, *, code: str, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, code=code)
        self.status = status


class HostManager:
    """Finds this user's hosts on this computer, starts more of them, and ends them.

    Used on the Jupyter server's loop alone.

    Args:
        app: whose kernels the hosts that are started here run in.
    """

    def __init__(self, app: ServerApp) -> None:
        self._kernels = app.kernel_manager
        self._sessions = app.session_manager
        self._contents = app.contents_manager
        self._starting: dict[str, asyncio.Task[ServerInfo]] = {}
        # Of its own: hosts that do not answer hold up nothing else that the server does.
        self._threads = ThreadPoolExecutor(32, thread_name_prefix="modelcompose-ask")

    # Finding

    def find(self, id: str | None) -> ServerInfo:
        """A host by its id, or by that of its kernel, which it keeps when it is restarted; the one
        that runs if None.

        Raises:
            HostError: there is none, or it is not clear which one is meant.
        """
        found = find_servers(id=id)
        if found and (id is not None or len(found) == 1):
            return found[0]
        if found:
            raise HostError(
                409,
                f"{len(found)} hosts run, so one must be named",
                hint="Use /modelcompose/hosts/ID; /modelcompose/hosts lists them.",
                code="ambiguous",
            )
        message, hint = "there is no such host", "See /modelcompose/hosts."
        if id is None:
            message = "no host runs"
            hint = "Start one: POST a document's path to /modelcompose/hosts."
        raise HostError(404, message, hint=hint, code="unknown_host")

    async def all(self) -> list[dict[str, Any]]:
        """All hosts, described; the newest first."""
        return await asyncio.gather(*map(self.describe, find_servers()))

    async def describe(self, host: ServerInfo) -> dict[str, Any]:
        """What there is to know of a host without its address and tokens."""
        return {
            "id": host.id,
            "title": host.title,
            "document": self._path_below_root(host),
            "state": await self._state(host),
            "kernel_id": host.kernel_id,
            "pid": host.pid,
            "started": host.started,
            "version": host.version,
            "webui": host.webui,
        }

    def _path_below_root(self, host: ServerInfo) -> str | None:
        """The document's path as the contents API has it, if it is among its files."""
        root = getattr(self._contents, "root_dir", None)
        if host.document is None or not root:
            return None
        path, folder = Path(host.document), Path(root).resolve()
        return path.relative_to(folder).as_posix() if path.is_relative_to(folder) else None

    async def _state(self, host: ServerInfo) -> str:
        """``ready``, ``ending``, or ``unreachable``."""
        try:
            await self._ask(host, "GET", "/health")
        except ComposeError as error:
            return "ending" if error.code == "refused" else "unreachable"
        return "ready"

    async def _ask(self, host: ServerInfo, method: str, path: str) -> Any:
        """`ask`, beside the server's loop."""
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._threads, ask, host, method, path)

    # Starting

    async def start(
        self, path: str, kernel_name: str = NATIVE_KERNEL_NAME
    ) -> tuple[ServerInfo, bool]:
        """The host that serves a document: the one that runs, or else a new one.

        It is started to its end even if the caller goes away.

        Args:
            path: of the document, as the contents API has it.
            kernel_name: the kernelspec; its environment must have this package.

        Returns:
            The host, and whether it is new.

        Raises:
            DocumentError: all that is wrong with the document.
            HostError: there is no such file, or the kernel cannot serve it.
        """
        path, file = await self.file(path)
        task = self._starting.get(file)
        waits = task is not None
        if task is None:
            task = asyncio.create_task(self._started(path, file, kernel_name))
            self._starting[file] = task
            task.add_done_callback(lambda _: self._starting.pop(file))
        before = {each.id for each in find_servers()}
        host = await asyncio.shield(task)
        return host, not waits and host.id not in before

    async def file(self, path: str) -> tuple[str, str]:
        """A document's path as the contents API and the computer have it, by Jupyter's rules.

        Raises:
            HostError: there is no such file, or it is not on this computer.
        """
        try:
            model = await ensure_async(self._contents.get(path, content=False))
        except HTTPError as error:
            raise HostError(
                error.status_code, error.log_message or "no such file", code="unknown_file"
            ) from None
        root = getattr(self._contents, "root_dir", None)
        if not root or GatewayClient.instance().gateway_enabled:
            raise HostError(
                501,
                "the files or the kernels of this Jupyter server are not on this computer",
                hint="Run 'model-compose up' where the models shall be.",
                code="not_local",
            )
        if model["type"] != "file":
            raise HostError(422, f"'{path}' is a {model['type']}", code="unknown_file")
        api_path = model["path"].strip("/")
        return api_path, str(Path(to_os_path(api_path, root)).resolve())

    async def _started(self, path: str, file: str, kernel_name: str) -> ServerInfo:
        await asyncio.to_thread(load_document, Path(file), name=path)  # says what is wrong with it
        if found := find_servers(document=file):
            return found[0]  # which serves the file as it is, also when it was edited
        await self._end_session(path=path, type=SESSION_TYPE)  # one that does not serve any more
        kernel_id = await self._new_kernel(path, file, kernel_name)
        try:
            name = Path(file).name
            await self._sessions.create_session(path, name, SESSION_TYPE, kernel_id=kernel_id)
            return await self._when_ready(kernel_id, file)
        except BaseException:
            await self._end_session(kernel_id=kernel_id)
            raise

    async def _new_kernel(self, path: str, file: str, kernel_name: str) -> str:
        arguments = managed_kernel_arguments(file)
        try:
            id = await ensure_async(
                self._kernels.start_kernel(
                    path=path, kernel_name=kernel_name, extra_arguments=arguments
                )
            )
        except NoSuchKernel:
            raise HostError(
                422, f"there is no kernelspec '{kernel_name}'", code="unknown_kernel"
            ) from None
        except Exception as error:
            raise HostError(
                500, f"the kernel could not be started: {one_line(error)}", code="kernel_failed"
            ) from error
        return str(id)

    async def _when_ready(self, kernel_id: str, file: str) -> ServerInfo:
        """A kernel's host when it serves.

        A kernel answers once it has done what it was started with. Where none is found by then,
        it is told to serve again, and answers why it cannot.
        """
        client = self._kernels.get_kernel(kernel_id).client()
        client.start_channels()
        try:
            await client.wait_for_ready(timeout=self._kernels.kernel_info_timeout)
            if found := find_servers(id=kernel_id):
                return found[0]
            reply = await client.execute(
                serve_code(file),
                store_history=False,
                reply=True,
                timeout=self._kernels.kernel_info_timeout,
            )
        except (RuntimeError, TimeoutError) as error:
            raise HostError(
                500,
                f"the kernel does not answer: {one_line(error)}",
                hint="The Jupyter server's log says more.",
                code="kernel_failed",
            ) from None
        finally:
            client.stop_channels()
        if found := find_servers(id=kernel_id):
            return found[0]
        content = reply["content"]
        raise HostError(
            500,
            f"the kernel cannot serve: {content.get('ename')}: {content.get('evalue')}",
            hint="Its environment must have modelcompose-jupyter and the models' libraries.",
            code="kernel_failed",
        )

    # Ending

    async def stop(self, id: str) -> bool:
        """End a host; returns whether it has ended, or has been asked to and ends soon.

        Raises:
            HostError: there is none, or it does not answer.
        """
        host = self.find(id)
        if host.kernel_id and await self._end_session(kernel_id=host.kernel_id, type=SESSION_TYPE):
            return True
        try:
            await self._ask(host, "POST", "/shutdown")
        except ComposeError as error:
            if error.code != "refused":
                raise gone() from None
            raise HostError(502, "the host does not want to end", code="bad_gateway") from None
        return False

    async def _end_session(self, **columns: str) -> bool:
        """End the session that has these values, and its kernel; returns whether there was one."""
        try:
            session = await self._sessions.get_session(**columns)
        except HTTPError:
            return False
        await self._sessions.delete_session(session["id"])
        return True


def gone() -> HostError:
    """What is to be said where a host does not answer any more."""
    return HostError(
        502,
        "the host is gone or does not answer",
        hint="See /modelcompose/hosts for those that run.",
        code="host_gone",
    )
