"""The texts of a request as its caller gets them: streamed, and whole at the end."""

from __future__ import annotations

from ..generation import OnText
from .sampling_params import SamplingParams


class Stream:
    """Collects the deltas of each sequence's text, and passes them on to the caller."""

    def __init__(self, params: SamplingParams, on_text: OnText | None) -> None:
        self._on_text = on_text
        self._warnings = params.warnings
        self._deltas: list[list[str]] = [[] for _ in range(params.num_return_sequences)]
        self._lengths = [0] * params.num_return_sequences
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

    def texts(self) -> list[str]:
        """The whole texts."""
        return ["".join(deltas) for deltas in self._deltas]

    def _tell(self, sequence: int, offset: int, text: str) -> None:
        if self._on_text is None:
            return
        try:
            self._on_text(sequence, offset, text)
        except Exception as error:
            self._on_text = None
            self._warnings.append(f"the text was not streamed to its end: on_text raised {error!r}")
