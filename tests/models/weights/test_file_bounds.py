"""Files of JSON, templates and what else libraries read: bounded before they are read."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache
from modelcompose_jupyter.models.weights import file_bounds, files

from ..conftest import peak
from .conftest import CONFIG, failure

MIB = 1 << 20
NOT_READ = {
    "size": b'{"a": "' + b"x" * file_bounds.SETTINGS.size + b'"}',
    "values": b'{"a": [' + b"[]," * file_bounds.SETTINGS.values + b"[]]}",
    "depth": b'{"a": ' + b"[" * 101 + b"]" * 101 + b"}",
    "great depth": b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "digits": b'{"a": ' + b"9" * 5000 + b"}",
    "digits of a fraction": b'{"a": 0.' + b"9" * 5000 + b"}",
    "half a character": rb'{"a": "\ud83d"}',
    "the other half": rb'{"a": "x\ude00"}',
}


@pytest.mark.parametrize("content", NOT_READ.values(), ids=NOT_READ)
def test_json_beyond_its_bounds_is_not_built(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / CONFIG
    path.write_bytes(content)

    def read() -> None:
        with pytest.raises(ModelError, match=CONFIG):
            files.read_json(path)

    assert peak(read) < 4 * len(content) + MIB


def test_json_within_its_bounds_is_read(tmp_path: Path) -> None:
    """What looks like more than it is: brackets and digits in texts, escapes, halves that meet."""
    content = {
        "text": '[{"' * 500 + "\\\\" * 500 + "9" * 5000,
        "emoji": "\U0001f98a",
        "escape": r"\ud83d",
        "no end": float("inf"),
        "long": 10**30,
        "deep": json.loads("[" * 90 + "]" * 90),
    }
    path = tmp_path / CONFIG
    path.write_text(json.dumps(content))
    assert files.read_json(path) == content
    path.write_text(json.dumps(content, ensure_ascii=False), encoding="utf-16")
    assert files.read_json(path) == content


def test_what_is_no_file_is_not_waited_for(folder: Path, cache: ModelCache) -> None:
    for name in (CONFIG, "tokenizer.json", "chat_template.jinja", "model.safetensors"):
        path = folder / name
        before = path.read_bytes() if path.is_file() else None
        path.unlink(missing_ok=True)
        os.mkfifo(path)
        error = failure(cache, folder)
        assert error.code in ("corrupt_model", "incomplete_model")
        assert name in error.message
        path.unlink()
        if before is not None:
            path.write_bytes(before)


BIG_FILES = {
    "tokenizer.json": b'{"a": [' + b"[]," * file_bounds.TOKENIZER.values + b"[]]}",
    "tokenizer.99.0.0.json": b"[" * 101 + b"]" * 101,
    "tokenizer_config.json": b'{"a": ' + b"9" * 200 + b"}",
    "special_tokens_map.json": b"[" * 101,
    "added_tokens.json": b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}",
    "vocab.json": b'{"a": ' + b"9" * 200 + b"}",
    "generation_config.json": b'{"stop_strings": ['
    + b'"a",' * file_bounds.SETTINGS.values
    + b'"a"]}',
    "chat_template.jinja": b"x" * (file_bounds.TEMPLATE.size + 1),
}


@pytest.mark.parametrize("name", BIG_FILES)
def test_files_that_libraries_read_are_looked_at_first(
    name: str, folder: Path, cache: ModelCache
) -> None:
    (folder / name).write_bytes(BIG_FILES[name])
    error = failure(cache, folder)
    assert (error.code, name in error.message) == ("corrupt_model", True)
