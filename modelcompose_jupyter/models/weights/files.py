"""The files of a model: which are needed, and whether a folder has them whole."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...errors import ModelError, shortened
from ...text_encoding import has_mark
from . import file_bounds, file_kinds, pickles, safetensors_header
from .file_bounds import Bounds, BrokenFile, OutOfBounds

CONFIG = "config.json"
_TOKENIZER = (
    "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json", "vocab.txt",
    "vocab.bpe", "spiece.model", "sentencepiece.bpe.model", "source.spm", "*.tiktoken",
    "tekken.json",
)  # fmt: skip
_SMALL = (
    CONFIG, "generation_config.json", *_TOKENIZER, "special_tokens_map.json", "added_tokens.json",
    "merges.txt", "target.spm", "chat_template.jinja", "chat_template.json",
)  # fmt: skip
_WEIGHTS = ("model.safetensors", "pytorch_model.bin")
_WEIGHT_SUFFIXES = (".safetensors", ".bin", ".gguf")
ADAPTER_CONFIG = "adapter_config.json"
ADAPTER_WEIGHTS = ("adapter_model.safetensors", "adapter_model.bin")
_LFS_POINTER = b"version https://git-lfs.github.com/spec/"
_PRECISIONS = {"F64": "float64", "F32": "float32", "F16": "float16", "BF16": "bfloat16"}
WIDTHS = {"float32": 4, "float16": 2, "bfloat16": 2}
"""Bytes of a number, by precision."""
_SHARD = re.compile(r"(?!\.\.?$)[^/\\:]{1,255}")


@dataclass(frozen=True)
class Weights:
    """What files of weights hold, as their headers say.

    Attributes:
        size: bytes of them all.
        tensors: how many there are that have numbers.
        floats: how many floating point numbers of the usual kinds; 0 for pickles, which do not say.
        float_bytes: what those take as they are stored.
        precision: of the first tensor of them; None where there is none.
    """

    size: int
    tensors: int
    floats: int
    float_bytes: int
    precision: str | None

    def memory_bytes(self, precision: str) -> int:
        """What they take in memory at a precision, ``auto`` or another one."""
        width = WIDTHS.get(precision)
        if width is None:
            return self.size
        return self.size - self.float_bytes + width * self.floats


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
    """Those of the names that are weights; safetensors before pickles. Empty where none are.

    The file that lists the shards, if they have one, is in the folder.
    """
    index = weight_index(names)
    if index is None:
        return [name for name in _WEIGHTS if name in names][:1]
    content = read_json(folder / index)
    shards = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(shards, dict) or not all(map(_is_shard, shards.values())):
        raise _corrupt(folder / index, "it has no list of weights, each in a file beside it")
    return sorted(set(shards.values()))


def _is_shard(name: Any) -> bool:
    """Whether this is the name of a file in the same folder."""
    return isinstance(name, str) and name.isprintable() and _SHARD.fullmatch(name) is not None


def read_json(path: Path) -> Any:
    """The content of a JSON file; a `ModelError` where it is damaged, or of no sane size."""
    bounds = _bounds_of(path.name)
    with checked(path):
        return file_bounds.parse_json(file_bounds.read_bytes(path, bounds), bounds)


@contextmanager
def checked(path: Path) -> Iterator[None]:
    """Turn what is wrong with the content of a file into a `ModelError`."""
    try:
        yield
    except BrokenFile as error:
        raise _corrupt(path, str(error)) from None
    except OutOfBounds as error:
        raise ModelError(
            f"the model file {path} is not read: {error}",
            hint="No model is known that has such a file. Take it from where it was published.",
            code="corrupt_model",
        ) from None


def _bounds_of(name: str) -> Bounds:
    """What a file may hold, by its name."""
    if name.endswith(".index.json"):
        return file_bounds.INDEX
    if name.endswith(".jinja") or name == "chat_template.json":
        return file_bounds.TEMPLATE
    is_settings = name.endswith("config.json") and name not in _TOKENIZER
    return file_bounds.SETTINGS if is_settings else file_bounds.TOKENIZER


def check_size(name: str, size: int) -> None:
    """Raise a `ModelError` for a file of a repository, not weights, that is longer than any's."""
    if not name.endswith(_WEIGHT_SUFFIXES):
        with checked(Path(name)):
            _bounds_of(name).check(size)


def check_documents(folder: Path) -> None:
    """Look at what libraries will read whole, in a folder of a model or an adapter.

    Raise a `ModelError` for more than any model's file holds, or for a byte order mark, by which
    libraries fail or skip it.
    """
    names = [path.name for path in folder.iterdir()]
    wanted = {*small_files(names, code=False), weight_index(names) or "", ADAPTER_CONFIG}
    # Of several versions of a tokenizer, transformers takes the one for its own.
    wanted |= set(fnmatch.filter(names, "tokenizer.*.json"))
    with _readable(folder):
        for name in sorted(wanted & set(names)):
            _check_document(folder / name)


