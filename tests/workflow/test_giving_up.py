"""Runs end when they are stopped, also where a model's thread does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import Future
from typing import Any

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost, load
from modelcompose_jupyter.models.engine.scheduler import Scheduler
from modelcompose_jupyter.workflow import model_access

COMPONENT = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 8
  min_output_length: 8
  seed: 1
"""
WAIT = 60


class Stuck:
    """Steps of models that stand still, from the third on, until they are let go."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.reached, self.go_on = threading.Event(), threading.Event()
        self._steps, self._step = 0, Scheduler.step
        stuck = self

        def step(batch: Scheduler) -> None:
            stuck._steps += 1
            if stuck._steps == 3:
                stuck.reached.set()
                assert stuck.go_on.wait(WAIT)
            stuck._step(batch)

        monkeypatch.setattr(Scheduler, "step", step)
        monkeypatch.setattr(model_access, "GIVE_UP_SECONDS", 0.2)


@pytest.fixture
def real() -> Iterator[LocalHost]:
    host = LocalHost()
    yield host
    assert host.close(WAIT)


@pytest.fixture
def stuck(real: LocalHost, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stuck]:
    stuck = Stuck(monkeypatch)
    yield stuck
    stuck.go_on.set()


def test_a_run_whose_model_is_stuck_ends_with_the_text_so_far(
    stuck: Stuck, real: LocalHost
) -> None:
    flow = load(COMPONENT, host=real)
    run = flow.submit(prompt="Once upon a time")
    assert stuck.reached.wait(WAIT)
    run.cancel()
    assert run.wait(WAIT)
    assert not stuck.go_on.is_set()
    assert (run.state, run.finish_reason) == ("cancelled", "cancelled")
    text = run.text
    assert text.startswith("Once upon a time")
    waiting = flow.submit(prompt="Later")  # behind the step that stands
    waiting.cancel()
    assert waiting.wait(WAIT)
    stuck.go_on.set()
    assert len(flow(prompt="The fox")["generated"]) > len("The fox")  # the model goes on
    assert run.text == text  # what came later was dropped


def test_a_run_beyond_its_time_fails_though_its_model_is_stuck(
    stuck: Stuck, real: LocalHost
) -> None:
    flow = load(COMPONENT, host=real)
    real.limit(max_run_seconds=2)
    run = flow.submit(prompt="Once upon a time")
    assert run.wait(WAIT)
    assert not stuck.go_on.is_set()
    assert run.error is not None
    assert (run.state, run.error.code) == ("failed", "timeout")


def test_a_host_is_closed_within_its_time_though_a_model_is_stuck(
    stuck: Stuck, real: LocalHost
) -> None:
    run = load(COMPONENT, host=real).submit(prompt="Once upon a time")
    assert stuck.reached.wait(WAIT)
    assert real.close(1.0) is False
    assert run.done
    assert not stuck.go_on.is_set()


class NeverLoads(ScriptedModels):
    """Models whose load does not react."""

    def acquire(self, spec: Any, on_progress: Any = None) -> Future[Any]:
        self.future: Future[Any] = Future()
        self.started.release()
        return self.future


def test_a_run_whose_model_does_not_load_ends() -> None:
    models = NeverLoads()
    host = LocalHost(models)  # type: ignore[arg-type]
    run = load(COMPONENT, host=host).submit(prompt="a")
    assert models.started.acquire(timeout=WAIT)
    run.cancel()
    assert run.wait(WAIT)
    assert run.state == "cancelled"
    assert models.future.cancelled()
    host.close()
