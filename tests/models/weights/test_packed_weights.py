"""Weights in 8 and 4 bits in C: what a user sees of them, and the file that keeps them."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from standins import tiny_models
from standins.waiting import until

from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec, disk_cache, memory
from modelcompose_jupyter.models.engine.native_runner import NativeRunner
from modelcompose_jupyter.models.native.codes import INT4, INT8
from modelcompose_jupyter.models.weights import native_loader, packed_weights
from modelcompose_jupyter.models.weights.packed_weights import PackedWeights, form_of
from modelcompose_jupyter.models.weights.source import ResolvedSource

from ..conftest import done

SIZES = {"hidden_size": 64, "intermediate_size": 96}


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where files are kept, of this test's own."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "modelcompose"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "m", **SIZES)


def flushed(kept: Path) -> list[Path]:
    """The files that are kept, once all are on the disk."""
    until(lambda: all(not each.suffix for each in kept.glob("weights-*")))
    return list(kept.glob("weights-*"))


def load(folder: Path, **options: Any) -> Any:
    plan = native_loader.plan(ModelSpec(str(folder), **options), ResolvedSource(folder))
    return plan, native_loader.load(plan, lambda _: None)


def scores_of(loaded: Any, tokens: list[int]) -> np.ndarray:
    runner = NativeRunner(loaded.decoder, None)
    slot = runner.cache.open(len(tokens))
    return runner.forward(tokens, range(len(tokens)), (), [(slot, len(tokens))])


@pytest.mark.parametrize(("quantization", "off"), [("int8", 0.1), ("int4", 0.5)])
@pytest.mark.parametrize(
    ("architecture", "options"),
    [
        ("llama", {"tie_word_embeddings": True}), ("llama", {"attention_bias": True}),
        ("qwen2", {}), ("phi3", {}), ("gemma3_text", {}), ("gpt2", {}), ("gpt_neox", {}),
        ("lfm2", {"conv_bias": True}), ("granitemoehybrid", {}),
        ("gemma4_text", {}), ("gemma4", {}),
    ],
)  # fmt: skip
def test_scores_are_near(
    quantization: str, off: float, architecture: str, options: Any, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "m", architecture, **options)
    tokens = [3, 50, 120, 7, 9, 200, 31]
    wanted = scores_of(load(folder, precision="float32")[1], tokens)
    plan, loaded = load(folder, quantization=quantization)
    found = scores_of(loaded, tokens)
    assert 1e-5 < np.sqrt(np.square(found - wanted).mean()) / wanted.std() < off
    assert loaded.precision == quantization
    # Norms and biases are beside what is counted before.
    assert 0 <= loaded.memory_bytes - plan.size.kept < 0.3 * loaded.memory_bytes


@pytest.mark.parametrize("quantization", ["int8", "int4"])
def test_a_text_is_the_same_in_any_company(
    quantization: Any, folder: Path, cache: ModelCache
) -> None:
    asked = [GenerationParameters(max_output_length=20 + 5 * each, seed=each) for each in range(6)]
    prompts = ["A fox " * (1 + each) for each in range(6)]
    with done(cache.acquire(ModelSpec(str(folder), quantization=quantization))) as lease:
        assert lease.info.driver == "native"
        alone = [
            done(lease.generate(*each).future).texts for each in zip(prompts, asked, strict=True)
        ]
        handles = [lease.generate(*each) for each in zip(prompts, asked, strict=True)]
        assert [done(each.future).texts for each in handles] == alone


def test_a_division_of_a_prompt_changes_no_bit(folder: Path) -> None:
    for quantization in ("int8", "int4"):
        runner = NativeRunner(load(folder, quantization=quantization)[1].decoder, None)
        tokens = [(7 * each) % 250 for each in range(60)]
        found = []
        for parts in ([60], [1] * 60, [17, 1, 42]):
            slot, scores = runner.cache.open(60), []
            runner.threads = len(found) + 1
            for count in parts:
                part = tokens[slot.length : slot.length + count]
                scores.append(runner.forward(part, range(count), (), [(slot, count)]))
                slot.length += count
            found.append(np.concatenate(scores))
        assert np.array_equal(found[0], found[1])
        assert np.array_equal(found[0], found[2])


def test_the_second_load_finds_what_the_first_made(folder: Path, kept: Path) -> None:
    _, first = load(folder, quantization="int4")
    (file,) = flushed(kept)
    state = file.stat()
    assert (state.st_mode & 0o777, state.st_nlink) == (0o600, 1)
    _, second = load(folder, quantization="int4")
    assert file.stat().st_ino == state.st_ino
    assert second.mapped_bytes == second.memory_bytes == first.memory_bytes
    tokens = [5, 6, 7]
    assert np.array_equal(scores_of(first, tokens), scores_of(second, tokens))
    load(folder, quantization="int8")
    assert len(flushed(kept)) == 2


def test_other_files_are_other_weights(folder: Path, kept: Path, tmp_path: Path) -> None:
    _, first = load(folder, quantization="int8")
    other = tiny_models.save(tmp_path / "other", **SIZES, seed=7)
    shutil.copy(other / "model.safetensors", folder / "new")
    (folder / "new").rename(folder / "model.safetensors")
    _, second = load(folder, quantization="int8")
    assert len(flushed(kept)) == 2
    assert not np.array_equal(scores_of(first, [1, 2]), scores_of(second, [1, 2]))


def test_a_file_that_was_written_into_unseen_gives_other_weights(
    folder: Path, kept: Path, tmp_path: Path
) -> None:
    file = folder / "model.safetensors"
    before = file.stat()
    _, first = load(folder, quantization="int8")
    other = tiny_models.save(tmp_path / "other", **SIZES, seed=7) / file.name
    content = other.read_bytes()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (file.stat().st_ino, file.stat().st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    _, second = load(folder, quantization="int8")
    assert not np.array_equal(scores_of(first, [1, 2]), scores_of(second, [1, 2]))


@pytest.mark.parametrize("reason", ["full", "open"])
def test_what_cannot_be_kept_is_in_memory(
    reason: str, folder: Path, kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if reason == "full":
        monkeypatch.setattr(packed_weights, "_LEAST_FREE", 1 << 60)
    else:
        kept.mkdir(parents=True)
        kept.chmod(0o777)
        monkeypatch.setattr(disk_cache, "folder", lambda: None)
    _, loaded = load(folder, quantization="int8")
    assert loaded.mapped_bytes == 0
    assert scores_of(loaded, [1, 2]).shape == (2, loaded.decoder.head.outputs)
    assert not list(kept.glob("weights-*"))
    assert not list(kept.glob("unfinished-*"))


def test_a_file_of_another_size_is_made_anew(folder: Path, kept: Path) -> None:
    _, first = load(folder, quantization="int8")
    (file,) = flushed(kept)
    shorter = kept / "shorter"
    shorter.write_bytes(file.read_bytes()[:-100])
    shorter.chmod(0o600)
    shorter.rename(file)
    _, second = load(folder, quantization="int8")
    assert np.array_equal(scores_of(first, [1]), scores_of(second, [1]))


def test_files_that_were_used_last_stay(kept: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(packed_weights, "_MOST", 10_000)
    for number in range(5):
        room = PackedWeights({"a": 2_000, "b": 1_000}, number)
        room.piece("a")[:] = number
        room.keep()
        first = PackedWeights({"a": 2_000, "b": 1_000}, 0)
        assert first.is_filled
        assert (first.piece("a") == 0).all()
    assert len(flushed(kept)) == 3
    assert not PackedWeights({"a": 2_000, "b": 1_000}, 1).is_filled
    assert PackedWeights({"a": 2_000, "b": 1_000}, 4).is_filled


def test_what_is_kept_is_known_and_removed(folder: Path, kept: Path) -> None:
    assert packed_weights.kept_bytes() == 0
    _, loaded = load(folder, quantization="int4")
    size = sum(path.stat().st_size for path in flushed(kept))
    assert packed_weights.kept_bytes() == size > 0
    assert packed_weights.discard() == size
    assert packed_weights.kept_bytes() == 0
    assert np.isfinite(scores_of(loaded, [1, 2])).all()  # what is in memory goes on


def test_what_was_not_flushed_counts_in_this_boot_alone(
    kept: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(disk_cache, "_flush", lambda file, *_: os.close(file))
    made = PackedWeights({"a": 100}, 1)
    made.keep()
    (file,) = kept.glob("weights-*")
    assert file.suffix == f".{disk_cache._BOOT.read_text()[:8]}"
    assert PackedWeights({"a": 100}, 1).is_filled
    assert file.exists()
    monkeypatch.setattr(disk_cache, "_BOOT", tmp_path / "boot")
    (tmp_path / "boot").write_text("01234567-89ab")
    assert not PackedWeights({"a": 100}, 1).is_filled
    assert not file.exists()


def test_of_two_that_make_the_same_at_once_the_first_is_kept(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else the name of what is on the disk could go to what is not yet."""
    monkeypatch.setattr(disk_cache, "_flush", lambda file, *_: os.close(file))
    both = [PackedWeights({"a": 100}, 1) for _ in range(2)]
    for number, each in enumerate(both):
        each.piece("a")[:] = number
        each.keep()
    assert (PackedWeights({"a": 100}, 1).piece("a") == 0).all()
    assert (both[1].piece("a") == 1).all()
    del both, each
    assert len([*kept.iterdir()]) == 1


