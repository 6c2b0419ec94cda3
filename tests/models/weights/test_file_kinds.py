"""What a folder, a file or a repository is where it is no model that generates text."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from standins.hub import HubStandIn

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.spec import AdapterSpec

from .conftest import WEIGHTS, FolderOf, Spoil, change, failure, name_of, spoiled


def _mlx(folder: Path) -> None:
    change(folder, quantization={"group_size": 64, "bits": 4})


def _mlx_new(folder: Path) -> None:
    packed = {"group_size": 64, "bits": 4}
    change(folder, quantization=packed, quantization_config=packed)


def _only(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")

    spoil.__name__ = f"_only_{names[0]}"
    return spoil


def _without_all(*names: str) -> Spoil:
    def spoil(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")

    spoil.__name__ = f"_all_{names[0]}"
    return spoil


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}


def _adapter(folder: Path) -> None:
    _without_all("adapter_model.safetensors", "tokenizer.json")(folder)
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))


def _adapter_with_config(folder: Path) -> None:
    (folder / WEIGHTS).replace(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))


def _adapter_of_nothing(folder: Path) -> None:
    _without_all("adapter_config.json", "adapter_model.safetensors")(folder)


def _adapter_beside(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))


def _inside(folder: Path) -> None:
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for path, data in whole.items():
        path.unlink()
        (folder / "checkpoint-5").mkdir(exist_ok=True)
        (folder / "checkpoint-5" / path.name).write_bytes(data)


def _embedder(folder: Path) -> None:
    (folder / "modules.json").write_text("[]")
    (folder / "config_sentence_transformers.json").write_text("{}")


def _whisper(folder: Path) -> None:
    change(folder, model_type="whisper", architectures=["WhisperForConditionalGeneration"],
           is_encoder_decoder=True)  # fmt: skip


def _reranker(folder: Path) -> None:
    change(folder, architectures=["LlamaForSequenceClassification"])


def _blip(folder: Path) -> None:
    (folder / "config.json").write_text(
        json.dumps({"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]})
    )


def _bert(folder: Path) -> None:
    change(folder, model_type="bert", architectures=["BertForMaskedLM"])


def _vision(folder: Path) -> None:
    change(folder, model_type="vit", architectures=["ViTForImageClassification"])


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_bert, "not_text_generation", "BertForMaskedLM"),
        (_vision, "not_text_generation", "ViT"),
        (_mlx, "unsupported_format", "is an MLX model"),
        (_mlx_new, "unsupported_format", "is an MLX model"),
        (_only("x-Q4_K_M.gguf"), "unsupported_format", "has only GGUF files"),
        (_only("onnx/model.onnx"), "unsupported_format", "has only ONNX files"),
        (_only("tf_model.h5", "flax_model.msgpack"), "unsupported_format", "Flax and TensorFlow"),
        (_only("model.ckpt"), "unsupported_format", "checkpoint"),
        (_only("consolidated.00.pth", "training_args.bin"), "unsupported_format", ".00.pth"),
        (_only("openvino_model.bin", "openvino_model.xml"), "unsupported_format", "OpenVINO"),
        (_only("training_args.bin"), "incomplete_model", "no weights"),
        (_without_all("x.gguf"), "unsupported_format", "has only GGUF files"),
        (_without_all("model_index.json", "unet/config.json"), "not_text_generation", "images"),
        (_without_all("README.md", "data/train.parquet"), "not_a_model", "is a data set"),
        (_without_all("README.md"), "incomplete_model", "config.json"),
        (_embedder, "not_text_generation", "embeddings"),
        (_adapter, "not_a_model", "is a LoRA adapter for owner/base"),
        (_adapter_with_config, "not_a_model", "put it under peft_adapters"),
        (_adapter_of_nothing, "not_a_model", "adapter: put it under peft_adapters of its model"),
        (_adapter_beside, "not_a_model", "an adapter beside the weights of a whole model"),
        (_inside, "incomplete_model", "checkpoint-5"),
        (_whisper, "not_text_generation", "WhisperForConditionalGeneration"),
        (_reranker, "not_text_generation", "LlamaForSequenceClassification"),
        (_blip, "not_text_generation", "it reads images, which is not supported"),
    ],
    ids=name_of,
)  # fmt: skip
def test_folders_of_other_kinds(
    spoil: Spoil, code: str, words: str, folder: Path, cache: ModelCache
) -> None:
    spoiled(spoil, (code, words), cache, folder)


@pytest.mark.parametrize(
    ("spoil", "hint"),
    [(_adapter, "Write model: owner/base"), (_only("x.gguf"), "/x.gguf, say. There is: x.gguf.")],
    ids=name_of,
)
def test_what_to_take_instead_is_said(
    spoil: Spoil, hint: str, folder: Path, cache: ModelCache
) -> None:
    spoil(folder)
    assert hint in (failure(cache, folder).hint or "")


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("x.ckpt", "is a file; a model is a folder. checkpoint files are not supported", "safet"),
        ("model.safetensors", "is a file; a model is a folder", "config.json"),
        ("pytorch_model.bin", "is a file", "config.json"),
        ("x.pt", "is a file", "config.json"),
        ("x.onnx", "ONNX files are not supported", "model.safetensors"),
        ("model.zip", "is a file", "Unpack"),
        ("model.tar.gz", "is a file", "Unpack"),
        ("MODEL.ONNX", "ONNX", "model.safetensors"),
        ("noextension", "is a file", "config.json"),
    ],
)
def test_a_path_that_is_a_file(
    name: str, words: str, hint: str, tmp_path: Path, cache: ModelCache
) -> None:
    (tmp_path / name).write_text("x")
    error = failure(cache, ModelSpec(str(tmp_path / name)))
    assert (error.code, words in error.message, hint in (error.hint or "")) == (
        "not_a_folder", True, True,
    )  # fmt: skip
    spec = ModelSpec(
        "bundled:storyteller", adapters=(AdapterSpec(ModelSpec(str(tmp_path / name))),)
    )
    assert failure(cache, spec).code == "not_a_folder"


def test_the_file_of_a_whole_folder(folder_of: FolderOf, cache: ModelCache) -> None:
    folder = folder_of("llama")
    error = failure(cache, ModelSpec(str(folder / WEIGHTS)))
    assert str(folder) in (error.hint or "")


@pytest.mark.parametrize("path", ["~no-such-user/x", "/a\0b", "./" + "n" * 300, "/dev/null/x"])
def test_paths_that_are_none(path: str, cache: ModelCache) -> None:
    assert failure(cache, ModelSpec(path)).code in ("model_not_found", "not_readable")
    spec = ModelSpec("bundled:storyteller", adapters=(AdapterSpec(ModelSpec(path)),))
    assert failure(cache, spec).code in ("model_not_found", "not_readable")


def test_repositories_of_other_kinds(repo: HubStandIn, cache: ModelCache) -> None:
    adapter = json.dumps(ADAPTER).encode()
    config = b'{"model_type": "llama"}'
    kinds: dict[str, tuple[dict[str, bytes], str]] = {
        "me/lora": ({"adapter_config.json": adapter, "adapter_model.safetensors": b"x"},
                    "is a LoRA adapter for owner/base: put it under peft_adapters"),
        "me/lora2": ({"adapter_config.json": adapter, "adapter_model.bin": b"x",
                      "config.json": config}, "is a LoRA adapter for owner/base"),
        "me/lora3": ({"adapter_config.json": b"{", "adapter_model.bin": b"x"}, "a LoRA adapter"),
        "me/gguf": ({"x.gguf": b"x", "README.md": b""}, "has only GGUF files"),
        "me/gguf2": ({"x.gguf": b"x", "config.json": config}, "has only GGUF files"),
        "me/onnx": ({"onnx/model.onnx": b"x", "config.json": config}, "has only ONNX files"),
        "me/tf": ({"tf_model.h5": b"x", "config.json": config}, "has only TensorFlow files"),
        "me/sd": ({"model_index.json": b"{}", "unet/config.json": config}, "makes images"),
        "me/st": ({"modules.json": b"[]", "config_sentence_transformers.json": b"{}",
                   "config.json": config, WEIGHTS: b"x"}, "embeddings"),
        "me/data": ({"data/train-00000.parquet": b"x"}, "is a data set"),
        "me/sub": ({"base/config.json": config, "base/model.safetensors": b"x"}, "base"),
    }  # fmt: skip
    for name, (content, words) in kinds.items():
        repo.add(name, None, content)
        assert words in failure(cache, ModelSpec(name)).message
