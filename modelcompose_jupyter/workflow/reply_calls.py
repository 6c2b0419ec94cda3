"""The calls of tools in a chat's replies: taken out of the text while it comes, and told."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from ..document.types import ToolCall
from ..models import GenerationResult
from ..models.tokenization.tool_calls import CallParser, CallSyntax
from .run import Run

_ID_LENGTH = 9
"""Some chat templates take ids of nine letters and digits alone."""
_DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"

Put = Callable[[int, int, str], None]


class ReplyCalls:
    """The calls of one prompt's replies.

    An id says of which prompt, seed, reply and place a call is: the same run again has the same
    ids, which templates may write into what the model reads next.

    Attributes:
        is_cut: whether a reply was cut in a call, which is lost.

    Args:
        key: of the texts' streams: job, repeat, prompt.
        seen: what tells from others what the model is asked.
        put: where the text goes that is left.
    """

    def __init__(
        self,
        syntax: CallSyntax,
        run: Run,
        key: tuple[str, int, int],
        sequences: int,
        seen: str,
        put: Put,
    ) -> None:
        self.is_cut = False
        self._run = run
        self._key = key
        self._seen = seen
        self._put = put
        self._parsers = [CallParser(syntax) for _ in range(sequences)]
        self._lengths = [0] * sequences
        self._calls: list[list[ToolCall]] = [[] for _ in range(sequences)]
        self._told: list[dict[int, int]] = [{} for _ in range(sequences)]

    def put(self, sequence: int, offset: int, text: str) -> None:
        """Take what has come of a reply. On any thread."""
        self._show(sequence, self._parsers[sequence].push(text))
        self._tell(sequence)

    def settled(self, result: GenerationResult) -> GenerationResult:
        """The result, with its calls out of its texts."""
        texts, reasons = [], []
        for sequence, (whole, reason) in enumerate(
            zip(result.texts, result.finish_reasons, strict=True)
        ):
            parser = self._parsers[sequence]
            rest = parser.finish(is_whole=reason in ("eos", "stop"))
            self._show(sequence, rest)
            self._tell(sequence)
            texts.append(whole[: self._lengths[sequence]])
            ends = reason in ("eos", "stop") and self._calls[sequence]
            reasons.append("tool_calls" if ends else reason)
            self.is_cut = self.is_cut or (parser.is_cut and reason == "length")
        return replace(result, texts=texts, finish_reasons=reasons, tool_calls=self._calls)

    def _show(self, sequence: int, text: str) -> None:
        if text:
            self._put(sequence, self._lengths[sequence], text)
            self._lengths[sequence] += len(text)

    def _tell(self, sequence: int) -> None:
        """Tell what has come of calls, and those that are whole and were not before."""
        self._tell_written(sequence)
        known = self._calls[sequence]
        for name, arguments in self._parsers[sequence].calls[len(known) :]:
            id = self._id(sequence, len(known))
            call: ToolCall = {
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": arguments},
            }
            known.append(call)
            tell(self._run, (*self._key, sequence), call, "called")

    def _tell_written(self, sequence: int) -> None:
        stream, told = [*self._key, sequence], self._told[sequence]
        for place, (name, text) in enumerate(self._parsers[sequence].written):
            known = told.get(place, 0)
            if place not in told or known < len(text):
                of = {"stream": stream, "call": place, "id": self._id(sequence, place)}
                self._run.add("call", {**of, "name": name, "offset": known, "text": text[known:]})
                told[place] = len(text)

    def _id(self, sequence: int, place: int) -> str:
        text = f"{self._seen}:{sequence}:{place}"
        number = int.from_bytes(hashlib.sha256(text.encode()).digest())
        digits = []
        for _ in range(_ID_LENGTH):
            number, digit = divmod(number, len(_DIGITS))
            digits.append(_DIGITS[digit])
        return "".join(digits)


def tell(run: Run, stream: tuple[Any, ...], call: ToolCall, state: str, **more: Any) -> None:
    """Tell how far a call is."""
    function = call["function"]
    data = {"stream": list(stream), "id": call["id"], "name": function["name"]}
    run.add("tool", {**data, "arguments": function["arguments"], "state": state, **more})
