"""A workflow as a Python callable: what `load` gives and a `%%compose` cell binds."""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Container,
    Iterable,
    Iterator,
    Mapping,
)
from concurrent.futures import Future
from functools import cached_property
from html import escape
from importlib.util import find_spec
from os import PathLike
from pathlib import Path
from textwrap import indent
from typing import TYPE_CHECKING, Any, Unpack, cast

from .asking import announce
from .cell_output import next_piece, show, wait
from .diagram import Diagram, diagram
from .document import (
    Document,
    Input,
    Output,
    Signature,
    check_functions,
    functions_of,
    load_document,
    signature,
)
from .errors import ComposeError, InputError, UsageError
from .format_types import GivenFormat, formatted
from .host import Host, LocalHost, validate_run
from .host_selection import (
    driver_of,
    host_for,
    host_of,
    in_use,
    is_page,
    own_runs,
    runs_here,
)
from .path_redaction import public_source, without_folders
from .redaction import is_masked, redact
from .run_follower import stop
from .tools import NamedFunctions, functions_by_name
from .translation import filled, localized, reader_language
from .widgets.snippets import as_python, is_keyword
from .workflow import EventIterator, Run, RunOptions
from .workflow.formatted import check_formattable
from .workflow.interrupts import check_unattended
from .workflow.model_specs import written_spec
from .workflow.options import checked, of_record
from .workflow.runnable import UNNAMED

if TYPE_CHECKING:
    from pandas import DataFrame

    from .grid import Grid
    from .history import PastRuns
    from .mapping.on_ray import OnRay
    from .mapping.row_stream import RowStream
    from .mapping.saving import SaveTo
    from .widgets.panel import Panel
    from .widgets.side_by_side import SideBySide


