"""Scripted models: how runs are scheduled, without weights."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from modelcompose_jupyter.document import GenerationParameters
from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import (
    Generation,
    GenerationResult,
    LoadProgress,
    MemoryUse,
    ModelInfo,
    ModelSpec,
)
from modelcompose_jupyter.models.memory import use

Reply = Callable[[str], list[str]]


class ScriptedModels:
    """Answers each prompt with the pieces that ``reply`` gives for it; it fails where that does.

    ``hold`` names prompts whose generation stands still, after its first piece, until `release` or
    a cancel; ``started`` is set when such a one stands.
    """

    def __init__(self, reply: Reply | None = None, hold: tuple[str, ...] = ()) -> None:
        self.reply = reply or (lambda prompt: [f"<{prompt}>"])
        self.hold = hold
        self.started = threading.Semaphore(0)
        self.gate = threading.Event()
        self.prompts: list[str] = []
        self.parameters: list[dict[str, Any]] = []
        self.specs: list[ModelSpec] = []
        self.leases = 0
        self.failure: Exception | None = None

    def acquire(self, spec: ModelSpec, on_progress: Any = None) -> Future[Any]:
        self.specs.append(spec)
        future: Future[Any] = Future()
        if self.failure is not None:
            future.set_exception(self.failure)
            return future
        if on_progress is not None:
            on_progress(LoadProgress("load", spec.source, 1, 1))
        self.leases += 1
        future.set_result(ScriptedLease(self))
        return future

    def list(self) -> list[ModelInfo]:
        return []

    def memory(self) -> MemoryUse:
        return use()

    def unload(self, name: str | None = None) -> list[ModelInfo]:
        return []

    def close(self, timeout: float | None = None) -> bool:
        self.gate.set()
        return True


class ScriptedLease:
    def __init__(self, models: ScriptedModels) -> None:
        self._models = models

    def __enter__(self) -> ScriptedLease:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        self._models.leases -= 1

    def generate(
        self,
        prompt: str,
        parameters: GenerationParameters,
        on_text: Any = None,
        on_queued: Any = None,
        owner: Any = None,
        extension: Any = None,
        **_: Any,  # what it does not play
    ) -> Generation:
        cancelled = threading.Event()
        models = self._models

        def cancel(_: Generation) -> None:
            cancelled.set()

        generation = Generation(cancel)
        models.prompts.append(prompt)
        models.parameters.append(parameters.given())

        def work() -> None:
            text = ""
            try:
                pieces = models.reply(prompt)
            except ModelError as error:
                generation.future.set_exception(error)
                return
            for piece in pieces:
                if cancelled.is_set():
                    break
                on_text(0, len(text), piece)
                text += piece
                if prompt in models.hold:
                    models.started.release()
                    for _ in range(3000):  # of a hundredth of a second
                        if models.gate.is_set() or cancelled.wait(0.01):
                            break
            reason = "cancelled" if cancelled.is_set() else "eos"
            generation.future.set_result(_result(text, reason, parameters))

        threading.Thread(target=work, daemon=True).start()
        return generation


def _result(text: str, reason: str, parameters: GenerationParameters) -> GenerationResult:
    return GenerationResult(
        texts=[text],
        finish_reasons=[reason],
        usage={"prompt": 1, "reused": 0, "generated": 1},
        parameters={"seed": 1, **parameters.given()},
        warnings=[],
        timings={"queue": 0.0, "first_token": 0.0, "total": 0.0, "tokens_per_second": 1.0},
        model={"source": "scripted"},
    )
