"""What users ask: chats of several turns, or prompts that many of them begin alike."""

from __future__ import annotations

import bisect
import random
from dataclasses import dataclass
from itertools import accumulate


@dataclass(frozen=True)
class Workload:
    """Users, each of whom asks, waits for the whole answer, thinks, and asks again.

    Attributes:
        users: how many there are.
        think: mean seconds between an answer and what its user asks next; exponential.
        pause: the same where the next is another chat.
        turns: of a chat; those of 1 turn are single prompts.
        classes: how many beginnings (a system prompt, a template) users share; the one in place
            ``k`` of their order is taken in proportion to ``1 / k ** skew``.
        beginning: tokens of each of them.
        question: tokens of what a user asks.
        reply: mean tokens of an answer, which are spread evenly from half to one and a half times
            as many, unless ``spread`` says otherwise.
        by_class: whether the router sees of a run which beginning it has, as of prompts. Of chats
            it sees all up to what its user said first, which is another one for each.
    """

    users: int
    think: float = 30.0
    pause: float = 7200.0
    turns: int = 4
    classes: int = 1000
    skew: float = 1.0
    beginning: int = 200
    question: int = 40
    reply: int = 80
    spread: float = 0.5
    by_class: bool = False


@dataclass(slots=True)
class Chat:
    """Where a user is.

    Attributes:
        key: of the chat, which no other one has.
        known: tokens of all that was said in it.
        left: turns.
    """

    key: int
    kind: int
    known: int
    left: int


@dataclass(slots=True, eq=False)
class Ask:
    """A run: what a user asks at a moment, and what becomes of it.

    Attributes:
        shared: tokens of its prompt that it has in common with its class.
        known: tokens of its prompt that were said in its chat before.
        prompt: all tokens of its prompt.
        reply: tokens of its answer.
        reused: tokens of the prompt that were not read again, last time that it was begun.
        asked, first: when it was submitted, and when its first token was seen; -1 before.
        losses: replicas that it has lost.
    """

    user: int
    chat: int
    kind: int
    shared: int
    known: int
    prompt: int
    reply: int
    beginning: str
    asked: float
    first: float = -1.0
    reused: int = 0
    losses: int = 0
    refusals: int = 0


class Users:
    """Draws what each user asks. The same seed draws the same."""

    def __init__(self, workload: Workload, seed: int) -> None:
        self._workload = workload
        self._chance = random.Random(seed)
        self._shares = list(
            accumulate(1 / (k + 1) ** workload.skew for k in range(workload.classes))
        )
        self._chats = 0
        self._now = [self._chat() for _ in range(workload.users)]
        between = workload.think * (workload.turns - 1)
        for chat in self._now:  # as they are at any moment: before a chat, or amid it
            if self._chance.random() * (between + workload.pause) < between:
                done = self._chance.randrange(1, workload.turns)
                chat.left -= done
                chat.known += done * (workload.question + workload.reply)

    def think(self, user: int) -> float:
        """Seconds until a user asks again."""
        chat, workload = self._now[user], self._workload
        is_amid = 0 < chat.left < workload.turns
        return self._chance.expovariate(1 / (workload.think if is_amid else workload.pause))

    def ask(self, user: int, now: float) -> Ask:
        workload, chat = self._workload, self._now[user]
        if not chat.left:
            chat = self._now[user] = self._chat()
        reply = workload.reply
        if workload.spread:
            few, most = (1 - workload.spread) * reply, (1 + workload.spread) * reply
            reply = max(1, round(self._chance.uniform(few, most)))
        known, prompt = chat.known, chat.known + workload.question
        chat.left -= 1
        chat.known = prompt + reply
        beginning = f"class {chat.kind}" if workload.by_class else f"chat {chat.key}"
        has_before = chat.left < workload.turns - 1
        return Ask(
            user, chat.key, chat.kind, workload.beginning, known if has_before else 0, prompt,
            reply, beginning, now,
        )  # fmt: skip

    def _chat(self) -> Chat:
        self._chats += 1
        workload = self._workload
        kind = bisect.bisect_left(self._shares, self._chance.random() * self._shares[-1])
        return Chat(self._chats, kind, workload.beginning, workload.turns)
