"""The texts of one prompt, as they come, as events of a run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..models import Beginning, GenerationResult, Prompt
from .component_call import ComponentCall
from .extension import EarlierTexts, prompt_digest
from .reply_calls import ReplyCalls


class TextStream:
    """The events of one prompt's texts. Announced before any comes, so that they are in order.

    What an earlier run had of them is told at once, and not again while it comes true.
    """

    def __init__(
        self,
        call: ComponentCall,
        number: int,
        prompt: Prompt,
        sequences: int,
        earlier: EarlierTexts | None = None,
    ) -> None:
        self._run = call.run
        self._told = call.told
        self.key = (call.job, call.repeat or 0, number)
        self.drafts = earlier.tokens if earlier is not None else ()
        texts = earlier.texts if earlier is not None else [""] * sequences
        self._texts = [_Growing(text) for text in texts]
        thoughts = earlier.reasoning if earlier is not None else [("", 0)] * sequences
        self._thoughts = [_Growing(text) for text, _ in thoughts]
        self._given_up = False
        self.calls: ReplyCalls | None = None
        for sequence, text in enumerate(texts):
            self._add(sequence, 0, text)
        for sequence, (thought, count) in enumerate(thoughts):
            if thought:
                self._add_reasoning(sequence, 0, thought, count)
        self.beginning = self._begin(call, prompt, sequences)

    def _begin(self, call: ComponentCall, prompt: Prompt, sequences: int) -> Beginning:
        """What the texts begin with whatever the model chooses; what is known of it is told."""
        of_prompt = (None, prompt_digest(prompt))
        given = {
            tuple(each["stream"]): each
            for each in call.options.get("begins_with") or ()
            if each.get("prompt") in of_prompt
        }
        streams = [(*self.key, sequence) for sequence in range(sequences)]
        tokens = [given[each]["tokens"] if each in given else () for each in streams]
        known = [call.earlier.tokens.get(each, ()) if each in given else () for each in streams]
        for sequence, told in enumerate(known):
            if told:
                start = call.earlier.starts[streams[sequence]]
                self.put_tokens(sequence, "text", 0, told, start)
        return Beginning(tokens if any(tokens) else (), list(map(len, known)))

    def take(self, sequence: int, offset: int, text: str) -> None:
        """What has come of a reply: text, and calls of tools. On any thread."""
        (self.put if self.calls is None else self.calls.put)(sequence, offset, text)

    def put(self, sequence: int, offset: int, text: str) -> None:
        """What has come of a text. On any thread."""
        if self._given_up:
            return
        if (fresh := self._texts[sequence].put(offset, text)) is not None:
            self._add(sequence, *fresh)

    def put_reasoning(self, sequence: int, offset: int, text: str, tokens: int) -> None:
        """What has come of the thoughts before a text, which have so many tokens. On any thread."""
        if self._given_up:
            return
        if (fresh := self._thoughts[sequence].put(offset, text)) is not None:
            self._add_reasoning(sequence, *fresh, tokens)

    @property
    def is_first(self) -> bool:
        """Whether it is that of the job's first prompt: one is enough to tell of."""
        return self.key[1:] == (0, 0)

    def put_tokens(
        self,
        sequence: int,
        part: str,
        offset: int,
        tokens: Sequence[Mapping[str, Any]],
        start: int,
    ) -> None:
        """What has come of a text's tokens, or of its prompt's. On any thread."""
        if not self._given_up and self._told.may_tell(tokens):
            stream = [*self.key, sequence]
            data = {"stream": stream, "part": part, "offset": offset, "tokens": list(tokens)}
            self._run.add("tokens", {**data, "start": start})

    def read(self, done: int, total: int) -> None:
        """So much of the prompt is read. On the engine's thread."""
        data = {"phase": "prefill", "job": self.key[0], "done": done, "total": total}
        self._run.add("progress", {**data, "unit": "tokens"})

    def give_up(self) -> None:
        """End the texts as they are; what comes later is dropped."""
        self._given_up = True
        for sequence, text in enumerate(self._texts):
            self._add(sequence, text.length, "", finish_reason="cancelled")

    def finish(self, result: GenerationResult) -> GenerationResult:
        """End the texts; the result, with the calls out of its texts."""
        result = result if self.calls is None else self.calls.settled(result)
        for sequence, reason in enumerate(result.finish_reasons):
            # One that was stopped keeps what was told of it, though it has not all come true yet.
            is_whole = reason != "cancelled"
            if is_whole and sequence < len(result.reasoning):
                self._end_reasoning(
                    sequence, len(result.reasoning[sequence]), result.reasoning_tokens[sequence]
                )
            end = len(result.texts[sequence]) if is_whole else self._texts[sequence].length
            self._add(sequence, end, "", finish_reason=reason)
        return result

    def _end_reasoning(self, sequence: int, length: int, tokens: int) -> None:
        if length or self._thoughts[sequence].length:
            self._add_reasoning(sequence, length, "", tokens)

    def _add(self, sequence: int, offset: int, text: str, **end: Any) -> None:
        stream = (*self.key, sequence)
        self._run.add("text", {"stream": stream, "offset": offset, "text": text, **end})

    def _add_reasoning(self, sequence: int, offset: int, text: str, tokens: int) -> None:
        stream = (*self.key, sequence)
        data = {"stream": stream, "offset": offset, "text": text, "tokens": tokens}
        self._run.add("reasoning", data)


class _Growing:
    """A text that comes, of which an earlier run may have had some.

    Attributes:
        length: characters that are told.
    """

    def __init__(self, earlier: str) -> None:
        self.length = len(earlier)
        self._earlier = earlier

    def put(self, offset: int, text: str) -> tuple[int, str] | None:
        """Take what has come; returns what is to be told of it, and where, if anything is."""
        told = self._earlier[offset : offset + len(text)]
        if told:
            same = _in_common(told, text)
            offset, text = offset + same, text[same:]
            if not text:
                return None
            self._earlier = ""  # it is longer, or another
        self.length = offset + len(text)
        return offset, text


def _in_common(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))