def _check_document(path: Path) -> None:
    limits = _bounds_of(path.name)
    with checked(path):
        if path.suffix != ".json":
            file_bounds.checked_size(path, limits)
            return
        data = file_bounds.read_bytes(path, limits)
        if has_mark(data):
            raise ModelError(
                f"{path} begins with a byte order mark, which transformers refuses",
                hint="Save it as UTF-8 without a mark (BOM).",
                code="corrupt_model",
            )
        file_bounds.check_json(data, limits)


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
    config = read_json(folder / CONFIG)
    own = config.get("auto_map") if isinstance(config, dict) else None
    targets = own.values() if isinstance(own, dict) else ()
    flat = [t for target in targets for t in (target if isinstance(target, list) else [target])]
    return {f"{t.split('.')[0]}.py" for t in flat if isinstance(t, str) and "--" not in t}


def check_folder(folder: Path) -> None:
    """Raise a `ModelError` that says what a folder lacks to be a model, or what it is instead."""
    with _readable(folder):
        _check_is_folder(folder)
        names = file_kinds.names_of(folder)
        check_fetched(folder / name for name in small_files(names, code=True))
        weights = folder_weights(folder)
        if CONFIG not in names or not weights or file_kinds.is_embedder(names):
            what = f"the folder {folder}"
            other = file_kinds.other_than_model(
                what, str(folder), names, lambda name: read_json(folder / name)
            )
            if other is not None:
                raise other
        if CONFIG not in names:
            raise _incomplete(folder, f"it has no {CONFIG}")
        if not weights:
            raise _incomplete(folder, "it has no weights (model.safetensors or pytorch_model.bin)")
        missing = [shortened(path.name) for path in weights if not path.is_file()]
        if missing:
            more = f" (and {len(missing) - 1} more)" if len(missing) > 1 else ""
            raise _incomplete(folder, f"of the weights, {missing[0]}{more} is missing")
        check_fetched(weights)
        if not has_tokenizer(folder):
            raise _incomplete(folder, "it has no tokenizer (tokenizer.json)")
        if ADAPTER_CONFIG in names:
            raise file_kinds.model_and_adapter(f"the folder {folder}")


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


def _check_is_folder(folder: Path, adapter: bool = False) -> None:
    if folder.is_dir():
        return
    if folder.exists():
        raise file_kinds.a_file(folder)
    raise ModelError(
        f"the adapter's folder {folder} does not exist"
        if adapter
        else f"the model folder {folder} does not exist",
        hint="Check the path. A name without ./ or / in front is looked for on the Hub.",
        code="model_not_found",
    )


def check_fetched(paths: Iterable[Path]) -> None:
    """Raise a `ModelError` where Git LFS left a pointer in place of a file's content."""
    for path in paths:
        if path.is_file() and _is_pointer(path):
            raise _pointer(path)


def _is_pointer(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_LFS_POINTER)) == _LFS_POINTER


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
    """Raise a `ModelError` that says what a folder lacks to be an adapter."""
    what = f"the folder {folder}"
    with _readable(folder):
        _check_is_folder(folder, adapter=True)
        if not (folder / ADAPTER_CONFIG).is_file():
            raise file_kinds.no_adapter(what, file_kinds.names_of(folder), ADAPTER_CONFIG)
        weights = adapter_weights(folder)
        if not weights:
            raise file_kinds.no_adapter(what, [ADAPTER_CONFIG], ADAPTER_WEIGHTS[0])
        check_fetched([folder / ADAPTER_CONFIG, *weights])


def read_weights(paths: Iterable[Path]) -> Weights:
    """What files of weights hold. Reads what describes the numbers, not the numbers.

    Raises:
        ModelError: a file is broken or was cut short, or would take more memory than it has bytes.
        Exception: what torch raises for pickles that are damaged, or hold more than numbers.
    """
    found = []
    for path in paths:
        with checked(path):
            if path.suffix == ".safetensors":
                found.append(_stored(path))
            else:
                tensors, precision = pickles.read(path)
                found.append(Weights(path.stat().st_size, tensors, 0, 0, precision))
    return Weights(
        sum(each.size for each in found),
        sum(each.tensors for each in found),
        sum(each.floats for each in found),
        sum(each.float_bytes for each in found),
        next((each.precision for each in found if each.precision), None),
    )


def tensors(path: Path) -> list[safetensors_header.Tensor]:
    """The tensors of a safetensors file.

    Raises:
        ModelError: it is damaged.
    """
    with checked(path):
        return safetensors_header.read(path)


def _stored(path: Path) -> Weights:
    tensors = safetensors_header.read(path)
    floats = [each for each in tensors if each.dtype in _PRECISIONS]
    return Weights(
        sum(each.size for each in tensors),
        sum(each.size > 0 for each in tensors),
        sum(each.elements for each in floats),
        sum(each.size for each in floats),
        _PRECISIONS[floats[0].dtype] if floats else None,
    )


def _corrupt(path: Path, reason: str) -> ModelError:
    if path.is_file() and _is_pointer(path):
        return _pointer(path)
    return ModelError(  # resolved: in the Hub's cache the content is elsewhere than the name
        f"the model file {path.resolve()} is damaged: {reason}",
        hint="Delete the file and run again to fetch it anew, or copy it again.",
        code="corrupt_model",
    )


def _incomplete(folder: Path, reason: str) -> ModelError:
    hint = "It must hold what save_pretrained() of a model and of its tokenizer wrote."
    return file_kinds.incomplete(f"the folder {folder}", reason, hint=hint)