class Workflow:
    """A workflow of a document, bound to the host that runs it.

    Holds no model, so it may be kept, copied and shown at no cost. ``for_guests``, in a page that
    Voila serves, it shows of this computer's folders the last names alone. ``functions`` has those
    that the document names as tools and as steps, by name; they are looked up when a run begins.

        story = load("model-compose.yml")
        story(prompt="Once upon a time")["generated"]
    """

    def __init__(
        self,
        document: Document,
        workflow: str | None = None,
        host: Host | None = None,
        *,
        name: str | None = None,
        for_guests: bool | None = None,
        functions: Mapping[str, Any] | None = None,
    ) -> None:
        self.functions: NamedFunctions = NamedFunctions(document, functions or {})
        self.for_guests: bool = is_page() if for_guests is None else for_guests
        self._workflow = document.workflow(workflow)
        self._host = host
        self._own_signature = own = signature(self.document, self._workflow)
        self.signature: Signature = own.for_guests() if self.for_guests else own
        self.last_run: Run | None = None
        self.last_map: list[Any] | None = None
        # What IPython's ?, its completion, help() and ipywidgets.interact look at.
        is_name = is_keyword(self.id) and not self.id.startswith("__")
        self.__name__: str = name or (self.id if is_name else UNNAMED)
        self.__signature__: inspect.Signature = _python_signature(self.signature)
        self.__doc__ = _documentation(self)

    @property
    def document(self) -> Document:
        """The document, with descriptions of the functions that it names."""
        return self.functions.document

    @property
    def host(self) -> Host:
        """Where it runs: see `host_selection.host_for`. Functions that are steps run here, whoever
        has the models."""
        document = self.document
        host = self._host if self._host is not None else host_for(document)
        return driver_of(host) if functions_of(document, self._workflow) else host

    @property
    def id(self) -> str:
        return self._workflow.id

    @property
    def title(self) -> str | None:
        return self._shown(self._workflow.title)

    @property
    def description(self) -> str | None:
        return self._shown(self._workflow.description)

    def _shown(self, text: str | None) -> str | None:
        return without_folders(text) if self.for_guests and text else text

    @property
    def workflows(self) -> dict[str, Workflow]:
        """All workflows of the document, by their ids."""
        return {
            each.id: Workflow(
                self.document,
                each.id,
                self._host,
                for_guests=self.for_guests,
                functions=self.functions.given,
            )
            for each in self.document.workflows
        }

    @property
    def inputs(self) -> dict[str, Input]:
        """The inputs by name, in the document's order."""
        return {each.name: each for each in self.signature.inputs}

    @property
    def outputs(self) -> tuple[Output, ...]:
        return self.signature.outputs

    @property
    def diagram(self) -> Diagram:
        """The jobs as a graph, which shows itself in a notebook."""
        return diagram(self.document, self._workflow, for_guests=self.for_guests)

    def describe(self) -> dict[str, Any]:
        """Id, title, description, inputs and outputs as plain data."""
        data = {"workflow_id": self.id, "title": self.title, "description": self.description}
        given = {key: value for key, value in data.items() if value is not None}
        return {**given, **self.signature.to_dict()}

    def submit(self, input: Any = None, /, **inputs: Any) -> Run:
        """Start a run and return it at once.

        Inputs are given by name, or as one mapping where a name is no Python name. ``format``,
        where no input is called so, is what the texts must be: as a document says it, or a type, a
        pydantic model say.

        Raises:
            InputError: an input is missing, unknown or of the wrong type.
        """
        values, format = self._asked(input, inputs)
        return self.start(values, format=format)

    def _asked(self, input: Any, inputs: Mapping[str, Any]) -> tuple[Any, GivenFormat | None]:
        """All inputs as one value, and the format among the keywords of a call."""
        if "format" in self.inputs or inputs.get("format") is None:
            return _given(input, inputs), None
        others = {name: value for name, value in inputs.items() if name != "format"}
        return _given(input, others), GivenFormat.of(inputs["format"])

    def _check_format(self, format: GivenFormat | None) -> None:
        """Raise InputError for a format that no run could have, before there are many of them."""
        if format is not None:
            checked({"format": format.plain})
            check_formattable(self.document, self._workflow)

    def capacity(self) -> int:
        """How many runs its host can be given at once."""
        return self.host.capacity()

    def start(self, values: Any, **options: Unpack[RunOptions]) -> Run:
        """`submit` with all inputs as one value, and what else is asked for:

            story.start({"prompt": "Once upon a time"}, seed=7, logprobs=5)

        ``seed`` of the first generation, where the document gives none; ``logprobs``: so many
        alternatives of each token, in ``run.tokens``; ``extended_by``: so many tokens more than the
        document says; ``format``: what the texts must be, in place of what the document says, as a
        mapping or a type; ``begins_with``, ``score``: see `RunOptions`, and `branch` and `score`.
        """
        host, values = self.host, self._from_guests(values)
        options = _plain(options)
        try:
            self.last_run = self._submit(host, values, options)
        except ComposeError as error:
            # A host that had gone before it was asked has begun nothing: another one takes it.
            if error.code != "host_gone" or not host.closed or self.host is host:
                raise
            self.last_run = self._submit(self.host, values, options)
        return self.last_run

    def _submit(self, host: Host, values: Any, options: RunOptions) -> Run:
        tools, steps = self.functions.tools(), self.functions.steps()
        if (tools or steps) and isinstance(host, LocalHost):
            # Steps are the workflow's own, tools for those alone who have it here.
            given = {} if self.for_guests else tools
            return host.submit(
                self.document, self.id, values, functions=given, steps=steps, **options
            )
        return host.submit(self.document, self.id, values, **options)

    def check_functions(self) -> None:
        """Look at the functions that the document names as tools and as steps.

        Raises:
            InputError: one is not there, or cannot be what it is to be; with its place.
            DocumentError: jobs give functions other arguments than these take.
        """
        self.functions.tools()
        self.functions.steps()
        check_functions(self.document, self._workflow, self.functions.names)

    def check(self, values: Any, **options: Unpack[RunOptions]) -> None:
        """Raise InputError where `start` would refuse these inputs or options; begins nothing."""
        validate_run(self.document, self.id, self._from_guests(values), _plain(options))

    def _from_guests(self, values: Any) -> Any:
        return self._own_signature.from_guests(values) if self.for_guests else values

    def as_given(self, values: Any) -> Any:
        """The inputs of a run as those who look at it gave them: see `Signature.from_guests`."""
        return self._own_signature.to_guests(values) if self.for_guests else values

    def run(self, input: Any = None, /, **inputs: Any) -> Run:
        """Run, and return the run when it has ended, however it ended.

        An interrupt stops the run within a token and goes on as KeyboardInterrupt; the run with
        its text so far is ``last_run``. What the run asks is asked in the cell or the terminal.

        Raises:
            ComposeError: it asks something, and nobody is there to be asked (``needs_answer``);
                see `submit` and `Run.answer`.
        """
        run = self.submit(input, **inputs)
        wait(run)
        return run

    def __call__(self, input: Any = None, /, **inputs: Any) -> Any:
        """Run, and return the output; with a type as ``format`` an instance of it.

            story(text="Anna is 7", format=Person).name

        Raises:
            ComposeError: what went wrong.
        """
        _, format = self._asked(input, inputs)
        output = self.run(input, **{**inputs, "format": format} if format else inputs).result()
        return output if format is None else format.value(output, self._workflow)

    async def arun(self, input: Any = None, /, **inputs: Any) -> Run:
        """`run` for coroutines; a cancelled one stops the run. What the run asks is said, and not
        asked: another coroutine may answer ``last_run``."""
        begun = _begin(lambda: self.submit(input, **inputs))
        try:
            run = await asyncio.wrap_future(begun)
            leave = announce(run)
            try:
                await run.ended()
            finally:
                leave()
        except asyncio.CancelledError:
            _stop(begun)
            raise
        return run

    def stream(self, input: Any = None, /, **inputs: Any) -> TextStream:
        """Run, and iterate over the text as it comes: with ``for``, or with ``async for``, which
        lets the other coroutines go on. Leaving the loop stops the run.

        Raises:
            InputError: an input is missing, unknown or of the wrong type.
        """
        values, format = self._asked(input, inputs)
        _, values, asked = validate_run(self.document, self.id, values, _plain({"format": format}))
        return TextStream(_begin(lambda: self.start(values, **asked)))

    def map(
        self,
        rows: Any,
        input: Any = None,
        /,
        *,
        save_to: str | PathLike[str] | SaveTo | None = None,
        on: str | OnRay | None = None,
        progress: bool = True,
        **inputs: Any,
    ) -> Any:
        """Run for each of many rows, many at a time, and return the outputs in their order.

        A row that fails has its ComposeError in its place and does not end the others. An
        interrupt stops what is in flight and goes on as KeyboardInterrupt; the outputs so far are
        the list ``last_map``, with None for rows that have none.

        A row's texts depend on the row, its place and the seed alone: neither on what else runs
        nor on where, nor on how often this was stopped and went on. ``seed``, where no input is
        called so, is that of the first row; if it is not given, one is drawn, and kept where
        results are saved.

        Args:
            rows: a list or any iterable, a Series or DataFrame of pandas or polars, or a Dataset
                of datasets. Each row is a mapping of inputs, or a plain value where there is one
                input that it can stand for: the only required one, else the only one. Of a table,
                the columns that are named like inputs are taken; what is missing is not given.
                Or files of rows: the path of a ``.parquet``, ``.jsonl`` or ``.csv`` file or a
                folder of them, or `row_files`.
            input: inputs for all rows, as a mapping; a row's own win.
            save_to: a ``.jsonl`` or ``.parquet`` file that keeps each row as soon as it has ended,
                or a folder, ``out/``, which keeps them in files of 1,000 rows; see `SaveTo`.
                Running again goes on from there: rows that are done are read from it.
            on: ``"ray"`` runs the rows on a Ray cluster, in workers that each have models of their
                own: one that is started on this machine, that of ``"ray:HOST:PORT"``, or as
                `OnRay` says. The results are saved to a folder.
            progress: whether to show a bar.
            inputs: inputs for all rows, by name.

        Returns:
            A list; for pandas and polars a Series, which has the index that the rows have. Of files
            of rows in a folder `SavedRows`, which reads them as they are asked for.

        Raises:
            InputError: rows or inputs that the workflow cannot take, or that differ from those of
                a row that the file has.
            UsageError: the file cannot be written, or holds something else.
            ComposeError: the host is closed, or the file could not be written on.
        """
        self.last_map = []
        if on is not None:
            return self._map_on(on, rows, input, inputs, save_to, progress)
        stream = self._rows(rows, input, inputs, save_to, progress, skip_done=True)
        return stream.collect(self.last_map)

    def imap(
        self,
        rows: Any,
        input: Any = None,
        /,
        *,
        save_to: str | PathLike[str] | SaveTo | None = None,
        progress: bool = True,
        **inputs: Any,
    ) -> RowStream:
        """`map` as an iterator over ``(index, output)``, as the rows end.

        Rows are read only as fast as others end, and nothing is kept of those that were handed
        out. Leaving the loop, or ``close()``, stops what is in flight.
        """
        return self._rows(rows, input, inputs, save_to, progress)

    def _rows(
        self,
        rows: Any,
        input: Any,
        inputs: dict[str, Any],
        save_to: str | PathLike[str] | SaveTo | None,
        progress: bool,
        *,
        skip_done: bool = False,
    ) -> RowStream:
        from .mapping.records import records_of
        from .mapping.row_files import as_row_files
        from .mapping.row_stream import RowStream

        shared, format, seed = self._asked_of_rows(input, inputs)
        files = as_row_files(rows)
        return RowStream(
            formatted(self, format),
            rows if files is None else files,
            shared,
            save_to,
            progress,
            records_of(self._workflow, format),
            seed=seed,
            skip_done=skip_done and files is not None,
        )

    def _asked_of_rows(
        self, input: Any, inputs: dict[str, Any]
    ) -> tuple[dict[str, Any], GivenFormat | None, int | None]:
        """What all rows share, their format, and the seed of the first."""
        if not isinstance(input, Mapping | None):
            raise InputError("inputs for all rows must be a mapping", hint="Or give them by name.")
        seed = None if "seed" in self.inputs else inputs.pop("seed", None)
        checked({"seed": seed})
        shared, format = self._asked(input, inputs)
        self._check_format(format)
        check_unattended(self.document, self._workflow)
        return shared, format, seed

    def _map_on(
        self,
        on: str | OnRay,
        rows: Any,
        input: Any,
        inputs: dict[str, Any],
        save_to: str | PathLike[str] | SaveTo | None,
        progress: bool,
    ) -> Any:
        from .mapping.elsewhere import RowsElsewhere
        from .mapping.on_ray import OnRay
        from .mapping.records import records_of

        shared, format, seed = self._asked_of_rows(input, inputs)
        if functions_of(self.document, self._workflow):
            raise UsageError(
                "the functions that the workflow calls are in this process, and not in others",
                hint="Run the rows here: leave out 'on'.",
            )
        asked = OnRay.of(on)
        if find_spec("ray") is None:
            raise UsageError(
                "rows are run on Ray, which is not installed",
                hint="Install it with pip install 'modelcompose-jupyter[ray]'.",
            )
        from .ray.rows import map_on_ray

        job = RowsElsewhere(formatted(self, format), rows, shared, save_to, seed)
        with job.opened() as runner:
            map_on_ray(runner, asked, retry_failed=job.retry_failed, progress=progress)
            return job.results(runner, records_of(self._workflow, format))

    def score(
        self,
        texts: Any,
        input: Any = None,
        /,
        *,
        alternatives: int = 0,
        column: str = "text",
        save_to: str | PathLike[str] | None = None,
        progress: bool = True,
        **inputs: Any,
    ) -> Any:
        """How likely the model holds texts behind the workflow's prompt, token by token; in a chat,
        as its reply. Nothing is generated.

            story.score(["dark", "bright"], prompt="The night was")[0].logprob

        Many are read together, and what their prompts begin with is read once. A text that fails
        has its ComposeError in its place.

        Args:
            texts: a text, or many as `map` takes rows: plain texts, or mappings and tables with the
                text in a ``column`` beside the workflow's inputs.
            input: inputs for all texts, as a mapping; a row's own win.
            alternatives: how many likelier tokens are told of each token, 20 at most.
            column: what the text is called in rows that are mappings, and in tables.
            save_to: a ``.jsonl`` or ``.parquet`` file that keeps each score as soon as it is there.
                Running again goes on from there.
            progress: whether to show a bar.
            inputs: inputs for all texts, by name.

        Returns:
            A `Score` for a text: ``logprob``, ``perplexity``, ``tokens``. `Scores`, a list, for
            many; for a table or Series of pandas or polars, a table: the columns text, logprob,
            tokens, perplexity and error, with the index that the rows have.

        Raises:
            InputError: texts or inputs that it cannot take; a workflow of several prompts.
            UsageError: the file cannot be written, or holds something else.
            ComposeError: the host is closed, or the only text failed.
        """
        from .mapping.scores import score_all

        if not isinstance(input, Mapping | None):
            raise InputError("inputs for all texts must be a mapping", hint="Or give them by name.")
        return score_all(
            self,
            texts,
            {**(input or {}), **inputs},
            column=column,
            alternatives=alternatives,
            save_to=save_to,
            progress=progress,
        )

    def grid(self, input: Mapping[str, Any] | None = None, /, **inputs: Any) -> Grid:
        """Run for all combinations of values, together, and show them as a table that fills.

        An input with several values (a list, a range, an array, a Series) is an axis; where a value
        is a list itself, a list of lists. ``seed`` is that of the runs, where no input is called
        so; if it is not given, all have the same, so that only inputs differ. A run that fails has
        its error in its place and does not end the others.

            story.grid(temperature=[0, 0.7, 1.2], seed=[1, 2, 3])

        Raises:
            InputError: inputs that the workflow cannot take, nothing that varies, or too much.
        """
        from .grid import Grid

        if not isinstance(input, Mapping | None):
            raise InputError("a grid takes inputs by name", hint="Write grid(prompt=[…]).")
        given, format = self._asked(input, inputs)
        self._check_format(format)
        check_unattended(self.document, self._workflow)
        return Grid(formatted(self, format), given=given)

    def panel(self, input: Mapping[str, Any] | None = None, /, **inputs: Any) -> Panel:
        """A form that runs it in a notebook, with these inputs to begin with.

        Its inputs are ordinary ipywidgets: ``panel.inputs.temperature`` is a slider.
        """
        from .widgets.panel import Panel

        if not isinstance(input, Mapping | None):
            raise InputError("a panel begins with inputs by name", hint="Write panel(prompt=…).")
        return Panel(self, {**(input or {}), **inputs}, name=self.__name__)

    def prepare(self) -> threading.Thread | None:
        """Have what the first run will need while nothing waits for it yet: import what its models
        need, torch where one is left to it, and compile the kernels, in the background.

        Loads and fetches nothing. Gives the thread that does it; None where another process runs
        the workflow for sure.
        """
        from .models.preparation import PREPARE_THREAD_NAME, prepare

        if self.for_guests or not isinstance(self._host, LocalHost | None):
            return None

        def work() -> None:
            if self._host is not None or runs_here(self.document):
                calls = self.document.model_calls(self._workflow)
                specs = [written_spec(self.document, each.component) for each in calls]
                prepare(dict.fromkeys(spec for spec in specs if spec is not None))

        thread = threading.Thread(target=work, name=PREPARE_THREAD_NAME, daemon=True)
        thread.start()
        return thread

    @property
    def history(self) -> DataFrame:
        """What it ran in this process, and what the saved notebook remembers of earlier ones: a row
        for each run, by its id, the oldest first.

        The columns are ``when`` it began, each input (as given, else its default; one that is named
        like another column is ``input.NAME``), the ``seed`` of the first text, the ``text``, how it
        ended (``finish``, ``finish_reason``), ``tokens`` and ``prompt_tokens``,
        ``tokens_per_second``, ``seconds`` in all, the ``model``, the ``output``, the generation
        ``parameters`` really used, the ``record``, and whether the notebook alone has it
        (``remembered``). What ran before the document was changed is another workflow's.

        Raises:
            UsageError: pandas is not installed.
            InputError: the notebook's file cannot be read.
        """
        return self._past_runs().table()

    def side_by_side(self, *runs: Run | str | DataFrame) -> SideBySide:
        """The texts of runs beside each other, with the words marked that differ.

            story.side_by_side(story.history.tail(3))

        Args:
            runs: two or more, as themselves, by their ids or the beginnings of them, or by rows of
                `history`.

        Raises:
            InputError: there is no such run, or there are less than two.
        """
        from .widgets.side_by_side import SideBySide

        past = self._past_runs()
        found = past.runs(runs)
        if len(found) < 2:
            raise InputError(
                f"side by side are two runs or more, and this is {len(found)}",
                hint="Give their ids or rows: side_by_side(story.history.tail(2)).",
            )
        return SideBySide(found, list(map(past.given, found)))

    def _past_runs(self) -> PastRuns:
        from .history import PastRuns

        return PastRuns(self, own_runs if self._host is None else self.host.own_runs)

    def rerun(self, record: Run | Mapping[str, Any] | str) -> Run:
        """Run again what a run, or its ``record``, its row of `history` or its id tells of; that of
        an earlier kernel, too.

        Raises:
            InputError: the record is of another document or workflow, or there is no such run.
        """
        record = self._past_runs().record(record)
        self._check_own(record)
        if is_masked(record["input"]):
            raise InputError(
                "the record does not hold the token that the run was given",
                hint="Call the workflow with the record's input, the token and the record's seed.",
                code="missing_input",
            )
        return self.start(record["input"], **of_record(record))

    def extend(self, run: Run, tokens: int | None = None) -> Run:
        """Go on from a run whose text was cut by its limit, and return the new run at once.

        That is the same run with a higher limit, so its text is what one run with that limit gives,
        and begins with the text that there is. Texts that ended otherwise stay as they are.

        Args:
            run: one of this workflow, which has completed.
            tokens: how many more each text may have; as many again as the limit was if None, or as
                the model's context has room for.

        Raises:
            InputError: nothing was cut, there is no room, or the run is forgotten.
        """
        self.last_run = self._host_of(run).extend(run.id, tokens)
        return self.last_run

    def branch(self, run: Run, token: int, alternative: int | str, text: int = 0) -> Run:
        """Go on from another token of a run's text, and return the new run at once.

        That is the same run with another token in that place: what comes before it is not read
        again, and what comes after it is drawn with the same seed and parameters.

        Args:
            run: one of this workflow that has ended, and of which log-probabilities were asked for.
            token: which token of the text, from 0: its place in ``run.tokens[text]``.
            alternative: the token to go on from: its id, or one of the alternatives as it is shown.
            text: which of the run's texts, from 0.

        Raises:
            InputError: there is no such token, the tokens are not known, or the run is forgotten.
        """
        host = self._host_of(run)
        if isinstance(alternative, str):
            alternative = _alternative(run, text, token, alternative)
        self.last_run = host.branch(run.id, token, alternative, text)
        return self.last_run

    def find(self, id: str) -> Run:
        """One of its runs that its host knows, by its id.

        Raises:
            InputError: there is none.
        """
        run = self.host.run(id)
        if run.id != id or run.workflow != self.id:
            raise InputError(f"there is no run '{id}' of this workflow", code="unknown_run")
        return run

    def _host_of(self, run: Run) -> Host:
        """Where a run of this workflow is; InputError where it is one of another."""
        if run.record:
            self._check_own(run.record)
        return self.host if self._host is not None else host_of(run.id)

    def models_in_memory(self) -> set[str]:
        """The sources of the models that are loaded, on the hosts that may run it."""
        hosts = [self._host] if self._host is not None else in_use()
        return {each.source for host in hosts for each in host.models() if each.state == "ready"}

    def _check_own(self, record: Mapping[str, Any]) -> None:
        """Raise InputError for a record of another document or workflow."""
        if (record.get("document"), record.get("workflow")) != (self.document.hash, self.id):
            raise InputError(
                "the record is of another document or workflow",
                hint="Declare the document as it was then, and use its workflow.",
                code="other_document",
            )

    def __getstate__(self) -> dict[str, Any]:
        # A copy in another process has a host and runs of its own.
        own = {
            "_host": None,
            "last_run": None,
            "last_map": None,
            "functions": self.functions.described(),
        }
        return {**vars(self), **own}

    @property
    def _label(self) -> str:
        """The title, else the id if its author gave it one."""
        return self.title or ("" if self.id.startswith("__") else self.id)

    @property
    def _models(self) -> list[str]:
        """The models that the jobs use, as the document names them."""
        models = (
            redact(each.component.sources[0]) for each in self.document.model_calls(self._workflow)
        )
        return list(dict.fromkeys(map(public_source, models) if self.for_guests else models))

    def __repr__(self) -> str:
        lines = [f"Workflow {self._label}".rstrip()]
        if self.description:
            lines.append(f"  {self.description}")
        if models := self._models:
            lines.append(f"  model: {', '.join(models)}")
        for label, entries in (("inputs", self.signature.inputs), ("outputs", self.outputs)):
            lines.append(f"  {label}: {', '.join(map(str, entries)) or 'none'}")
        return "\n".join([*lines, "", indent(self.diagram.text, "  ")])

    def _repr_mimebundle_(
        self, include: Container[str] | None = None, exclude: Container[str] | None = None
    ) -> dict[str, str]:
        picture = self.diagram
        bundle = picture._repr_mimebundle_()
        bundle |= {"text/plain": repr(self), "text/html": self._html(picture)}
        # A picture alone would hide the inputs where it is preferred to HTML.
        del bundle["image/svg+xml"]
        wanted = bundle.keys() if include is None else include
        return {k: v for k, v in bundle.items() if k in wanted and k not in (exclude or ())}

    def _html(self, picture: Diagram) -> str:
        models = "".join(f" · <code>{escape(model)}</code>" for model in self._models)
        description = f"<div>{escape(self.description)}</div>" if self.description else ""
        left = "style='text-align:left'"
        names = map(localized, ("input", "type", "default", ""))
        head = "".join(f"<th {left}>{name}</th>" for name in names)
        rows = "".join(
            f"<tr><td {left}><code>{escape(each.name)}</code></td>"
            f"<td {left}>{escape(str(each.type))}</td>"
            f"<td {left}>{escape(_default(each))}</td>"
            f"<td {left}>{escape(localized(each.help or ''))}</td></tr>"
            for each in self.signature.inputs
        )
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
        outputs = ", ".join(f"<code>{escape(str(each))}</code>" for each in self.outputs)
        gives = filled("gives {0}", outputs, language=reader_language())
        name = escape(self._label or localized("Workflow"))
        return (
            f"<div><strong>{name}</strong>{models}{description}"
            f'<div style="overflow:auto;max-height:40em;margin:8px 0">{picture.svg}</div>'
            f"{table if rows else ''}<div>{gives}</div></div>"
        )


