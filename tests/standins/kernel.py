"""A real kernel to run cells in, with what each cell put out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jupyter_client.manager import start_new_kernel

from .ipykernels import INSTALLED, kernelspec

CELL_SECONDS = 120

_RESET = """
import os, sys
os.chdir({folder!r})
get_ipython().extension_manager.unload_extension("modelcompose_jupyter")
if "ipywidgets" in sys.modules:
    sys.modules["ipywidgets"].Widget.close_all()
if "modelcompose_jupyter.host_selection" in sys.modules:
    hosts = sys.modules["modelcompose_jupyter.host_selection"]
    hosts.stop_serving()
    for host in hosts.in_use():
        host.close(10)
    hosts._after_fork()
get_ipython().reset()
"""


@dataclass
class Cell:
    """What a cell put out."""

    stdout: str = ""
    stderr: str = ""
    data: list[dict[str, Any]] = field(default_factory=list)
    metadata: list[dict[str, Any]] = field(default_factory=list)
    updates: list[dict[str, Any]] = field(default_factory=list)
    display_ids: list[str | None] = field(default_factory=list)
    error: dict[str, Any] | None = None
    status: str = ""

    @property
    def text(self) -> str:
        """The plain text of what the cell displayed and returned."""
        return "\n".join(each.get("text/plain", "") for each in self.data)

    @property
    def shown(self) -> list[str]:
        """The plain text of each display, as its updates have left it."""
        now = {each["transient"]["display_id"]: each["data"] for each in self.updates}
        ids = self.display_ids
        left = [now.get(id, data) for id, data in zip(ids, self.data, strict=True)]
        return [each.get("text/plain", "") for each in left]


class Kernel:
    """Runs cells one after the other."""

    def __init__(self, manager: Any, client: Any) -> None:
        self._manager = manager
        self._client = client

    def run(self, code: str, *, watch: Callable[[Cell], None] | None = None) -> Cell:
        """Run a cell; ``watch`` is called after every output with what there is so far."""
        cell = Cell()
        request = self._client.execute(code)
        while True:
            message = self._client.get_iopub_msg(timeout=CELL_SECONDS)
            if message["parent_header"].get("msg_id") != request:
                continue
            kind, content = message["msg_type"], message["content"]
            if kind == "stream":
                setattr(cell, content["name"], getattr(cell, content["name"]) + content["text"])
            elif kind in ("execute_result", "display_data"):
                cell.data.append(content["data"])
                cell.metadata.append(content["metadata"])
                cell.display_ids.append(content.get("transient", {}).get("display_id"))
            elif kind == "update_display_data":
                cell.updates.append(content)
            elif kind == "error":
                cell.error = content
            elif kind == "status" and content["execution_state"] == "idle":
                break
            if watch is not None:
                watch(cell)
        while True:
            reply = self._client.get_shell_msg(timeout=CELL_SECONDS)
            if reply["parent_header"].get("msg_id") == request:
                cell.status = reply["content"]["status"]
                return cell

    def reset(self, folder: Path) -> None:
        """Begin anew in a folder: without names, extension, widgets and hosts of before."""
        cell = self.run(_RESET.format(folder=str(folder)))
        assert cell.status == "ok", cell.error

    def value(self, expression: str) -> str:
        """The repr of an expression's value."""
        cell = self.run(f"print(repr(({expression})), end='')")
        assert cell.status == "ok", cell.error
        return cell.stdout

    def inspect(self, code: str, cursor: int) -> str:
        """The plain text of what the kernel has to say about what stands at a place."""
        reply = self._client.inspect(code, cursor, reply=True, timeout=CELL_SECONDS)
        return str(reply["content"]["data"].get("text/plain", ""))

    def complete(self, code: str, cursor: int) -> dict[str, Any]:
        """What the kernel answers when it is asked what may stand at a cursor."""
        reply = self._client.complete(code, cursor, reply=True, timeout=CELL_SECONDS)
        content: dict[str, Any] = reply["content"]
        return content

    def subshell(self) -> str | None:
        """The id of a new subshell, as a page makes one for its widgets; None where there are none.

        Source: JEP 91.
        """
        info = self._client.kernel_info(reply=True, timeout=CELL_SECONDS)["content"]
        if "kernel subshells" not in info.get("supported_features", []):
            return None
        return str(self._control("create_subshell_request", {})["subshell_id"])

    def ask(self, question: str, data: dict[str, Any] | None = None) -> dict[str, Any]:
        """What the kernel replies to a question of JupyterLab's, also while a cell blocks."""
        return self._control("modelcompose_request", {"question": question, "data": data or {}})

    def ask_together(self, *asked: tuple[str, dict[str, Any]]) -> list[str]:
        """Ask several questions at once; which of them were answered, in the order of answers."""
        questions: dict[str, str] = {}
        for question, data in asked:
            content = {"question": question, "data": data}
            request = self._client.session.msg("modelcompose_request", content)
            self._client.control_channel.send(request)
            questions[request["header"]["msg_id"]] = question
        answered: list[str] = []
        while len(answered) < len(questions):
            reply = self._client.get_control_msg(timeout=CELL_SECONDS)
            if reply["parent_header"].get("msg_id") in questions:
                assert reply["content"]["status"] == "ok", reply["content"]
                answered.append(questions[reply["parent_header"]["msg_id"]])
        return answered

    def comms(self, target: str) -> list[str]:
        """The ids of the comms of a target that a page finds in the kernel."""
        reply = self._client.comm_info(target, reply=True, timeout=CELL_SECONDS)
        return list(reply["content"]["comms"])

    def start(self, code: str) -> str:
        """Begin to run a cell; the id of the request."""
        return str(self._client.execute(code))

    def told(self, comm: str) -> dict[str, Any]:
        """What a comm tells next."""
        while True:
            message = self._client.get_iopub_msg(timeout=CELL_SECONDS)
            content: dict[str, Any] = message["content"]
            if message["msg_type"] == "comm_msg" and content["comm_id"] == comm:
                data: dict[str, Any] = content["data"]
                return data

    def end_subshell(self, id: str) -> None:
        self._control("delete_subshell_request", {"subshell_id": id})

    def _control(self, type: str, content: dict[str, Any]) -> dict[str, Any]:
        request = self._client.session.msg(type, content)
        self._client.control_channel.send(request)
        while True:
            reply = self._client.get_control_msg(timeout=CELL_SECONDS)
            if reply["parent_header"].get("msg_id") == request["header"]["msg_id"]:
                answer: dict[str, Any] = reply["content"]
                return answer

    def say(self, comm: str, data: dict[str, Any], subshell: str | None = None) -> None:
        """Send a message to a comm, as a page does, to be handled on a subshell."""
        message = self._client.session.msg("comm_msg", {"comm_id": comm, "data": data})
        if subshell is not None:
            message["header"]["subshell_id"] = subshell
        self._client.shell_channel.send(message)

    def interrupt(self) -> None:
        self._manager.interrupt_kernel()


