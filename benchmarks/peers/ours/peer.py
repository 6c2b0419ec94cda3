"""This package's own engine, through its public face."""

from __future__ import annotations

import os
from typing import Any

from peers.protocol import CallingEngine, PeerSettings, Request, Timeline, serve
from tokenizers import Tokenizer

from modelcompose_jupyter import __version__
from modelcompose_jupyter.document import GenerationParameters
from modelcompose_jupyter.models import Generation, ModelCache, ModelSpec


class Ours(CallingEngine):
    def load(self, settings: PeerSettings) -> dict[str, Any]:
        if not settings.options.get("native", True):
            os.environ["MODELCOMPOSE_NATIVE"] = "0"
        spec = ModelSpec(
            str(settings.folder),
            precision=settings.precision,
            device=settings.device,
            quantization=settings.options.get("quantization"),
        )
        self._tokenizer = Tokenizer.from_file(str(settings.folder / "tokenizer.json"))
        self._cache = ModelCache()
        self._lease = self._cache.acquire(spec).result()
        info = self._lease.info
        return {"version": __version__, "class": info.class_name, "precision": info.precision}

    def submit(self, number: int, request: Request, timeline: Timeline) -> None:
        drawn = request.temperature is not None
        parameters = GenerationParameters(
            do_sample=drawn,
            temperature=request.temperature,
            seed=number if drawn else None,
            min_output_length=request.tokens,
            max_output_length=request.tokens,
            include_prompt=False,
        )

        def ended(done: Generation) -> None:
            error = done.future.exception()
            if error is not None:
                timeline.fail(error)
            else:
                result = done.future.result()
                head = self._tokenizer.encode(result.texts[0]).ids
                timeline.end(number, result.usage["generated"], head)

        generation = self._lease.generate(
            request.text, parameters, lambda *_: timeline.token(number)
        )
        generation.future.add_done_callback(lambda _: ended(generation))

    def run(self, timeline: Timeline) -> None:
        before = self._counted()
        super().run(timeline)
        self._during = {name: now - before[name] for name, now in self._counted().items()}

    def counters(self) -> dict[str, float] | None:
        """``tokens``, ``steps``, ``step_seconds``, of these ``forward_seconds`` in the model."""
        return self._during or None

    def _counted(self) -> dict[str, float]:
        return dict(vars(self._lease._entry.engine.counters))


serve(Ours())