class TextStream(Iterator[str], AsyncIterator[str]):
    """The text of ``run`` as it comes. The run is stopped when nobody holds this any more.

    After the last piece it raises what went wrong, if anything did.
    """

    def __init__(self, begun: Future[Run]) -> None:
        self._begun = begun

    @property
    def run(self) -> Run:
        """The run; waits where it is still being handed to its host."""
        return self._begun.result()

    def __next__(self) -> str:
        run = self.run
        try:
            if not run.text:
                wait(run, or_text=True)
            return next_piece(run, self._pieces)
        except StopIteration:
            run.result()
            raise
        except BaseException as error:
            stop(run, error)
            raise

    async def __anext__(self) -> str:
        try:
            run = await asyncio.wrap_future(self._begun)
            try:
                return await anext(self._pieces)
            except StopAsyncIteration:
                run.result()
                raise
        except BaseException:
            self.close()
            raise

    @cached_property
    def _pieces(self) -> EventIterator[str]:
        return self.run.stream()

    def close(self) -> None:
        """Stop the run."""
        _stop(self._begun)

    def _ipython_display_(self) -> None:
        """The text as it comes, in lines that end between words."""
        show(self.run)

    async def aclose(self) -> None:
        """`close`, for `contextlib.aclosing`."""
        self.close()

    def __del__(self) -> None:
        self.close()


