"""The panel of a workflow: its inputs, Run Workflow, Stop, and the run as it goes.

Handlers run on the kernel's threads and only start or stop runs. What the panel shows is written
on the update thread; what the user enters, on the kernel's.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Container, Mapping, Sequence
from functools import lru_cache, partial
from html import escape
from typing import Any

import ipywidgets
from IPython import get_ipython
from IPython.display import display

from ..comparing.axes import MAX_CELLS, SEED
from ..comparing.grid_runs import GridRuns
from ..diagram import diagram
from ..document.document import Workflow as Declared
from ..document.types import Message
from ..errors import ComposeError, InputError, UsageError
from ..host_selection import serve_also, served_at
from ..path_redaction import public_source
from ..redaction import is_masked
from ..translation import speaking, translated
from ..workflow import Run, Runnable
from ..workflow.interrupts import check_unattended
from ..workflow.options import checked
from . import inputs as fields
from .branches import Branches
from .comms import close_all, pin_subshell
from .conversation import Conversation, thought_of, thought_tokens
from .form import Form, folded
from .grid_form import choices, takes_seeds, temperatures
from .grid_view import GridView
from .outputs import markdown
from .questions import answer
from .run_history import RunHistory
from .run_view import Beside, RunView
from .snippets import again, as_curl, as_python
from .speaking import label
from .static_output import Bundle, StaticOutput, bundle
from .tool_calls import shown_turns

_PASSING_SECONDS = 2.0
"""A live run that another change of the same input follows so soon is none to go back to."""

_GUESTS_CELLS = 16
"""Cells of a page's visitor's grid at most: others wait for the same model."""
_ALTERNATIVES = 5
"""Tokens that are shown in the place of one."""


class Panel(ipywidgets.VBox):
    """A form for a workflow that runs it and streams its text; in a chat, a conversation.

    Attributes:
        workflow: what it runs.
        inputs: the input widgets by name; ordinary ipywidgets, to be linked and observed.
        run: the run in view, or None.
        diagram: the workflow's, where a run shows its jobs; None where there is one call alone.
        live: whether a changed input starts a new run at once.

    Args:
        name: what Python calls the workflow, for copying a run as Python.
        values: values to begin with, in place of the defaults.
        keep_as: the name by which the browser keeps conversations, and a run that asks something: a
            page's kernel does not.
    """

    def __init__(
        self,
        workflow: Runnable,
        values: Mapping[str, Any] | None = None,
        *,
        name: str = "workflow",
        live: bool = False,
        keep_as: str = "",
    ) -> None:
        self._lock = threading.Lock()
        self._going: list[Run] = []  # what Stop stops
        self._grid: GridRuns | None = None
        self._live_change: tuple[Any, float] = (None, 0.0)  # what changed last, and when
        self._passing: list[Run] = []  # runs of a slider on its way, to be forgotten
        self._filling = False
        self._switches: tuple[Any, ...] = ()  # not all of them are shown
        self.workflow = workflow
        self.inputs = fields.Inputs(workflow.signature, values or {})
        self._form = Form(self.inputs, workflow.signature.inputs)
        self._conversation = fields.conversation(self.inputs)
        self._name = name
        self._branches = Branches()
        self._history = RunHistory(self._input_of, self._branches.note)
        self._compared: Sequence[str] = ()
        self._model = {"name": _named_models(workflow), "state": "", "loaded": False}
        self._loaded_for: object = None  # the run after which that state was looked up
        drawn = diagram(workflow.document, _declared(workflow), for_guests=workflow.for_guests)
        self.diagram = drawn if drawn.says_more else None
        self._saved = StaticOutput[Run](self._bundle)
        is_chat = self._conversation is not None
        self._view = RunView(
            workflow.signature.outputs,
            for_guests=workflow.for_guests,
            snippets=self._snippets,
            beside=self._beside,
            on_message=self._received,
            on_updated=self._run_shown,
            is_chat=is_chat,
            keep_as=keep_as,
            diagram=self.diagram,
        )
        label, tooltip = ("Send", "Enter") if is_chat else ("Run Workflow", "Ctrl+Enter")
        self._run_button = _button(label, "primary", tooltip, self.press_run)
        self._stop_button = _button(
            "Stop", "", "Stop within a token; the text stays", partial(self._guard, self.stop)
        )
        self._stop_button.disabled = True
        self._live = _switch("Live", live, "A changed input starts a new run at once")
        self._keep_seed = _switch(
            "Keep seed", False, "The next run draws as the one in view did, so only inputs differ"
        )
        self._probabilities = _switch(
            "Probabilities",
            _asks_for_logprobs(workflow),
            "Colour each token by its probability, and show what else was likely",
        )
        self._probabilities.observe(lambda _: self._view.renew(), "value")
        self._switches = (self._live, self._keep_seed, self._probabilities)
        for each in self.inputs:
            self.inputs[each].observe(self._on_change, "value")
        body = self._chat() if is_chat else self._playground()
        super().__init__([*_header(workflow), *body])
        for each in (self, *self._switches):
            pin_subshell(each)
        self.add_class("modelcompose-panel")
        self._view.observe(self._speak, "language")
        self._view.renew()

    def _speak(self, _: Any) -> None:
        """Say all in the language that the browser has said."""
        for each in (self, *self._switches):
            label(each, self._view.language)

    def _bundle(self, run: Run) -> Bundle:
        """What a notebook keeps of a run, in the language that the panel is in."""
        with speaking(self._view.language):
            return bundle(run, self.workflow.signature, self.diagram)

    def _playground(self) -> list[Any]:
        """The inputs, beside or below them the result; at the end, several beside each other."""
        buttons = _controls([self._run_button, self._stop_button])
        switches = [self._live, *self._seed_switch(), self._probabilities]
        form = ipywidgets.VBox([*self._form.fields(), buttons, _controls(switches)])
        form.add_class("modelcompose-form")
        columns = ipywidgets.Box([form, self._view])
        columns.add_class("modelcompose-columns")
        self._grid_view = GridView(
            on_message=self._grid_received,
            on_updated=self._grid_shown,
            choices=choices(self.workflow),
            quick="Three temperatures" if temperatures(self.workflow) else "",
        )
        return [columns, self._grid_view]

    def _chat(self) -> list[Any]:
        """The conversation, below it the next message, and the settings folded away."""
        row = next(row for row in self._form if row.is_message)
        buttons = _controls([self._run_button, self._stop_button])
        composer = ipywidgets.VBox([row, buttons])
        composer.add_class("modelcompose-composer")
        # A message is sent when it is written, so a chat has no Live.
        switches = [*self._seed_switch(), self._probabilities]
        settings = [*self._form.fields(), _controls(switches)]
        return [self._view, composer, *folded("Settings", settings)]

    def _seed_switch(self) -> list[Any]:
        is_set = self.workflow.document.sets_seed(_declared(self.workflow))
        return [] if is_set else [self._keep_seed]

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
        run = self._submit(None, self._seed())
        if self._conversation is not None:
            self._conversation.value = ""
        return run

    def _submit(self, said: list[Message] | None, seed: int | None) -> Run:
        if self.comm is None:
            raise UsageError("the panel is closed", hint="Make another one: workflow.panel().")
        values = fields.read(self.inputs, said)
        with self._lock:
            run = self._start(values, seed)
            self._follow([run])
        for row in self._form:
            row.say("")
        return run

    def _start(self, values: Any, seed: int | None) -> Run:
        """Begin a run, with its tokens where they are shown."""
        logprobs = _ALTERNATIVES if self._probabilities.value else None
        return self.workflow.start(values, seed=seed, logprobs=logprobs)

    def _follow(self, runs: Sequence[Run]) -> None:
        """Show the first of some runs that have begun, in place of those that go on."""
        self._cancel()  # only now: inputs that cannot be used stop nothing
        self._going = list(runs)
        if self._conversation is not None:
            self._conversation.sent(runs[0])
        self._view.show(runs[0])

    def show(self, run: Run) -> None:
        """Show a run of the workflow with its inputs, in place of the one in view, which is stopped
        where it goes on."""
        with self._lock:
            self._cancel()
            self._going = []
        self._filling = True
        try:
            fields.write(self.inputs, self._input_of(run))
        finally:
            self._filling = False
        if self._conversation is not None:  # as it was when that run had ended
            self._conversation.sent(run)
            self._conversation.value = ""
        self._view.show(run)

    def stop(self) -> None:
        """Stop what goes on, if anything does. The texts stay."""
        with self._lock:
            self._cancel()
            if self._grid is not None:
                self._grid.cancel()

    def _leave(self) -> None:
        """Stop what goes on, since nobody looks; a run that has asked something goes on for those
        who come to answer."""
        with self._lock:
            for run in self._going:
                if not run.has_asked:
                    run.cancel()
            if self._grid is not None:
                self._grid.cancel()

    def close(self) -> None:
        """Stop, and take the panel out of the notebook."""
        self.stop()
        for each in (*self.children, *self._switches):
            close_all(each)
        self.layout.close()
        super().close()

    @property
    def _running(self) -> bool:
        return any(not run.done for run in self._going)

    def _cancel(self) -> None:
        for run in self._going:
            run.cancel()

    def _seed(self) -> int | None:
        if self._keep_seed.value and self.run is not None:
            seed: int | None = self.run.record.get("seed", self.run.parameters.get("seed"))
            return seed
        return None

    # Handlers, on the kernel's threads

    def _guard(self, action: Callable[[], object], *, focus: bool = False) -> None:
        """Errors of a handler are shown where the user looks: ipywidgets would swallow them. With
        ``focus`` the cursor goes to the first field that is to be filled in or mended."""
        try:
            action()
        except InputError as error:
            self._say(error, focus=focus)
        except ComposeError as error:
            self._view.fail(error.shown(for_guests=self.workflow.for_guests))
        except Exception as error:
            self._view.fail(f"{type(error).__name__}: {error}")

    def _say(self, error: InputError, *, focus: bool, varied: Container[str] = ()) -> None:
        """Show what is wrong with the inputs beside their fields; what is about none, below. Those
        that are ``varied`` are not missing."""
        lacking = self._missing() if error.code == "missing_input" else []
        missing = [name for name in lacking if name not in varied]
        wrong = missing or [error.input or ""]
        rows = [self._form.rows[name] for name in wrong if name in self._form.rows]
        if not rows:
            self._view.fail(_in_words(error))
            return
        self._view.fail("")
        for row in rows:
            said = "Fill this in." if missing else _in_words(error, row.input.name)
            row.say(translated(said, self._view.language))
        if focus:
            rows[0].focus()

    def _missing(self) -> list[str]:
        """The inputs that have to be given and are not."""
        said = self._conversation.entered() if self._conversation is not None else None
        try:
            values = fields.read(self.inputs, said)
        except InputError:
            return []
        return [
            each.name
            for each in self.workflow.signature.inputs
            if each.required and each.name not in values
        ]

    def press_run(self) -> None:
        """Do what the button does: what is wrong is shown in the panel."""
        self._guard(self.submit, focus=True)

    def _on_change(self, change: Any) -> None:
        for row in self._form:
            if row.is_of(change.owner):
                row.say("")
        if self.live and not self._filling and self._conversation is None:
            now, before, (last, since) = time.monotonic(), self.run, self._live_change
            self._live_change = (change.owner, now)
            self._guard(self.submit)
            is_soon = last is change.owner and now - since < _PASSING_SECONDS
            if is_soon and before is not None and before is not self.run:
                self._passing.append(before)
                self._view.renew()

    def _received(self, message: Mapping[str, Any]) -> None:
        """Do what the browser says; see ``run_view.js``."""
        match message:
            case {"type": "run"}:
                self.press_run()
            case {"type": "stop"}:
                self._guard(self.stop)
            case {"type": "gone"}:
                self._guard(self._leave)
            case {"type": "answer", "run": str(id)} if self.run is not None and self.run.id == id:
                self._guard(partial(answer, self.run, message))
            case {"type": "rejoin", "run": str(id)}:
                self._guard(partial(self._rejoin, id))
            case {"type": "show", "run": str(id)}:
                self._guard(lambda: self._go_back(id))
            case {"type": "serve"}:
                self._guard(self._serve)
            case {"type": "extend"}:
                self._guard(self._extend)
            case {"type": "weigh", "run": str(id)}:
                self._guard(lambda: self._weigh(id))
            case {
                "type": "branch",
                "run": str(id),
                "text": int(text),
                "token": int(token),
                "alternative": int(alternative),
            }:
                self._guard(lambda: self._branch(id, text, token, alternative))
            case {"type": "pin", "run": str(id), "pinned": bool(pinned)}:
                self._history.pin(id, pinned)
            case {"type": "compare", "runs": list(ids)}:
                self._compared = [str(id) for id in ids]
            case _ if self._conversation is not None:
                self._guard(lambda: self._converse(message))
        self._view.renew()

    def _converse(self, message: Mapping[str, Any]) -> None:
        """Do what the browser says about the conversation."""
        chat = self._conversation
        assert chat is not None
        match message:
            case {"type": "send", "text": str(text)}:
                self._send_message(text)
            case {"type": "edit", "conversation": str(id)} if id != chat.current:
                pass  # another one came into view meanwhile
            case {"type": "edit", "index": int(index), "text": str(text)}:
                self._anew(chat.edited(index, text), self._seed())
            case {"type": "regenerate"}:
                self._anew(chat.before_reply(), None)
            case {"type": "undo"}:
                self._turn_to(chat.undo)
            case {"type": "rename", "id": str(id), "name": str(name)}:
                chat.rename(id, name)
            case {"type": "restore", "kept": kept}:
                chat.restore(kept)
            case {"type": "new"}:
                self._turn_to(chat.begin)
            case {"type": "conversation", "id": str(id)}:
                self._turn_to(partial(chat.choose, id))
            case {"type": "remove", "id": str(id)}:
                if id == chat.current:
                    self._saved.forget()
                self._turn_to(partial(chat.remove, id))

    def _send_message(self, text: str) -> None:
        """Send a message that has left its field: what is typed there by now stays. One that
        cannot be sent comes back."""
        assert self._conversation is not None
        try:
            self._submit(self._conversation.entered(text), self._seed())
        except Exception:
            self._conversation.value = "\n".join(filter(None, [text, self._conversation.value]))
            raise

    def _anew(self, said: list[Message], seed: int | None) -> None:
        """Go on from another point of the conversation; what it forgets can be brought back."""
        assert self._conversation is not None
        before = self._conversation.as_it_is()
        self._submit(said, seed)
        self._conversation.undo_to(before)

    def _turn_to(self, change: Callable[[], None]) -> None:
        """Have another conversation in view: a reply that goes on is stopped, and stays."""
        with self._lock:
            self._cancel()
            change()
            last = self._conversation.last_run if self._conversation is not None else None
            if last is not None:
                self._view.show(last)
            else:
                self._view.clear()

    def _go_back(self, id: str) -> None:
        if not self._running:  # it may have begun while the message was on its way
            self.show(self._history[id])

    def _rejoin(self, id: str) -> None:
        """Go on with a run that this page had before it was loaded again, if its host knows it."""
        if self.run is not None:
            return
        try:
            run = self.workflow.find(id)
        except InputError:  # it is forgotten
            return
        with self._lock:
            self._going = [run]
            if self._conversation is not None:
                self._conversation.rejoin(run)
            self._view.show(run)

    def _extend(self) -> None:
        """Have the text in view go on where it was cut."""
        run = self.run
        if run is None or self._running:
            return
        with self._lock:
            self._follow([self.workflow.extend(run)])

    def _grid_received(self, message: Mapping[str, Any]) -> None:
        """Do what the browser says of grids; see ``grid_view.js``."""
        match message:
            case {"type": "quick"}:
                self._begin_grid(temperatures(self.workflow))
            case {"type": "grid", "axes": list(axes)}:
                self._begin_grid({str(name): texts for name, texts in axes})
            case {"type": "open", "cell": int(index)} if self._grid is not None:
                run = self._grid.cells[index].run
                if run is not None:
                    self._guard(lambda: self.show(run))
                    self._grid_view.mark(index)
            case {"type": "stop"} if self._grid is not None:
                self._grid.cancel()

    def _begin_grid(self, entered: Mapping[str, Sequence[Any]]) -> None:
        """Run with all combinations of what was entered; what is wrong with it is said there."""
        try:
            self._run_grid(entered)
        except InputError as error:
            if error.code == "missing_input" or error.input not in (None, *entered):
                self._say(error, focus=True, varied=entered)
            else:
                self._grid_view.fail(_in_words(error))
        except ComposeError as error:
            self._grid_view.fail(error.shown(for_guests=self.workflow.for_guests))

    def _run_grid(self, entered: Mapping[str, Sequence[Any]]) -> None:
        varied = {name: fields.several(self.inputs, name, entered[name]) for name in entered}
        fixed = {k: v for k, v in fields.read(self.inputs).items() if k not in varied}
        if takes_seeds(self.workflow) and SEED not in varied:
            fixed[SEED] = self._seed()
        most = _GUESTS_CELLS if self.workflow.for_guests else MAX_CELLS
        check_unattended(self.workflow.document, _declared(self.workflow))
        grid = GridRuns([self.workflow], varied, fixed, most=most)
        with self._lock:
            before, self._grid = self._grid, grid
        if before is not None:
            before.cancel()
        self._grid_view.show(grid)

    def _weigh(self, id: str) -> None:
        """Run again what is in view, for its tokens: with its seed the text is the same."""

        def begin(run: Run) -> Run:
            if is_masked(run.input):
                raise InputError(
                    "this run was given a token, which is not kept",
                    hint="Run the workflow: the next texts have their tokens.",
                )
            options = checked({**again(run), "logprobs": _ALTERNATIVES})
            weighed = self.workflow.start(self._input_of(run), **options)
            weighed.add_done_callback(partial(self._replace, run))
            return weighed

        self._instead(id, begin)

    def _replace(self, run: Run, weighed: Run) -> None:
        """Of two runs that have the same texts the second is enough."""
        if weighed.streams == run.streams:
            self._passing.append(run)

    def _branch(self, id: str, text: int, token: int, alternative: int) -> None:
        """Have the text in view go on from another token in one of its places."""

        def begin(run: Run) -> Run:
            branch = self.workflow.branch(run, token, alternative, text)
            self._branches.add(branch, run, text, token, alternative)
            return branch

        chat = self._conversation
        before = chat.as_it_is() if chat is not None else None
        if self._instead(id, begin) and chat is not None and before is not None:
            chat.undo_to(before)

    def _instead(self, id: str, begin: Callable[[Run], Run]) -> bool:
        """Have another run in the place of the one in view, if it still is that one; whether it
        was."""
        run = self.run
        if run is None or run.id != id or self._running:
            return False
        with self._lock:
            self._follow([begin(run)])
        return True

    # On the update thread

    def _run_shown(self, run: Run | None) -> None:
        running = self._running
        # What comes first: from a button that goes, the focus moves to the other (``form.js``).
        come, go = self._run_button, self._stop_button
        if running:
            come, go = go, come
        come.disabled, go.disabled = False, True
        for each in {id(each): each for each in (*self._going, *([run] if run else []))}.values():
            if each.done and each not in self._history:
                self._history.keep(each)
        while self._passing:
            self._history.discard(self._passing.pop(0))
        if run is not None and run.done:
            self._saved.keep(run)
        ended = run.id if run is not None and run.done else ""
        self._look_at_models((ended, self._grid is not None and self._grid.done))

    def _grid_shown(self, grid: GridRuns) -> None:
        if grid.done:
            self._view.renew()  # models are in memory

    def _beside(self) -> Beside:
        chat = self._conversation
        return Beside(
            model=self._model,
            turns=_turns(chat, self.run) if chat else [],
            conversations=chat.names() if chat else [],
            conversation=chat.current if chat else "",
            undoable=chat.undoable if chat else False,
            cards=[] if chat else self._history.cards(),
            compared=self._history.compared(self._compared),
            kept=chat.kept() if chat and self._view.keep_as else {},
            probabilities=bool(self._probabilities.value),
            parting=self._branches.parting(self.run),
        )

    def _look_at_models(self, after: object) -> None:
        """Look whether the models are in memory: at first, and after each run."""
        if self._loaded_for == after:
            return
        self._loaded_for = after
        named = {each for each in _sources(self.workflow) if "$" not in each}
        with contextlib.suppress(ComposeError):  # nobody can tell while the host is gone
            loaded = named and named <= self.workflow.models_in_memory()
            self._model = {**self._model, "state": "in memory" if loaded else "", "loaded": loaded}

    def _snippets(self, run: Run) -> list[dict[str, Any]]:
        if run.input is None:
            return []
        values, given = self._input_of(run), again(run)
        python = {"label": "Copy as Python", "text": as_python(self._name, values, given)}
        where = (self.workflow.document, self.workflow.id)
        if served_at(*where) is None and not self.workflow.for_guests:
            return [python, {"label": "Serve and copy as curl", "message": {"type": "serve"}}]
        return [python, {"label": "Copy as curl", "text": as_curl(*where, values, given=given)}]

    def _serve(self) -> None:
        """Serve the workflow, and have the browser copy a command that calls it."""
        run = self.run
        if run is None:
            return
        where = (self.workflow.document, self.workflow.id)
        endpoint = serve_also(self.workflow.functions, self.workflow.id, self._name)
        command = as_curl(*where, self._input_of(run), endpoint, again(run))
        self._view.copy(command, f"Served at {endpoint.url}")

    def _input_of(self, run: Run) -> Any:
        """What a run was given, as those who look at the panel gave it; nothing where nobody says:
        guests are not told of a run that they had before their page was loaded again."""
        return {} if run.input is None else self.workflow.as_given(run.input)

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


def _in_words(error: InputError, name: str | None = None) -> str:
    """What is wrong with an input, for those who see a form and not the document."""
    message = error.message.removeprefix(f"input '{name}': ")
    return "\n".join(filter(None, [message, error.hint]))


def _turns(chat: Conversation, run: Run | None) -> list[dict[str, Any]]:
    turns = [_turn(each) for each in shown_turns(chat.turns, run)]
    if chat.is_continued:
        turns[-1] = {**turns[-1], "begun": True}
    run = chat.last_run
    if run is None or not run.done or not (thought := thought_of(run)):
        return turns
    if turns and turns[-1]["role"] == "user":  # it was cut before it replied
        turns.append({"role": "assistant", "content": ""})
    if turns and turns[-1]["role"] == "assistant":
        turns[-1] = {**turns[-1], "thought": thought, "thought_tokens": thought_tokens(run)}
    return turns


def _turn(turn: Mapping[str, Any]) -> dict[str, Any]:
    if turn["role"] != "assistant":
        return dict(turn)
    thought = turn.get("reasoning_content", "")
    return {**turn, "html": _reply_html(turn["content"]), "thought": thought}


@lru_cache(maxsize=256)
def _reply_html(content: str) -> str:
    """A reply as HTML, which is asked for as often as the panel shows anything new."""
    return markdown(content)


def _declared(workflow: Runnable) -> Declared:
    """The workflow as its document has it."""
    return workflow.document.workflow(workflow.id)


def _asks_for_logprobs(workflow: Runnable) -> bool:
    """Whether the document itself asks for what the model weighed."""
    calls = workflow.document.model_calls(_declared(workflow))
    return any("logprobs" in each.action.parameters for each in calls)


def _sources(workflow: Runnable) -> list[str]:
    """The models of a workflow's jobs, as the document has them."""
    calls = workflow.document.model_calls(_declared(workflow))
    return list(dict.fromkeys(each.component.sources[0] for each in calls))


def _named_models(workflow: Runnable) -> str:
    """The models that the document names; those that inputs name are known when it runs."""
    named = [each for each in _sources(workflow) if "$" not in each]
    return ", ".join(map(public_source, named) if workflow.for_guests else named)


def _button(label: str, style: str, tooltip: str, action: Callable[[], None]) -> Any:
    button = ipywidgets.Button(description=label, button_style=style, tooltip=tooltip)
    button.layout.width = "auto"
    button.on_click(lambda _: action())
    return button


def _switch(label: str, value: bool, tooltip: str) -> Any:
    return ipywidgets.Checkbox(value=value, description=label, tooltip=tooltip, indent=False)


def _controls(children: Sequence[Any]) -> ipywidgets.Box:
    controls = ipywidgets.HBox(list(children))
    controls.add_class("modelcompose-controls")
    return controls


def _header(workflow: Runnable) -> list[Any]:
    texts = {"h3": workflow.title, "p": workflow.description}
    html = "".join(f"<{tag}>{escape(text)}</{tag}>" for tag, text in texts.items() if text)
    if not html:
        return []
    header = ipywidgets.HTML(html)
    header.add_class("modelcompose-title")
    return [header]
