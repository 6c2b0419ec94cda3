"""Driving one run: jobs as a graph, each when those it waits for have ended.

Coroutines here run on the host's event loop; nothing in them blocks.
"""

from __future__ import annotations

import asyncio
import contextlib
import importlib.metadata
import itertools
import platform
import time
from collections.abc import AsyncIterator, Hashable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Annotated, Any

from pydantic import Field, ValidationError

from ..document import Document, Job, Template, Workflow
from ..document.document import digest
from ..document.fields import Integer, Strict
from ..document.render import check_size
from ..errors import ComposeError
from ..redaction import get_logger, redact
from ..seeds import MAX_SEED
from ..tools import FunctionTool
from .bounded_gather import bounded_gather, first_of
from .component import (
    Allowance,
    ComponentCall,
    ComponentCaller,
    count_progress,
    invalid,
    locating,
    render_in,
)
from .concurrency_limiter import QueueProgress
from .events import State
from .extension import EarlierRun
from .options import RunOptions
from .run import Run
from .token_room import FULL, TokenRoom, ToldTokens

_log = get_logger(__name__)
_SEEDS_OF_A_JOB = 2**20
GUESTS = "guests"
"""The group of guests' runs."""


class _Repeat(Strict):
    repeat_count: Annotated[Integer, Field(ge=1)]


def is_first_seed(seed: int | None, of_run: int) -> bool:
    """Whether a seed is that of a job's first generation, where the document gives none."""
    return seed is not None and (seed - of_run) % (MAX_SEED + 1) % _SEEDS_OF_A_JOB == 0


async def run_workflow(
    document: Document,
    workflow: Workflow,
    input: Any,
    run: Run,
    calls: ComponentCaller,
    seed: int,
    max_seconds: float | None = None,
    max_generations: int | None = None,
    group: Hashable = None,
    options: RunOptions | None = None,
    earlier: EarlierRun | None = None,
    functions: Mapping[str, FunctionTool] | None = None,
) -> None:
    """Run a workflow to its end, whatever that is; never raises.

    The input has been checked; that of the run, which takes the events, is as it may be shown.
    ``seed`` is the first generation's where the document gives none: repeats and prompts count up
    from it, and each job has a range of its own. After ``max_seconds``, or where it asks for more
    than ``max_generations``, it fails. Requests of one group take turns with those of others.
    ``earlier`` is what there is of its texts already. ``functions`` are the tools that its models
    may have called, here, by their names.
    """
    allowance, options = Allowance(max_generations), options or RunOptions()
    runner = _Runner(
        document,
        workflow,
        input,
        run,
        calls,
        seed,
        allowance,
        group,
        options,
        earlier or EarlierRun(),
        functions or {},
    )
    try:
        run.add("state", {"state": State.RUNNING})
        async with _limited(max_seconds):
            output = await runner.output()
        run.add("result", {"output": output})
        state = State.COMPLETED
    except asyncio.CancelledError:
        state = State.CANCELLED
    except ComposeError as error:
        run.add("error", error.to_dict())
        state = State.FAILED
    except Exception as error:  # a defect of ours: said as such, with the traceback in the log
        _log.exception("run %s failed", run.id)
        internal = ComposeError(
            f"internal error: {type(error).__name__}: {error}",
            hint="The log of 'modelcompose_jupyter' has the traceback. Please report it.",
            code="internal",
        )
        run.add("error", internal.to_dict())
        state = State.FAILED
    room = runner.room() if state is State.COMPLETED or run.failed_of_a_cut else 0
    run.drafts = runner.drafts() if room or any(run.tokens) else {}
    run.add("state", {"state": state, "summary": {**runner.summary(), "extendable_by": room}})


@contextlib.asynccontextmanager
async def _limited(seconds: float | None) -> AsyncIterator[None]:
    """Stop what is inside after so many seconds, with a ComposeError of the code ``timeout``."""
    timeout = asyncio.timeout(seconds)
    try:
        async with timeout:
            yield
    except TimeoutError:
        if not timeout.expired():
            raise
        raise ComposeError(
            f"the run was stopped after {seconds:g} s, the host's limit",
            hint="The text so far is on the run; lower max_output_length for a shorter one.",
            code="timeout",
        ) from None


