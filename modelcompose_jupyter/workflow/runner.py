"""Driving one run to its end, and what it says of itself then.

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
from typing import Any

from ..document import Document, Workflow
from ..document.document import digest
from ..errors import ComposeError
from ..redaction import get_logger, redact
from ..seeds import MAX_SEED
from ..tools import FunctionStep, FunctionTool
from .clock import Clock
from .component import ComponentCaller
from .component_call import Allowance
from .events import State
from .extension import EarlierRun
from .job_graph import SEEDS_OF_A_JOB, JobGraph
from .options import RunOptions
from .questions import Questions
from .run import Run
from .run_context import OWNER, RunContext
from .token_room import FULL

_log = get_logger(__name__)

_KEPT_OF_QUESTIONS = (
    "id", "job", "place", "phase", "message", "metadata", "choices", "state", "answer",
)  # fmt: skip


def is_first_seed(seed: int | None, of_run: int) -> bool:
    """Whether a seed is that of a job's first generation, where the document gives none."""
    return seed is not None and (seed - of_run) % (MAX_SEED + 1) % SEEDS_OF_A_JOB == 0


async def run_workflow(
    document: Document,
    workflow: Workflow,
    input: Any,
    run: Run,
    calls: ComponentCaller,
    seed: int,
    max_seconds: float | None = None,
    max_generations: int | None = None,
    group: Hashable = OWNER,
    options: RunOptions | None = None,
    earlier: EarlierRun | None = None,
    functions: Mapping[str, FunctionTool] | None = None,
    steps: Mapping[str, FunctionStep] | None = None,
    questions: Questions | None = None,
    turn: contextlib.AbstractAsyncContextManager[None] | None = None,
) -> None:
    """Run a workflow to its end, whatever that is; never raises.

    The input has been checked; that of the run, which takes the events, is as it may be shown.
    ``seed`` is the first generation's where the document gives none: repeats and prompts count up
    from it, and each job has a range of its own. After ``max_seconds``, or where it asks for more
    than ``max_generations``, it fails. Requests of one group take turns with those of others.
    ``earlier`` is what there is of its texts already. ``functions`` are the tools that its models
    may have called, here, by their names, ``steps`` those that its jobs call. ``questions`` are
    what it asks people; where they wait, and nothing else goes on, the seconds do not count.
    ``turn`` is waited for before it begins.
    """
    context = RunContext(
        document,
        run,
        calls,
        seed,
        Allowance(max_generations),
        group,
        options or RunOptions(),
        earlier or EarlierRun(),
        functions or {},
        steps or {},
        questions or Questions(),
    )
    summary = _Summary(context, workflow, Clock(max_seconds))
    try:
        async with _limited(summary.clock), turn or contextlib.nullcontext():
            run.add("state", {"state": State.RUNNING})
            output = await JobGraph(context, workflow, input).output()
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
    room = summary.room() if state is State.COMPLETED or run.failed_of_a_cut else 0
    run.drafts = summary.drafts() if room or any(run.tokens) else {}
    run.add("state", {"state": state, "summary": {**summary.data(), "extendable_by": room}})


@contextlib.asynccontextmanager
async def _limited(clock: Clock) -> AsyncIterator[None]:
    """Stop what is inside when its time is over, with a ComposeError of the code ``timeout``."""
    try:
        async with clock:
            yield
    except TimeoutError:
        if not clock.expired:
            raise
        raise ComposeError(
            f"the run was stopped after {clock.seconds:g} s, the host's limit",
            hint="The text so far is on the run; lower max_output_length for a shorter one.",
            code="timeout",
        ) from None


@dataclass
class _Summary:
    """What a run has to say of itself when it has ended."""

    _context: RunContext
    _workflow: Workflow
    clock: Clock

    def __post_init__(self) -> None:
        self._started = time.monotonic()
        self._run = self._context.run

    def _generations(self) -> list[dict[str, Any]]:
        """All that was generated, in the order of the streams."""
        calls = self._context.made
        made = (sorted(call.generations, key=lambda each: each["stream"]) for call in calls)
        return list(itertools.chain.from_iterable(made))

    def _last_attempts(self) -> list[dict[str, Any]]:
        """What was generated, of jobs that were tried again the last time."""
        return list({each["stream"]: each for each in self._generations()}.values())

    def _questions(self) -> list[dict[str, Any]]:
        """What people were asked and have answered, without what they were shown."""
        return [
            {key: each[key] for key in _KEPT_OF_QUESTIONS if each.get(key) not in (None, [])}
            for each in self._run.asked
        ]

    def room(self) -> int:
        """How many tokens more the texts may have that a limit has cut."""
        results = [each["result"] for each in self._last_attempts()]
        return max((each.room for each in results if "length" in each.finish_reasons), default=0)

    def drafts(self) -> dict[Any, Any]:
        """What a longer run begins with: see `Run.drafts`."""
        return {
            each["stream"]: (each["prompt"], each["result"].tokens)
            for each in self._last_attempts()
            if each["prompt"] is not None
        }

    def data(self) -> dict[str, Any]:
        """The summary, as plain data."""
        generations = self._generations()
        results = [each["result"] for each in generations]
        first = results[0] if results else None
        total = time.monotonic() - self._started
        keys = dict.fromkeys(("prompt", "reused", "generated"))
        keys |= dict.fromkeys(key for result in results for key in result.usage)
        usage = {key: sum(result.usage.get(key, 0) for result in results) for key in keys}
        timings = dict(first.timings) if first else {}
        timings |= {"load": max((call.load_seconds for call in self._context.made), default=0.0)}
        timings |= {"total": total}
        if tools := sum(each.get("seconds", 0.0) for each in self._run.tool_calls):
            timings["tools"] = tools
        if answers := self.clock.waited:
            timings["answers"] = answers
        if len(results) > 1:
            working = total - timings["load"] - tools - answers
            timings["tokens_per_second"] = usage["generated"] / working if working > 0 else 0.0
        warnings = [*map(str, self._context.document.warnings)]
        warnings += [warning for result in results for warning in result.warnings]
        if any(call.told.is_full for call in self._context.made):
            warnings.append(FULL)
        warnings += self._context.warnings
        return {
            "usage": usage,
            **({"parameters": dict(first.parameters)} if first else {}),
            **({"limited_by": first.limited_by} if first else {}),
            "warnings": list(dict.fromkeys(map(redact, warnings))),
            "timings": timings,
            "record": {
                "run": self._run.id,
                "workflow": self._workflow.id,
                "document": self._context.document.hash,
                "input": self._run.input,
                "seed": self._context.seed,
                **{key: value for key, value in self._context.options.items() if key != "seed"},
                "timings": timings,
                "generations": [_generation_record(each) for each in generations],
                "jobs": dict(self._run.jobs),
                **({"questions": asked} if (asked := self._questions()) else {}),
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
