"""``%%compose`` declares a workflow, ``%compose`` does things with workflows and models.

Nothing here is imported beyond IPython until a magic is used.
"""

from __future__ import annotations

import builtins
import keyword
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand
from traitlets import Bool, Float, observe

from ..errors import InputError, UsageError, did_you_mean
from ..magic_args import CELL_FLAGS, parse_line
from ..terminal import say
from ..translation import localized

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ..callable import Workflow
    from ..magic_args import MagicArgs
    from ..widgets.panel import Panel
    from ..workflow import Run

VERBS = {
    "run": ("NAME [key=text] [key:=python]", "run a workflow, or a file's"),
    "list": ("", "the workflows of this notebook"),
    "runs": ("", "the runs of this notebook, with parameters and timings"),
    "rerun": ("ID [NOTEBOOK]", "run again, with the same seed; an earlier kernel's run too"),
    "serve": ("[NAME …] [port:=8080] | off", "offer workflows over HTTP; all if none is named"),
    "connect": ("[URL] [token:=…] | off", "run everything on another host from now on"),
    "stop": ("[ID]", "stop a run; all that go on if none is named"),
    "models": ("", "the models in memory, and what memory there is"),
    "unload": ("[MODEL]", "give a model's memory back; all of this process if none is named"),
    "graph": ("NAME", "a workflow's jobs as a graph"),
    "validate": ("FILE", "check a document"),
    "schema": ("[NAME]", "inputs and outputs; without a name, the documents' JSON Schema"),
    "help": ("", "this text"),
}
"""What follows ``%compose``: for each verb its arguments, and what it does."""

_WORDS = {
    **dict.fromkeys(("run", "graph", "validate"), (1, 1)),
    **dict.fromkeys(("connect", "stop", "unload", "schema"), (0, 1)),
    **dict.fromkeys(("list", "runs", "models"), (0, 0)),
    "rerun": (1, 2),
}
"""How many words a verb takes, at least and at most; those that are not here look themselves."""

_HELP = """\
%%compose [name] [key=text] [key:=python] [--run] [--no-panel]
    Declare the workflow of the cell's YAML, bind it to `name` and show its panel.
    With inputs or --run it runs, and its text streams into the cell.

{verbs}

key=text gives a text, which the workflow converts to the type it needs; quotes keep spaces.
key:=python gives the value of a Python expression of this notebook.
%config ComposeMagics shows and sets defaults."""


def _bytes(gigabytes: float | None) -> int | None:
    return None if gigabytes is None else int(gigabytes * 1e9)


def _bound(about: str) -> Float:
    return Float(None, allow_none=True, min=0, help=about).tag(config=True)


