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
stands at that place among its groups, with nothing behind it; and behind these ``reasoning``, where
they are of what was thought before the text."""


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
            thoughts = run.reasoning_streams
            for key, text in run.streams.items():
                self._streams[key].end(len(text), len(thoughts[key]))
        self._ended = ended
        return [
            [index, *change]
            for index, shown in enumerate(self._streams.values())
            for change in shown.changes(ended)
        ]

    def _take(self, event: Event) -> None:
        self._seen = event.number
        data = event.data
        if event.type == "text":
            self._streams.setdefault(tuple(data["stream"]), _Shown())
        elif event.type == "tokens" and data.get("part", "text") == "text":
            shown = self._streams[tuple(data["stream"])]
            tokens = [Token.of(each) for each in data["tokens"]]
            shown.put(data["offset"], tokens, data.get("start", 0))


def whole(run: Run | None) -> list[Change]:
    """All that there is to tell of a run by now."""
    return TokenChanges(run).advance()


def in_common(some: Sequence[Any], others: Sequence[Any]) -> int:
    """How many items two sequences begin with together."""
    pairs = enumerate(zip(some, others, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(some), len(others)))


class _Shown:
    """The tokens of one text: those of the thoughts before it, then its own."""

    def __init__(self) -> None:
        self._start = 0  # the character of the text where its own begin
        self._thoughts = _ShownPart()
        self._text = _ShownPart()

    def put(self, offset: int, tokens: list[Token], start: int) -> None:
        """Take an event: ``tokens`` are what stands at ``offset``, and nothing is behind them."""
        self._start = start
        thoughts = [each for each in tokens if each.part == "reasoning"]
        if offset < self._thoughts.count or thoughts:
            self._thoughts.put(offset, thoughts)
        self._text.first = self._thoughts.count
        place = max(0, offset + len(thoughts) - self._text.first)
        self._text.put(place, tokens[len(thoughts) :])

    def end(self, length: int, thought_length: int) -> None:
        """Take that both have ended, with so many characters."""
        self._text.end(length - self._start)
        self._thoughts.end(thought_length)

    def changes(self, ended: bool) -> list[list[Any]]:
        """What is to be told: `Change` without the index."""
        is_over = ended or self._text.count > 0
        thoughts, text = self._thoughts.change(is_over), self._text.change(ended)
        found = [] if thoughts is None else [[0, *thoughts, "reasoning"]]
        return found if text is None else [*found, [self._start, *text]]


class _ShownPart:
    """Tokens of a text that are shown together: how many groups of them have been told.

    Attributes:
        first: the place of the first among the text's tokens.
    """

    def __init__(self) -> None:
        self.first = 0
        self._tokens: list[Token] = []
        self._ends: list[int] = []  # the places behind those groups that are as they were told
        self._told = 0

    @property
    def count(self) -> int:
        """How many there are."""
        return len(self._tokens)

    def put(self, offset: int, tokens: list[Token]) -> None:
        # At the end of a run its events are merged, and tell again what was told.
        same = in_common(self._tokens[offset:], tokens)
        offset += same
        self._tokens[offset:] = tokens[same:]
        while self._ends and self._ends[-1] > offset:
            self._ends.pop()

    def end(self, length: int) -> None:
        """Take that their texts together have so many characters."""
        self.put(0, cut(self._tokens, length))

    def change(self, ended: bool) -> list[Any] | None:
        """The groups that are to be told, behind the number of those that stay."""
        known = len(self._ends)
        found = groups(self._tokens, self._ends[-1] if self._ends else 0, ended=ended)
        fresh = list(islice(found, max(0, MOST_SHOWN - known)))
        if not fresh and known == self._told:
            return None
        self._ends += [each.end for each in fresh]
        self._told = len(self._ends)
        moved = [each._replace(first=each.first + self.first) for each in fresh]
        return [known, [_as_data(each) for each in moved]]


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
