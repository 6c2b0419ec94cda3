"""The files of a model: which are needed, and whether a folder has them whole."""

from __future__ import annotations

import fnmatch
import json
import struct
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..encoding import decode, has_mark
from ..errors import ModelError
from . import kinds

CONFIG = "config.json"
_TOKENIZER = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "vocab.json",
    "vocab.txt",
    "vocab.bpe",
    "spiece.model",
    "sentencepiece.bpe.model",
    "source.spm",
    "*.tiktoken",
    "tekken.json",
)
_SMALL = (
    CONFIG,
    "generation_config.json",
    *_TOKENIZER,
    "special_tokens_map.json",
    "added_tokens.json",
    "merges.txt",
    "target.spm",
    "chat_template.jinja",
    "chat_template.json",
)
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_LONGEST_HEADER = 100_000_000
_POINTER = b"version https://git-lfs.github.com/spec/"
_BYTES = {
    "F64": 8, "F32": 4, "F16": 2, "BF16": 2, "I64": 8, "I32": 4, "I16": 2, "I8": 1, "U8": 1,
    "U16": 2, "U32": 4, "U64": 8, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1,
}  # fmt: skip
_FLOATS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number, by precision."""


@dataclass(frozen=True)
class WeightsSize:
    """What weights take in memory; ``parameters`` is None where only loading can tell."""

    memory_bytes: int
    parameters: int | None


def small_files(names: Iterable[str], code: bool) -> list[str]:
    """Those of a repository's files that are needed beside the weights, sorted."""
    patterns = (*_SMALL, "*.py") if code else _SMALL
    roots = (name for name in names if "/" not in name)
    return sorted(name for name in roots if any(fnmatch.fnmatch(name, p) for p in patterns))


def weight_index(names: Collection[str]) -> str | None:
    """The file that lists the shards of the weights, or None where they are in one file."""
    for single in _WEIGHTS:
        if single in names:
            return None
        if (index := f"{single}.index.json") in names:
            return index
    return None


def weight_files(names: Collection[str], folder: Path) -> list[str]:
    """The files of the weights; safetensors before pickles. Empty where there are none.

    Args:
        names: the files that there are.
        folder: where the file that lists the shards is, if they have one.
    """
    index = weight_index(names)
    if index is None:
        return [name for name in _WEIGHTS if name in names][:1]
    try:
        return sorted(set(read_json(folder / index)["weight_map"].values()))
    except (KeyError, AttributeError, TypeError):
        raise _corrupt(folder / index, "it has no list of weights") from None


def read_json(path: Path) -> Any:
    """The content of a JSON file; a `ModelError` where it is broken."""
    try:
        return json.loads(decode(path.read_bytes()))
    except (ValueError, OSError) as error:
        raise _corrupt(path, f"it is not readable JSON: {error}") from None


def check_marks(folder: Path) -> None:
    """Raise a `ModelError` for a byte order mark, by which libraries fail or skip the file."""
    names = [path.name for path in folder.iterdir()]
    for name in (*small_files(names, code=False), weight_index(names), ADAPTER_CONFIG):
        if name not in names or not name.endswith(".json"):
            continue
        with (folder / name).open("rb") as file:
            if has_mark(file.read(4)):
                raise ModelError(
                    f"{folder / name} begins with a byte order mark, which transformers refuses",
                    hint="Save it as UTF-8 without a mark (BOM).",
                    code="corrupt_model",
                )


def folder_weights(folder: Path) -> list[Path]:
    """The files of the weights in a folder, whether they exist or not."""
    names = {path.name for path in folder.iterdir()}
    return [folder / name for name in weight_files(names, folder)]


def is_complete(folder: Path, code: bool) -> bool:
    """Whether a folder has everything that a model needs. Weights are downloaded last."""
    names = [path.name for path in folder.iterdir()]
    if CONFIG not in names or not has_tokenizer(folder):
        return False
    if not all((folder / name).is_file() for name in small_files(names, code)):
        return False  # a link to a content that was lost
    weights = folder_weights(folder)
    if not weights or not all(path.is_file() for path in weights):
        return False
    return not code or all((folder / name).is_file() for name in code_files(folder))


