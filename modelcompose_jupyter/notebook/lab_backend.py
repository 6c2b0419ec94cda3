"""The kernel's half of the JupyterLab extension: what a page asks, and what it is told.

Questions come as ``modelcompose_request`` on the kernel's control channel, which is answered while
a cell blocks, on every ipykernel. What takes time to answer is looked at beside it, since a Stop or
an interrupt may come next. What goes on in the kernel is told by a comm, by whose presence pages
know that the kernel answers at all.

The thread ``modelcompose-lab`` tells it: nothing else here owns a thread.
"""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from importlib import import_module
from typing import TYPE_CHECKING, Any

from ..background_worker import BackgroundWorker
from ..errors import ComposeError, UsageError
from ..redaction import get_logger
from ..translation import reply_in

if TYPE_CHECKING:
    from ..host import Host
    from .magics import ComposeMagics

REQUEST, REPLY = "modelcompose_request", "modelcompose_reply"
COMM_TARGET = "modelcompose"
THREAD_NAME = "modelcompose-lab"

_log = get_logger(__name__)

_LOOK_SECONDS = 1.0
_TAKE_TIME = ("check", "complete", "explain", "curl")  # as long as a document is
_HOSTS = "modelcompose_jupyter.host_selection"


def register(shell: Any) -> None:
    """Answer the pages of a kernel, once however often this is called."""
    handlers = getattr(getattr(shell, "kernel", None), "control_handlers", None)
    if handlers is not None and REQUEST not in handlers:
        handlers[REQUEST] = KernelPart(shell).answer


def unregister(shell: Any) -> None:
    """Take back what `register` did."""
    handlers = getattr(getattr(shell, "kernel", None), "control_handlers", {})
    answer = handlers.pop(REQUEST, None)
    if answer is not None:
        answer.__self__.close()


class KernelPart:
    """Answers questions, on the control channel's thread, and tells what changes, on its own."""

    def __init__(self, shell: Any) -> None:
        from comm import create_comm, get_comm_manager

        self._shell = shell
        self._status = Status()
        self._questions = BackgroundWorker()
        self._closed = threading.Event()
        self._thread: threading.Thread | None = None
        # Not opened towards pages: one without the extension would complain of it.
        self._comm = create_comm(target_name=COMM_TARGET, primary=False)
        get_comm_manager().register_comm(self._comm)

    def answer(self, stream: Any, identity: Any, request: Mapping[str, Any]) -> None:
        """A handler of ipykernel's for messages on the control channel, on its thread and loop."""

        def reply(content: Any) -> None:
            kernel = self._shell.kernel
            kernel.session.send(stream, REPLY, content, request, ident=identity)

        asked = request["content"]
        if asked.get("question") not in _TAKE_TIME:
            reply(self._content(asked))
            return
        loop = asyncio.get_running_loop()

        def send(answered: Future[Any]) -> None:  # sockets are their thread's own
            loop.call_soon_threadsafe(reply, answered.result())

        try:
            self._questions.ask(lambda: self._content(asked)).add_done_callback(send)
        except ComposeError as error:
            reply(_failed(error))

    def _content(self, asked: Mapping[str, Any]) -> dict[str, Any]:
        language = str((asked.get("data") or {}).get("language", ""))
        try:
            return {"status": "ok", "answer": reply_in(self._answer(asked), language)}
        except ComposeError as error:
            return dict(reply_in(_failed(error), language))
        except Exception as error:  # a page waits for the reply
            message = f"{type(error).__name__}: {error}"
            return {"status": "failed", "message": message, "hint": None}

    def _answer(self, asked: Mapping[str, Any]) -> Any:
        ask = getattr(self, f"_on_{asked['question']}", None)
        if ask is None:
            raise UsageError(f"there is no question '{asked['question']}'")
        return ask(asked.get("data") or {})

    def close(self) -> None:
        """Answer and tell no more."""
        from comm import get_comm_manager

        self._closed.set()
        self._comm.send({"ended": True})
        # Nor closed towards pages, for the same reason.
        get_comm_manager().unregister_comm(self._comm)
        self._comm._closed = True

    # Questions

    def _on_check(self, data: Mapping[str, Any]) -> Any:
        from ..language_service import diagnostics

        return diagnostics(str(data["text"]))

    def _on_complete(self, data: Mapping[str, Any]) -> Any:
        from ..language_service import complete
        from .completer import function_names

        text, cursor = str(data["text"]), int(data["cursor"])
        return complete(text, cursor, functions=lambda: function_names(self._shell))

    def _on_explain(self, data: Mapping[str, Any]) -> Any:
        from ..language_service import explain

        return explain(str(data["text"]), int(data["cursor"]))

    def _on_status(self, data: Mapping[str, Any]) -> Any:
        """The status now, and the ``comm`` by which the page is told when it changes."""
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._tell, name=THREAD_NAME, daemon=True)
            self._thread.start()
        return {**self._status.last, "comm": self._comm.comm_id}

    def _on_stop(self, data: Mapping[str, Any]) -> Any:
        """Stop this notebook's runs, and the maps that would begin more; the runs' ids."""
        from ..host_selection import own_runs
        from ..mapping.active_maps import stop_all

        going = [run for run in own_runs() if not run.done]
        stop_all()
        for run in going:
            run.cancel()
        return [run.id for run in going]

    def _on_unload(self, data: Mapping[str, Any]) -> Any:
        from ..host import local_host

        return [each.id for each in local_host().unload(data.get("model"))]

    def _on_run(self, data: Mapping[str, Any]) -> Any:
        """Press Run Workflow in a cell's panel; whether there is one."""
        _, panel = self._magics.in_cell(str(data["text"]))
        if panel is not None:
            # It may have to ask another host, and a Stop must be heard meanwhile.
            threading.Thread(target=panel.press_run, name="modelcompose-press", daemon=True).start()
        return panel is not None

    def _on_curl(self, data: Mapping[str, Any]) -> Any:
        """A command that runs a cell's workflow with the inputs that its panel has."""
        from ..widgets.inputs import read
        from ..widgets.snippets import as_curl, examples

        workflow, panel = self._magics.in_cell(str(data["text"]))
        values = examples(workflow.signature) | (read(panel.inputs) if panel else {})
        return as_curl(workflow.document, workflow.id, values)

    def _on_serve(self, data: Mapping[str, Any]) -> Any:
        """Serve the notebook's workflows; a sentence that says where."""
        from ..magic_args import MagicArgs
        from .hosts import serve

        return serve(MagicArgs(), self._magics.workflow, self._magics.workflows)

    @property
    def _magics(self) -> ComposeMagics:
        magics: ComposeMagics = self._shell.magics_manager.registry["ComposeMagics"]
        return magics

    # What is told

    def _tell(self) -> None:
        told = None
        while not self._closed.is_set():
            try:
                status = self._status.look()
                if status != told:
                    self._comm.send(status)
                    told = status
            except Exception:
                _log.debug("a look at what runs failed", exc_info=True)  # the next will do
            self._closed.wait(_LOOK_SECONDS)


