"""One call of a component's model, and what all of it renders its templates with."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from ..document import Action, Document, ModelComponent, Template, explain, render
from ..document.references import references
from ..errors import ExpressionError, InputError, Where, shortened
from ..tools import FunctionTool
from .bounded_gather import MAX_CONCURRENT_CALLS
from .concurrency_limiter import QueueProgress
from .extension import EarlierRun
from .options import RunOptions
from .run import Run
from .token_room import ToldTokens


class Allowance:
    """How many texts a run may still generate; None is any number."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._taken = 0

    def check(self, count: int, where: Where | None) -> None:
        """Raise InputError, with the place that asks for them, where so many are too many."""
        if self._most is not None and self._taken + count > self._most:
            raise InputError(
                f"the run asks for more than {self._most:,} generations, the host's limit",
                hint="Repeat less, give fewer prompts, or split the run into several.",
                code="too_many_generations",
                where=where,
            )

    def take(self, count: int, where: Where | None) -> None:
        """`check` and count them as taken."""
        self.check(count, where)
        self._taken += count


@dataclass
class ComponentCall:
    """One call of a job's model, and what it produced.

    ``job`` is what its streams say that they are of. ``group`` is who asks: groups take turns at a
    model. ``repeat`` is its place among the job's repeats, or None. ``seed`` is that of the job's
    first generation where the document gives none. ``queue_progress`` says how many requests are
    ahead, ``allowance`` how many texts it may have, ``options`` what else is asked for, ``earlier``
    what there is already, ``told`` how many tokens may be told, ``functions`` the tools that may be
    called here. ``generations`` holds a mapping with ``stream``, ``result`` and ``prompt`` for each
    prompt, in the order in which they ended; the last is its digest, or None where a longer text
    may begin otherwise.
    """

    document: Document
    job: str
    component: ModelComponent
    action: Action
    input: Any
    repeat: int | None
    run: Run
    group: Hashable
    seed: int
    queue_progress: QueueProgress
    allowance: Allowance
    options: RunOptions
    earlier: EarlierRun
    told: ToldTokens
    functions: Mapping[str, FunctionTool] = field(default_factory=dict)
    width: int = MAX_CONCURRENT_CALLS
    load_seconds: float = 0.0
    generations: list[dict[str, Any]] = field(default_factory=list)

    def render(self, template: Template, extra: Mapping[str, Any] | None = None) -> Any:
        return render_in(self.run, self.document, template, {"input": self.input, **(extra or {})})

    @property
    def where(self) -> Where:
        """Where the document has the prompt."""
        return self.document.where(self.action.text.path)

    def where_of(self, parameter: str) -> Where | None:
        """Where the document says a generation parameter, if it does."""
        template = self.action.parameters.get(parameter)
        return None if template is None else self.document.where(template.path)


def render_in(run: Run, document: Document, template: Template, sources: Mapping[str, Any]) -> Any:
    """The value of a document's template in a run, whose own sources are there too."""
    with locating(document, template.path):
        return render(template, {**own_sources(run, document), **sources})


def own_sources(run: Run, document: Document) -> dict[str, Any]:
    """The sources that all templates of a run have."""
    return {"env": document.environment, "context": {"run_id": run.id, "task_id": run.id}}


def count_progress(run: Run, job: str, phase: str) -> Callable[[int, int], None]:
    """What adds a ``progress`` event each time one of several calls has ended."""

    def report(done: int, total: int) -> None:
        if total > 1:
            data = {"phase": phase, "job": job, "done": done, "total": total}
            run.add("progress", {**data, "unit": f"{phase}s"})

    return report


def invalid(
    error: ValidationError, name: str, template: Template, document: Document
) -> InputError:
    """The error for a rendered value that a key cannot have.

    A value that the environment had a part in is not shown: it may be a secret.
    """
    details = error.errors()[0]
    inner = details["loc"][1:] if isinstance(next(iter(details["loc"][1:]), None), str) else ()
    message, hint = explain(Where("", inner).keys or name, details)
    if is_of_environment(template) or name == "token":
        message, hint = f"'{name}' cannot be what {shortened(str(template))} gives", None
    place = details.get("ctx", {})
    path = (*template.path, *inner, *place.get("path", ()))
    where = document.where(path, key=place.get("at_key", False))
    return InputError(message, hint=hint, where=where)


def is_of_environment(template: Template) -> bool:
    """Whether the environment has a part in a template's value."""
    return any(each.expression.source == "env" for each in references(template))


@contextmanager
def locating(document: Document, path: Any) -> Iterator[None]:
    """Turn an expression's error into one of the run, with its place in the document."""
    try:
        yield
    except ExpressionError as error:
        where = document.where(path, within=error.expression)
        raise InputError(error.message, hint=error.hint, where=where, code=error.code) from None
