"""Thoughts: how a model marks them in what it writes, and following a reply through its parts.

A reply may begin with a thought, which stands between two markers; what comes after it is the
answer. The markers are special tokens, or others, or several; here they are texts, in which a
special token is written as in the vocabulary.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from itertools import accumulate
from typing import Any, Literal, NamedTuple, Self

from ...document.parameters import THINKING_SWITCHES
from . import chat_template
from .detokenizer import stop_begun
from .token_texts import TokenTexts


@dataclass(frozen=True)
class Markers:
    """How a model writes its thoughts.

    Attributes:
        opening: what a thought begins with.
        closing: what ends it.
        answer: what an answer begins with, where that has a marker, too.
        turn: what stands before the next part of the same reply, where one does.
    """

    opening: str
    closing: str
    answer: str = ""
    turn: str = ""

    @cached_property
    def heads(self) -> Mapping[str, Phase]:
        """What a part begins with, and which part that is."""
        parts = {self.opening: Phase.THOUGHT}
        if self.answer:
            parts[self.answer] = Phase.ANSWER
        if self.turn:
            parts |= {self.turn + head: part for head, part in parts.items()}
        return parts

    def phase_behind(self, prompt: str, begun: str = "") -> Phase:
        """Where in a reply a model is that goes on behind a prompt, which ends with what was
        ``begun`` of the reply, or with what the template writes before it."""
        if begun.strip():
            is_open = begun.lstrip().startswith(self.opening) and self.closing not in begun
            return Phase.THOUGHT if is_open else Phase.ANSWER
        ended = prompt.rstrip()
        if ended.endswith(self.opening):
            return Phase.THOUGHT
        is_over = ended.endswith(self.answer) if self.answer else ended.endswith(self.closing)
        return Phase.ANSWER if is_over else Phase.BEGIN


class Phase(Enum):
    """Where in a reply a model is: nothing was said yet, in a thought, or in the answer."""

    BEGIN = "begin"
    THOUGHT = "thought"
    ANSWER = "answer"


Part = Literal["reasoning", "text"]
"""What a token of a reply counts to."""


KNOWN = (
    Markers("<think>", "</think>"),  # Qwen 3, SmolLM 3, DeepSeek R1 and V3.1, GLM 4.5, many more
    Markers("[THINK]", "[/THINK]"),  # Magistral
    Markers("<seed:think>", "</seed:think>"),  # Seed OSS
    Markers(  # gpt-oss
        "<|channel|>analysis<|message|>",
        "<|end|>",
        answer="<|channel|>final<|message|>",
        turn="<|start|>assistant",
    ),
    Markers("<|channel>thought", "<channel|>"),  # Gemma 4
    Markers("<|START_THINKING|>", "<|END_THINKING|>"),  # Command A
    Markers("<thought>", "</thought>"),  # EXAONE Deep
    Markers("◁think▷", "◁/think▷"),  # Kimi
    Markers("Here is my thought process:", "Here is my response:"),  # Granite 3.2
)
"""The markers of the models that there are."""


def find(added: Collection[str], template: str) -> Markers | None:
    """How a model writes thoughts; None where that is not known.

    Args:
        added: the tokens that its tokenizer has beside those that it learnt.
        template: the text of its chat template.
    """
    for markers in KNOWN:
        pair = (markers.opening, markers.closing)
        if all(each in added for each in pair) or all(each in template for each in pair):
            return markers
    return None


def switch(template: str, thinks: bool) -> dict[str, Any]:
    """The variables with which a chat template has the model think, or not; none where it reads
    none that are known for that."""
    names = chat_template.names_read(template)
    found: dict[str, Any] = {name: thinks for name in THINKING_SWITCHES if name in names}
    if not found and "reasoning_effort" in names and not thinks:  # it thinks without being asked
        has_none = re.search(r"""['"]none['"]""", template)
        found["reasoning_effort"] = "none" if has_none else "low"
    return found


@dataclass(frozen=True)
class Thinking:
    """How the replies to a request may think.

    Attributes:
        phase: where they begin.
        budget: how many tokens a thought has at most; None is any number.
        is_off: whether no thought may be opened.
    """

    markers: Markers
    phase: Phase
    budget: int | None = None
    is_off: bool = False

    @classmethod
    def of(cls, markers: Markers, phase: Phase, wanted: bool | None, budget: int | None) -> Self:
        """That of a request, which may say whether it is ``wanted``."""
        if wanted is not False:
            return cls(markers, phase, budget)
        if phase is Phase.BEGIN and not markers.answer:
            phase = Phase.ANSWER  # whatever comes is it
        return cls(markers, phase, 0, is_off=True)  # the prompt may have opened one


class Taken(NamedTuple):
    """What became known of a reply with a token.

    Attributes:
        phase: which part this is of: it is known of ``tokens``, which may be others than that one,
            none or several.
        tokens: those of the text of that part.
        before: text of that part in a token behind these, which is a marker's beginning.
        rest: text of the next part in the last token, behind the marker's end.
        part: which part of the reply the token counts to, markers to the thought that they mark;
            None while that is not known, of it and those before it.
    """

    phase: Phase
    tokens: Sequence[int] = ()
    before: str = ""
    rest: str = ""
    part: Part | None = None


