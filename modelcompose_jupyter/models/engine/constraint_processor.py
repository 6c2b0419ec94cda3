"""The constraints of texts that generate() chooses tokens for: a logits processor."""

from __future__ import annotations

import torch

from .row_state import RowState
from .sampling_params import SamplingParams


class ConstraintProcessor:
    """Leaves each row of generate() the tokens that its constraint allows.

    It comes before temperature and what else limits a draw, as generate() orders them.
    """

    def __init__(self, params: SamplingParams) -> None:
        self._rows = [RowState(params, number) for number in range(params.num_return_sequences)]
        self._ended = [False] * len(self._rows)

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """The scores [rows, vocabulary], minus infinity for what is not allowed.

        Raises:
            ComposeError: the model has no token that a row may go on with.
        """
        forbidden = torch.zeros(scores.shape, dtype=torch.bool)
        for number, row in enumerate(self._rows):
            allowed = None if self._ended[number] else row.allowed()
            if allowed is None:
                continue
            if (problem := row.problem()) is not None:
                raise problem
            own = torch.from_numpy(allowed[: scores.shape[1]])
            forbidden[number, : len(own)] = ~own
            forbidden[number, len(own) :] = True
        return scores.masked_fill(forbidden.to(scores.device), -torch.inf)

    def take(self, number: int, token: int) -> bool:
        """Take a row's next token; returns whether its text is whole with it."""
        row = self._rows[number]
        row.add(token)
        self._ended[number] = row.is_complete or token in row.params.stop_ids
        return row.is_complete
