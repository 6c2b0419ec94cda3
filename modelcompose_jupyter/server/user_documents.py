"""Which documents of their own users may run here: those on the models that are served.

Such a document loads nothing, reads nothing of this computer, and runs no code: it is a prompt, and
how its texts are put together, for a model that is in memory for everybody.
"""

from __future__ import annotations

from collections.abc import Iterable

from ..document import Document, ModelComponent
from ..document.components import Component, WorkflowComponent
from ..models.spec import ModelSpec
from ..workflow.model_specs import written_spec
from .access import AccessError
from .schemas import DocumentText


def read_of_user(given: DocumentText, served: Iterable[Document]) -> Document:
    """A user's document, where it may run beside those that are ``served``.

    Raises:
        DocumentError: what is wrong with it.
        AccessError: why it may not run here (``forbidden``).
    """
    if given.environment:
        raise _refused("it reads environment variables: " + ", ".join(given.environment))
    document = given.read(is_strangers=True)
    offered = [
        spec
        for each in served
        for component in each.callable_components
        if isinstance(component, ModelComponent)
        and (spec := written_spec(each, component)) is not None
    ]
    for component in document.callable_components:
        if (reason := _objection(document, component, offered)) is not None:
            raise _refused(reason)
    return document


def _objection(document: Document, component: Component, offered: list[ModelSpec]) -> str | None:
    """Why a component may not be called here, or None."""
    if isinstance(component, WorkflowComponent):
        return None
    if not isinstance(component, ModelComponent):
        return f"its component '{component.id}' is no model"
    if component.tokens:
        return f"its component '{component.id}' has a token"
    asked = written_spec(document, component)
    if asked is None:
        return f"an input says which model its component '{component.id}' is"
    if not any(_is_same(asked, each) for each in offered):
        return f"{asked.source}, with what it is loaded by, is none of the models here"
    return None


def _is_same(asked: ModelSpec, offered: ModelSpec) -> bool:
    """Whether two are one model in memory, kept in the same way."""

    def kept(spec: ModelSpec) -> tuple[int, int | None]:
        return spec.prompt_lookup, spec.cache_budget

    return asked == offered and kept(asked) == kept(offered)


def _refused(reason: str) -> AccessError:
    return AccessError(
        f"this document does not run here: {reason}",
        hint="Those run here that are served, and others on the same models, with the same"
        " settings.",
        code="forbidden",
    )