@magics_class
class ComposeMagics(Magics):
    """The magics of this package."""

    panel = Bool(True, help="Whether a declared workflow shows its panel.").tag(config=True)
    live = Bool(False, help="Whether panels begin with Live on: a changed input runs.").tag(
        config=True
    )
    prepare = Bool(
        True,
        help="Whether a panel that is shown has the kernel import what its models will need, in"
        " the background.",
    ).tag(config=True)
    memory_budget = _bound(
        "Gigabytes of weights to keep; idle models beyond it are unloaded. None: what fits."
    )
    cache_budget = _bound(
        "Gigabytes of keys and values (of running texts, and of earlier ones that are reused)"
        " for each model that is loaded from now on. None: what is free."
    )
    idle_timeout = _bound("Seconds after which an idle model is unloaded. None: never.")

    def __init__(self, shell: Any) -> None:
        super().__init__(shell)
        self._panels: dict[str, Panel] = {}

    @no_var_expand
    @line_cell_magic
    def compose(self, line: str, cell: str | None = None) -> Any:
        """Declare a workflow (%%compose), or do something with workflows (%compose help)."""
        if cell is not None:
            return self._declare(line, cell)
        return self._command(line)

    @observe("memory_budget", "cache_budget", "idle_timeout")
    def _limit(self, _: Any) -> None:
        from ..host import local_host

        local_host().limit(
            memory_budget=_bytes(self.memory_budget),
            idle_timeout=self.idle_timeout,
            cache_budget=_bytes(self.cache_budget),
        )

    # %%compose

    def _declare(self, line: str, cell: str) -> Any:
        from ..cell_output import show

        parsed = parse_line(line, CELL_FLAGS, self.shell.ev)
        workflow, name = _declared(parsed, cell, self.shell.user_ns)
        workflow.check_functions()
        if name is not None:
            if hasattr(builtins, name):
                say(f"warning: '{name}' was Python's own; it is the workflow now")
            self.shell.push({name: workflow})
        if parsed.inputs or "run" in parsed.flags:
            show(workflow.submit(parsed.inputs))
            return None
        if "no-panel" in parsed.flags or not self.panel:
            return None
        if not hasattr(self.shell, "kernel"):  # a terminal shows no widgets
            return workflow
        if self.prepare:
            workflow.prepare()
        return self._new_panel(workflow)

    def _new_panel(self, workflow: Workflow) -> Panel:
        """A panel; what was entered into the one of the same name before is in its fields."""
        from ..widgets.inputs import entered
        from ..widgets.panel import Panel

        name = workflow.__name__
        before = self._panels.get(name)
        values = entered(before.inputs, workflow.signature) if before else {}
        live = before.live if before else self.live
        self._panels[name] = Panel(workflow, values, name=name, live=live)
        return self._panels[name]

    def in_cell(self, text: str) -> tuple[Workflow, Panel | None]:
        """The workflow of a cell as it is written, and the panel that it showed when it last ran;
        None where it shows none, or runs by itself.

        Raises:
            ComposeError: what is wrong with it.
        """
        line, _, cell = text.partition("\n")
        # Looked at, not run: what Python would compute is left alone.
        parsed = parse_line(line.removeprefix("%%compose"), CELL_FLAGS, lambda expression: None)
        workflow, _ = _declared(parsed, cell, self.shell.user_ns)
        shows = not (parsed.inputs or parsed.flags)
        return workflow, self._panels.get(workflow.__name__) if shows else None

    # %compose

    def _command(self, line: str) -> Any:
        verb, _, rest = line.strip().partition(" ")
        verb = verb or "help"
        if verb not in VERBS:
            known = ", ".join(VERBS)
            hint = did_you_mean(verb, VERBS) or f"There are {known}. For a cell, write %%compose."
            raise UsageError(f"there is no '%compose {verb}'", hint=hint)
        least, most = _WORDS.get(verb, (0, sys.maxsize))
        if not most and rest.strip():
            raise UsageError(f"'%compose {verb}' takes nothing more, and there is '{rest}'")
        parsed = parse_line("" if verb == "help" else rest, (), self.shell.ev)
        if not least <= len(parsed.words) <= most:
            raise _usage(verb)
        return getattr(self, f"_{verb}")(parsed)

    def _run(self, line: MagicArgs) -> None:
        from ..cell_output import show

        show(self.workflow(line.words[0]).submit(line.inputs))

    def workflow(self, name: str) -> Workflow:
        """The workflow that a name of the notebook is bound to, or that a file holds."""
        from ..callable import Workflow, load

        value = self.shell.user_ns.get(name)
        if isinstance(value, Workflow):
            return value
        if name.endswith((".yml", ".yaml")):
            return load(name)
        bound = self.workflows()
        raise UsageError(
            f"'{name}' is no workflow of this notebook",
            hint=did_you_mean(name, bound)
            or f"There is {', '.join(bound) or 'none yet'}; or name a .yml file.",
        )

    def workflows(self) -> dict[str, Workflow]:
        """The workflows of the notebook by the names that they are bound to."""
        from ..callable import Workflow

        return {
            name: value
            for name, value in self.shell.user_ns.items()
            if isinstance(value, Workflow) and not name.startswith("_")
        }

    def _list(self, _: MagicArgs) -> Any:
        from ..table import Table

        rows = [
            [name, flow.title or "", ", ".join(flow.inputs), flow.last_run or ""]
            for name, flow in self.workflows().items()
        ]
        return Table(["name", "title", "inputs", "last run"], rows, "No workflows yet.")

    def _runs(self, _: MagicArgs) -> Any:
        from ..host_selection import own_runs
        from .table import runs_table

        return runs_table(own_runs())

    def _rerun(self, line: MagicArgs) -> None:
        from ..cell_output import show

        id, *notebook = line.words
        run, record = self._again(id, Path(notebook[0]) if notebook else None)
        show(run)
        _compare(record, run)

    def _again(self, id: str, notebook: Path | None) -> tuple[Run, dict[str, Any]]:
        """A run started again, and the record of the first."""
        from ..host_selection import host_of
        from ..notebook_records import find_record, this_notebook

        reason: str | None = None
        if notebook is None:
            try:
                host = host_of(id)
                first = host.run(id)
                return host.rerun(id), first.record
            except InputError as error:
                if error.code not in ("unknown_run", "gone"):
                    raise
                reason = error.message if error.code == "gone" else None
        path = notebook or this_notebook()
        record = find_record(path, id) if path else None
        if record is None:
            where = f"in {path}" if path else "in this kernel"
            raise InputError(
                reason or f"there is no run '{id}' {where}",
                hint="See %compose runs; or save the notebook that has its output and name it:"
                " %compose rerun ID NOTEBOOK.ipynb",
                code="unknown_run",
            )
        for workflow in self.workflows().values():
            if workflow.document.hash == record["document"] and workflow.id == record["workflow"]:
                return workflow.rerun(record), record
        raise InputError(
            f"the workflow of run {id} is not declared here",
            hint="Run the cell with its document, as it was then, and try again.",
            code="other_document",
        )

    def _stop(self, line: MagicArgs) -> None:
        from ..host_selection import host_of, own_runs
        from ..mapping.active_maps import stop_all

        if not line.words:
            stop_all()
        chosen = [host_of(id).run(id) for id in line.words] or own_runs()
        going = [run for run in chosen if not run.done]
        for run in going:
            run.cancel()
            say(f"stopped {run.id}")
        if not going:
            say("nothing runs")

    def _models(self, _: MagicArgs) -> Any:
        from .hosts import models

        return models()

    def _unload(self, line: MagicArgs) -> None:
        from .hosts import unload

        unload(*line.words)

    def _serve(self, line: MagicArgs) -> None:
        from .hosts import serve

        say(serve(line, self.workflow, self.workflows))

    def _connect(self, line: MagicArgs) -> None:
        from .hosts import connect

        if line.inputs.keys() - {"token"}:
            raise _usage("connect")
        connect(line)

    def _graph(self, line: MagicArgs) -> Any:
        return self.workflow(line.words[0]).diagram

    def _validate(self, line: MagicArgs) -> None:
        from ..document import load_document

        (file,) = line.words
        document = load_document(file)
        names = ", ".join(workflow.title or workflow.id for workflow in document.workflows)
        say(f"{file} is valid: {names}")
        for warning in document.warnings:
            say(f"warning: {warning}")

    def _schema(self, line: MagicArgs) -> Any:
        from IPython.display import JSON

        from ..document import json_schema

        return JSON(self.workflow(*line.words).describe() if line.words else json_schema())

    def _help(self, _: MagicArgs) -> None:
        usages = {
            f"%compose {verb} {usage}".strip(): localized(does)
            for verb, (usage, does) in VERBS.items()
        }
        width = max(map(len, usages))
        verbs = "\n".join(f"{usage.ljust(width)}   {does}" for usage, does in usages.items())
        print(localized(_HELP).format(verbs=verbs))  # noqa: T201


