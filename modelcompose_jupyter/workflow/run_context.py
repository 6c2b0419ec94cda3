"""What all jobs of a run share."""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ..document import Document, Template
from ..document.render import holds
from ..tools import FunctionStep, FunctionTool
from .bounded_gather import MAX_CONCURRENT_CALLS
from .component import ComponentCaller
from .component_call import Allowance, ComponentCall, locating, own_sources, render_in
from .concurrency_limiter import QueueProgress
from .extension import EarlierRun
from .options import RunOptions
from .questions import Questions
from .run import Run
from .scope import Place, Scope
from .token_room import TokenRoom, ToldTokens

OWNER, GUESTS = "owner", "guests"
"""The groups of the owner's runs, and of those of guests who are not known by name."""


@dataclass(frozen=True)
class RunContext:
    """What all jobs of a run share.

    Attributes:
        calls: calls its models.
        seed: that of the first generation, where the document gives none.
        allowance: how much it may generate.
        group: who asks: requests of one group take turns with those of others.
        options: what else is asked for.
        earlier: what there is of its texts already.
        functions: those that its models may call, here, by their names.
        steps: those that its jobs call.
        questions: what it asks people.
        made: the calls of models that it has made.
        warnings: what the run is to say of its jobs when it has ended, a sentence each.
        width: how much of each job may go on at a time.
    """

    document: Document
    run: Run
    calls: ComponentCaller
    seed: int
    allowance: Allowance
    group: Hashable
    options: RunOptions
    earlier: EarlierRun
    functions: Mapping[str, FunctionTool]
    steps: Mapping[str, FunctionStep]
    questions: Questions
    made: list[ComponentCall] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)
    width: int = MAX_CONCURRENT_CALLS
    _queues: dict[str, QueueProgress] = field(default_factory=dict)

    @property
    def scores(self) -> bool:
        """Whether a text is scored: the score is the output as it is."""
        return "score" in self.options

    def render(self, template: Template, scope: Scope, **more: Any) -> Any:
        """The value of a job's template.

        Raises:
            InputError: it has none, with its place.
        """
        return render_in(self.run, self.document, template, {**scope.sources, **more})

    def holds(self, test: Template, scope: Scope, **more: Any) -> bool:
        """Whether a job's test holds.

        Raises:
            InputError: it cannot be told, with its place.
        """
        own = own_sources(self.run, self.document)
        with locating(self.document, test.path):
            return holds(test, {**own, **scope.sources, **more})

    def queue_progress(self, place: Place) -> QueueProgress:
        """What says how many requests are ahead of a job's."""
        return self._queues.setdefault(place.root, QueueProgress(self.run, place.root))

    def told_tokens(self) -> ToldTokens:
        """What counts the tokens that are told of a call."""
        return ToldTokens(TokenRoom(None) if self.group == OWNER else self.calls.guests_room)
