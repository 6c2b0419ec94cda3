"""Tokenizers of transformers that are kept for processes without it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers
from transformers import AutoTokenizer, GPT2Tokenizer, LlamaTokenizer, Qwen2Tokenizer

from modelcompose_jupyter.models import disk_cache
from modelcompose_jupyter.models.tokenization.fast_tokenizer import FastTokenizer
from modelcompose_jupyter.models.weights import tokenizer_snapshot

TEXTS = ["Once upon a time", "  옛날 🦊 \n", "<s>x</s>", "don't, you?", "Ａß", ""]


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder in which things are kept: an empty one."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path / "cache" / "modelcompose"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Of a model whose tokenizer transformers makes by rules of its own."""
    return made(tmp_path / "m", "GPT2Tokenizer")


def made(folder: Path, kind: str) -> Path:
    tiny_models.save(folder)
    path = folder / "tokenizer_config.json"
    found = {**json.loads(path.read_text()), "tokenizer_class": kind}
    path.write_text(json.dumps(found))
    return folder


@pytest.mark.parametrize("kind", [GPT2Tokenizer, Qwen2Tokenizer, LlamaTokenizer])
def test_what_is_kept_gives_the_same(kind: Any, tmp_path: Path) -> None:
    folder = made(tmp_path / "m", kind.__name__)
    whole = AutoTokenizer.from_pretrained(folder)
    assert type(whole).__name__ in (kind.__name__, "TokenizersBackend")
    assert tokenizer_snapshot.find(folder) is None
    tokenizer_snapshot.keep(folder, whole)
    fast = tokenizer_snapshot.find(folder)
    assert isinstance(fast, FastTokenizer)
    for text in TEXTS:
        tokens = whole(text)["input_ids"]
        assert fast(text)["input_ids"] == tokens
        assert fast.decode(tokens) == whole.decode(tokens)
    assert fast.all_special_ids == whole.all_special_ids


def test_it_is_another_one_for_other_files(folder: Path) -> None:
    tokenizer_snapshot.keep(folder, AutoTokenizer.from_pretrained(folder))
    assert tokenizer_snapshot.find(folder) is not None
    (folder / "generation_config.json").write_text("{}")  # of the same files, which are all read
    assert tokenizer_snapshot.find(folder) is None


def test_it_is_another_one_for_other_versions(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer_snapshot.keep(folder, AutoTokenizer.from_pretrained(folder))
    monkeypatch.setattr(tokenizer_snapshot, "version", lambda library: "99.0")
    assert tokenizer_snapshot.find(folder) is None


def test_what_has_code_of_its_own_is_not_kept(folder: Path, cache: Path) -> None:
    class Own(GPT2Tokenizer):
        pass

    tokenizer_snapshot.keep(folder, Own.from_pretrained(folder))
    assert not list(cache.glob("tokenizer-*"))


def test_what_would_differ_is_not_kept(folder: Path, cache: Path) -> None:
    whole = AutoTokenizer.from_pretrained(folder)
    plain = whole.decode
    whole.decode = lambda ids, **options: plain(ids, **options).upper()
    tokenizer_snapshot.keep(folder, whole)
    assert not list(cache.glob("tokenizer-*"))


def test_one_that_is_damaged_is_made_anew(folder: Path, cache: Path) -> None:
    tokenizer_snapshot.keep(folder, AutoTokenizer.from_pretrained(folder))
    (kept,) = cache.glob("tokenizer-*")
    kept.write_bytes(b"{}")
    assert tokenizer_snapshot.find(folder) is None


def test_only_so_many_stay(cache: Path) -> None:
    for number in range(5):
        disk_cache.keep(f"some-{number}", b"x", 3)
        disk_cache.find("some-0")
    disk_cache.keep("other-0", b"y", 3)
    assert disk_cache.find("some-4") == b"x"
    assert len(list(cache.glob("some-*"))) == 3
    assert disk_cache.find("other-0") == b"y"


def test_the_second_process_does_without_transformers(folder: Path) -> None:
    code = """
import sys
from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.models import ModelCache, ModelSpec
with ModelCache().acquire(ModelSpec(sys.argv[1])).result() as lease:
    asked = GenerationParameters(max_output_length=9, seed=1)
    print(ascii(lease.generate("A fox", asked).future.result().texts), "torch" in sys.modules)
"""
    command = [sys.executable, "-c", code, str(folder)]
    texts = [
        subprocess.run(command, capture_output=True, text=True, check=True).stdout.rsplit(" ", 1)
        for _ in range(2)
    ]
    assert texts[0][0] == texts[1][0]
    assert [each[1] for each in texts] == ["True\n", "False\n"]


def test_a_sentencepiece_kind_of_vocabulary(tmp_path: Path) -> None:
    """Whose decoder joins bytes, and puts a blank before each text."""
    pieces = [("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0)]
    pieces += [(f"<0x{byte:02X}>", 0.0) for byte in range(256)]
    pieces += [(piece, -float(place)) for place, piece in enumerate(["▁", "▁a", "▁fox", "o", "f"])]
    raw = Tokenizer(models.BPE({piece: id for id, (piece, _) in enumerate(pieces)}, [],
                               byte_fallback=True, unk_token="<unk>"))  # fmt: skip
    raw.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    raw.pre_tokenizer = pre_tokenizers.Metaspace()
    raw.decoder = decoders.Sequence([decoders.ByteFallback(), decoders.Fuse()])
    folder = tmp_path / "m"
    tiny_models.save(folder)
    raw.save(str(folder / "tokenizer.json"))
    settings = {"tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>",
                "unk_token": "<unk>"}  # fmt: skip
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    whole = AutoTokenizer.from_pretrained(folder)
    tokenizer_snapshot.keep(folder, whole)
    fast = tokenizer_snapshot.find(folder)
    assert fast is not None
    for text in TEXTS:
        assert fast(text)["input_ids"] == whole(text)["input_ids"]