def _compare(before: dict[str, Any], run: Run) -> None:
    """Say whether a run again gave the same text, and if not, what may have changed it."""
    from ..notebook_records import differences, same_texts

    if not before.get("generations"):
        return
    if same_texts(before, run.record):
        say(f"the same text as run {before['run']}")
        return
    reasons = differences(before, run.record)
    why = f": {', '.join(reasons)}" if reasons else ""
    say(f"warning: another text than run {before['run']}{why}")


def _declared(
    parsed: MagicArgs, cell: str, namespace: Mapping[str, Any]
) -> tuple[Workflow, str | None]:
    """The workflow of a cell, and the name that it is to be bound to. Functions that it names are
    those of the namespace."""
    from ..callable import Workflow
    from ..document import load_document

    words = parsed.words
    if len(words) > 1:
        raise UsageError(
            f"one name is enough, and there are {len(words)}: {' '.join(words)}",
            hint="Inputs are key=text; text with spaces stands in quotes.",
        )
    name = words[0] if words else None
    if name is not None and (not name.isidentifier() or keyword.iskeyword(name)):
        raise UsageError(f"'{name}' is no Python name", hint="Write %%compose story, say.")
    # The magic's own line is the first of the cell, so an empty one keeps the lines' numbers.
    document = load_document("\n" + cell, name="cell")
    return Workflow(document, name=name, functions=namespace), name


def _usage(verb: str) -> UsageError:
    return UsageError(f"usage: %compose {verb} {VERBS[verb][0]}")
