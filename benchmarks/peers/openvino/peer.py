"""OpenVINO GenAI: its LLMPipeline, one request at a time, or its ContinuousBatchingPipeline."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import numpy as np
import openvino
import openvino_genai
from openvino_genai import (
    ContinuousBatchingPipeline,
    GenerationConfig,
    LLMPipeline,
    SchedulerConfig,
    StreamerBase,
    StreamingStatus,
    TokenizedInputs,
)

from peers.openvino.model import converted, properties
from peers.protocol import BlockingEngine, Engine, PeerSettings, Request, SteppingEngine, serve

_CACHE_GB = 2


def _loading(settings: PeerSettings) -> tuple[str, dict[str, Any]]:
    """The folder of the converted model, and what a pipeline of it is asked for."""
    quantization = settings.options.get("quantization")
    folder = converted(settings.folder, settings.precision, quantization, settings.cache)
    return str(folder), properties(settings.precision, settings.threads)


def _facts() -> dict[str, Any]:
    return {"version": openvino_genai.__version__, "openvino": openvino.__version__}


def _configuration(request: Request, number: int) -> GenerationConfig:
    config = GenerationConfig()
    config.max_new_tokens = request.tokens
    config.set_eos_token_id(0)  # there must be one, to be ignored
    config.ignore_eos = True
    config.do_sample = request.temperature is not None
    if request.temperature is not None:
        config.temperature = request.temperature
        config.top_k, config.top_p, config.rng_seed = 50, 0.9, number
    return config


def _tensor(request: Request) -> openvino.Tensor:
    return openvino.Tensor(np.array([request.prompt], dtype=np.int64))


class _Streamer(StreamerBase):  # type: ignore[misc]
    def __init__(self, on_token: Callable[[int, int], None]) -> None:
        super().__init__()
        self._on_token = on_token

    def write(self, tokens: int | list[int]) -> StreamingStatus:
        for id in [tokens] if isinstance(tokens, int) else tokens:
            self._on_token(0, id)
        return StreamingStatus.RUNNING

    def end(self) -> None: ...


class OneByOne(BlockingEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        folder, wanted = _loading(settings)
        self._pipeline = LLMPipeline(folder, settings.device.upper(), **wanted)
        return _facts()

    def generate(self, requests: Sequence[Request], on_token: Callable[[int, int], None]) -> None:
        ids = _tensor(requests[0])
        mask = openvino.Tensor(np.ones((1, len(requests[0].prompt)), dtype=np.int64))
        self._pipeline.generate(
            TokenizedInputs(ids, mask), _configuration(requests[0], 0), _Streamer(on_token)
        )


class ContinuousBatching(SteppingEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        scheduler = SchedulerConfig()
        scheduler.cache_size = _CACHE_GB
        scheduler.enable_prefix_caching = True
        folder, wanted = _loading(settings)
        self._pipeline = ContinuousBatchingPipeline(
            folder, scheduler, settings.device.upper(), wanted
        )
        self._handles: dict[int, Any] = {}
        self._asked = 0
        return {
            **_facts(),
            "split_fuse": scheduler.dynamic_split_fuse,
            "batched_tokens": scheduler.max_num_batched_tokens,
        }

    def add(self, number: int, request: Request) -> None:
        self._asked += 1
        self._handles[number] = self._pipeline.add_request(
            self._asked, _tensor(request), _configuration(request, number)
        )

    def step(self) -> Iterable[tuple[int, int]]:
        self._pipeline.step()
        came = []
        for number, handle in list(self._handles.items()):
            while handle.can_read():
                for output in handle.read().values():
                    came += [(number, id) for id in output.generated_ids]
        return came


_ENGINES: dict[str, type[Engine]] = {"llm": OneByOne, "continuous-batching": ContinuousBatching}


class Chosen(Engine):
    """The pipeline that the settings name."""

    def load(self, settings: PeerSettings) -> dict[str, Any]:
        self._engine = _ENGINES[settings.options["pipeline"]]()
        return self._engine.load(settings)

    def run(self, timeline: Any) -> None:
        self._engine.run(timeline)


serve(Chosen())
