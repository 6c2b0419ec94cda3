"""A run that a host is asked for, and by whom."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .document import Document
from .tools import FunctionStep, FunctionTool
from .workflow import RunOptions
from .workflow.extension import EarlierRun
from .workflow.run_context import GUESTS, OWNER


@dataclass(frozen=True)
class Requester:
    """Who asks for a run.

    Attributes:
        owed_to: for whom the result is, where it is kept until they have fetched it (see
            `RunStore`); None where whoever holds the run has it.
        is_guest: whether a guest of this user's asks. Guests leave some places to the owner, whose
            runs take turns with all of theirs together at a model.
        user: the guest's name, where it is known. Runs of users take turns with each other's and
            with the owner's, and are bounded for each of them; see `LocalHost.limit`.
    """

    owed_to: Any = None
    is_guest: bool = False
    user: str | None = None

    @property
    def is_this_process(self) -> bool:
        return self.owed_to is None and not self.is_guest

    @property
    def group(self) -> str:
        """Whose runs take turns with those of other groups."""
        if not self.is_guest:
            return OWNER
        return GUESTS if self.user is None else f"user {self.user}"


THIS_PROCESS = Requester()


@dataclass(frozen=True)
class Submission:
    """What a host is asked to run. `HostedRuns.submit` explains what is not told here.

    Attributes:
        workflow: the id of one of the document's; the default one if None.
        earlier: what there is of its texts already.
        id: the run's, where somebody else was asked for it and it has one.
    """

    document: Document = field(repr=False)
    workflow: str | None
    input: Any = field(repr=False)
    options: RunOptions = field(default_factory=RunOptions, repr=False)
    earlier: EarlierRun = field(default_factory=EarlierRun, repr=False)
    requester: Requester = THIS_PROCESS
    metadata: Mapping[str, Any] | None = field(default=None, repr=False)
    functions: Mapping[str, FunctionTool] = field(default_factory=dict, repr=False)
    steps: Mapping[str, FunctionStep] = field(default_factory=dict, repr=False)
    id: str | None = None
