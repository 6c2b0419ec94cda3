"""Which libraries a model needs beside those that this package installs."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from modelcompose_jupyter.models import ModelCache, ModelSpec

from .conftest import Spoil, change, failure, name_of, spoiled


@pytest.fixture(autouse=True)
def without_tiktoken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """It is not to be found, though something else may have brought it; nor is what was read with
    it before."""
    from transformers.utils.import_utils import is_tiktoken_available

    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    for name in ("tiktoken", "tiktoken.load"):
        monkeypatch.setitem(sys.modules, name, None)
    is_tiktoken_available.cache_clear()
    yield
    monkeypatch.undo()
    is_tiktoken_available.cache_clear()


def _flash_attention(folder: Path) -> None:
    change(folder, attn_implementation="flash_attention_2")


def _quantised(method: str, **options: Any) -> Spoil:
    def spoil(folder: Path) -> None:
        change(folder, quantization_config={"quant_method": method, "bits": 4, **options})

    spoil.__name__ = f"_quantised_{method}"
    return spoil


def _sentencepiece(name: str, kind: str, data: bytes) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / name).write_bytes(data)
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": kind}))

    spoil.__name__ = f"_tokenizer_{name}"
    return spoil


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_flash_attention, "not_installed", "library flash-attn"),
        (_quantised("gptq"), "not_installed", "needs the libraries gptqmodel and optimum"),
        (_quantised("awq"), "not_installed", "needs the library gptqmodel"),
        (_quantised("bitsandbytes", load_in_4bit=True), "not_installed", "library bitsandbytes"),
        (_quantised("compressed-tensors"), "not_installed", "library compressed-tensors"),
        (_quantised("hqq", quant_config={}), "not_installed", "library hqq"),
        (_quantised("eetq"), "not_installed", "library kernels"),
        (_quantised("quanto", weights="int8"), "not_installed", "library optimum-quanto"),
        (_quantised("aqlm"), "not_installed", "library aqlm"),
        (_quantised("auto-round"), "not_installed", "library auto-round"),
        (_quantised("nvfp4"), "unsupported_format", "nvfp4"),
        (_quantised("not_yet_invented"), "unsupported_format", "does not know"),
        (_quantised(""), "unsupported_format", "does not say how"),
        (_sentencepiece("tokenizer.model", "LlamaTokenizer", b"\x0a\x0e\x0a\x05<unk>"),
         "not_installed", "sentencepiece"),  # and protobuf, which others bring
        (_sentencepiece("qwen.tiktoken", "PreTrainedTokenizerFast", b"IQ== 0\n"),
         "not_installed", "needs the library tiktoken"),
        (_sentencepiece("tokenizer.model", "PreTrainedTokenizerFast", b"IQ== 0\nIg== 1\n"),
         "not_installed", "needs the library tiktoken"),
        (_sentencepiece("tekken.json", "LlamaTokenizer", b"{}"),
         "not_installed", "needs the library mistral-common"),
        (_sentencepiece("source.spm", "MarianTokenizer", b"\x0a"),
         "not_installed", "sentencepiece"),
    ],
    ids=name_of,
)  # fmt: skip
def test_libraries_that_are_not_installed(
    spoil: Spoil, code: str, words: str, folder: Path, cache: ModelCache
) -> None:
    spoiled(spoil, (code, words), cache, folder)


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [
        (_quantised("gptq"), "pip install gptqmodel optimum. Or: Take the repository"),
        (_sentencepiece("tokenizer.model", "LlamaTokenizer", b"\x0a"), "pip install sentencepiece"),
    ],
    ids=name_of,
)
def test_how_to_install_them_is_said(
    spoil: Spoil, hint: str, folder: Path, cache: ModelCache
) -> None:
    spoil(folder)
    assert hint in (failure(cache, folder).hint or "")


def test_libraries_of_own_code(folder: Path, cache: ModelCache) -> None:
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto_map)
    spec = ModelSpec(str(folder), trust_remote_code=True)
    (folder / "own.py").write_text("import einops\nimport flash_attn\n")
    error = failure(cache, spec)
    assert error.code == "not_installed"
    assert "einops" in (error.hint or "")
    assert "flash" in (error.hint or "")


@pytest.mark.parametrize("missing", ["torch", "transformers", "huggingface_hub"])
def test_a_library_that_is_not_installed(missing: str, tmp_path: Path) -> None:
    asked = (
        "'me/model'"
        if missing == "huggingface_hub"
        else "'bundled:storyteller', driver='huggingface'"
    )
    code = f"""
import sys
sys.modules[{missing!r}] = None
from modelcompose_jupyter.models import ModelCache, ModelSpec
error = ModelCache().acquire(ModelSpec({asked})).exception(60)
print(error.code, '|', error)
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert output.stdout.startswith(f"not_installed | {missing} is not installed")
    assert "pip install" in output.stdout