@dataclass
class _Runner:
    _document: Document
    _workflow: Workflow
    _input: Any
    _run: Run
    _calls: ComponentCaller
    _seed: int
    _allowance: Allowance
    _group: Hashable
    _options: RunOptions
    _earlier: EarlierRun
    _functions: Mapping[str, FunctionTool]

    def __post_init__(self) -> None:
        jobs = self._workflow.jobs
        self._started = time.monotonic()
        self._outputs: dict[str, dict[str, Any]] = {}
        self._ended = {job.id: asyncio.Event() for job in jobs}
        self._queue_progress = {job.id: QueueProgress(self._run, job.id) for job in jobs}
        self._made: list[ComponentCall] = []
        self._seeds = {job.id: self._seed + n * _SEEDS_OF_A_JOB for n, job in enumerate(jobs)}

    @property
    def _scores(self) -> bool:
        """Whether a text is scored: the score is the output as it is."""
        return "score" in self._options

    async def output(self) -> Any:
        """Run all jobs; the workflow's output.

        It is the ``output`` mapping where there is one, else the output of the one last job, else a
        mapping of the last jobs' outputs by their ids.
        """
        try:
            async with asyncio.TaskGroup() as group:
                for job in self._workflow.jobs:
                    group.create_task(self._job(job))
        except BaseExceptionGroup as errors:
            raise first_of(errors) from None
        last = self._workflow.last_jobs
        outputs = {job.id: self._outputs[job.id]["output"] for job in last}
        value = outputs[last[0].id] if len(last) == 1 else outputs
        if self._scores:
            return value
        if self._workflow.output is not None:
            return self._render(self._workflow.output, {"output": value})
        if len(last) > 1:  # what the jobs pass on may be the same
            with locating(self._document, (*self._workflow.path, "output")):
                check_size(value, "the outputs of the last jobs")
        return value

    async def _job(self, job: Job) -> None:
        for name in job.depends_on:
            await self._ended[name].wait()
        self._progress(job, "started")
        if job.repeat_count is None:
            value = await self._called(job, None)
        else:
            value = await self._repeated(job, job.repeat_count)
        if job.output is not None and not self._scores:
            value = self._render(job.output, {"output": value})
        self._outputs[job.id] = {"output": value}
        self._progress(job, "completed")
        self._ended[job.id].set()

    async def _repeated(self, job: Job, repeat_count: Template) -> list[Any]:
        value = self._render(repeat_count, {})
        try:
            count = _Repeat.model_validate({"repeat_count": value}).repeat_count
        except ValidationError as error:
            raise invalid(error, "repeat_count", repeat_count, self._document) from None
        self._allowance.check(count, self._document.where(repeat_count.path))
        return await bounded_gather(
            count,
            lambda index: self._called(job, index),
            count_progress(self._run, job, "repeat"),
        )

    async def _called(self, job: Job, repeat: int | None) -> Any:
        value = self._input
        if job.input is not None:
            value = self._render(job.input, {} if repeat is None else {"index": repeat})
        call = ComponentCall(
            self._document,
            job,
            value,
            repeat,
            self._run,
            self._group,
            self._seeds[job.id],
            self._queue_progress[job.id],
            self._allowance,
            self._options,
            self._earlier,
            ToldTokens(self._calls.guests_room if self._group == GUESTS else TokenRoom(None)),
            self._functions,
        )
        self._made.append(call)
        return await self._calls.call(call)

    def _render(self, template: Template, extra: Mapping[str, Any]) -> Any:
        sources = {"input": self._input, "jobs": self._outputs, **extra}
        return render_in(self._run, self._document, template, sources)

    def _progress(self, job: Job, state: str) -> None:
        done, total = len(self._outputs), len(self._workflow.jobs)
        data = {"phase": "job", "job": job.id, "state": state, "done": done, "total": total}
        self._run.add("progress", {**data, "unit": "jobs"})

    def _generations(self) -> list[dict[str, Any]]:
        """All that was generated, in the order of the streams."""
        made = (sorted(call.generations, key=lambda each: each["stream"]) for call in self._made)
        return list(itertools.chain.from_iterable(made))

    def room(self) -> int:
        """How many tokens more the texts may have that a limit has cut."""
        results = [each["result"] for each in self._generations()]
        return max((each.room for each in results if "length" in each.finish_reasons), default=0)

    def drafts(self) -> dict[Any, Any]:
        """What a longer run begins with: see `Run.drafts`."""
        return {
            each["stream"]: (each["prompt"], each["result"].tokens)
            for each in self._generations()
            if each["prompt"] is not None
        }

    def summary(self) -> dict[str, Any]:
        """What the run has to say of itself when it has ended."""
        generations = self._generations()
        results = [each["result"] for each in generations]
        first = results[0] if results else None
        total = time.monotonic() - self._started
        keys = dict.fromkeys(("prompt", "reused", "generated"))
        keys |= dict.fromkeys(key for result in results for key in result.usage)
        usage = {key: sum(result.usage.get(key, 0) for result in results) for key in keys}
        timings = dict(first.timings) if first else {}
        timings |= {"load": max((call.load_seconds for call in self._made), default=0.0)}
        timings |= {"total": total}
        if tools := sum(each.get("seconds", 0.0) for each in self._run.tool_calls):
            timings["tools"] = tools
        if len(results) > 1:
            working = total - timings["load"] - tools
            timings["tokens_per_second"] = usage["generated"] / working if working > 0 else 0.0
        warnings = [*map(str, self._document.warnings)]
        warnings += [warning for result in results for warning in result.warnings]
        if any(call.told.is_full for call in self._made):
            warnings.append(FULL)
        return {
            "usage": usage,
            **({"parameters": dict(first.parameters)} if first else {}),
            **({"limited_by": first.limited_by} if first else {}),
            "warnings": list(dict.fromkeys(map(redact, warnings))),
            "timings": timings,
            "record": {
                "run": self._run.id,
                "workflow": self._workflow.id,
                "document": self._document.hash,
                "input": self._run.input,
                "seed": self._seed,
                **{key: value for key, value in self._options.items() if key != "seed"},
                "timings": timings,
                "generations": [_generation_record(each) for each in generations],
                "versions": dict(_versions()),
            },
        }


def _generation_record(generation: Mapping[str, Any]) -> dict[str, Any]:
    result = generation["result"]
    return {
        "stream": list(generation["stream"]),
        "model": dict(result.model),
        "parameters": dict(result.parameters),
        "texts": [digest(text) for text in result.texts],
        **({"tool_calls": list(map(list, result.tool_calls))} if any(result.tool_calls) else {}),
        "finish_reasons": list(result.finish_reasons),
        "limited_by": result.limited_by,
        "usage": dict(result.usage),
        "timings": dict(result.timings),
    }


@cache
def _versions() -> Mapping[str, str]:
    """What may change a text. Files are read for it, so it is asked once."""
    versions = {"python": platform.python_version()}
    for name in ("modelcompose-jupyter", "transformers", "torch"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions
