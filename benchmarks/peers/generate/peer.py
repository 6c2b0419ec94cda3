"""transformers' generate(): one request after the other, at its best number of threads."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from peers import transformers_models
from peers.protocol import BlockingEngine, PeerSettings, Request, serve


class Generate(BlockingEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        self._model = transformers_models.load(settings)
        self._most_threads = settings.threads
        self.settle()
        return {**transformers_models.versions(), "threads": torch.get_num_threads()}

    def settle(self) -> None:
        transformers_models.choose_threads(self._model, self._most_threads)

    def generate(self, requests: Sequence[Request], on_token: Callable[[int, int], None]) -> None:
        transformers_models.generate(self._model, requests, on_token)


serve(Generate())