def test_what_its_maker_did_not_flush_a_later_load_does(
    kept: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patched:
        patched.setattr(disk_cache, "_flush", lambda file, *_: os.close(file))
        PackedWeights({"a": 100}, 1).keep()
    (file,) = kept.glob("weights-*")
    assert file.suffix
    assert PackedWeights({"a": 100}, 1).is_filled
    assert [each.name for each in flushed(kept)] == [file.stem]


def test_a_file_has_its_name_once_it_is_flushed(kept: Path) -> None:
    PackedWeights({"a": 100}, 1).keep()
    assert len(flushed(kept)) == 1
    assert PackedWeights({"a": 100}, 1).is_filled


def test_what_a_killed_process_left_is_cleared_away(kept: Path) -> None:
    code = (
        "import os\n"
        "from modelcompose_jupyter.models.weights.packed_weights import PackedWeights\n"
        "room = PackedWeights({'a': 5000}, 'killed')\n"
        "os.kill(os.getpid(), 9)\n"
    )
    subprocess.run([sys.executable, "-c", code], check=False, env=os.environ)
    assert len(list(kept.glob("unfinished-*"))) == 1
    mine = PackedWeights({"a": 5000}, "mine")
    other = PackedWeights({"a": 5000}, "other")  # clears away, but nothing that is being made
    assert len(list(kept.glob("unfinished-*"))) == 2
    mine.keep()
    other.keep()
    assert len(flushed(kept)) == 2


def test_which_weights_get_how_many_bits() -> None:
    assert form_of("queries", 3, 8, "int8") == INT8
    assert form_of("head", None, 8, "int4") == INT8
    assert [form_of("down", each, 8, "int4") for each in range(8)] == [INT8, *[INT4] * 6, INT8]
    assert {form_of(each, 4, 8, "int4") for each in ("keys", "values", "rates")} == {INT8}
    assert {form_of(each, 4, 8, "int4") for each in ("queries", "gate", "qkv")} == {INT4}


@pytest.mark.parametrize("found", [None, "int8", "int4"])
def test_auto_takes_what_has_room(
    found: Any, cache: ModelCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needed = load(folder, quantization=found)[0].size.peak
    monkeypatch.setattr(memory, "available", lambda _: int(1.06 * needed))
    with done(cache.acquire(ModelSpec(str(folder), quantization="auto"))) as lease:
        assert lease.info.precision == (found or "float32")


@pytest.mark.parametrize(
    ("is_idle", "budget", "precision"),
    [(True, None, "float32"), (False, None, "int8"), (True, 0.5, "int8")],
)
def test_auto_counts_on_what_idle_models_hold_and_keeps_to_the_budget(
    is_idle: bool, budget: float | None, precision: str, cache: ModelCache, folder: Path,
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    """So a model is not made small for one that is unloaded for it."""
    needed = load(folder)[0].size.peak
    cache.memory_budget = None if budget is None else int(budget * needed)
    other = str(tiny_models.save(tmp_path / "other", **SIZES, seed=7))
    with done(cache.acquire(ModelSpec(other))) as first:
        if is_idle:
            first.release()

        def available(_: str) -> int:
            others = (each for each in cache.list() if each.source == other)
            return int(1.6 * needed) - sum(each.memory_bytes or 0 for each in others)

        monkeypatch.setattr(memory, "available", available)
        with done(cache.acquire(ModelSpec(str(folder), quantization="auto"))) as lease:
            assert lease.info.precision == precision


def test_auto_says_where_nothing_has_room(
    cache: ModelCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(memory, "available", lambda _: 1000)
    with pytest.raises(ModelError, match="of memory for its weights"):
        done(cache.acquire(ModelSpec(str(folder), quantization="auto")))
