"""The panel of a workflow: its inputs, Run Workflow, Stop, and the run as it goes.

Handlers run on the kernel's threads and only start or stop runs. What the panel shows is written
on the update thread; what the user enters, on the kernel's.
"""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from html import escape
from itertools import pairwise
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from ..document.types import show
from ..errors import ComposeError, InputError, UsageError
from ..progress import as_text, ending
from ..workflow import Run, Runnable
from . import inputs as fields
from .comms import pin_subshell
from .run_view import RunView
from .snippets import as_curl, as_python
from .static_output import StaticOutput

_KEPT_RUNS = 20
_LABEL_LENGTH = 40
_MISSING = "modelcompose-missing"


class Panel(ipywidgets.VBox):
    """A form for a workflow that runs it and streams its text.

    Attributes:
        workflow: what it runs.
        inputs: the input widgets by name; ordinary ipywidgets, to be linked and observed.
        run: the run in view, or None.
        live: whether a changed input starts a new run at once.

    Args:
        name: what Python calls the workflow, for copying a run as Python.
        values: values to begin with, in place of the defaults.
    """

    def __init__(
        self,
        workflow: Runnable,
        values: Mapping[str, Any] | None = None,
        *,
        name: str = "workflow",
        live: bool = False,
    ) -> None:
        self._lock = threading.Lock()
        self._current: Run | None = None
        self._filling = False
        self._switches: tuple[Any, ...] = ()  # not all of them are shown
        self.workflow = workflow
        self.inputs = fields.Inputs(workflow.signature, values or {})
        self._name = name
        self._runs: OrderedDict[str, Run] = OrderedDict()
        self._saved = StaticOutput(workflow.signature)
        self._view = RunView(
            workflow.signature.outputs,
            for_guests=workflow.for_guests,
            snippets=self._snippets,
            on_message=self._received,
            on_updated=self._run_shown,
        )
        self._run_button = _button("Run Workflow", "primary", "Ctrl+Enter", self.press_run)
        self._stop_button = _button(
            "Stop", "", "Stop within a token; the text stays", partial(self._guard, self.stop)
        )
        self._stop_button.disabled = True
        self._live = _switch("Live", live, "A changed input starts a new run at once")
        self._keep_seed = _switch(
            "Keep seed", False, "The next run draws as the one in view did, so only inputs differ"
        )
        self._anew_button = _button(
            "New conversation", "", "Forget what was said", partial(self._guard, self._begin_anew)
        )
        self._switches = (self._live, self._keep_seed, self._anew_button)
        self._conversations = fields.conversations(self.inputs)
        for each in self.inputs:
            self.inputs[each].observe(self._on_change, "value")
        form = [*fields.rows(self.inputs), self._controls()]
        history = [each.history for each in self._conversations]
        # A conversation is read from top to bottom: what was said, the reply, the next message.
        parts = [*history, self._view, *form] if history else [*form, self._view]
        super().__init__([*_header(workflow), *parts])
        for each in (self, *self._switches):
            pin_subshell(each)
        self.add_class("modelcompose-panel")

    def _controls(self) -> ipywidgets.Box:
        # A message is sent when it is written, so a chat has no Live.
        more = self._anew_button if self._conversations else self._live
        controls = ipywidgets.HBox([self._run_button, self._stop_button, more])
        if not _sets_seed(self.workflow):
            controls.children = (*controls.children, self._keep_seed)
        controls.add_class("modelcompose-controls")
        return controls

    @property
    def run(self) -> Run | None:
        return self._view.run

    @property
    def live(self) -> bool:
        return bool(self._live.value)

    @live.setter
    def live(self, value: bool) -> None:
        self._live.value = value

    def submit(self) -> Run:
        """Run with what the inputs say, as the button does. A run of the panel that is still going
        is stopped: the latest values win.

        Raises:
            ComposeError: an input is missing or cannot be used.
        """
        if self.comm is None:
            raise UsageError("the panel is closed", hint="Make another one: workflow.panel().")
        values = fields.read(self.inputs)
        with self._lock:
            run = self.workflow.start(values, seed=self._seed())
            self._cancel()  # only now: inputs that cannot be used stop nothing
            self._current = run
            for each in self._conversations:
                each.sent(run)
            self._view.show(run)
        for each in self._conversations:
            each.value = ""
        return run

    def stop(self) -> None:
        """Stop the run that goes on, if one does. Its text stays."""
        with self._lock:
            self._cancel()

    def close(self) -> None:
        """Stop, and take the panel out of the notebook."""
        self.stop()
        for each in (*self.children, *self._switches):
            _close(each)
        self.layout.close()
        super().close()

    @property
    def _running(self) -> bool:
        return self._current is not None and not self._current.done

    def _cancel(self) -> None:
        if self._current is not None:
            self._current.cancel()

    def _seed(self) -> int | None:
        if self._keep_seed.value and self.run is not None:
            seed: int | None = self.run.record.get("seed", self.run.parameters.get("seed"))
            return seed
        return None

    # Handlers, on the kernel's threads

    def _guard(self, action: Callable[[], object], *, focus: bool = False) -> None:
        """Errors of a handler are shown where the user looks: ipywidgets would swallow them. With
        ``focus`` the cursor goes to the first field that is still to be filled in."""
        try:
            action()
        except InputError as error:
            missing = self._missing() if error.code == "missing_input" else []
            for name in missing:
                self.inputs[name].add_class(_MISSING)
            if missing and focus:
                self.inputs[missing[0]].focus()
            self._view.fail(_in_words(error, missing))
        except ComposeError as error:
            self._view.fail(error.shown(for_guests=self.workflow.for_guests))
        except Exception as error:
            self._view.fail(f"{type(error).__name__}: {error}")

    def _missing(self) -> list[str]:
        """The inputs that have to be given and are not."""
        values = fields.read(self.inputs)
        return [
            each.name
            for each in self.workflow.signature.inputs
            if each.required and each.name not in values
        ]

    def press_run(self) -> None:
        """Do what the button does: what is wrong is shown in the panel."""
        self._guard(self.submit, focus=True)

    def _begin_anew(self) -> None:
        self.stop()
        for each in self._conversations:
            each.clear()

    def _on_change(self, change: Any) -> None:
        change.owner.remove_class(_MISSING)
        if self.live and not self._filling and not self._conversations:
            self._guard(self.submit)

    def _received(self, message: Mapping[str, Any]) -> None:
        match message.get("type"):
            case "run":
                self.press_run()
            case "show":
                self._guard(lambda: self._go_back(str(message.get("run"))))
            case "gone":
                self._guard(self.stop)

    def _go_back(self, id: str) -> None:
        run = self._runs[id]
        if self._running:
            return  # it began while the message was on its way
        self._filling = True
        try:
            fields.write(self.inputs, self._input_of(run))
        finally:
            self._filling = False
        for each in self._conversations:  # as it was when that run had ended
            each.sent(run)
            each.value = ""
        self._view.show(run)

    # On the update thread

    def _run_shown(self, run: Run | None) -> None:
        running = self._running
        self._run_button.disabled = running
        self._stop_button.disabled = not running
        if run is not None and run.done:
            self._ended(run)

    def _ended(self, run: Run) -> None:
        if run.id not in self._runs:
            self._runs[run.id] = run
            for each in self._conversations:
                each.update()
            while len(self._runs) > _KEPT_RUNS:
                self._runs.popitem(last=False)
            self._saved.keep(run)
            given = [None, *map(self._input_of, self._runs.values())]
            labels = [
                (each.id, _label(each, now, before))
                for each, (before, now) in zip(self._runs.values(), pairwise(given), strict=True)
            ]
            self._view.list_runs(labels[::-1])

    def _snippets(self, run: Run) -> list[tuple[str, str]]:
        values = self._input_of(run)
        return [
            ("Copy as Python", as_python(self._name, values)),
            ("Copy as curl", as_curl(self.workflow.document, self.workflow.id, values)),
        ]

    def _input_of(self, run: Run) -> Any:
        """What a run was given, as those who look at the panel gave it."""
        return self.workflow.as_given(run.input)

    # Showing it

    def _ipython_display_(self) -> None:
        # Beside the widget, the workflow itself, for those who read the notebook without a kernel.
        types = ("text/plain", "text/html")
        formatted, _ = get_ipython().display_formatter.format(self.workflow, include=types)
        display({**super()._repr_mimebundle_(), **formatted}, raw=True)
        if not self.workflow.for_guests:  # visitors of a page cannot save it
            self._saved.display()

    def __repr__(self) -> str:
        return f"Panel of {self.workflow!r}"


