"""What can be run: what a panel or a map needs of a workflow, whoever runs it."""

from __future__ import annotations

from typing import Any, Protocol, Unpack

from ..document import Document, Signature
from ..tools import NamedFunctions
from .options import RunOptions
from .run import Run

UNNAMED = "workflow"


class Runnable(Protocol):
    """A workflow of a document, with somebody who runs it.

    ``for_guests`` tells that others see it than this user, who are not shown this computer's
    folders. ``__name__`` is what Python calls it, `UNNAMED` where nobody has said.
    """

    __name__: str
    for_guests: bool

    @property
    def document(self) -> Document: ...

    @property
    def functions(self) -> NamedFunctions:
        """Those that the document names."""

    @property
    def id(self) -> str: ...

    @property
    def title(self) -> str | None: ...

    @property
    def description(self) -> str | None: ...

    @property
    def signature(self) -> Signature: ...

    def as_given(self, values: Any) -> Any:
        """The inputs of a run as those who look at it gave them."""

    def check(self, values: Any, **options: Unpack[RunOptions]) -> None:
        """Raise InputError where `start` would refuse these inputs or options; begins nothing."""

    def start(self, values: Any, **options: Unpack[RunOptions]) -> Run:
        """Start a run with all inputs as one value, and return it at once.

        InputError where an input is missing, unknown or of the wrong type.
        """

    def capacity(self) -> int:
        """How many runs its host can be given at once; it may change. Never waits."""

    def branch(self, run: Run, token: int, alternative: int, text: int = 0) -> Run:
        """Go on from another token of a run's text, and return the new run at once.

        InputError where the run's tokens are not known, or the run is forgotten.
        """

    def extend(self, run: Run, tokens: int | None = None) -> Run:
        """Go on from a run whose text was cut by its limit, and return the new run at once.

        ``tokens`` is how many more each text may have; as many again as the limit was if None.
        InputError where `Run.extendable_by` is 0, or the run is forgotten.
        """

    def find(self, id: str) -> Run:
        """One of its runs that its host knows, by its id; InputError where there is none."""

    def models_in_memory(self) -> set[str]:
        """The sources of the models that are loaded, on the hosts that may run it."""
