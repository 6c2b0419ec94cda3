"""From what was written to the one normal form, with everything that is wrong on the way.

Rules that no single key can break alone are here and in what this imports: forms that exclude each
other, parameters given twice, references, cycles, and expressions that use what is not there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..errors import shortened
from . import schema
from .checks import Checks, optional
from .component_compiler import ComponentCompiler
from .components import Component
from .document import Controller, Document, RayRuntime, Workflow
from .fields import Strict
from .files import BesideFiles
from .reader import KeyPath, Source
from .validator import Validated
from .workflow_compiler import WorkflowCompiler


def compile_document(
    source: Source,
    checked: Validated,
    environ: Mapping[str, str],
    files: BesideFiles,
    *,
    is_strangers: bool = False,
) -> Document:
    """The document in its normal form; the source gets what else is wrong with it. What is secret
    in a stranger's is not remembered."""
    assert checked.compose is not None
    compiler = _Compiler(Checks(source, checked, environ, files), is_strangers)
    return compiler.document(checked.compose)


class _Compiler:
    def __init__(self, checks: Checks, is_strangers: bool) -> None:
        self._checks = checks
        self._is_strangers = is_strangers
        self._components = ComponentCompiler(checks, self._include)
        self._included: dict[KeyPath, tuple[Workflow, ...]] = {}

    def document(self, compose: schema.Compose) -> Document:
        checks = self._checks
        components, workflows = self._part(compose, ())
        if not self._is_strangers:
            self._components.remember_secrets()
        return Document(
            source=checks.source,
            components=components,
            workflows=workflows,
            included=self._included,
            controller=self._controller(compose.controller),
            environment=checks.environment,
            warnings=tuple(checks.warnings),
            name=compose.name,
            files=checks.files.texts,
        )

    def _part(
        self, compose: schema.Compose, path: KeyPath
    ) -> tuple[tuple[Component, ...], tuple[Workflow, ...]]:
        """The components and workflows of the document, or of another one that stands in it."""
        checks = self._checks
        found = checks.listed(compose, "component", path)
        if not found and not checks.is_spoiled(path, "component", "components"):
            hint = "It names the model and its prompt."
            checks.problem("'component' is missing", path, hint=hint)
        compiled = [self._components.component(model, at) for model, at in found]
        components = checks.unique(compiled, "component")
        compiler = WorkflowCompiler(checks, self._components, components, path)
        written = checks.listed(compose, "workflow", path)
        workflows = [compiler.workflow(model, at) for model, at in written]
        if not written and found:
            workflows = [compiler.workflow(schema.Workflow(), path)]
        unique = checks.unique(workflows, "workflow")
        compiler.check_calls(unique, self._included)
        return components, unique

    def _include(self, compose: schema.Compose, path: KeyPath) -> None:
        """Compile another document that stands at a place."""
        _, self._included[path] = self._part(compose, path)

    # Serving

    def _controller(self, written: schema.Controller | None) -> Controller:
        if written is None:
            return Controller()
        path: KeyPath = ("controller",)
        found = self._checks.listed(written, "adapter", path, schema.Adapter.model_fields)
        if len(found) > 1:
            self._checks.problem("one adapter is enough: the run API", found[1][1])
        adapter, at = found[0] if found else (written, path)
        values = {key: self._serving(adapter, at, key) for key in schema.Api.model_fields}
        values["origins"] = tuple(self._origins(values["origins"] or (), (*at, "origins")))
        if written.webui is not None:
            for key in schema.Address.model_fields:
                at = (*path, "webui")
                values[f"webui_{key}"] = self._serving(written.webui, at, key)
        if isinstance(written.runtime, schema.RayRuntime):
            values["ray"] = self._ray(written.runtime, (*path, "runtime"))
        return Controller(**{key: value for key, value in values.items() if value is not None})

    def _ray(self, written: schema.RayRuntime, path: KeyPath) -> RayRuntime:
        replicas = written.replicas or schema.Replicas()
        if replicas.min and replicas.max and replicas.min > replicas.max:
            at = (*path, "replicas", "max")
            self._checks.problem(f"'max' is less than 'min', which is {replicas.min}", at)
        resources = {} if written.resources is None else written.resources.model_dump()
        return RayRuntime(
            address=self._serving(written, path, "address", schema.RayRuntime),
            min_replicas=replicas.min,
            max_replicas=replicas.max,
            resources={name: value for name, value in resources.items() if value is not None},
        )

    def _origins(self, written: Iterable[str], path: KeyPath) -> Iterator[str]:
        """Each origin that is named; model-compose takes several in one text, with commas."""
        for text in written:
            for origin in filter(None, map(str.strip, text.split(","))):
                if origin == "*":
                    reason = "it would let every web page use the models"
                    self._checks.warn(f"'*' in 'origins' has no effect: {reason}", path)
                elif not re.fullmatch(r"https?://[^/\s]+", origin):
                    hint = "An origin is a scheme, a name and perhaps a port, without a path."
                    message = f"'{shortened(origin)}' is no origin such as https://example.org"
                    self._checks.problem(message, path, hint=hint)
                else:
                    yield origin

    def _serving(
        self, written: Any, path: KeyPath, key: str, model: type[Strict] = schema.Api
    ) -> Any:
        template = optional(getattr(written, key), (*path, key))
        before = self._checks.source.found
        self._checks.check_references(template, ("env",))
        if template is None or self._checks.source.found > before:
            return None
        return self._checks.fixed(model, key, template)
