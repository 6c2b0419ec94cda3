"""Measures the engine of this machine: a step by how many texts it has, a prompt by its tokens."""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from peers import weights
from transformers import AutoConfig

from modelcompose_jupyter.document import GenerationParameters
from modelcompose_jupyter.models import MOST_SEQUENCES, ModelCache, ModelSpec
from modelcompose_jupyter.models.engine import prefix_cache

from .service_times import EngineTimes, line

_TEXTS = (1, 2, 4, 8, 16, 32, 64)
_PROMPTS = (48, 112, 240, 432)
_START = 4
_OUTPUT = 96
_PRECISION = "bfloat16"
_PREFIX_BYTES = 2**30  # of the prefix cache, where there is memory


class _Engine:
    def __init__(self, folder: Path) -> None:
        self._lease = ModelCache().acquire(ModelSpec(str(folder), precision=_PRECISION)).result()
        self._prompts = weights.Prompts(folder)
        self._chance = random.Random(1)

    def _begin(self, prompt: int, tokens: int, on_text: Any = None) -> Any:
        parameters = GenerationParameters(
            do_sample=True, seed=1, min_output_length=tokens, max_output_length=tokens,
            include_prompt=False,
        )  # fmt: skip
        _, text = self._prompts.draw(prompt, self._chance)  # another one each time
        return self._lease.generate(text, parameters, on_text or (lambda *_: None))

    def steps(self, texts: int) -> list[float]:
        """Seconds of each step while so many texts are generated."""
        counters = self._lease._entry.engine.counters
        tokens = [0] * texts
        at: dict[int, float] = {}  # when each step begins, by the seconds that steps took before

        def told(number: int) -> None:
            tokens[number] += 1
            if min(tokens) > 0 and max(tokens) < _OUTPUT - 4:  # all of them go
                at.setdefault(counters.steps, counters.step_seconds)

        running = [
            self._begin(_START, _OUTPUT, lambda *_, number=number: told(number))
            for number in range(texts)
        ]
        for each in running:
            each.future.result()
        return [at[step + 1] - at[step] for step in at if step + 1 in at]

    def prompt(self, tokens: int) -> float:
        """Seconds until a prompt has been read, and its first token is there."""
        started = time.perf_counter()
        self._begin(tokens, 1).future.result()
        return time.perf_counter() - started


def measure(shape: str, work: Path, rounds: int) -> EngineTimes:
    """Times of the engine in this process with a model of `weights.SHAPES`, were it alone on this
    machine: what else that does only adds to a time."""
    return _measure(shape, work, rounds, MOST_SEQUENCES, _quiet)


def measure_as_it_is(shape: str, work: Path, rounds: int, most_texts: int) -> EngineTimes:
    """The same beside all that this machine does now, for so many texts at most."""
    return _measure(shape, work, rounds, most_texts, statistics.fmean)


def of_results(results: dict[str, Any], work: Path) -> EngineTimes:
    """The same of what `engine.py run` measured, where it has the items ``one-stream``,
    ``16-streams`` and ``prompt-512``; their prompts have 32 tokens, their texts 128."""
    shape = results["model"]["shape"]
    found = {
        (each["work"], each["measure"]): each["figure"]["median"]
        for each in results["lines"]
        if each["peer"] == "ours"
    }
    one = found["one-stream", "token"] / 1000
    whole, first = (found["16-streams", f"{what}, median"] for what in ("text", "first token"))
    each = ((whole - first / 1000) / 127 - one) / 15
    read = found["prompt-512", "first token"] - found["one-stream", "first token"]
    return _times(shape, weights.folder_of(shape, _PRECISION, work), one - each, each, read / 480e3)


def _measure(
    shape: str, work: Path, rounds: int, most_texts: int, of: Callable[[list[float]], float]
) -> EngineTimes:
    folder = weights.folder_of(shape, _PRECISION, work)
    engine = _Engine(folder)
    steps = {texts: list[float]() for texts in _TEXTS if texts <= most_texts}
    prompts = {tokens: list[float]() for tokens in _PROMPTS}
    for number in range(rounds + 1):
        for texts, times in steps.items():
            times += engine.steps(texts)
        for tokens, times in prompts.items():
            times.append(engine.prompt(tokens))
        if number == 0:  # which also found out how many threads are best
            for times in (*steps.values(), *prompts.values()):
                times.clear()
    step = [(texts, of(times)) for texts, times in steps.items()]
    prompt = [(tokens, of(times)) for tokens, times in prompts.items()]
    for unit, points in (("texts", step), ("tokens of a prompt", prompt)):
        told = ", ".join(f"{count}: {seconds * 1000:.2f}" for count, seconds in points)
        print(f"{shape}, ms by {unit}: {told}", flush=True)
    base, each = line(step)
    _, token = line(prompt)
    return _times(shape, folder, base, each, token)


def _times(shape: str, folder: Path, base: float, each: float, token: float) -> EngineTimes:
    kept = _PREFIX_BYTES // _token_bytes(folder)
    return EngineTimes(shape, base, each, token, MOST_SEQUENCES, kept, prefix_cache._MOST)


def _quiet(times: list[float]) -> float:
    return sorted(times)[len(times) // 10]


def _token_bytes(folder: Path) -> int:
    """Bytes of the keys and values of a token."""
    config = AutoConfig.from_pretrained(folder)
    heads = config.num_key_value_heads * (config.hidden_size // config.num_attention_heads)
    return int(config.num_hidden_layers * 2 * heads * 2)
