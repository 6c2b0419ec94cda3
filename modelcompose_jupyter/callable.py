"""A workflow as a Python callable: what `load` gives and a `%%compose` cell binds."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from html import escape
from pathlib import Path
from typing import Any

from .document import Document, Input, Output, Signature, load_document, signature
from .host import Host, local_host
from .workflow import Run

_STOP_SECONDS = 10.0


class Workflow:
    """A workflow of a document, bound to the host that runs it.

    Holds no model, so it may be kept, copied and shown at no cost.

        story = load("model-compose.yml")
        story(prompt="Once upon a time")["generated"]
    """

    def __init__(
        self, document: Document, workflow: str | None = None, host: Host | None = None
    ) -> None:
        self.document = document
        self._workflow = document.workflow(workflow)
        self._host = host
        self._signature = signature(document, self._workflow)
        self.last_run: Run | None = None

    @property
    def host(self) -> Host:
        return self._host if self._host is not None else local_host()

    @property
    def id(self) -> str:
        return self._workflow.id

    @property
    def title(self) -> str | None:
        return self._workflow.title

    @property
    def description(self) -> str | None:
        return self._workflow.description

    @property
    def signature(self) -> Signature:
        return self._signature

    @property
    def inputs(self) -> dict[str, Input]:
        """The inputs by name, in the document's order."""
        return {each.name: each for each in self._signature.inputs}

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self._signature.outputs

    def describe(self) -> dict[str, Any]:
        """Id, title, description, inputs and outputs as plain data."""
        data = {"workflow_id": self.id, "title": self.title, "description": self.description}
        given = {key: value for key, value in data.items() if value is not None}
        return {**given, **self._signature.to_dict()}

    def submit(self, input: Any = None, /, **inputs: Any) -> Run:
        """Start a run and return it at once.

        Inputs are given by name, or as one mapping where a name is no Python name.

        Raises:
            InputError: an input is missing, unknown or of the wrong type.
        """
        values = {**(input or {}), **inputs} if isinstance(input, Mapping | None) else input
        self.last_run = self.host.submit(self.document, self.id, values)
        return self.last_run

    def run(self, input: Any = None, /, **inputs: Any) -> Run:
        """Run, and return the run when it has ended, however it ended.

        An interrupt stops the run within a token and goes on as KeyboardInterrupt; the run with
        its text so far is ``last_run``.
        """
        run = self.submit(input, **inputs)
        try:
            run.wait()
        except BaseException as error:
            stop(run, error)
            raise
        return run

    def __call__(self, input: Any = None, /, **inputs: Any) -> Any:
        """Run, and return the output.

        Raises:
            ComposeError: what went wrong.
        """
        return self.run(input, **inputs).result()

    async def arun(self, input: Any = None, /, **inputs: Any) -> Run:
        """`run` for coroutines; a cancelled one stops the run."""
        run = self.submit(input, **inputs)
        await run.ended()
        return run

    def stream(self, input: Any = None, /, **inputs: Any) -> TextStream:
        """Run, and iterate over the text as it comes. Leaving the loop stops the run."""
        return TextStream(self.submit(input, **inputs))

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process has a host and runs of its own.
        return {**vars(self), "_host": None, "last_run": None}

    @property
    def _label(self) -> str:
        """The title, else the id if its author gave it one."""
        return self.title or ("" if self.id.startswith("__") else self.id)

    def __repr__(self) -> str:
        lines = [f"Workflow {self._label}".rstrip()]
        if self.description:
            lines.append(f"  {self.description}")
        models = dict.fromkeys(job.component.model["source"] for job in self._workflow.jobs)
        lines.append(f"  model: {', '.join(models)}")
        for label, entries in (("inputs", self._signature.inputs), ("outputs", self.outputs)):
            lines.append(f"  {label}: {', '.join(map(str, entries)) or 'none'}")
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        models = dict.fromkeys(job.component.model["source"] for job in self._workflow.jobs)
        rows = "".join(
            f"<tr><td style='text-align:left'><code>{escape(each.name)}</code></td>"
            f"<td style='text-align:left'>{escape(str(each.type))}</td>"
            f"<td style='text-align:left'>{'required' if each.required else ''}"
            f"{escape(repr(each.default)) if each.default is not None else ''}</td>"
            f"<td style='text-align:left'>{escape(each.description or '')}</td></tr>"
            for each in self._signature.inputs
        )
        outputs = ", ".join(f"<code>{escape(str(each))}</code>" for each in self.outputs)
        return (
            f"<div><strong>{escape(self._label or 'Workflow')}</strong>"
            f" · {', '.join(f'<code>{escape(str(m))}</code>' for m in models)}"
            f"{f'<div>{escape(self.description)}</div>' if self.description else ''}"
            f"<table><thead><tr><th>input</th><th>type</th><th></th><th></th></tr></thead>"
            f"<tbody>{rows}</tbody></table><div>gives {outputs}</div></div>"
        )


class TextStream(Iterator[str]):
    """The text of ``run`` as it comes. The run is stopped when nobody holds this any more.

    After the last piece it raises what went wrong, if anything did.
    """

    def __init__(self, run: Run) -> None:
        self.run = run
        self._pieces = run.stream()

    def __next__(self) -> str:
        try:
            return next(self._pieces)
        except StopIteration:
            self.run.result()
            raise
        except BaseException as error:
            stop(self.run, error)
            raise

    def close(self) -> None:
        """Stop the run."""
        self.run.cancel()

    def __del__(self) -> None:
        self.close()


def load(
    source: str | Path | Mapping[str, Any],
    workflow: str | None = None,
    *,
    host: Host | None = None,
) -> Workflow:
    """A workflow of a document.

    Args:
        source: the document: a path, YAML text or a mapping.
        workflow: which of its workflows; the default one if None.
        host: where to run it; this process if None.

    Raises:
        DocumentError: all that is wrong with the document.
        InputError: there is no such workflow.
    """
    return Workflow(load_document(source), workflow, host)


def stop(run: Run, error: BaseException) -> None:
    """Stop a run that ``error`` interrupted, and have IPython say so in a line."""
    run.cancel()
    run.wait(_STOP_SECONDS)
    if isinstance(error, KeyboardInterrupt):
        tokens = run.usage.get("generated", 0)
        line = f"KeyboardInterrupt: run {run.id} was stopped after {tokens} tokens"
        error._render_traceback_ = lambda: [line]  # type: ignore[attr-defined]