@contextmanager
def kernel(folder: Path, *, ipykernel: str = INSTALLED, **environment: str) -> Iterator[Kernel]:
    """A fresh kernel that works in ``folder``, on a version of ipykernel."""
    manager, client = start_new_kernel(
        kernel_name=kernelspec(ipykernel),
        cwd=str(folder),
        env={**os.environ, **environment},
        startup_timeout=CELL_SECONDS,
    )
    try:
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        # One whose coverage is measured ends by itself, and writes what it ran.
        measured = "COVERAGE_PROCESS_CONFIG" in os.environ and manager.is_alive()
        manager.shutdown_kernel(now=not measured)


KernelIn = Callable[..., Kernel]
"""``kernel_in(folder, ipykernel)`` gives a kernel that has just been reset."""


@contextmanager
def kernels(folder: Path) -> Iterator[KernelIn]:
    """Kernels that stay, one for each version of ipykernel: what one has imported is there."""
    with ExitStack() as stack:
        started: dict[str, Kernel] = {}

        def kernel_in(folder: Path, ipykernel: str = INSTALLED) -> Kernel:
            if ipykernel not in started:
                new = kernel(first, ipykernel=ipykernel)
                started[ipykernel] = stack.enter_context(new)
            started[ipykernel].reset(folder)
            return started[ipykernel]

        first = folder
        yield kernel_in
