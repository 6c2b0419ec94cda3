"""Whether steps give what models themselves give, and recorded steps the same bits as others."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any
from unittest import mock

from peers import weights

from . import small_models
from .cases import Settings, Told

PRECISIONS = ("float32", "bfloat16", "float16")
_PROMPTS = ([5, 9, 30], [*range(3, 60)], [7] * 20, [*range(20, 100)], [8, 4])
_STEPS = 40
"""In which some texts outgrow their slab; after half of them one leaves."""
_REPLACED = 30
"""The step before which each slab is replaced by another one in the same memory."""
_SEEN = 3
"""How often a shape comes before it is recorded."""


def small_cases(_: Settings) -> list[str]:
    """Each architecture and the bundled model, in each precision."""
    names = (*small_models.ARCHITECTURES, weights.BUNDLED)
    return [f"{name}, {each}" for name in names for each in PRECISIONS]


def check_small(settings: Settings, case: str, _: float) -> Told:
    """One of `small_cases`."""
    name, precision = case.split(", ")
    if name == weights.BUNDLED:
        return _check(_load(_bundled(), precision), settings.device)
    import torch

    return _check(small_models.make(name).to(getattr(torch, precision)), settings.device)


def shape_cases(settings: Settings) -> list[str]:
    """The model of the chosen shape, in each precision."""
    return [f"{settings.shape}, {each}" for each in PRECISIONS]


def check_shape(settings: Settings, case: str, _: float) -> Told:
    """One of `shape_cases`."""
    return _check(_load(settings.model, case.split(", ")[1]), settings.device)


def _bundled() -> Path:
    from modelcompose_jupyter.models import ModelSpec
    from modelcompose_jupyter.models.weights import source

    return source.resolve(ModelSpec(f"bundled:{weights.BUNDLED}"), lambda _: None).folder


def _load(folder: Path, precision: str) -> Any:
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()
    return AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, precision)).eval()


def _check(model: Any, device: str) -> Told:
    """The package's own check of a model's steps, and steps that are recorded."""
    import torch

    from modelcompose_jupyter.models.engine.self_check import SelfCheck
    from modelcompose_jupyter.models.engine.torch_runner import TorchRunner

    found: dict[str, float] = {}

    class Measured(SelfCheck):
        """Tells by how much scores are off, also where that is little."""

        def _in_parts(self, *args: Any) -> float:
            found["in parts"] = super()._in_parts(*args)
            return found["in parts"]

        def _one_by_one(self, *args: Any) -> float:
            found["token by token"] = super()._one_by_one(*args)
            return found["token by token"]

    check = Measured(model.to(device))
    runner = TorchRunner(model, torch.device(device), None)
    check.run(runner)
    steps = recorded_steps(runner)
    off = " and ".join(f"{value:.2g}" for value in found.values())
    told: Told = {
        "summary": f"off by {off} (at most {check._precision:g}); {steps.summary}",
        "off": found,
        "off_at_most": check._precision,
        "recorded_steps": asdict(steps),
    }
    return told if steps.problem is None else {**told, "error": steps.problem}


@dataclass
class RecordedSteps:
    """Steps with recordings beside the same ones without.

    Attributes:
        replayed: steps that a recording gave; ``recordings`` is how many of these there were.
        equal: steps whose bits were those of the same step of all rows, free ones too.
        replayed_later, equal_later: of these, steps after slabs were replaced.
        equal_without_free: those whose bits were those of a step that leaves out free rows.
        off: the most that a score differed from that by.
        refused: shapes that were not recorded, or whose recording gave other bits at first.
        errors: what went wrong when shapes were recorded.
    """

    replayed: int = 0
    recordings: int = 0
    equal: int = 0
    replayed_later: int = 0
    equal_later: int = 0
    equal_without_free: int = 0
    off: float = 0.0
    refused: int = 0
    errors: Sequence[str] = ()

    @property
    def summary(self) -> str:
        return (
            f"{self.recordings} recordings: {self.equal} of {self.replayed} steps equal,"
            f" {self.equal_without_free} without free rows (off {self.off:.2g})"
        )

    @property
    def problem(self) -> str | None:
        """What is wrong, if something is."""
        if self.errors:
            return f"steps are not recorded: {self.errors[0]}"
        if self.refused:
            return f"{self.refused} recordings gave other bits than their step at first"
        if not self.replayed:
            return "no step was recorded"
        if self.equal < self.replayed:
            wrong, later = self.replayed - self.equal, self.replayed_later - self.equal_later
            return (
                f"{wrong} of {self.replayed} recorded steps gave other bits,"
                f" {later} of them after slabs were replaced"
            )
        return None


def recorded_steps(runner: Any) -> RecordedSteps:
    """Texts in steps that are recorded early."""
    from modelcompose_jupyter.models.engine import decode_graphs

    if runner._graphs is None:
        raise RuntimeError("steps are not recorded on this device")
    recorder = runner._graphs._recorder = _Watched(runner._graphs._recorder)
    found = RecordedSteps()
    with runner.inference(), mock.patch.object(decode_graphs, "_SEEN", _SEEN):
        _decode(runner, found)
    recorded = runner._graphs._recorded.values()
    found.recordings = sum(replay is not None for replay in recorded)
    found.errors = recorder.errors
    found.refused = len(recorded) - found.recordings - len(recorder.errors)
    return found


class _Watched:
    """A recorder that keeps what went wrong."""

    def __init__(self, recorder: Any) -> None:
        self.key = recorder.key
        self.errors: list[str] = []
        self._recorder = recorder

    def record(self, *args: Any) -> Any:
        try:
            return self._recorder.record(*args)
        except Exception as error:
            self.errors.append(" ".join(f"{type(error).__name__}: {error}".split())[:300])
            raise


def _decode(runner: Any, found: RecordedSteps) -> None:
    slots = [_read(runner, prompt) for prompt in _PROMPTS]
    try:
        for number in range(_STEPS):
            if number == _STEPS // 2:
                runner.cache.close(slots.pop(2))
            for slot in slots:
                runner.cache.reserve(slot, slot.length + 1)
            for slab in runner.cache.slabs if number == _REPLACED else ():
                _replace(slab)
            _step(runner, [number + 3] * len(slots), found, later=number >= _REPLACED)
            for slot in slots:
                slot.length += 1
    finally:
        for slot in slots:
            runner.cache.close(slot)


def _read(runner: Any, prompt: Sequence[int]) -> Any:
    slot = runner.cache.open(len(prompt) + 1)
    runner.forward(prompt, [len(prompt) - 1], (), [(slot, len(prompt))])
    slot.length = len(prompt)
    runner.cache.share(slot)
    return slot


def _replace(slab: Any) -> None:
    """What it comes to where a slab is freed and another one gets the same memory.

    Its rows lie where they did, and what it had beside them is elsewhere; in the old place is
    something else.
    """
    before = slab.columns
    slab.columns = before.clone()
    before.fill_(-1)


def _step(runner: Any, tokens: Sequence[int], found: RecordedSteps, later: bool) -> None:
    """A step three times, each of which writes the same keys and values: as it is recorded, of all
    rows, of those in use."""
    import torch

    from modelcompose_jupyter.models.engine.decode_graphs import _inputs

    slabs = runner.cache.slabs
    replayed = runner._graphs.forward(tokens, slabs)
    if replayed is not None:
        replayed = replayed.clone()  # the next replay writes there
    with _unrecorded(runner):
        given, positions, used = _inputs(tokens, slabs)
        every = runner._pass(given, positions, list(slabs))[used]
        own = runner.forward(tokens, range(len(tokens)), slabs)
    if replayed is not None:
        is_equal = torch.equal(replayed, every)
        found.replayed += 1
        found.equal += is_equal
        found.replayed_later += later
        found.equal_later += later and is_equal
        found.equal_without_free += torch.equal(replayed, own)
        found.off = max(found.off, float((replayed.float() - own.float()).abs().max()))


@contextmanager
def _unrecorded(runner: Any) -> Iterator[None]:
    graphs, runner._graphs = runner._graphs, None
    try:
        yield
    finally:
        runner._graphs = graphs
