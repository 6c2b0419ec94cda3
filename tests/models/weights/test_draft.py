"""A draft model beside a model, and what else a spec carries to the engine."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import LoadProgress, ModelCache, ModelSpec
from modelcompose_jupyter.models.memory import LoadSize
from modelcompose_jupyter.models.weights import loader, source, torch_loader
from modelcompose_jupyter.models.weights.torch_loader import TorchPlan

from ..conftest import done

FolderOf = Callable[[str], Path]


def _ignore(_: LoadProgress) -> None:
    pass


def plan_of(spec: ModelSpec) -> TorchPlan:
    return torch_loader.plan(spec, source.resolve(spec, _ignore), _ignore)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "small"
    return tiny_models.save(folder, seed=5, num_hidden_layers=1)


def test_it_is_loaded_beside_the_model(folder_of: FolderOf, small: Path) -> None:
    spec = ModelSpec(str(folder_of("llama")), precision="bfloat16", draft_model=str(small))
    plan = plan_of(spec)
    models: list[str] = []
    loaded = torch_loader.load(plan, lambda progress: models.append(progress.model))
    draft = loaded.draft
    assert draft is not None
    assert (draft.precision, draft.device) == ("bfloat16", loaded.device)
    assert draft.model.config.num_hidden_layers == 1
    alone = torch_loader.load(plan_of(ModelSpec(spec.source, precision="bfloat16")), _ignore)
    assert loaded.memory_bytes == alone.memory_bytes + draft.memory_bytes
    assert alone.draft is None
    assert plan.key != replace(plan, draft=None).key
    assert abs(plan.size.kept - loaded.memory_bytes) < 200
    assert list(dict.fromkeys(models)) == [spec.source, str(small)]


def test_the_draft_model_is_part_of_what_is_shared(
    cache: ModelCache, folder_of: FolderOf, small: Path
) -> None:
    folder = str(folder_of("llama"))
    specs = [ModelSpec(folder, draft_model=each) for each in (None, str(small), f"{small}/.")]
    assert [done(cache.acquire(spec)).info.id for spec in specs] == ["llama", "llama-2", "llama-2"]


def test_a_draft_model_that_changed_is_loaded_anew(
    cache: ModelCache, folder_of: FolderOf, tmp_path: Path
) -> None:
    draft = tiny_models.save(tmp_path / "draft", num_hidden_layers=1)
    spec = ModelSpec(str(folder_of("llama")), draft_model=str(draft))
    done(cache.acquire(spec)).release()
    tiny_models.save(draft, num_hidden_layers=1, seed=7)
    assert done(cache.acquire(spec)).info.id == "llama-2"


@pytest.mark.parametrize(
    ("draft", "code", "words"),
    [
        ("bundled:storyteller", "draft_mismatch", "vocabularies differ"),
        ("t5", "draft_mismatch", "encoder-decoder"),
        ("/no/such/folder", "model_not_found", "/no/such/folder"),
    ],
)
def test_what_cannot_draft(
    cache: ModelCache, folder_of: FolderOf, draft: str, code: str, words: str
) -> None:
    draft = str(folder_of(draft)) if draft == "t5" else draft
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(ModelSpec(str(folder_of("llama")), draft_model=draft)))
    assert (caught.value.code, words in caught.value.message) == (code, True)
    assert caught.value.hint


def test_a_padded_embedding_is_the_same_vocabulary(folder_of: FolderOf, tmp_path: Path) -> None:
    vocabulary = len(tiny_models.tokenizer())
    padded = tiny_models.make(num_hidden_layers=1)
    padded.resize_token_embeddings(vocabulary + 24)
    padded.save_pretrained(tmp_path / "padded")
    tiny_models.tokenizer().save_pretrained(tmp_path / "padded")
    spec = ModelSpec(str(folder_of("llama")), draft_model=str(tmp_path / "padded"))
    draft = torch_loader.load(plan_of(spec), _ignore).draft
    assert draft is not None and draft.model.config.vocab_size == vocabulary + 24


def test_what_two_models_take_one_after_the_other() -> None:
    assert LoadSize(10, 4).followed_by(LoadSize(3, 2)) == LoadSize(10, 6)
    assert LoadSize(10, 9).followed_by(LoadSize(5, 2)) == LoadSize(14, 11)


def test_what_makes_no_other_model(cache: ModelCache, folder_of: FolderOf) -> None:
    options: list[dict[str, Any]] = [{}, {"prompt_lookup": 8}, {"cache_budget": 10**9}]
    specs = [ModelSpec(str(folder_of("llama")), **each) for each in options]
    assert {done(cache.acquire(spec)).info.id for spec in specs} == {"llama"}


def test_a_spec_reaches_the_loaded_model(folder_of: FolderOf) -> None:
    spec = ModelSpec(str(folder_of("llama")), cache_budget=123)
    loaded = torch_loader.load(plan_of(spec), _ignore)
    assert loaded.cache_budget == 123


@pytest.mark.parametrize(("own", "budget"), [(None, 7_000_000), (9_000_000, 9_000_000)])
def test_the_caches_budget_is_that_of_models_without_one(
    cache: ModelCache,
    folder_of: FolderOf,
    monkeypatch: pytest.MonkeyPatch,
    own: int | None,
    budget: int,
) -> None:
    loaded = []
    load = loader.load
    monkeypatch.setattr(loader, "load", lambda *args: loaded.append(load(*args)) or loaded[-1])
    cache.cache_budget = 7_000_000
    done(cache.acquire(ModelSpec(str(folder_of("llama")), cache_budget=own))).release()
    assert [each.cache_budget for each in loaded] == [budget]
