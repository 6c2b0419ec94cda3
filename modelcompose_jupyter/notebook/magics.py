"""``%%compose`` declares a workflow, ``%compose`` does things with workflows and models.

Nothing here is imported beyond IPython until a magic is used.
"""

from __future__ import annotations

import builtins
import keyword
from typing import TYPE_CHECKING, Any

from IPython.core.magic import Magics, line_cell_magic, magics_class, no_var_expand

if TYPE_CHECKING:
    from ..callable import Workflow
    from .line import Line

HELP = """\
%%compose [name] [key=text] [key:=python] [--run] [--no-panel]
    Declare the workflow of the cell's YAML and bind it to `name`.
    With inputs or --run it runs, and its text streams into the cell.

%compose run NAME [key=text] [key:=python]   run a workflow, or a file's
%compose list                                the workflows of this notebook
%compose models                              the models in memory
%compose unload [MODEL]                      give a model's memory back; all if none is named
%compose validate FILE                       check a document
%compose schema [NAME]                       a workflow's inputs and outputs; without a name,
                                             the JSON Schema of documents
%compose help                                this text

key=text gives a text, which the workflow converts to the type it needs; quotes keep spaces.
key:=python gives the value of a Python expression of this notebook."""


@magics_class
class ComposeMagics(Magics):
    """The magics of this package."""

    @no_var_expand
    @line_cell_magic
    def compose(self, line: str, cell: str | None = None) -> Any:
        """Declare a workflow (%%compose), or do something with workflows (%compose help)."""
        if cell is not None:
            return self._declare(line, cell)
        return self._command(line)

    # %%compose

    def _declare(self, line: str, cell: str) -> Any:
        from ..callable import Workflow
        from ..document import load_document
        from .cell import follow

        parsed = self._parse(line, ("run", "no-panel"))
        name = _binding(parsed.words)
        # The magic's own line is the first of the cell, so an empty one keeps the lines' numbers.
        workflow = Workflow(load_document("\n" + cell, name="cell"))
        if name is not None:
            if hasattr(builtins, name):
                print(f"warning: '{name}' was Python's own; it is the workflow now")  # noqa: T201
            self.shell.push({name: workflow})
        if parsed.inputs or "run" in parsed.flags:
            follow(workflow.submit(parsed.inputs))
            return None
        return None if "no-panel" in parsed.flags else workflow

    def _parse(self, line: str, flags: tuple[str, ...] = ()) -> Line:
        from .line import parse_line

        return parse_line(line, flags, self.shell.ev)

    # %compose

    def _command(self, line: str) -> Any:
        from ..errors import UsageError, did_you_mean

        verb, _, rest = line.strip().partition(" ")
        verbs = {
            "run": self._run,
            "list": self._list,
            "models": self._models,
            "unload": self._unload,
            "validate": self._validate,
            "schema": self._schema,
            "help": self._help,
            "": self._help,
        }
        if verb not in verbs:
            known = ", ".join(each for each in verbs if each)
            hint = did_you_mean(verb, verbs) or f"There are {known}. For a cell, write %%compose."
            raise UsageError(f"there is no '%compose {verb}'", hint=hint)
        return verbs[verb](rest)

    def _run(self, line: str) -> None:
        from .cell import follow

        parsed = self._parse(line)
        follow(self._workflow(_one_word(parsed, "run NAME")).submit(parsed.inputs))

    def _workflow(self, name: str) -> Workflow:
        """The workflow that a name of the notebook is bound to, or that a file holds."""
        from ..callable import Workflow, load
        from ..errors import UsageError, did_you_mean

        value = self.shell.user_ns.get(name)
        if isinstance(value, Workflow):
            return value
        if name.endswith((".yml", ".yaml")):
            return load(name)
        bound = self._workflows()
        raise UsageError(
            f"'{name}' is no workflow of this notebook",
            hint=did_you_mean(name, bound)
            or f"There is {', '.join(bound) or 'none yet'}; or name a .yml file.",
        )

    def _workflows(self) -> dict[str, Workflow]:
        from ..callable import Workflow

        return {
            name: value
            for name, value in self.shell.user_ns.items()
            if isinstance(value, Workflow) and not name.startswith("_")
        }

    def _list(self, line: str) -> Any:
        from .table import Table

        self._no_words(line, "list")
        rows = [
            [name, flow.title or "", ", ".join(flow.inputs), flow.last_run or ""]
            for name, flow in self._workflows().items()
        ]
        return Table(["name", "title", "inputs", "last run"], rows, "No workflows yet.")

    def _models(self, line: str) -> Any:
        from ..host import local_host
        from ..units import size
        from .table import Table

        self._no_words(line, "models")
        rows = [
            [m.id, m.source, m.device, m.precision, m.state, size(m.memory_bytes or 0), m.leases]
            for m in local_host().models()
        ]
        headers = ["id", "source", "device", "precision", "state", "weights", "in use"]
        return Table(headers, rows, "No models in memory.")

    def _unload(self, line: str) -> None:
        from ..host import local_host

        words = self._parse(line).words
        for model in local_host().unload(_one_word(words, "unload [MODEL]") if words else None):
            print(f"unloaded {model.id}")  # noqa: T201

    def _validate(self, line: str) -> None:
        from ..document import load_document

        file = _one_word(self._parse(line), "validate FILE")
        document = load_document(file)
        names = ", ".join(workflow.title or workflow.id for workflow in document.workflows)
        print(f"{file} is valid: {names}")  # noqa: T201
        for warning in document.warnings:
            print(f"warning: {warning}")  # noqa: T201

    def _schema(self, line: str) -> Any:
        from IPython.display import JSON

        from ..document import json_schema

        words = self._parse(line).words
        name = _one_word(words, "schema [NAME]") if words else None
        return JSON(self._workflow(name).describe() if name else json_schema())

    def _help(self, line: str) -> None:
        print(HELP)  # noqa: T201

    def _no_words(self, line: str, verb: str) -> None:
        from ..errors import UsageError

        if line.strip():
            raise UsageError(f"'%compose {verb}' takes nothing more, and there is '{line}'")


def _binding(words: list[str]) -> str | None:
    from ..errors import UsageError

    if len(words) > 1:
        raise UsageError(
            f"one name is enough, and there are {len(words)}: {' '.join(words)}",
            hint="Inputs are key=text; text with spaces stands in quotes.",
        )
    if words and (not words[0].isidentifier() or keyword.iskeyword(words[0])):
        raise UsageError(f"'{words[0]}' is no Python name", hint="Write %%compose story, say.")
    return words[0] if words else None


def _one_word(found: Line | list[str], usage: str) -> str:
    from ..errors import UsageError

    words = found if isinstance(found, list) else found.words
    if len(words) != 1:
        raise UsageError(f"usage: %compose {usage}")
    return words[0]