def _begin(start: Callable[[], Run]) -> Future[Run]:
    """Begin a run at once: on another thread where an event loop runs in this one, which a host
    far away must not hold up."""
    begun: Future[Run] = Future()
    begun.set_running_or_notify_cancel()

    def begin() -> None:
        try:
            begun.set_result(start())
        except BaseException as error:
            begun.set_exception(error)

    try:
        asyncio.get_running_loop()
    except RuntimeError:  # there is none
        begin()
    else:
        threading.Thread(target=begin, name="modelcompose-begin", daemon=True).start()
        return begun
    begun.result()  # raises at the call
    return begun


def _stop(begun: Future[Run]) -> None:
    """Stop a run, now or as soon as it has begun."""

    def cancel(begun: Future[Run]) -> None:
        if begun.exception() is None:
            begun.result().cancel()

    begun.add_done_callback(cancel)


def _alternative(run: Run, text: int, token: int, shown: str) -> int:
    """The id of an alternative in a place, by how it is shown."""
    tokens = run.tokens[text] if 0 <= text < len(run.tokens) else []
    if tokens and not 0 <= token < len(tokens):
        raise InputError(f"the text has {len(tokens)} tokens, which count from 0, and not {token}")
    alternatives = tokens[token].alternatives if tokens else ()
    found = next((each.id for each in alternatives if each.token == shown), None)
    if found is None:
        known = ", ".join(repr(each.token) for each in alternatives)
        raise InputError(
            f"{shown!r} is none of the alternatives of token {token}",
            hint=f"There are {known}; any other is named by its id."
            if known
            else "To know them, run it with logprobs: story.start({…}, logprobs=5).",
        )
    return found