def _in_words(error: InputError, missing: Sequence[str]) -> str:
    """What is wrong with the inputs, or that some are ``missing``, for those who see a form and not
    the document."""
    if not missing:
        return "\n".join(filter(None, [error.message, error.hint]))
    *others, last = missing
    return f"Fill in {', '.join(others)} and {last}." if others else f"Fill in {last}."


def _close(widget: Any) -> None:
    """Close a widget and those in it, which ipywidgets would keep for ever."""
    for child in getattr(widget, "children", ()):
        _close(child)
    for part in (widget.layout, getattr(widget, "style", None)):
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.unobserve_all()
    widget.close()


def _button(label: str, style: str, tooltip: str, action: Callable[[], None]) -> Any:
    button = ipywidgets.Button(description=label, button_style=style, tooltip=tooltip)
    button.layout.width = "auto"
    button.on_click(lambda _: action())
    return button


def _switch(label: str, value: bool, tooltip: str) -> Any:
    return ipywidgets.Checkbox(value=value, description=label, tooltip=tooltip, indent=False)


def _header(workflow: Runnable) -> list[Any]:
    texts = {"h3": workflow.title, "p": workflow.description}
    html = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in texts.items() if text)
    if not html:
        return []
    header = ipywidgets.HTML(html)
    header.add_class("modelcompose-title")
    return [header]


def _sets_seed(workflow: Runnable) -> bool:
    """Whether the document says what the seeds are."""
    jobs = workflow.document.workflow(workflow.id).jobs
    return all("seed" in job.action.parameters for job in jobs)


def _label(run: Run, given: Mapping[str, Any], before: Mapping[str, Any] | None) -> str:
    """What tells a run from others in a list: when, its first input, what else was changed since
    the one before, how it ended."""
    began = run.events_so_far()[0].time
    name, first = next(iter(given.items()), ("", run.id))
    changed = [
        f"{key} {show(_last_said(value), _LABEL_LENGTH // 2)}"
        for key, value in given.items()
        if before is not None and key != name and value != before.get(key)
    ]
    text = " ".join(as_text(_last_said(first)).split())
    short = text if len(text) <= _LABEL_LENGTH else text[: _LABEL_LENGTH - 1] + "…"
    clock = time.strftime("%H:%M:%S", time.localtime(began))
    return " · ".join([clock, short, *changed, ending(run)])


def _last_said(value: Any) -> Any:
    """Of a conversation its last message; any other value as it is."""
    last = value[-1] if isinstance(value, list) and value else None
    return last["content"] if isinstance(last, dict) and "content" in last else value