class Reply:
    """A reply as it is written: which part of it each token is of. Of one thread; cheap to copy.

    What may be the beginning of a marker is held until that is known. Blank tokens between a
    thought and the answer are the marker's. A thought begins a reply, or there is none: later on an
    opening marker is a text like others.

    Attributes:
        phase: of the next token.
        thought_tokens: how many tokens its thoughts have, without markers.
        had_thought: whether one has begun.
        had_marker: whether a marker has been there.
        held: the tokens at the end that are of no part yet.
    """

    __slots__ = (
        "_gap", "_held", "_markers", "_texts", "_trims", "had_marker", "had_thought", "phase",
        "thought_tokens",
    )  # fmt: skip

    def __init__(self, thinking: Thinking, texts: TokenTexts, *, trims: bool = True) -> None:
        """``trims`` is whether blank tokens before an answer are left out behind a thought."""
        self.phase = thinking.phase
        self.thought_tokens = 0
        self.had_thought = thinking.phase is Phase.THOUGHT
        self.had_marker = self.had_thought
        self._markers = thinking.markers
        self._held: tuple[tuple[int, str], ...] = ()
        self._gap = False  # whether blank tokens are the marker's that was there last
        self._texts = texts
        self._trims = trims

    @property
    def held(self) -> Sequence[int]:
        return [token for token, _ in self._held]

    @property
    def is_settled(self) -> bool:
        """Whether all that comes is the answer's."""
        return self.phase is Phase.ANSWER and not self._gap

    @property
    def trims_answer(self) -> bool:
        """Whether blanks at the beginning of the answer are the marker's before it."""
        return self.had_thought and self._trims

    @property
    def begun_thought_tokens(self) -> int:
        """`thought_tokens` with those that may yet turn out to be a marker's."""
        return self.thought_tokens + (len(self._held) if self.phase is Phase.THOUGHT else 0)

    def take(self, token: int) -> Taken:
        """Take the next token."""
        if self.is_settled:
            return Taken(Phase.ANSWER, (token,), part="text")
        said = self._texts.of(token).text
        if self.phase is Phase.ANSWER:
            if not said.strip():
                return Taken(Phase.ANSWER, part="reasoning")
            self._gap = False
            return Taken(Phase.ANSWER, (token,), part="text")
        self._held = (*self._held, (token, said))
        return self._begin() if self.phase is Phase.BEGIN else self._think()

    def end(self) -> Taken:
        """Take that no token follows. The beginning of a closing marker is nothing."""
        held, self._held = self.held, ()
        if self.phase is Phase.BEGIN:
            return Taken(Phase.ANSWER, held, part="text")
        return Taken(self.phase, part="reasoning" if self.phase is Phase.THOUGHT else "text")

    def _begin(self) -> Taken:
        said = "".join(text for _, text in self._held).lstrip()
        heads = self._markers.heads
        for head, phase in heads.items():
            if said.startswith(head):
                self.phase, self._held, self.had_marker = phase, (), True
                self.had_thought = self.had_thought or phase is Phase.THOUGHT
                rest = self._begin_behind(said[len(head) :])
                return Taken(phase, rest=rest, part="reasoning" if self.had_thought else "text")
        if any(head.startswith(said) for head in heads):
            return Taken(Phase.BEGIN)
        self.phase = Phase.ANSWER
        return Taken(Phase.ANSWER, self._release(len(self._held)), part="text")

    def _think(self) -> Taken:
        said = "".join(text for _, text in self._held)
        place = said.find(self._markers.closing)
        begins = len(said) - stop_begun(said, (self._markers.closing,)) if place < 0 else place
        ends = list(accumulate(len(text) for _, text in self._held))
        tokens = self._release(sum(end <= begins for end in ends))
        self.thought_tokens += len(tokens)
        if place < 0:
            return Taken(Phase.THOUGHT, tokens, part="reasoning")
        before = said[ends[len(tokens) - 1] if tokens else 0 : place]
        self.thought_tokens += bool(before)
        self._held = ()
        self.phase = Phase.BEGIN if self._markers.answer else Phase.ANSWER
        rest = self._begin_behind(said[place + len(self._markers.closing) :])
        return Taken(Phase.THOUGHT, tokens, before, rest, part="reasoning")

    def _begin_behind(self, rest: str) -> str:
        """Begin a part behind a marker, whose last token has this text, too."""
        if self.phase is Phase.ANSWER and self.had_thought:
            self._gap = self._trims and not rest.strip()
            return rest.lstrip() if self._trims else ""
        return rest.lstrip()

    def _release(self, count: int) -> list[int]:
        released, self._held = self._held[:count], self._held[count:]
        return [token for token, _ in released]
