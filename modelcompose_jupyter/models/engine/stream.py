"""The texts of a request as its caller gets them: streamed, and whole at the end."""

from __future__ import annotations

from typing import Any

from ..generation import OnReasoning, OnText, OnTokens
from ..tokenization.reply_text import Added
from .sampling_params import SamplingParams


class Stream:
    """Collects the deltas of each sequence's parts, and passes them and its tokens on."""

    def __init__(
        self,
        params: SamplingParams,
        on_text: OnText | None,
        on_tokens: OnTokens | None = None,
        on_reasoning: OnReasoning | None = None,
    ) -> None:
        self._on_text = on_text
        self._on_reasoning = on_reasoning
        self._thoughts = [_Thought() for _ in range(params.num_return_sequences)]
        self._on_tokens = on_tokens
        self._warnings = params.warnings
        self._deltas: list[list[str]] = [[] for _ in range(params.num_return_sequences)]
        self._lengths = [0] * params.num_return_sequences
        self._start = len(params.prompt) if params.include_prompt else 0
        if params.include_prompt:
            for sequence in range(params.num_return_sequences):
                self.add(sequence, params.prompt)

    def add(self, sequence: int, delta: str) -> None:
        """Add what is new of a sequence's text."""
        if not delta:
            return
        offset = self._lengths[sequence]
        self._deltas[sequence].append(delta)
        self._lengths[sequence] += len(delta)
        self._tell(sequence, offset, delta)

    def add_reply(self, sequence: int, added: Added, thought_tokens: int) -> None:
        """Add what is new of a sequence's thoughts, which have so many tokens by now, and of its
        text."""
        if added.reasoning:
            self._add_reasoning(sequence, added.reasoning, thought_tokens)
        self.add(sequence, added.text)

    def add_tokens(
        self, sequence: int, part: str, offset: int, tokens: list[dict[str, Any]]
    ) -> None:
        """Add what is new of the tokens of a sequence, or of its prompt."""
        if self._on_tokens is None:
            return
        try:
            self._on_tokens(sequence, part, offset, tokens, self._start)
        except Exception as error:
            self._on_tokens = None
            self._warnings.append(f"not all tokens were told: on_tokens raised {error!r}")

    def texts(self) -> list[str]:
        """The whole texts."""
        return ["".join(deltas) for deltas in self._deltas]

    def reasoning(self) -> list[str]:
        """The whole thoughts; empty where there are none."""
        return ["".join(thought.deltas) for thought in self._thoughts]

    def _add_reasoning(self, sequence: int, delta: str, tokens: int) -> None:
        thought = self._thoughts[sequence]
        offset = thought.length
        shown = thought.add(delta)
        if not shown or self._on_reasoning is None:
            return
        try:
            self._on_reasoning(sequence, offset, shown, tokens)
        except Exception as error:
            self._on_reasoning = None
            self._warnings.append(
                f"the thoughts were not streamed to their end: on_reasoning raised {error!r}"
            )

    def _tell(self, sequence: int, offset: int, text: str) -> None:
        if self._on_text is None:
            return
        try:
            self._on_text(sequence, offset, text)
        except Exception as error:
            self._on_text = None
            self._warnings.append(f"the text was not streamed to its end: on_text raised {error!r}")


class _Thought:
    """The thoughts of a sequence. Blanks are told with what follows them: at the end they belong to
    the marker.

    Attributes:
        length: characters that are told.
    """

    def __init__(self) -> None:
        self.deltas: list[str] = []
        self.length = 0
        self._blanks = ""

    def add(self, delta: str) -> str:
        """Add what is new; returns what is to be told."""
        whole = self._blanks + delta
        shown = whole.rstrip()
        self._blanks = whole[len(shown) :]
        self.deltas.append(shown)
        self.length += len(shown)
        return shown
