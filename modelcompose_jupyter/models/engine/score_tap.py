"""What generate() chooses tokens from, for their log-probabilities; and texts that are only read.

Of what generate() does, a model's own scores are seen by a hook of its forward pass, and those that
a token is chosen from by a logits processor, or where the token is drawn.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, Self

import numpy as np
import torch

from ...errors import ModelError
from .. import memory
from ..weights.loaded_model import LoadedModel
from .logprobs import Drawn, Weighed, as_array, weigh
from .sampling_params import SamplingParams, reply_of
from .seeded_draws import SeededDraws
from .stream import Stream
from .token_stream import TokenStream


class ScoreTap:
    """The scores of the last step, while it is entered; also a logits processor."""

    def __init__(self, model: Any, draws: SeededDraws | None) -> None:
        self._model = model
        self._draws = draws
        self._raw: torch.Tensor | None = None
        self._processed: torch.Tensor | None = None

    def __enter__(self) -> Self:
        self._hook = self._model.register_forward_hook(self._look)
        return self

    def __exit__(self, *_: object) -> None:
        self._hook.remove()

    def _look(self, _: Any, __: Any, output: Any) -> None:
        self._raw = output.logits[:, -1].detach()

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """Note the scores that the likeliest is taken of; they stay as they are."""
        self._processed = scores
        return scores

    def weigh(self, row: int, token: int, count: int) -> Weighed:
        """What the last step said of the token that a row got."""
        assert self._raw is not None
        return weigh(as_array(self._raw[row]), token, count, self._drawn(row))

    def _drawn(self, row: int) -> Drawn:
        if self._draws is not None:
            shares = as_array(self._draws.probabilities[row]).astype(np.float64)
        else:
            assert self._processed is not None
            scores = as_array(self._processed[row])
            shares = np.exp(scores - scores.max(), dtype=np.float64)
        return np.arange(len(shares)), shares


class GeneratedTokens:
    """The tokens of generate()'s texts with their log-probabilities, as far as they are asked for.

    Args:
        before: the tokens before the first generated one in generate()'s own sequences.
        tap: where the scores of chosen tokens are; None where texts are to be read at their end.
    """

    def __init__(
        self,
        loaded: LoadedModel,
        params: SamplingParams,
        before: Sequence[int],
        stream: Stream,
        tap: ScoreTap | None,
    ) -> None:
        self._loaded = loaded
        self._params = params
        self._before = before
        self._stream = stream
        self._tap = tap
        self._rows: list[TokenStream] = []
        self._given: Sequence[int] = ()

    def begin(self, given: Sequence[int], told: int) -> None:
        """Tell the prompt, and the tokens that the text begins with but for those that are told."""
        params, prompt = self._params, self._params.tokens
        self._given = given
        if params.prompt_logprobs is not None:
            tokens = TokenStream(self._loaded, (), partial(self._stream.add_tokens, 0, "prompt"))
            tokens.begin(prompt[0])
            tokens.add(self._read(prompt[:1], prompt[1:], params.prompt_logprobs))
        if params.logprobs is not None:
            self._rows = [
                TokenStream(
                    self._loaded,
                    self._before,
                    partial(self._stream.add_tokens, row, "text"),
                    given[:told],
                    reply_of(self._loaded, params),
                    params.decode,
                )
                for row in range(params.num_return_sequences)
            ]
            for row in self._rows:
                row.add(self._read(prompt, given, params.logprobs)[told:])

    def chosen(self, row: int, token: int) -> None:
        """Tell the token that a row got in the last step."""
        if self._rows and self._tap is not None:
            self._rows[row].add([self._tap.weigh(row, token, self._params.logprobs or 0)])

    def ended(self, row: int, tokens: Sequence[int]) -> None:
        """Tell the tokens that were chosen of a text, which is known only now."""
        if self._rows:
            text, count = [*self._given, *tokens], self._params.logprobs or 0
            weighed = self._read(self._params.tokens, text, count)
            self._rows[row].add(weighed[len(self._given) :])

    def finish(self) -> None:
        """Tell what is left of the texts."""
        for row in self._rows:
            row.finish()

    def _read(self, prompt: Sequence[int], text: Sequence[int], count: int) -> list[Weighed]:
        """What the model's scores say of the tokens of a text behind a prompt, in one pass."""
        if not text:
            return []
        scores = read(self._loaded, prompt, text, self._before)
        return [weigh(row, token, count) for row, token in zip(scores, text, strict=True)]


def read(
    loaded: LoadedModel, prompt: Sequence[int], text: Sequence[int], begin: Sequence[int]
) -> np.ndarray:
    """The model's scores for each token of a text behind a prompt, in one pass.

    Args:
        begin: what an encoder-decoder's text stands behind.

    Returns:
        float32 [tokens, vocabulary].

    Raises:
        ModelError: there is no memory for that many scores.
    """
    model: Any = loaded.model
    before = begin if loaded.encoder_decoder else prompt
    tokens = [*before, *text][:-1]
    needed = 2 * 4 * len(tokens) * model.config.get_text_config(decoder=True).vocab_size
    if needed > memory.available(str(loaded.device)):
        raise ModelError(
            f"there is no memory for the scores of {len(tokens):,} tokens at once",
            hint="Leave out prompt_logprobs, or shorten the text.",
            code="out_of_memory",
        )
    given = torch.tensor([tokens], device=loaded.device)
    with torch.inference_mode():
        if loaded.encoder_decoder:
            source = torch.tensor([list(prompt)], device=loaded.device)
            output = model(input_ids=source, decoder_input_ids=given)
        else:
            output = model(input_ids=given)
        return as_array(output.logits[0, len(before) - 1 :])
