"""Decoders in C as users meet them: which models get them, and what happens to their files."""

from __future__ import annotations

import json
import logging
import re
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
from standins import tiny_models

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec, memory
from modelcompose_jupyter.models.native import build
from modelcompose_jupyter.models.spec import Driver
from modelcompose_jupyter.models.weights import native_loader, source
from modelcompose_jupyter.notebook.table import models_table

from ..conftest import ask, done


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tiny_models.save(tmp_path / "m")


def test_what_computes_is_known_and_can_be_chosen(cache: ModelCache, folder: Path) -> None:
    texts = {}
    for driver in (None, "native", "huggingface"):
        with done(cache.acquire(ModelSpec(str(folder), driver=driver))) as lease:
            found = ask(lease, "A fox", do_sample=False, max_output_length=20)
            assert lease.info.driver == found.model["driver"] == (driver or "native")
            texts[driver] = found.texts
    assert texts[None] == texts["native"] == texts["huggingface"]


def test_what_cannot_run_in_c_says_so(
    cache: ModelCache, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    folder = tiny_models.save(tmp_path / "m", "mamba")
    with pytest.raises(ModelError, match="mamba has no kernels") as caught:
        done(cache.acquire(ModelSpec(str(folder), driver="native")))
    assert caught.value.code == "driver_unavailable"
    with caplog.at_level(logging.INFO), done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert lease.info.driver == "huggingface"
        result = ask(lease, max_output_length=2)
        table = models_table([("here", [lease.info], cache.memory())])
    assert "mamba has no kernels" in caplog.text
    assert result.model["driver_reason"] == lease.info.driver_reason is not None
    assert f"huggingface ({lease.info.driver_reason})" in repr(table)


def test_without_kernels_models_run_on_torch(
    cache: ModelCache, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert lease.info.driver == "huggingface"


def test_a_beam_search_is_done_by_transformers(cache: ModelCache, folder: Path) -> None:
    asked = {"num_beams": 3, "do_sample": False, "max_output_length": 12}
    texts = []
    for driver in (None, "huggingface"):
        with done(cache.acquire(ModelSpec(str(folder), driver=driver))) as lease:
            texts.append(ask(lease, "A fox", **asked).texts)
    assert texts[0] == texts[1]


def test_a_beam_search_says_what_did_it_and_is_refused_in_c_alone(
    cache: ModelCache, folder: Path
) -> None:
    asked = {"num_beams": 2, "do_sample": False, "max_output_length": 3}
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        found = ask(lease, "A fox", **asked).model
        assert found["driver"] == "huggingface"
        assert "beam search" in found["driver_reason"]
        assert ask(lease, "A fox", max_output_length=3).model["driver"] == "native"
    for order in (("native", None), (None, "native")):  # they share one model
        cache.unload()
        leases = {each: done(cache.acquire(ModelSpec(str(folder), driver=each))) for each in order}
        assert len(cache.list()) == 1
        with pytest.raises(ModelError, match="a beam search is done by transformers") as caught:
            ask(leases["native"], "A fox", **asked)
        assert caught.value.code == "driver_unavailable"
        assert ask(leases[None], "A fox", **asked).model["driver"] == "huggingface"
        for lease in leases.values():
            lease.release()


@pytest.mark.parametrize(
    ("variable", "value", "reason"),
    [
        ("MODELCOMPOSE_NATIVE", "0", "MODELCOMPOSE_NATIVE is 0"),
        ("CC", "no-such-compiler", "there is no C compiler"),
        ("CC", "false", "the kernels cannot be compiled"),
    ],
)
def test_where_there_are_no_kernels_the_reason_is_said(
    variable: str, value: str, reason: str,
    cache: ModelCache, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv(variable, value)
    monkeypatch.setattr(build, "_load", build._load.__wrapped__)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert reason in (lease.info.driver_reason or "")


def write_others(folder: Path) -> None:
    """Other weights into the same file, as a training that goes on does."""
    other = tiny_models.make(seed=99)
    made = folder.with_name("other")
    other.save_pretrained(made)
    content = (made / "model.safetensors").read_bytes()
    with (folder / "model.safetensors").open("r+b") as file:
        file.truncate(0)
        file.write(content)


def test_files_that_are_written_to_fail_runs_and_are_loaded_anew(
    cache: ModelCache, folder: Path
) -> None:
    """Weights are where the files are, which would be others' or end the process."""
    spec = ModelSpec(str(folder))
    with done(cache.acquire(spec)) as lease:
        before = ask(lease, "A fox", do_sample=False, max_output_length=20).texts
        write_others(folder)
        with pytest.raises(
            ModelError, match="were changed while the model was in memory"
        ) as caught:
            ask(lease, "A fox", do_sample=False, max_output_length=20)
        assert caught.value.code == "model_changed"
    with done(cache.acquire(spec)) as lease:
        after = ask(lease, "A fox", do_sample=False, max_output_length=20).texts
    assert after != before


def test_files_that_are_replaced_change_nothing(cache: ModelCache, folder: Path) -> None:
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        before = ask(lease, "A fox", do_sample=False, max_output_length=20).texts
        (folder / "model.safetensors").rename(folder / "old")
        tiny_models.make(seed=99).save_pretrained(folder)
        assert ask(lease, "A fox", do_sample=False, max_output_length=20).texts == before


def test_files_are_let_go_with_the_model(cache: ModelCache, folder: Path) -> None:
    def mapped() -> bool:
        maps = psutil.Process().memory_maps()
        return any(each.path == str(folder / "model.safetensors") for each in maps)

    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        ask(lease, max_output_length=2)
        assert mapped()
    cache.unload()
    assert not mapped()
    assert str(folder / "model.safetensors") not in {f.path for f in psutil.Process().open_files()}


def test_what_is_converted_lets_go_of_its_files(cache: ModelCache, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m")
    tiny_models.make().to(torch.float16).save_pretrained(folder)
    with done(cache.acquire(ModelSpec(str(folder), precision="bfloat16"))) as lease:
        assert lease.info.precision == "bfloat16"
        assert ask(lease, max_output_length=2).usage["generated"] == 2


def test_weights_in_mapped_files_are_not_free(cache: ModelCache, folder: Path) -> None:
    """Though the system says so, since it could read them again."""
    before = memory.MappedWeights.total()
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert lease.info.mapped_bytes == lease.info.memory_bytes
        assert memory.MappedWeights.total() == before + (lease.info.mapped_bytes or 0)
        with done(cache.acquire(ModelSpec(str(folder), precision="bfloat16"))) as converted:
            assert converted.info.mapped_bytes == 0
            assert memory.MappedWeights.total() == before + (lease.info.mapped_bytes or 0)
    cache.unload()
    assert memory.MappedWeights.total() == before
    assert "(mapped)" in repr(models_table([("here", [lease.info], cache.memory())]))


@pytest.mark.parametrize(
    ("driver", "free", "hint"),
    [
        ("native", 0.9, "Set 'precision: bfloat16': it needs .* then. Or unload other models."),
        ("huggingface", 0.9, "Set 'precision: bfloat16'"),
        ("native", 0.1, "or unload others: even with 'quantization: int4' this one needs"),
    ],
)
def test_a_model_that_has_no_room_is_told_what_would_have(
    driver: Driver, free: float, hint: str,
    cache: ModelCache, folder: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    size = (folder / "model.safetensors").stat().st_size
    monkeypatch.setattr(memory, "available", lambda _: int(free * size))
    with pytest.raises(ModelError, match="of memory for its weights") as caught:
        done(cache.acquire(ModelSpec(str(folder), driver=driver)))
    assert caught.value.code == "out_of_memory"
    assert re.search(hint, caught.value.hint or "")


def changed(folder: Path, **config: Any) -> str:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **config}))
    return str(folder)


@pytest.mark.parametrize("driver", ["native", "huggingface"])
@pytest.mark.parametrize(
    ("architecture", "config"),
    [
        (
            "phi3",
            {"rope_parameters": {
                "rope_theta": 1e4, "rope_type": "default", "partial_rotary_factor": 4.0,
            }},
        ),
        ("mistral", {"sliding_window": -(10**6)}),
        ("mistral", {"sliding_window": 2**63}),
    ],
)  # fmt: skip
def test_a_config_that_leads_beyond_the_memory_is_refused(
    architecture: str, config: dict[str, Any], driver: Driver, cache: ModelCache, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "m", architecture)
    with pytest.raises(ModelError) as caught:
        spec = ModelSpec(changed(folder, **config), driver=driver)
        with done(cache.acquire(spec)) as lease:
            ask(lease, "A fox", max_output_length=40)
    codes = ("load_failed", "incomplete_model", "run_failed", "driver_unavailable")
    assert caught.value.code in codes


def test_a_head_of_its_own_is_taken_though_the_config_ties_it(
    cache: ModelCache, folder: Path
) -> None:
    """As transformers does where both are in the files."""
    changed(folder, tie_word_embeddings=True)
    texts = []
    for driver in ("native", "huggingface"):
        with done(cache.acquire(ModelSpec(str(folder), driver=driver))) as lease:
            texts.append(ask(lease, "A fox", do_sample=False, max_output_length=20).texts)
    assert texts[0] == texts[1]


def test_a_file_that_is_replaced_before_it_is_mapped_is_not_read(folder: Path) -> None:
    """Its header may be longer, and all would be read from other places."""
    spec = ModelSpec(str(folder))
    plan = native_loader.plan(spec, source.resolve(spec, lambda _: None))
    (folder / "model.safetensors").rename(folder / "old")
    tiny_models.make(seed=99).save_pretrained(folder)
    with pytest.raises(ModelError, match="were changed"):
        native_loader.load(plan, lambda _: None)