def _plain(options: Mapping[str, Any]) -> RunOptions:
    """The options of a run, with the format as a document says it."""
    format = options.get("format")
    plain = {} if format is None else {"format": GivenFormat.of(format).plain}
    return cast(RunOptions, {**options, **plain})


def _given(input: Any, inputs: Mapping[str, Any]) -> Any:
    """All inputs as one value: a mapping, with those that were given by name."""
    return {**(input or {}), **inputs} if isinstance(input, Mapping | None) else input


Functions = Iterable[Callable[..., Any]] | Mapping[str, Callable[..., Any]]
"""Functions by their own names, or by those that a document has for them."""


def load(
    source: str | Path | Mapping[str, Any],
    workflow: str | None = None,
    *,
    host: Host | None = None,
    functions: Functions | None = None,
    tools: Functions | None = None,
) -> Workflow:
    """A workflow of a document.

    Args:
        source: the document: a path, YAML text or a mapping.
        workflow: which of its workflows; the default one if None.
        host: where to run it; if None this process, or another one of yours that serves it.
        functions: the functions that the document names, as tools or as steps: a list, or a mapping
            by those names. Modules beside the document need not be given.
        tools: the same; both together are all of them.

    Raises:
        DocumentError: all that is wrong with the document.
        InputError: there is no such workflow, or a function is missing or cannot be what it is to
            be.
    """
    given = {**functions_by_name(tools), **functions_by_name(functions)}
    loaded = Workflow(load_document(source), workflow, host, functions=given)
    loaded.check_functions()
    return loaded


