"""Draws of torch's, seeded: tokens chosen from probabilities, and those that generate() draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.overrides import TorchFunctionMode

from .rng import bits, draw


def choose(probabilities: torch.Tensor, numbers: Sequence[float]) -> torch.Tensor:
    """A token for each row of ``probabilities`` [rows, vocabulary] by inverse distribution.

    In float64, so that a token of probability zero is never chosen; returns [rows, 1].
    """
    if probabilities.device.type == "mps":  # has no float64
        return choose(probabilities.cpu(), numbers).to(probabilities.device)
    sums = probabilities.double().cumsum(-1)
    # On a GPU nothing waits for what was queued before.
    shares = torch.tensor(numbers, dtype=torch.float64).to(sums.device, non_blocking=True)
    return torch.searchsorted(sums, shares.unsqueeze(1) * sums[:, -1:], right=True)


class SeededDraws(TorchFunctionMode):
    """Answers `torch.multinomial` from a seed, and sorts equal scores by their place.

    Where top_p ends among equal scores, the order decides which of them stay; it is left open by
    `torch.sort` and differs between processors.

    It is in force from its call, as generate()'s logits processor, until `end`, which the stopping
    criterion calls: a mode over the whole of generate() would slow down all that the model does.

    Attributes:
        probabilities: of the last draw, [rows, vocabulary].

    Args:
        position: of the first token that is drawn.
    """

    def __init__(self, seed: int, position: int = 0) -> None:
        super().__init__()
        self.probabilities = torch.empty(0)
        self._seed = seed
        self._position = position
        self._active = False

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Take over the draw that follows; the scores stay as they are."""
        if not self._active:
            self.__enter__()
            self._active = True
        return scores

    def end(self) -> None:
        """Give the draw back. Idempotent."""
        if self._active:
            self._active = False
            self.__exit__(None, None, None)

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: Any = (),
        kwargs: Any = None,
    ) -> Any:
        options = kwargs or {}
        if func is torch.multinomial:
            return self._multinomial(*args, **options)
        if func is torch.sort:
            return torch.sort(*args, **{"stable": True, **options})
        return func(*args, **options)

    def _multinomial(self, probabilities: torch.Tensor, num_samples: int) -> torch.Tensor:
        if not torch.isfinite(probabilities).all():
            raise ArithmeticError("the model's scores are not finite")
        self.probabilities = probabilities
        position, self._position = self._position, self._position + 1
        if num_samples == 1:
            rows = range(probabilities.shape[0])
            return choose(probabilities, [draw(self._seed, row, position) for row in rows])
        generator = torch.Generator().manual_seed(int(bits(self._seed, 0, position)[0]) >> 1)
        picked = torch.multinomial(probabilities.cpu(), num_samples, generator=generator)
        return picked.to(probabilities.device)
