"""How the tokens of a run's texts travel to the browser: as changes, like the texts themselves."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any

from ..workflow import Event, Run
from ..workflow.token_groups import Group, cut, groups, probability
from ..workflow.tokens import Token

MOST_SHOWN = 20_000
"""Groups of a text that a browser draws; what follows stays plain text."""

Change = list[Any]
"""``[index, start, offset, groups]``: which text, the character where its tokens begin, and what
stands at that place among its groups, with nothing behind it."""


class TokenChanges:
    """How much of a run's tokens has been told to the browser.

    Attributes:
        run: whose they are.
    """

    def __init__(self, run: Run | None) -> None:
        self.run = run
        self._seen = -1
        self._ended = False
        self._streams: dict[tuple[Any, ...], _Shown] = {}

    def advance(self) -> list[Change]:
        """The changes since the last time."""
        run = self.run
        if run is None or self._ended:
            return []
        ended = run.done  # before looking: nothing comes after it
        for event in run.events_so_far(self._seen):
            self._take(event)
        if ended:
            for key, text in run.streams.items():
                self._streams[key].end(len(text))
        self._ended = ended
        return [
            [index, shown.start, *change]
            for index, shown in enumerate(self._streams.values())
            if (change := shown.change(ended)) is not None
        ]

    def _take(self, event: Event) -> None:
        self._seen = event.number
        data = event.data
        if event.type == "text":
            self._streams.setdefault(tuple(data["stream"]), _Shown())
        elif event.type == "tokens" and data.get("part", "text") == "text":
            shown = self._streams[tuple(data["stream"])]
            shown.start = data.get("start", 0)
            shown.put(data["offset"], [Token.of(each) for each in data["tokens"]])


def whole(run: Run | None) -> list[Change]:
    """All that there is to tell of a run by now."""
    return TokenChanges(run).advance()


def in_common(some: Sequence[Any], others: Sequence[Any]) -> int:
    """How many items two sequences begin with together."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(some), len(others)))


class _Shown:
    """The tokens of one text: how many groups of them have been told.

    Attributes:
        start: the character of the text where they begin.
    """

    def __init__(self) -> None:
        self.start = 0
        self._tokens: list[Token] = []
        self._ends: list[int] = []  # the places behind those groups that are as they were told
        self._told = 0

    def put(self, offset: int, tokens: list[Token]) -> None:
        """Take an event: ``tokens`` are what stands at ``offset``, and nothing is behind them."""
        # At the end of a run its events are merged, and tell again what was told.
        same = in_common(self._tokens[offset:], tokens)
        offset += same
        self._tokens[offset:] = tokens[same:]
        while self._ends and self._ends[-1] > offset:
            self._ends.pop()

    def end(self, length: int) -> None:
        """Take that the text has ended, with so many characters."""
        self.put(0, cut(self._tokens, length - self.start))

    def change(self, ended: bool) -> list[Any] | None:
        """The groups that are to be told, behind the number of those that stay."""
        known = len(self._ends)
        found = groups(self._tokens, self._ends[-1] if self._ends else 0, ended=ended)
        fresh = list(islice(found, max(0, MOST_SHOWN - known)))
        if not fresh and known == self._told:
            return None
        self._ends += [each.end for each in fresh]
        self._told = len(self._ends)
        return [known, [_as_data(each) for each in fresh]]


def _as_data(group: Group) -> list[Any]:
    """Plain data for the browser, as ``token_words.js`` describes it."""
    return [group.text, group.first, [_token_data(each) for each in group.tokens]]


def _token_data(token: Token) -> list[Any]:
    return [
        *(token.id, token.token, probability(token.logprob), probability(token.sampling_logprob)),
        token.rank,
        [
            [each.id, each.token, probability(each.logprob), probability(each.sampling_logprob)]
            for each in token.alternatives
        ],
    ]