def _failed(error: ComposeError) -> dict[str, Any]:
    return {"status": "failed", "message": error.message, "hint": error.hint}


class Status:
    """What runs and what is in memory, looked at now and then, by one thread.

    Attributes:
        last: what was seen last: ``runs`` that go on, ``models`` of this process, and
            ``tokens_per_second`` while runs go (None before that is known).
    """

    def __init__(self) -> None:
        self.last: dict[str, Any] = {"runs": [], "models": [], "tokens_per_second": None}
        self._counted: tuple[float, dict[str, int]] | None = None

    def look(self) -> dict[str, Any]:
        """Look anew; asks other hosts where runs go on them."""
        if _HOSTS in sys.modules:  # else nothing was run here yet, and looking loads no libraries
            hosts = import_module(_HOSTS)  # waits for a thread that is at it
            going = [run for run in hosts.own_runs() if not run.done]
            self.last = {
                "runs": [{"id": run.id} for run in going],
                "models": [_model(each) for each in hosts.local_host().models()],
                "tokens_per_second": self._rate(hosts.in_use() if going else []),
            }
        return self.last

    def _rate(self, hosts: list[Host]) -> float | None:
        """Tokens a second of all models of these hosts since the last look."""
        before, now = self._counted, time.monotonic()
        counts = dict(count for number, host in enumerate(hosts) for count in _counts(number, host))
        self._counted = (now, counts) if hosts else None
        if before is None or not hosts:
            return None
        then, earlier = before
        tokens = sum(count - earlier[model] for model, count in counts.items() if model in earlier)
        return round(max(0, tokens) / (now - then), 1)


def _model(info: Any) -> dict[str, Any]:
    shown = ("id", "source", "device", "state", "memory_bytes")
    return {key: getattr(info, key) for key in shown} | {"running": info.running + info.queued}


def _counts(number: int, host: Host) -> Iterator[tuple[str, int]]:
    """What each model of a host has generated so far."""
    try:
        for each in host.models():
            yield f"{number} {each.id}", each.generated
    except ComposeError:  # it has just gone
        return
