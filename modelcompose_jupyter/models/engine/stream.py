"""The text of a request's sequences as the caller sees it."""

from __future__ import annotations

from ..generation import OnText
from .sampling_params import SamplingParams


class Stream:
    """The text of each sequence as the caller sees it; tells the caller what changes."""

    def __init__(self, params: SamplingParams, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._warnings = params.warnings
        self._prompt = params.prompt if params.include_prompt else ""
        self._shown = [""] * params.num_return_sequences
        for sequence in range(params.num_return_sequences) if self._prompt else ():
            self._tell(sequence, 0, self._prompt)

    def show(self, sequence: int, text: str) -> None:
        """Make this the completion of a sequence, which begins with what was shown before."""
        shown = self._shown[sequence]
        if len(text) > len(shown):
            self._shown[sequence] = text
            self._tell(sequence, len(self._prompt) + len(shown), text[len(shown) :])

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
