"""What happens between two tokens: cancelling, stop sequences and streaming, in one criterion."""

from __future__ import annotations

import time
from threading import Event
from typing import Any

import torch

from .detokenizer import Decode, Detokenizer, completion, find_stop
from .generation import OnText
from .sampling import SeededDraws
from .settings import Settings

_BEAM_WINDOW = 16


class Stream:
    """The text of each sequence as the caller sees it; tells the caller what changes."""

    def __init__(self, settings: Settings, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._warnings = settings.warnings
        self._prompt = settings.prompt if settings.include_prompt else ""
        self._shown = [""] * settings.sequences
        for sequence in range(settings.sequences) if self._prompt else ():
            self._tell(sequence, 0, self._prompt)

    def show(self, sequence: int, text: str) -> None:
        """Make this the completion of a sequence; only the difference is told."""
        shown = self._shown[sequence]
        if text == shown:
            return
        same = len(shown) if text.startswith(shown) else _common(shown, text)
        self._shown[sequence] = text
        self._tell(sequence, len(self._prompt) + same, text[same:])

    def texts(self) -> list[str]:
        """The whole texts."""
        return [self._prompt + shown for shown in self._shown]

    def _tell(self, sequence: int, offset: int, text: str) -> None:
        if self._on_text is None:
            return
        try:
            self._on_text(sequence, offset, text)
        except Exception as error:
            self._on_text = None
            self._warnings.append(f"the text was not streamed to its end: on_text raised {error!r}")


class Watch:
    """Called by generate() after each token of all rows.

    Has what `transformers.StoppingCriteria` has. May be called again after it ended a row: on MPS
    transformers notices the end a step later.
    """

    def __init__(
        self,
        settings: Settings,
        decode: Decode,
        prompt: list[int],
        stop_ids: set[int],
        cancelled: Event,
        stream: Stream,
        draws: SeededDraws | None,
    ) -> None:
        self.stream = stream
        self.first_token: float | None = None
        self.reasons = ["length"] * settings.sequences
        self.generated = 0
        self._settings = settings
        self._decode = decode
        self._prompt = prompt
        self._stop_ids = stop_ids
        self._cancelled = cancelled
        self._draws = draws
        self._rows = [Detokenizer(decode, prompt, settings.stops) for _ in self.reasons]
        self._ended = [False] * settings.sequences
        self._beams = settings.config.num_beams > 1
        self._cancel_seen = False

    def __call__(self, input_ids: torch.Tensor, scores: Any = None, **_: Any) -> torch.Tensor:
        """Which rows have ended."""
        if self._draws is not None:
            self._draws.end()
        if self.first_token is None:
            self.first_token = time.monotonic()
        self._cancel_seen = self._cancel_seen or self._cancelled.is_set()
        ended = self._stopped_beams(input_ids) if self._beams else self._push(input_ids)
        if self._cancel_seen:
            ended = [True] * len(ended)
        return torch.tensor(ended, device=input_ids.device)

    def _push(self, input_ids: torch.Tensor) -> list[bool]:
        for row, token in enumerate(input_ids[:, -1].tolist()):
            if not self._ended[row]:
                self._take(row, token)
        return list(self._ended)

    def _take(self, row: int, token: int) -> None:
        detokenizer = self._rows[row]
        self.stream.show(row, detokenizer.push(token))
        if token in self._stop_ids:
            self.reasons[row] = "eos"
        elif detokenizer.stopped:
            self.reasons[row] = "stop"
        elif self._cancel_seen:
            self.reasons[row] = "cancelled"
        self._ended[row] = (
            self.reasons[row] != "length" or len(detokenizer.ids) >= self._settings.max_new
        )

    def _stopped_beams(self, input_ids: torch.Tensor) -> list[bool]:
        stops = self._settings.stops
        if not stops:
            return [False] * input_ids.shape[0]
        window = _BEAM_WINDOW + max(map(len, stops))
        start = max(len(self._prompt), input_ids.shape[1] - window)
        texts = [self._decode(row) for row in input_ids[:, start:].tolist()]
        return [find_stop(text, stops) is not None for text in texts]

    def finish(self, output: torch.Tensor) -> None:
        """Show the final texts, and with beams settle which sequences there are."""
        if self._beams:
            for row, tokens in enumerate(output[:, len(self._prompt) :].tolist()):
                self._finish_beam(row, tokens)
            return
        for row, detokenizer in enumerate(self._rows):
            self.stream.show(row, detokenizer.finish())
            if detokenizer.stopped and self.reasons[row] == "length":
                self.reasons[row] = "stop"
            self.generated += len(detokenizer.ids)

    def _finish_beam(self, row: int, tokens: list[int]) -> None:
        end = next((i + 1 for i, token in enumerate(tokens) if token in self._stop_ids), None)
        text = completion(self._decode, self._prompt, tokens[:end])
        if text is None:
            text = self._decode(tokens[:end])
        stop = find_stop(text, self._settings.stops)
        self.generated += len(tokens[:end])
        self.stream.show(row, text[:stop])
        if stop is not None:
            self.reasons[row] = "stop"
        elif self._cancel_seen:
            self.reasons[row] = "cancelled"
        elif end is not None:
            self.reasons[row] = "eos"


def _common(first: str, second: str) -> int:
    pairs = enumerate(zip(first, second, strict=False))
    return next((i for i, (a, b) in pairs if a != b), min(len(first), len(second)))