# How a workflow shows itself to Python's own tools


def _python_signature(described: Signature) -> inspect.Signature:
    """How a workflow is called: by keywords, and by a mapping where these do not do."""
    kinds = inspect.Parameter
    names = [each.name for each in described.inputs]
    keywords = [
        kinds(each.name, kinds.KEYWORD_ONLY, default=kinds.empty if each.required else each.default)
        for each in described.inputs
        if is_keyword(each.name)
    ]
    before, after = [], []
    if described.open or len(keywords) < len(names):
        before.append(kinds(_free("input", names), kinds.POSITIONAL_ONLY, default=None))
    if described.open:
        after.append(kinds(_free("inputs", names), kinds.VAR_KEYWORD))
    return inspect.Signature([*before, *keywords, *after])


def _free(name: str, taken: Collection[str]) -> str:
    return name if name not in taken else _free(f"{name}_", taken)


def _documentation(workflow: Workflow) -> str:
    """What ``help()`` and IPython's ``?`` say of a workflow."""
    inputs = [
        f"    {each}{'' if each.required or each.default is not None else ' (optional)'}"
        + (f"\n        {each.help}" if each.help else "")
        for each in workflow.inputs.values()
    ]
    if workflow.signature.open:
        inputs.append("    and any other")
    sections = [
        workflow._label or "A workflow.",
        workflow.description or "",
        "\n".join(["Inputs:", *(inputs or ["    none"])]),
        "\n".join(["Outputs:", *(f"    {each}" for each in workflow.outputs)]),
        f"Example:\n    {_example(workflow)}",
        f"help(type({workflow.__name__})) says what else it can do.",
    ]
    return "\n\n".join(filter(None, sections))


def _example(workflow: Workflow) -> str:
    """A call with what is required, or with one input where nothing is."""
    inputs = list(workflow.inputs.values())
    shown = [each for each in inputs if each.required] or inputs[:1]
    values = {each.name: _example_value(each) for each in shown}
    name = workflow.outputs[0].name if workflow.outputs else None
    return as_python(workflow.__name__, values) + ("" if name is None else f"[{name!r}]")


_EXAMPLES = {
    "integer": 1,
    "number": 1.0,
    "boolean": True,
    "list": ["…"],
    "object": {"…": "…"},
    "json": {"…": "…"},
    "messages": [{"role": "user", "content": "…"}],
}


def _example_value(input: Input) -> Any:
    """The default, else a value of the input's type."""
    if input.default is not None:
        return input.default
    type_ = input.type
    value: Any = _EXAMPLES.get(type_.name, "…")
    if type_.name == "select":
        value = type_.options[0]
    elif type_.name == "slider":
        value = int(type_.range[0]) if type_.counts_whole else type_.range[0]
    return [value] if type_.is_list else value


def _default(input: Input) -> str:
    """The default as Python writes it, or whether the input has to be given."""
    if input.required:
        return "required"
    return "optional" if input.default is None else repr(input.default)
