"""The files that a model needs: what is said of those that are missing or damaged."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from modelcompose_jupyter.models import ModelCache

from ..conftest import without_privileges
from .conftest import POINTER, WEIGHTS, Spoil, failure, name_of, spoiled


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "lla')


def _marked_config(folder: Path) -> None:
    _mark(folder / "config.json")


def _marked_settings(folder: Path) -> None:
    _mark(folder / "generation_config.json")


def _marked_tokenizer(folder: Path) -> None:
    _mark(folder / "tokenizer_config.json")


def _mark(path: Path) -> None:
    path.write_text(path.read_text(), encoding="utf-16" if "token" in path.name else "utf-8-sig")


def _config_in_utf_16(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text(), encoding="utf-16-le")


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def _short_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def _broken_header(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:8] + b"?" * 50 + data[58:])


def _empty_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def _pointer(name: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(POINTER)

    spoil.__name__ = f"_pointer_{name}"
    return spoil


def _pickled_pointer(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_text(POINTER)


def _pointer_index(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(POINTER)


def _pointer_shard(folder: Path) -> None:
    index = {"weight_map": {"x": "model-00001-of-00002.safetensors", "y": "odd.safetensors"}}
    (folder / WEIGHTS).replace(folder / "model-00001-of-00002.safetensors")
    (folder / "odd.safetensors").write_text(POINTER)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_without_config, "incomplete_model", "config.json"),
        (_without_weights, "incomplete_model", "no weights"),
        (_without_tokenizer, "incomplete_model", "no tokenizer"),
        (_broken_config, "corrupt_model", "JSON"),
        (_marked_config, "corrupt_model", "config.json begins with a byte order mark"),
        (_marked_settings, "corrupt_model", "config.json begins with a byte order mark"),
        (_marked_tokenizer, "corrupt_model", "config.json begins with a byte order mark"),
        (_config_in_utf_16, "corrupt_model", "it is UTF-16 without a byte order mark"),
        (_broken_tokenizer, "corrupt_model", "tokenizer"),
        (_short_weights, "corrupt_model", "bytes"),
        (_broken_header, "corrupt_model", "header"),
        (_empty_weights, "corrupt_model", "header"),
        *((_pointer(name), "corrupt_model", f"the content of {name} was not fetched")
          for name in (WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json",
                       "generation_config.json", "chat_template.jinja", "tokenizer.model")),
        (_pickled_pointer, "corrupt_model", "pytorch_model.bin was not fetched"),
        (_pointer_index, "corrupt_model", "index.json was not fetched"),
        (_pointer_shard, "corrupt_model", "odd.safetensors was not fetched"),
    ],
    ids=name_of,
)  # fmt: skip
def test_files_that_are_missing_or_damaged(
    spoil: Spoil, code: str, words: str, folder: Path, cache: ModelCache
) -> None:
    spoiled(spoil, (code, words), cache, folder)


def test_how_a_pointer_is_fetched_is_said(folder: Path, cache: ModelCache) -> None:
    _pointer(WEIGHTS)(folder)
    assert f"Run: git lfs pull, in {folder}" in (failure(cache, folder).hint or "")


def test_a_folder_that_may_not_be_read(folder: Path, cache: ModelCache) -> None:
    for path in (folder, folder / WEIGHTS, folder / "tokenizer.json", folder / "config.json"):
        before = path.stat().st_mode
        path.chmod(0)
        with without_privileges():
            error = failure(cache, folder)
        path.chmod(before)
        assert (error.code, "permission denied" in error.message) == ("not_readable", True), path


@pytest.mark.parametrize(
    "shard",
    [
        "../m/model.safetensors",
        "/etc/passwd",
        "..",
        ".",
        "",
        "a\\b",
        "a:b",
        "a" * 300,
        5,
        None,
        ["x"],
        "a\n",
    ],
)
def test_shards_are_files_beside_their_index(shard: Any, folder: Path, cache: ModelCache) -> None:
    (folder / WEIGHTS).rename(folder / "other.safetensors")
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps({"weight_map": {"x": shard}}))
    assert index.name in failure(cache, folder).message


@pytest.mark.parametrize("content", [[], 5, None, {}, {"weight_map": []}, {"weight_map": "abc"}])
def test_an_index_of_another_form(content: Any, folder: Path, cache: ModelCache) -> None:
    (folder / WEIGHTS).unlink()
    index = folder / f"{WEIGHTS}.index.json"
    index.write_text(json.dumps(content))
    assert index.name in failure(cache, folder).message
