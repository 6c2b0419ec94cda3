"""What a server offers: the workflows of a document, or those of a notebook by their names."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from typing import NamedTuple

from ..document import Component, Document, Workflow
from ..errors import InputError, did_you_mean
from .wire import DocumentText

_KEPT_DOCUMENTS = 100


class Served(NamedTuple):
    """A workflow that can be called under a name."""

    document: Document
    workflow: Workflow


class Catalog:
    """Workflows by the ids that callers use.

    Args:
        workflows: by id; those that are private are not among them.
        default: the id that is meant where none is given, if there is one.
    """

    def __init__(self, workflows: Mapping[str, Served], default: str | None = None) -> None:
        self.workflows = dict(workflows)
        self.default = default or (next(iter(workflows)) if len(workflows) == 1 else None)

    @classmethod
    def of(cls, document: Document) -> Catalog:
        """The public workflows of a document."""
        public = [each for each in document.workflows if not each.private]
        default = next((each.id for each in public if each.default), None)
        return cls({each.id: Served(document, each) for each in public}, default)

    @property
    def documents(self) -> list[Document]:
        """The documents, each once."""
        return list({each.document.key: each.document for each in self.workflows.values()}.values())

    @property
    def components(self) -> list[tuple[Document, Component]]:
        """The components of all documents."""
        return [(each, component) for each in self.documents for component in each.components]

    def find(self, id: str) -> Served:
        """A workflow by its id; ``__default__`` is the default one.

        Raises:
            InputError: there is none.
        """
        if id == "__default__" and self.default is not None:
            id = self.default
        if id in self.workflows:
            return self.workflows[id]
        names = ", ".join(self.workflows) or "none"
        if id == "__default__":
            raise InputError(
                "no workflow is the default one",
                hint=f"Name one: {names}.",
                code="unknown_workflow",
            )
        raise InputError(
            f"there is no workflow '{id}'",
            hint=did_you_mean(id, self.workflows) or f"There is {names}.",
            code="unknown_workflow",
        )


class Documents:
    """The documents that can be run, by their keys: those served, and those the owner brought.

    Args:
        catalog: gives what is served now.
    """

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._brought: OrderedDict[str, Document] = OrderedDict()

    @property
    def catalog(self) -> Catalog:
        return self._catalog()

    def bring(self, given: DocumentText) -> Document:
        """Read and keep a document of another process of this user.

        Raises:
            DocumentError: what is wrong with it.
        """
        document = given.read()
        self._brought[document.key] = document
        while len(self._brought) > _KEPT_DOCUMENTS:
            self._brought.popitem(last=False)
        return document

    def find(self, key: str, *, brought: bool = True) -> Document:
        """A document by its key; one that was ``brought``, too, if that is true.

        Raises:
            InputError: it is not known here.
        """
        served = {each.key: each for each in self.catalog.documents}
        found = served.get(key) or (self._brought.get(key) if brought else None)
        if found is None:
            raise InputError("the document is not known here", code="unknown_document")
        return found

    def serves(self, key: str) -> bool:
        """Whether a document is served, not merely known."""
        return key in {each.key for each in self.catalog.documents}
