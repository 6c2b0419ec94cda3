"""What the parts of the compiler share: reporting, forms that exclude each other, expressions."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from ..errors import ExpressionError, Problem, did_you_mean, listed, shortened
from . import schema
from .expression import Expression, Key
from .fields import Strict
from .files import BesideFiles
from .reader import MAX_PROBLEMS, KeyPath, Source
from .references import NOTES, SOURCES, BrokenExpression, Reference, findings, references
from .render import render
from .templates import Template, parse_template
from .validator import Validated

DEFAULT_ID = "__default__"
"""What stands for the default workflow, component or action where one is named."""
_LOOP = "the 'do' of a loop, and in its 'while' and 'until'"
_LISTS = "the 'do' of a job of type for-each or accumulate"
_WHERE = {
    "item": f"{_LISTS}, in a filter's 'where', and inside '*' and '|'",
    "index": f"{_LISTS}, in a filter's 'where', in the input of a job with 'repeat_count', and"
    " inside '*' and '|'",
    "iteration": _LOOP,
    "output": f"an 'output', in {_LOOP}",
    "accumulator": "the 'do' of a job of type accumulate",
    "error": "what 'on_error' gives",
    "job": "what a job's input is compared with, and in an 'interrupt'",
}
"""Where sources exist that most templates do not have."""


class Checks:
    """Checks of one document that is compiled.

    Attributes:
        source: gets what is wrong.
        spoiled: the paths of what is known to be wrong already.
        files: the files beside the document.
        environment: the variables that it names, as far as they are set.
        warnings: what changes nothing, and why.
    """

    def __init__(
        self, source: Source, checked: Validated, environ: Mapping[str, str], files: BesideFiles
    ) -> None:
        self.source = source
        self.problem = source.report
        self.spoiled = checked.spoiled
        self.files = files
        self.environment: dict[str, str] = {}
        self.warnings: list[Problem] = []
        self._environ = environ
        self._by_id: dict[tuple[str, KeyPath], dict[str, Any]] = {}
        self._lost = {path[-1] for path in self.spoiled if path}

    # Reporting

    def warn(self, message: str, path: KeyPath, *, key: bool = False) -> None:
        """Note what changes nothing."""
        if len(self.warnings) < MAX_PROBLEMS:
            self.warnings.append(Problem(message, self.source.where(path, key=key)))

    def is_spoiled(self, path: KeyPath, *keys: str) -> bool:
        """Whether one of a mapping's keys was wrong, so that what it lacks is no new problem."""
        return any((*path, key) in self.spoiled for key in keys)

    def is_known_badly(self, kind: str) -> bool:
        """Whether ids of this kind may have been lost with something that was wrong."""
        return not self._lost.isdisjoint(("id", kind, f"{kind}s"))

    def exclude(self, path: KeyPath, first: str, second: str, hint: str) -> None:
        """Report two keys of a mapping that exclude each other."""
        place = self.source.where((*path, first), key=True).line
        also = f" (line {place})" if place else ""
        message = f"'{second}' cannot stand beside '{first}'{also}"
        self.problem(message, (*path, second), key=True, hint=hint)

    # Forms

    def listed(
        self, model: Any, one: str, path: KeyPath, flat: Iterable[str] = ()
    ) -> list[tuple[Any, KeyPath]]:
        """What a key or its plural holds, with the path of each element.

        ``flat`` are the keys of an only element, which cannot stand beside them.
        """
        many = f"{one}s"
        single, several = getattr(model, one), getattr(model, many)
        if single is not None and several is not None:
            self.exclude(path, one, many, f"Move the one under '{one}' into '{many}'.")
        form = one if single is not None else many
        for key in flat if getattr(model, form) is not None else ():
            if getattr(model, key) is not None:
                self.exclude(path, form, key, f"Move it into '{form}'.")
        if several is None:
            return [] if single is None else [(single, (*path, one))]
        return self.elements(several, (*path, many))

    def elements(self, several: list[Any], path: KeyPath) -> list[tuple[Any, KeyPath]]:
        """Elements with their paths, of a list or of what stands for a list of one."""
        if not isinstance(self.raw(path), list):
            return [(each, path) for each in several]
        return [(each, (*path, index)) for index, each in enumerate(several)]

    def raw(self, path: KeyPath) -> Any:
        """What was written at a place; None where nothing was, and something stands in for it."""
        data = self.source.data
        try:
            for step in path:
                data = data[step]
        except (KeyError, IndexError, TypeError):
            return None
        return data

    def unique(self, elements: Iterable[Any], kind: str) -> tuple[Any, ...]:
        """Elements with ids of their own; those that share one are reported."""
        by_id: dict[str, Any] = {}
        for element in elements:
            path = (*element.path, "id")
            if element.id == DEFAULT_ID:
                self.problem(f"'{DEFAULT_ID}' is no id: it means the default {kind}", path)
            elif element.id not in by_id:
                by_id[element.id] = element
            elif element.id.startswith("__"):
                hint = f"Give each {kind} an 'id'."
                self.problem(f"a second {kind} has no 'id'", element.path, hint=hint)
            else:
                line = self.source.where((*by_id[element.id].path, "id")).line
                first = f", first on line {line}" if line else ""
                self.problem(f"two {kind}s have the id '{element.id}'{first}", path)
        return tuple(by_id.values())

    def given_twice(self, name: str, first: KeyPath, second: KeyPath) -> None:
        """Report a parameter that stands in two places."""
        line = self.source.where(first, key=True).line
        also = f", first on line {line}" if line else ""
        self.problem(f"'{name}' is given twice{also}", second, key=True, hint="Keep one of them.")

    def note_unused_keys(self, written: Strict, path: KeyPath) -> None:
        """Warn of keys of a mapping that change nothing."""
        for key, reason in schema.without_effect(type(written)).items():
            if key in written.model_fields_set:
                self.warn(f"'{key}' has no effect: {reason}", (*path, key), key=True)

    def referred(
        self, name: str, known: Iterable[Any], kind: str, owner: KeyPath, path: KeyPath
    ) -> Any:
        """The element with an id, of those of a kind that stand at ``owner``."""
        if (kind, owner) not in self._by_id:
            self._by_id[kind, owner] = {element.id: element for element in known}
        by_id = self._by_id[kind, owner]
        if name not in by_id and not self.is_known_badly(kind):
            there = self.ids(by_id.values())
            hint = did_you_mean(name, by_id) or (
                f"There is {there}." if there else f"The {kind} has no id: leave this line out."
            )
            self.problem(f"there is no {kind} '{name}'", path, hint=hint)
        return by_id.get(name)

    @staticmethod
    def ids(elements: Iterable[Any]) -> str:
        """The ids of elements that have one, for a message."""
        return listed(f"'{e.id}'" for e in elements if not e.id.startswith("__"))

    # Expressions

    def check_references(
        self, template: Template | None, sources: Collection[str], jobs: Collection[str] = ()
    ) -> list[Reference]:
        """Report what is wrong with a template's expressions; returns those that use jobs which
        there are."""
        used: list[Reference] = []
        for reference in findings(template):
            if isinstance(reference, BrokenExpression):
                self.source.report_error(reference.error, reference.path)
                continue
            for name, _ in reference.expression.notes:
                if name not in NOTES:
                    hint = did_you_mean(name, NOTES) or f"There are {', '.join(NOTES)}."
                    self.warn(f"a note '{shortened(name)}' says nothing. {hint}", reference.path)
            source = reference.expression.source
            if source not in (*sources, *reference.local):
                self._unknown_source(reference, (*sources, *sorted(reference.local)))
            elif source == "jobs":
                used += [reference] if self._uses_job(reference, jobs) else []
            elif source == "env":
                self._read_environment(reference)
        return used

    def check_parts(
        self, template: Template | None, source: str, known: Collection[str], when: str = ""
    ) -> None:
        """Report what a template takes of a source that has a few parts, and not these."""
        for reference in references(template):
            expression = reference.expression
            name = expression.keys[0] if expression.keys else None
            if expression.source == source and name is not None and name not in known:
                message = f"{expression} is not known here"
                if when:
                    message = f"{expression} is not known {when}"
                parts = " and ".join(f"${{{source}.{each}}}" for each in known)
                hint = did_you_mean(name, known) or f"There is {parts}."
                self.misused(reference, message, hint)

    def misused(self, reference: Reference, message: str, hint: str) -> None:
        """Report an expression."""
        within = reference.expression.text
        self.problem(message, reference.path, hint=hint, within=within)

    def _unknown_source(self, reference: Reference, sources: tuple[str, ...]) -> None:
        name, hint = shortened(reference.expression.source), None
        if name in SOURCES:
            message = f"'{name}' is not available here, in {reference.expression}"
        else:
            message = f"unknown source '{name}' in {reference.expression}"
            hint = did_you_mean(name, sources)
        if name in _WHERE:
            hint = f"It exists in {_WHERE[name]}."
        self.misused(reference, message, hint or f"Available here: {', '.join(sources)}.")

    def _uses_job(self, reference: Reference, jobs: Collection[str]) -> bool:
        expression = reference.expression
        name = expression.keys[0] if expression.keys else None
        if name is None or (name not in jobs and not self.is_known_badly("job")):
            what = "a job is named, as jobs.ID.output"
            if name:
                what = f"there is no other job '{shortened(name)}'"
            hint = did_you_mean(name or "", jobs) or f"There is {listed(jobs) or 'no other'}."
            self.misused(reference, f"{what}, in {expression}", hint)
        elif len(expression.path) < 2 or expression.path[1] != Key("output"):
            message = f"of a job only its output is known, in {expression}"
            self.misused(reference, message, f"Write ${{jobs.{name}.output}}.")
        else:
            return True
        return False

    def _read_environment(self, reference: Reference) -> None:
        expression = reference.expression
        name = expression.keys[0] if len(expression.keys) == len(expression.path) == 1 else None
        if name is None:
            self.misused(reference, f"name one variable in {expression}", "Write ${env.NAME}.")
        elif name in self._environ:
            self.environment[name] = self._environ[name]
        elif expression.default is None and not any(map(self._is_set, reference.fallback_of)):
            name = shortened(name)
            message = f"the environment variable {name} is not set, for {expression}"
            self.misused(reference, message, f"Set it, or give a default: ${{env.{name} | …}}.")

    def _is_set(self, expression: Expression) -> bool:
        """Whether an expression is a variable that is set, so that its default is not needed."""
        return expression.source == "env" and any(k in self._environ for k in expression.keys[:1])

    def fixed(self, model: type[Strict], key: str, template: Template) -> Any:
        """A value that only the environment decides, which is not shown: it may be a secret."""
        try:
            value = render(template, {"env": self.environment})
            checked = model.model_validate({key: value}, context={"rendered": True})
            return getattr(checked, key)
        except ExpressionError as error:
            self.source.report_error(error, template.path)
        except ValidationError:
            written = shortened(str(template))
            self.problem(f"'{key}' cannot be what {written} gives", template.path)
        return None


def optional(value: Any, path: KeyPath) -> Template | None:
    """The template under a key, or None where none was written."""
    return None if value is None else parse_template(value, path)
