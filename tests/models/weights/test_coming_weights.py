"""A model that has no room is refused before its weights are downloaded."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec, memory
from modelcompose_jupyter.models.weights import coming_weights

from ..conftest import done
from .conftest import REPO, WEIGHTS, FolderOf, failure

Free = Callable[[float], int]


@pytest.fixture
def free(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> Free:
    """Leaves so many times the size of the weights free of memory."""
    size = (folder_of("smollm3") / WEIGHTS).stat().st_size

    def free(share: float) -> int:
        monkeypatch.setattr(memory, "available", lambda _: int(share * size))
        return size

    return free


def words(error: ModelError) -> tuple[str, str, str | None]:
    return error.code, error.message, error.hint


@pytest.mark.parametrize(
    ("options", "share"),
    [
        ({}, 0.9),
        ({}, 0.01),
        ({"driver": "huggingface"}, 0.9),
        ({"quantization": "int4"}, 0.05),
        ({"quantization": "auto"}, 0.05),
        ({"quantization": "int8", "driver": "huggingface"}, 0.05),
    ],
)
def test_it_says_what_is_said_of_a_folder_and_fetches_no_weights(
    options: dict[str, Any], share: float, repo: HubStandIn, free: Free,
    folder_of: FolderOf, cache: ModelCache, root: Path,
) -> None:  # fmt: skip
    size = free(share)
    error = failure(cache, ModelSpec(REPO, **options))
    folder = str(folder_of("smollm3"))
    wanted = failure(cache, ModelSpec(folder, **options))
    assert words(error) == (wanted.code, wanted.message.replace(folder, REPO), wanted.hint)
    assert error.code == "out_of_memory"
    kept = sum(path.stat().st_size for path in (root / "blobs").iterdir())
    assert kept < size
    assert list(root.rglob(WEIGHTS)) == []


def test_with_room_for_fewer_bits_it_is_downloaded(
    repo: HubStandIn, free: Free, cache: ModelCache
) -> None:
    """The same model, refused as it is, fits in 4 bits by itself where that is left to us."""
    free(0.9)
    assert failure(cache, ModelSpec(REPO)).code == "out_of_memory"
    with done(cache.acquire(ModelSpec(REPO, quantization="auto"))) as lease:
        assert lease.info.precision in ("int8", "int4")


def test_with_enough_room_nothing_is_asked_before(repo: HubStandIn, cache: ModelCache) -> None:
    done(cache.acquire(ModelSpec(REPO)))
    assert repo.ranges(WEIGHTS) == [None]


def test_what_is_near_is_looked_at_and_downloaded_whole(
    repo: HubStandIn, free: Free, folder_of: FolderOf, cache: ModelCache, root: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(coming_weights, "_FIRST", 100)  # less than the header
    free(2.5)
    done(cache.acquire(ModelSpec(REPO))).release()
    first, rest, whole = repo.ranges(WEIGHTS)
    assert (first, whole) == ("bytes=0-99", None)
    assert rest is not None and rest.startswith("bytes=100-")
    (path,) = root.rglob(WEIGHTS)
    assert path.read_bytes() == (folder_of("smollm3") / WEIGHTS).read_bytes()


@pytest.mark.parametrize(
    "answer", [Answer(500), Answer.page(), Answer(200, body=b"x" * 200)], ids=["500", "page", "x"]
)
def test_where_the_size_cannot_be_known_the_load_decides(
    answer: Answer, repo: HubStandIn, free: Free, cache: ModelCache
) -> None:
    free(0.9)
    repo.statuses[f"/{WEIGHTS}"] = [answer]
    assert failure(cache, ModelSpec(REPO)).code == "out_of_memory"
    assert repo.ranges(WEIGHTS)[-1] is None  # it was downloaded


def test_a_file_in_gguf_counts_as_it_is(
    standin: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = b"GGUF" + bytes(5000)
    standin.add("me/gguf", None, {"m-Q4_0.gguf": content})
    monkeypatch.setattr(memory, "available", lambda _: 4000)
    error = failure(cache, ModelSpec("me/gguf/m-Q4_0.gguf"))
    assert words(error) == (
        "out_of_memory",
        "me/gguf/m-Q4_0.gguf needs 5.0 kB of memory for its weights, 4.0 kB are free on cpu",
        "Take a smaller model, or unload others.",
    )
    assert standin.ranges("m-Q4_0.gguf") == []


def test_nothing_stays_of_what_was_looked_at(
    repo: HubStandIn, free: Free, cache: ModelCache, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    free(0.5)
    failure(cache, ModelSpec(REPO))
    assert list((tmp_path / "temporary").iterdir()) == []
    shutil.rmtree(tmp_path / "temporary")
