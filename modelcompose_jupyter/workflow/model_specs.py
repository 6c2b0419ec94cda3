"""Which model a component names, with all that makes its weights differ."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from ..document import Document, ModelComponent, Template, render
from ..document import types as values
from ..document.schema import ModelSettings, ModelSource, PeftAdapter
from ..errors import ComposeError, ExpressionError, InputError
from ..models.spec import AdapterSpec, ModelSpec
from ..models.weights.source import bundled, is_folder
from .component_call import invalid


def written_spec(document: Document, component: ModelComponent) -> ModelSpec | None:
    """The model of a component, where the document and the environment say it; None where an input
    does, or where it is wrong."""

    def rendered(template: Template) -> Any:
        return render(template, {"env": document.environment})

    try:
        return spec_of(document, component, rendered)
    except (ComposeError, ExpressionError):
        return None


def spec_of(
    document: Document, component: ModelComponent, rendered: Callable[[Template], Any]
) -> ModelSpec:
    given = {key: rendered(template) for key, template in component.model.items()}
    source = given.pop("source")
    if not isinstance(source, str) or not source:
        raise InputError(
            "no model is named: its value is " + ("empty" if source == "" else values.show(source)),
            where=document.where(component.model["source"].path),
        )
    try:
        settings = ModelSettings.model_validate(given, context={"rendered": True})
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        raise invalid(error, key, component.model[key], document) from None
    folder = document.source.folder_of(component.path)
    given = settings.model_dump(exclude_none=True, exclude={"peft_adapters"})
    for key in ("quantization", "cache_quantization"):
        if given.get(key) == "none":
            del given[key]
    if draft := given.pop("draft_model", None):
        given["draft_model"] = _absolute(draft, folder)
    adapters = tuple(_adapter(each, settings, folder) for each in settings.peft_adapters or ())
    return ModelSpec(source=_absolute(source, folder), adapters=adapters, **given)


def _adapter(written: PeftAdapter, settings: ModelSettings, folder: Path) -> AdapterSpec:
    """An adapter, fetched as its model is where it does not say otherwise."""
    mapping = written.model if isinstance(written.model, ModelSource) else ModelSource()
    source = mapping.given[0] if isinstance(written.model, ModelSource) else written.model
    local = mapping.local_files_only
    model = ModelSpec(
        source=_absolute(source, folder),
        revision=written.revision or mapping.revision,
        token=written.token or mapping.token or settings.token,
        cache_dir=mapping.cache_dir or settings.cache_dir,
        local_files_only=bool(settings.local_files_only if local is None else local),
    )
    weight = 1.0 if written.weight is None else written.weight
    return AdapterSpec(model, weight, written.name)


def _absolute(source: str, folder: Path) -> str:
    """A model's folder that is written relative to the document's."""
    if source in (".", "..") or source.startswith(("./", "../", ".\\", "..\\")):
        return str((folder / source).resolve())
    return source


def meant(source: str, folder: Path) -> str | None:
    """What a name that the Hub does not have may be meant for."""
    if is_folder(source) or ".." in Path(source).parts:
        return None  # a path already; what else there is, is nobody's business
    path = folder / source
    if path.is_dir() or path.is_file():
        kind = "folder" if path.is_dir() else "file"
        return f"There is a {kind} of that name; for it, write ./{source}"
    return f"Write bundled:{source} for the model that ships." if source in bundled() else None
