"""Which runs of a panel are branches of others, and where they part from them."""

from __future__ import annotations

import time
from typing import NamedTuple
from weakref import WeakKeyDictionary

from ..token_html import visible
from ..workflow import Run


class Branch(NamedTuple):
    """A run that goes on from another token than the one before it, its parent.

    Attributes:
        note: what it is, in words.
        text: the number of the text that parts from its parent's, from 0.
        token: the place of the first token of that text that is another one.
    """

    note: str
    text: int
    token: int


class Branches:
    """The branches among the runs that somebody holds."""

    def __init__(self) -> None:
        self._known: WeakKeyDictionary[Run, Branch] = WeakKeyDictionary()

    def add(self, run: Run, parent: Run, text: int, token: int, alternative: int) -> None:
        """Note that a run has another token than its parent in one place."""
        before = parent.tokens[text][token]
        others = {each.id: each.token for each in before.alternatives}
        clock = time.strftime("%H:%M:%S", time.localtime(parent.began_at))
        words = (others.get(alternative, f"#{alternative}"), before.token)
        new, old = (visible(each.strip() or each) for each in words)
        note = f"“{new}” for “{old}” · branch of {clock}"
        self._known[run] = Branch(note, text, token)

    def note(self, run: Run) -> str:
        """What a run is a branch of, in words; empty if it is none."""
        return self._known[run].note if run in self._known else ""

    def parting(self, run: Run | None) -> tuple[int, ...]:
        """Which of a run's texts parts from its parent's, at which token; empty if none does."""
        found = self._known.get(run) if run is not None else None
        return () if found is None else (found.text, found.token)
