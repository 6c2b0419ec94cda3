"""What a server offers: the workflows of a document, or those of a notebook by their names."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from pathlib import Path
from typing import NamedTuple

from ..document import Document, Workflow, check_functions, functions_of, load_document
from ..errors import DocumentError, InputError, did_you_mean, shortened
from ..redaction import get_logger
from ..tools import FunctionStep, NamedFunctions
from .access import Caller
from .schemas import DocumentText
from .user_documents import read_of_user

log = get_logger(__name__)

_KEPT_DOCUMENTS = 100
_KEPT_CALLERS = 500  # whose documents are kept


class Served(NamedTuple):
    """A workflow that can be called under a name.

    ``functions`` are those of its document, for whoever calls it; None where the document is
    somebody else's, whose functions are not here.
    """

    document: Document
    workflow: Workflow
    functions: NamedFunctions | None = None

    def steps(self) -> dict[str, FunctionStep]:
        """The functions that a run of it calls, by their names. May import modules.

        Raises:
            InputError: they are not here, or cannot be steps.
        """
        named = functions_of(self.document, self.workflow)
        if not named:
            return {}
        if self.functions is None:
            name, path = next(iter(named.items()))
            raise InputError(
                f"the document calls the function '{shortened(name)}', and functions of documents"
                " that are sent do not run here",
                hint="They run where the document is declared, or where its file is served.",
                where=self.document.where(path, within=name),
                code="functions_not_run",
            )
        return self.functions.steps()


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
    def of(cls, document: Document, functions: NamedFunctions | None = None) -> Catalog:
        """The public workflows of a document, and the functions that they call."""
        public = (each for each in document.workflows if not each.private)
        return cls._of(Served(document, each, functions) for each in public)

    @classmethod
    def _of(cls, parts: Iterable[Served]) -> Catalog:
        """Workflows of one document, by the document's own ids."""
        own = {each.workflow.id: each for each in parts}
        return cls(own, next((id for id, each in own.items() if each.workflow.default), None))

    @property
    def documents(self) -> list[Document]:
        """The documents, each once."""
        return list({each.document.key: each.document for each in self.workflows.values()}.values())

    def of_document(self, key: str) -> Catalog:
        """The part of it that is one document's, by the document's own ids."""
        return self._of(each for each in self.workflows.values() if each.document.key == key)

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
            f"there is no workflow '{shortened(id)}'",
            hint=did_you_mean(id, self.workflows) or f"There is {names}.",
            code="unknown_workflow",
        )


def _unknown_document() -> InputError:
    return InputError("the document is not known here", code="unknown_document")


class DocumentFile:
    """What a document's file offers, with those it names, as they are whenever somebody asks; and
    the functions of the modules beside it.

    A file that was edited into something that is no document leaves what was there before.

    Args:
        path: of the file.

    Raises:
        DocumentError: all that is wrong with it.
        InputError: one of its functions cannot be had.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._named: list[Path] = []
        self._read()

    def __call__(self) -> Catalog:
        if self._stamps() != self._seen:
            try:
                self._read()
            except (DocumentError, InputError) as error:
                log.warning("the document is served as it was before an edit: %s", error)
        elif self._functions.document is not self.document:  # a function's signature has changed
            self._offer(self._functions)
        return self._catalog

    def _read(self) -> None:
        before = self._seen = self._stamps()
        self._offer(_checked(NamedFunctions(load_document(self._path), {})))
        self._named = self.document.file_paths
        self._seen = before[:1] + self._stamps()[1:]

    def _offer(self, functions: NamedFunctions) -> None:
        self._functions, self.document = functions, functions.document
        self._catalog = Catalog.of(self.document, functions)

    def _stamps(self) -> list[tuple[int, int] | None]:
        return [_stamp(path) for path in (self._path, *self._named)]


def _checked(functions: NamedFunctions) -> NamedFunctions:
    """Functions of a document whose steps are all there, and get what they take."""
    functions.steps()
    document = functions.document
    for workflow in document.workflows if document.named_functions else ():
        check_functions(document, workflow)
    return functions


def _stamp(path: Path) -> tuple[int, int] | None:
    """What changes with a file; None while there is none, as editors save."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


class Documents:
    """The documents that can be run, by their keys: those served, and those that callers brought,
    which are theirs alone.

    Args:
        catalog: gives what is served now.
    """

    def __init__(self, catalog: Callable[[], Catalog]) -> None:
        self._catalog = catalog
        self._added: dict[str, Served] = {}
        self._brought: OrderedDict[Caller, OrderedDict[str, Document]] = OrderedDict()
        self._offered: OrderedDict[str, Catalog] = OrderedDict()

    @property
    def catalog(self) -> Catalog:
        """What is served now."""
        now = self._catalog()
        if self._added:
            now = Catalog({**self._added, **now.workflows}, now.default)
        for document in now.documents:
            self._offered[document.key] = now.of_document(document.key)
        while len(self._offered) > _KEPT_DOCUMENTS:
            self._offered.popitem(last=False)
        return now

    def add(self, name: str, served: Served) -> None:
        """Serve a workflow beside the catalog's, under a name, or another where that is taken."""
        taken = self._catalog().workflows
        names = (name, *(f"{name}_{number}" for number in range(2, len(taken) + 3)))
        self._added[next(each for each in names if each not in taken)] = served

    def offered(self, key: str) -> Catalog:
        """What is offered of a document that is served, or was until it was edited: a page that
        is open goes on.

        Raises:
            InputError: nothing is.
        """
        _ = self.catalog
        if key not in self._offered:
            raise _unknown_document()
        return self._offered[key]

    async def bring(self, given: DocumentText, caller: Caller) -> Document:
        """Read a document of a caller's, on another thread, and keep it for them.

        Raises:
            DocumentError: what is wrong with it.
            AccessError: it is a user's, and none that users may run (``forbidden``).
        """
        read = (
            given.read if caller.is_owner else partial(read_of_user, given, self.catalog.documents)
        )
        document = await asyncio.to_thread(read)
        theirs = self._brought.setdefault(caller, OrderedDict())
        self._brought.move_to_end(caller)
        theirs[document.key] = document
        while len(theirs) > _KEPT_DOCUMENTS:
            theirs.popitem(last=False)
        while len(self._brought) > _KEPT_CALLERS:
            self._brought.popitem(last=False)
        return document

    def brought(self, key: str, caller: Caller) -> Document | None:
        """A document that a caller has brought."""
        theirs = self._brought.get(caller)
        return None if theirs is None else theirs.get(key)

    def find(self, key: str, caller: Caller) -> Document:
        """A document by its key: one that is served, or that a caller has brought.

        Raises:
            InputError: it is not known here.
        """
        served = {each.key: each for each in self.catalog.documents}
        found = served.get(key) or self.brought(key, caller)
        if found is None:
            raise _unknown_document()
        return found

    def find_served(self, key: str, workflow: str, caller: Caller) -> Served:
        """A workflow of such a document.

        Raises:
            InputError: the document is not known here, or has no such workflow.
        """
        document = self.find(key, caller)
        known = self.catalog.workflows.values()
        functions = (each.functions for each in known if each.document.key == key)
        return Served(document, document.workflow(workflow), next(functions, None))

    def serves(self, key: str) -> bool:
        """Whether a document is served, not merely known."""
        return key in {each.key for each in self.catalog.documents}
