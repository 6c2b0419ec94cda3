"""Replicas whose steps take as long as is said: what they compute is little beside the time that
they sleep, so that several of them on one machine do not share its cores."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.models.engine import scheduler
from modelcompose_jupyter.models.engine.runner import Runner
from modelcompose_jupyter.models.weights.loaded_model import LoadedModel

from .service_times import EngineTimes


def make_host(times: EngineTimes) -> LocalHost:
    """A host of this process, all of whose models are so slow from now on; scheduler, sampler and
    prefix cache are the real ones."""
    scheduler.make_runner = partial(_slowed, scheduler.make_runner, times)
    return LocalHost()


def _slowed(
    make_runner: Callable[[LoadedModel], Runner], times: EngineTimes, loaded: LoadedModel
) -> Runner:
    runner = make_runner(loaded)
    compute = runner.forward

    def forward(
        tokens: Sequence[int], wanted: Sequence[int], slabs: Any = (), spans: Any = ()
    ) -> Any:
        started = time.perf_counter()
        scores = compute(tokens, wanted, slabs, spans)
        prompts = sum(count for _, count in spans if count > 1)
        seconds = times.step(len(tokens) - prompts) + prompts * times.prompt_token
        time.sleep(max(0.0, started + seconds - time.perf_counter()))
        return scores

    runner.forward = forward  # type: ignore[method-assign]
    return runner
