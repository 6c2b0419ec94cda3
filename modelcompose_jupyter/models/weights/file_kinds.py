"""What a folder or repository is that is no model for transformers, by the names of its files."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from pathlib import Path, PurePosixPath
from typing import Any

from ...errors import ComposeError, ModelError, did_you_mean
from .gguf_names import models_among

_CONFIG = "config.json"
_ADAPTER = "adapter_config.json"
_OF_TRANSFORMERS = ("model.safetensors", "pytorch_model.bin", ".index.json")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth")
_OF_TRAINING = ("training_args.bin", "optimizer.", "scheduler.", "rng_state", "scaler.")
_FORMATS = {
    ".gguf": "GGUF",
    ".ggml": "GGML",
    ".onnx": "ONNX",
    ".h5": "TensorFlow",
    ".ckpt": "checkpoint",
    ".index": "TensorFlow",
    ".msgpack": "Flax",
    ".ot": "Rust",
    ".tflite": "TensorFlow Lite",
    ".mlmodel": "Core ML",
    ".mlpackage": "Core ML",
    ".nemo": "NeMo",
    ".llamafile": "llamafile",
    ".engine": "TensorRT",
}
"""Of weights, by how their files' names end."""
_ARCHIVES = (".zip", ".tar", ".gz", ".tgz", ".xz", ".bz2", ".zst", ".7z", ".rar")
_DATA = (".parquet", ".arrow", ".csv", ".jsonl", ".tsv")
_TRANSFORMERS = "Take the repository that has model.safetensors beside config.json."
_MOST_SHOWN = 20
_DEEPEST = 3
_MOST_NAMES = 2000


def names_of(folder: Path) -> list[str]:
    """The files of a folder and of those in it, as a repository would list them."""
    names: list[str] = []
    for parent, folders, found in os.walk(folder):
        depth = Path(parent).relative_to(folder)
        if len(names) > _MOST_NAMES:
            break
        if len(depth.parts) >= _DEEPEST:
            folders.clear()
        folders[:] = sorted(each for each in folders if not each.startswith("."))
        names += [(depth / name).as_posix() for name in sorted(found)]
        # A package of Core ML is a folder.
        names += [(depth / each).as_posix() for each in folders if each.endswith(".mlpackage")]
    return names


def is_embedder(names: Collection[str]) -> bool:
    """Whether these are the files of sentence-transformers: it gives embeddings, not text."""
    return {"modules.json", "config_sentence_transformers.json"} <= set(names)


def other_than_model(
    what: str, source: str, names: Collection[str], read: Callable[[str], Any]
) -> ModelError | None:
    """The error for files that are something else; None where they are merely not whole.

    Args:
        what: the folder or repository, as the message calls it.
        source: as a document does.
        names: of its files, with the folders in it.
        read: gives the content of one of its JSON files.
    """
    if _ADAPTER in names:
        return _adapter(what, read)
    if is_embedder(names):
        return _no_text(f"{what} is a sentence-transformers model, which gives embeddings")
    if "model_index.json" in names:
        return _no_text(f"{what} is a diffusers model, which makes images")
    inner = [str(PurePosixPath(name).parent) for name in names if name.endswith(f"/{_CONFIG}")]
    if inner and _CONFIG not in names:
        shown = ", ".join(inner[:3]) + (", …" if len(inner) > 3 else "")
        return ModelError(
            f"{what} is not a model: models are in folders in it ({shown})",
            hint="Give the path of one of them.",
            code="incomplete_model",
        )
    roots = [name for name in names if "/" not in name]
    if any(name.endswith(_OF_TRANSFORMERS) for name in roots):
        return None
    if models := models_among(names):
        return _which_gguf(what, source, models)
    if formats := _formats(names):
        return _unsupported(f"{what} has only {' and '.join(formats)} files")
    weights = [n for n in roots if n.endswith(_WEIGHTS) and not n.startswith(_OF_TRAINING)]
    if weights:
        return _unsupported(f"{what} has its weights under another name, {weights[0]}")
    if any(name.endswith(_DATA) for name in names):
        return ModelError(
            f"{what} is a data set, not a model", hint="Name a model.", code="not_a_model"
        )
    return None