def has_tokenizer(folder: Path) -> bool:
    """Whether a folder has any file that makes a tokenizer."""
    return any(fnmatch.fnmatch(path.name, p) for path in folder.iterdir() for p in _TOKENIZER)


def code_files(folder: Path) -> set[str]:
    """The modules that a model's config asks for, beside transformers' own."""
    targets = (read_json(folder / CONFIG).get("auto_map") or {}).values()
    flat = [t for target in targets for t in (target if isinstance(target, list) else [target])]
    return {f"{t.split('.')[0]}.py" for t in flat if isinstance(t, str) and "--" not in t}


def check_folder(folder: Path) -> None:
    """Raise a `ModelError` that says what a folder lacks to be a model, or what it is instead."""
    with _readable(folder):
        _check_is_folder(folder, "model folder")
        names = kinds.names_of(folder)
        _check_fetched(folder / name for name in small_files(names, code=True))
        weights = folder_weights(folder)
        if CONFIG not in names or not weights or kinds.is_embedder(names):
            what = f"the folder {folder}"
            other = kinds.other_than_model(what, names, lambda name: read_json(folder / name))
            if other is not None:
                raise other
        if CONFIG not in names:
            raise _incomplete(folder, f"it has no {CONFIG}")
        if not weights:
            raise _incomplete(folder, "it has no weights (model.safetensors or pytorch_model.bin)")
        missing = [path.name for path in weights if not path.is_file()]
        if missing:
            raise _incomplete(folder, f"of the weights, {', '.join(missing)} is missing")
        _check_fetched(weights)
        if not has_tokenizer(folder):
            raise _incomplete(folder, "it has no tokenizer (tokenizer.json)")
        if ADAPTER_CONFIG in names:
            raise kinds.model_and_adapter(f"the folder {folder}")


@contextmanager
def _readable(folder: Path) -> Iterator[None]:
    """Turn what the disk refuses into a `ModelError`."""
    try:
        yield
    except OSError as error:
        reason = (error.strerror or type(error).__name__).lower()
        raise ModelError(
            f"{error.filename or folder} cannot be read: {reason}",
            hint="Check the path, and that you may read the folder and its files.",
            code="not_readable",
        ) from None


def _check_is_folder(folder: Path, what: str) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise kinds.a_file(folder)
    raise ModelError(
        f"the {what} {folder} does not exist",
        hint="Check the path. A name without ./ or / in front is looked for on the Hub.",
        code="model_not_found",
    )


def _check_fetched(paths: Iterable[Path]) -> None:
    """Raise a `ModelError` where Git LFS left a pointer in place of a file's content."""
    for path in paths:
        if path.is_file() and _is_pointer(path):
            raise _pointer(path)


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_POINTER)) == _POINTER


def _pointer(path: Path) -> ModelError:
    in_cache = path.parent.parent.name == "snapshots"
    return ModelError(
        f"{path.resolve()} is a Git LFS pointer: the content of {path.name} was not fetched",
        hint="Delete the file and run again to fetch it anew."
        if in_cache
        else f"Run: git lfs pull, in {path.parent}",
        code="corrupt_model",
    )


def adapter_weights(folder: Path) -> list[Path]:
    """The file of an adapter's weights, the safetensors where there are two; empty for none."""
    paths = (folder / name for name in ADAPTER_WEIGHTS)
    return [path for path in paths if path.is_file()][:1]


