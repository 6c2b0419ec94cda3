"""Fixtures: a stand-in for the Hub with a model, and the folder of a model to spoil."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import hub

from ..conftest import done

REPO = "HuggingFaceTB/SmolLM3-3B"
CONFIG = "config.json"
WEIGHTS = "model.safetensors"
SECRET = "hf_secret"
POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"
FolderOf = Callable[[str], Path]
Spoil = Callable[[Path], None]


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setattr(hub, "RETRY_WAITS", (0.0, 0.0))
    with HubStandIn() as standin, standin.client(tmp_path / "cache"):
        yield standin


@pytest.fixture
def repo(standin: HubStandIn, folder_of: FolderOf) -> HubStandIn:
    """The Hub with a model that has files which are not needed, too."""
    extra = {
        "README.md": b"# a model",
        "model.fp16.safetensors": b"x" * 5000,
        "pytorch_model.bin": b"x" * 5000,
        "tf_model.h5": b"x" * 5000,
        "modeling_own.py": b"print('must not run')",
        "training_args.bin": b"x",
        "trainer_state.json": b"{}",
    }
    standin.add(REPO, folder_of("smollm3"), extra, revisions={"v1"})
    return standin


@pytest.fixture
def folder(folder_of: FolderOf, tmp_path: Path) -> Path:
    """A model's folder of its own, to spoil."""
    return Path(shutil.copytree(folder_of("llama"), tmp_path / "m"))


def change(folder: Path, name: str = CONFIG, **values: Any) -> None:
    """Write other values into one of a folder's files of settings."""
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def failure(cache: ModelCache, source: ModelSpec | Path) -> ModelError:
    """What is said where a model cannot be loaded: in a line, with a hint."""
    spec = ModelSpec(str(source)) if isinstance(source, Path) else source
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(spec))
    assert caught.value.__context__ is None
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def refused(repo: HubStandIn, cache: ModelCache, **answers: list[int | Answer]) -> ModelError:
    """The error of a repository whose listing (``info``) or weights are answered so."""
    endings = {"info": REPO, "weights": f"/{WEIGHTS}", "config": f"/{CONFIG}"}
    repo.statuses = {endings[name]: list(given) for name, given in answers.items()}
    error = failure(cache, ModelSpec(REPO, token=SECRET))
    assert SECRET not in str(error)
    return error


def spoiled(spoil: Spoil, expected: tuple[str, str], cache: ModelCache, folder: Path) -> ModelError:
    """What is said of a spoiled folder: an error with the code and the words expected."""
    spoil(folder)
    error = failure(cache, folder)
    assert (error.code, expected[1] in error.message) == (expected[0], True), error
    return error


def name_of(spoil: object) -> str:
    """The id of a case: what is spoiled."""
    return getattr(spoil, "__name__", "").removeprefix("_")


def cache_root() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


@pytest.fixture
def root(repo: HubStandIn) -> Path:
    """The folder of the model in the cache on disk, which is there once it is fetched."""
    return cache_root() / "models--HuggingFaceTB--SmolLM3-3B"


def loading() -> bool:
    """Whether a thread fetches or loads the model of ``repo``."""
    return any(thread.name == "model SmolLM3-3B" for thread in threading.enumerate())