def no_gguf(source: str, name: str, models: Sequence[str]) -> ModelError:
    """The error for a GGUF file that a repository does not have.

    Args:
        source: the repository.
        models: what it has of that kind.
    """
    hint = f"The repository has no GGUF files: write model: {source}, without one."
    if models:
        hint = did_you_mean(name, models) or f"Write model: {source}/{models[0]}, say."
        hint += f" {_there(models)}"
    return ModelError(
        f"the repository {source} has no file {name}", hint=hint, code="model_not_found"
    )


def _there(models: Sequence[str]) -> str:
    more = len(models) - _MOST_SHOWN
    return f"There is: {', '.join(models[:_MOST_SHOWN])}" + (
        f" and {more} more." if more > 0 else "."
    )


def no_adapter(what: str, names: Collection[str], lacks: str) -> ModelError:
    """The error for files that are a model, or lack one that an adapter needs."""
    if _CONFIG in names and _ADAPTER not in names:
        hint = f"Name it as 'model'; under peft_adapters stands what peft saved, with {_ADAPTER}."
        what = f"{what} is a whole model, not an adapter"
        return ModelError(what, hint=hint, code="not_an_adapter")
    hint = "It must hold what save_pretrained() of a peft model wrote."
    return incomplete(what, f"it has no {lacks}", hint=hint, kind="adapter")


def incomplete(what: str, reason: str, *, hint: str, kind: str = "model") -> ModelError:
    """The error for a folder or repository that lacks what a model, or an adapter, needs."""
    return ModelError(f"{what} is not a whole {kind}: {reason}", hint=hint, code="incomplete_model")


def model_and_adapter(what: str) -> ModelError:
    """The error for a whole model with an adapter beside it, which transformers would apply."""
    return ModelError(
        f"{what} has an adapter beside the weights of a whole model",
        hint=f"Move {_ADAPTER} and the adapter's weights to a folder of their own, and name that"
        " under peft_adapters if it is wanted.",
        code="not_a_model",
    )


def a_file(path: Path) -> ModelError:
    """The error for a path to a file where a folder is wanted."""
    ending = path.suffix.lower()
    what = f"{path} is a file; a model is a folder"
    if ending in _ARCHIVES:
        hint = "Unpack it and give the folder."
    elif (path.parent / _CONFIG).is_file():
        hint = f"Give the folder that it is in: {path.parent}"
    else:
        hint = "Give a folder that has config.json, model.safetensors and tokenizer.json."
    if ending == ".gguf":  # as a model it is read
        what = f"{path} is a GGUF file; an adapter is a folder"
        hint = "Give the folder that save_pretrained() of a peft model wrote."
    elif ending in _FORMATS:
        what = f"{what}. {_FORMATS[ending]} files are not supported"
        hint = _TRANSFORMERS
    return ModelError(what, hint=hint, code="not_a_folder")


def _formats(names: Collection[str]) -> list[str]:
    """The formats of weights that are there, beside transformers' own."""
    if any(name.endswith("openvino_model.xml") for name in names):
        return ["OpenVINO"]
    found = {_FORMATS.get(PurePosixPath(name).suffix.lower()) for name in names}
    return sorted(each for each in found if each)


def _which_gguf(what: str, source: str, models: Sequence[str]) -> ModelError:
    """The error for files of which one is a model, where it is not said which."""
    return ModelError(
        f"{what} has only GGUF files, and which of them is the model is not said",
        hint=f"Write model: {source}/{models[0]}, say. {_there(models)}",
        code="unsupported_format",
    )


def _unsupported(words: str) -> ModelError:
    return ModelError(
        f"{words}, which is not supported", hint=_TRANSFORMERS, code="unsupported_format"
    )


def _adapter(what: str, read: Callable[[str], Any]) -> ModelError:
    base = None
    with suppress(ComposeError):  # what it is for is only a help
        content = read(_ADAPTER)
        base = content.get("base_model_name_or_path") if isinstance(content, dict) else None
    if isinstance(base, str) and base:
        message = f"{what} is a LoRA adapter for {base}: put it under peft_adapters of that model"
        hint = f"Write model: {base}, and this under peft_adapters."
    else:
        message = f"{what} is a LoRA adapter: put it under peft_adapters of its model"
        hint = "Write the model that it was made for as 'model', and this under peft_adapters."
    return ModelError(message, hint=hint, code="not_a_model")


def _no_text(words: str) -> ModelError:
    return ModelError(
        f"{words}, not text",
        hint="Choose a causal or encoder-decoder language model.",
        code="not_text_generation",
    )