def check_adapter(folder: Path) -> None:
    """Raise a `ModelError` that says what a folder lacks to be an adapter, or is broken."""
    what = f"the folder {folder}"
    with _readable(folder):
        _check_is_folder(folder, "adapter's folder")
        if not (folder / ADAPTER_CONFIG).is_file():
            lacks = incomplete_adapter(what, f"it has no {ADAPTER_CONFIG}")
            raise kinds.other_than_adapter(what, kinds.names_of(folder)) or lacks
        weights = adapter_weights(folder)
        if not weights:
            raise incomplete_adapter(what, f"it has no {ADAPTER_WEIGHTS[0]}")
        _check_fetched([folder / ADAPTER_CONFIG, *weights])
        tensors_size(weights, "auto")


def incomplete_adapter(what: str, reason: str) -> ModelError:
    """The error for a folder or repository that lacks what an adapter needs."""
    return ModelError(
        f"{what} is not a whole adapter: {reason}",
        hint="It must hold what save_pretrained() of a peft model wrote.",
        code="incomplete_model",
    )


def weights_size(folder: Path, precision: str) -> WeightsSize:
    """What the weights of a folder take in memory at a precision.

    Reads the headers of safetensors, so it finds a file that is broken or was cut short as well.
    """
    return tensors_size(folder_weights(folder), precision)


def stored_precision(folder: Path) -> str | None:
    """The precision of the first weights of a folder, None where only loading can tell."""
    path = folder_weights(folder)[0]
    if path.suffix == ".safetensors":
        return next((_FLOATS[dtype] for dtype, _ in _tensors(path) if dtype in _FLOATS), None)
    import torch

    try:
        tensors = torch.load(path, map_location="meta", weights_only=True).values()
        first = next((each.dtype for each in tensors if each.is_floating_point()), None)
    except Exception:  # it is damaged, and loading says how
        return None
    return first and str(first).removeprefix("torch.")


def tensors_size(paths: Collection[Path], precision: str) -> WeightsSize:
    """What the tensors of files take in memory at a precision."""
    if any(path.suffix != ".safetensors" for path in paths):
        return WeightsSize(sum(path.stat().st_size for path in paths), None)
    memory = parameters = 0
    for path in paths:
        for dtype, count in _tensors(path):
            wide = WIDTHS.get(precision) if dtype in _FLOATS else None
            memory += count * (wide or _BYTES.get(dtype, 1))
            parameters += count
    return WeightsSize(memory, parameters)


def _tensors(path: Path) -> list[tuple[str, int]]:
    """Precision and number of elements of each tensor in a safetensors file."""
    size = path.stat().st_size
    with path.open("rb") as file:
        start = file.read(8)
        length = struct.unpack("<Q", start)[0] if len(start) == 8 else _LONGEST_HEADER
        if length + 8 > size or length >= _LONGEST_HEADER:
            raise _corrupt(path, "its header is broken")
        try:
            header = json.loads(file.read(length))
            header.pop("__metadata__", None)
            tensors = [(entry["dtype"], _product(entry["shape"])) for entry in header.values()]
            end = max((entry["data_offsets"][1] for entry in header.values()), default=0)
        except (ValueError, KeyError, TypeError, AttributeError):
            raise _corrupt(path, "its header is broken") from None
    if 8 + length + end != size:
        raise _corrupt(path, f"it has {size} bytes and should have {8 + length + end}")
    return tensors


def _product(shape: Iterable[int]) -> int:
    count = 1
    for length in shape:
        count *= length
    return count


def _corrupt(path: Path, reason: str) -> ModelError:
    if path.is_file() and _is_pointer(path):
        return _pointer(path)
    return ModelError(  # resolved: in the Hub's cache the content is elsewhere than the name
        f"the model file {path.resolve()} is damaged: {reason}",
        hint="Delete the file and run again to fetch it anew, or copy it again.",
        code="corrupt_model",
    )


def _incomplete(folder: Path, reason: str) -> ModelError:
    return ModelError(
        f"the folder {folder} is not a whole model: {reason}",
        hint="It must hold what save_pretrained() of a model and of its tokenizer wrote.",
        code="incomplete_model",
    )
