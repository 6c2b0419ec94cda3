"""On a device that no test has seen, a model's steps are compared with its own forward."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from standins import tiny_models

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.engine import torch_runner
from modelcompose_jupyter.models.engine.attention import Step
from modelcompose_jupyter.models.engine.padded_step import PaddedStep
from modelcompose_jupyter.models.engine.runner import Runner, Unsupported
from modelcompose_jupyter.models.engine.self_check import SelfCheck

from ..conftest import ask, done

ON_TORCH: dict[str, Any] = {"driver": "huggingface", "precision": "float32"}


@pytest.fixture(autouse=True)
def on_torch(monkeypatch: pytest.MonkeyPatch) -> None:
    """Steps of every model are on torch."""
    monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")


def runner_of(model: Any) -> Runner:
    loaded: Any = SimpleNamespace(model=model, device="cpu", cache_budget=None)
    return torch_runner.torch_runner(loaded)


def change_scores(monkeypatch: pytest.MonkeyPatch, factor: float, only_slabs: bool = False) -> None:
    """Have attention in steps look at keys otherwise than the model does."""
    own = Step.attend

    def attend(self: Step, layer: int, query: Any, key: Any, value: Any, *rest: Any) -> Any:
        if self._groups or not only_slabs:
            query = query * factor
        return own(self, layer, query, key, value, *rest)

    monkeypatch.setattr(Step, "attend", attend)


def without_padding(monkeypatch: pytest.MonkeyPatch) -> None:
    """Have padded steps fail, which would be tried where others do."""

    def update(*_: Any) -> Any:
        raise RuntimeError("no padding")

    monkeypatch.setattr(PaddedStep, "update", update)


def test_where_packed_steps_are_wrong_padded_ones_are_taken(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    assert not runner_of(tiny_models.make("olmo2")).is_padded  # type: ignore[attr-defined]
    change_scores(monkeypatch, 1.5)
    assert runner_of(tiny_models.make("olmo2")).is_padded  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize(
    "architecture", ["llama", "gemma3_text", "gpt2", "olmo2", "gptj", "bloom", "mixtral"]
)
def test_all_that_is_known_passes(
    architecture: str, kind: torch.dtype, monkeypatch: pytest.MonkeyPatch
) -> None:
    run, passed = SelfCheck.run, []

    def counted(self: SelfCheck, runner: Runner) -> None:
        run(self, runner)
        passed.append(runner)

    monkeypatch.setattr(SelfCheck, "run", counted)
    runner = runner_of(tiny_models.make(architecture).to(kind))
    assert passed == [runner]
    assert runner.cache.slabs == []


@pytest.mark.parametrize("only_slabs", [False, True])
@pytest.mark.parametrize("architecture", ["llama", "gpt2", "gpt_neo"])
def test_attention_that_is_another_is_seen(
    architecture: str, only_slabs: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where it is so in those steps alone that give each text one token."""
    without_padding(monkeypatch)
    change_scores(monkeypatch, 1.5, only_slabs)
    with pytest.raises(Unsupported, match="its scores in steps are off by"):
        runner_of(tiny_models.make(architecture))


def test_scores_of_another_company_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Though they are those of the model where all texts are there."""
    without_padding(monkeypatch)
    own = Step.attend

    def attend(self: Step, layer: int, query: Any, *rest: Any) -> Any:
        is_small = not self._groups and len(query) in (3, 6)
        return own(self, layer, query * (1.5 if is_small else 1), *rest)

    monkeypatch.setattr(Step, "attend", attend)
    with pytest.raises(Unsupported, match="its scores depend on who else is there"):
        runner_of(tiny_models.make("olmo2"))


def test_what_depends_on_the_number_of_a_column_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A window that counts from the last column shows only beside a text that is long."""
    own = PaddedStep.mask

    def mask(self: PaddedStep, *rest: Any) -> Any:
        added = own(self, *rest)
        added[..., :-200] = torch.finfo(added.dtype).min
        return added

    monkeypatch.setattr(PaddedStep, "mask", mask)
    with pytest.raises(Unsupported, match="its scores depend on who else is there"):
        runner_of(tiny_models.make("bloom"))


def test_scores_that_are_no_numbers_are_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    change_scores(monkeypatch, float("nan"))
    with pytest.raises(Unsupported, match="off by nan"):
        runner_of(tiny_models.make())


def test_want_of_memory_is_no_finding(monkeypatch: pytest.MonkeyPatch) -> None:
    def attend(*_: Any) -> Any:
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(Step, "attend", attend)
    check = SelfCheck(model := tiny_models.make())
    runner = torch_runner.TorchRunner(model, torch.device("cpu"), None)
    with pytest.raises(torch.OutOfMemoryError):
        check.run(runner)


def test_a_model_that_fails_runs_through_generate(
    cache: ModelCache,
    folder_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """As it was before its modules were replaced, and with a warning."""
    spec = ModelSpec(str(folder_of("llama")), **ON_TORCH)
    with done(cache.acquire(spec)) as lease:
        right = ask(lease, "abc", max_output_length=12, seed=3)
        assert right.warnings == []
    cache.unload()

    def attend(*_: Any) -> Any:
        raise RuntimeError("no kernel image is available for execution on the device")

    monkeypatch.setattr(Step, "attend", attend)
    with caplog.at_level(logging.WARNING), done(cache.acquire(spec)) as lease:
        found = ask(lease, "abc", max_output_length=12, seed=3)
    assert found.texts == right.texts
    reason = "a check of its steps failed: no kernel image is available for execution on the device"
    assert found.warnings == [f"runs one by one, by generate(): {reason}"]
    assert [each.message for each in caplog.records if reason in each.message]


def test_a_draft_model_that_fails_is_left_out(
    cache: ModelCache,
    folder_of: Callable[[str], Path],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    run, calls = SelfCheck.run, []

    def second_fails(self: SelfCheck, runner: Runner) -> None:
        calls.append(runner)
        run(self, runner)
        if len(calls) > 1:
            raise Unsupported("its scores are off")

    monkeypatch.setattr(SelfCheck, "run", second_fails)
    folder = str(folder_of("llama"))
    with done(cache.acquire(ModelSpec(folder, draft_model=folder, **ON_TORCH))) as lease:
        found = ask(lease, "abc", max_output_length=3, seed=3)
    assert found.warnings == ["draft_model has no effect: its scores are off"]
    assert len(calls) == 3  # the draft model is tried in padded steps, too
