"""Loading a decoder that runs in C: straight from its files, with neither torch nor transformers.

Its weights stay where they are: the files are mapped, so a load reads them once if at all, all
processes share them, and the system may evict them. Only numbers of another kind are converted, and
weights that a file has the other way round are transposed.
What is not known here, or damaged, is left to `torch_loader`, which knows more and says what is
wrong.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from .. import memory
from ..native import numbers
from ..native.build import kernels, why_none
from ..native.linear import converted, transposed
from ..native.numbers import Kind
from ..native.parts import Parts
from ..native.threads import usual_threads
from ..spec import LoadProgress, ModelSpec, Report
from . import (
    config_checks,
    decoder_config,
    decoder_parts,
    files,
    generation_defaults,
    optional_libraries,
    tokenizer_snapshot,
)
from .config_reader import Other
from .decoder_config import DecoderConfig
from .decoder_parts import DecoderBuilder, DecoderTensor
from .generation_defaults import OwnDefaults
from .library_logging import quiet
from .load_errors import explained
from .loaded_model import LoadedModel
from .read_ahead import ReadAhead
from .safetensors_header import Tensor
from .source import ResolvedSource
from .tokenizer import load_fast_tokenizer, load_tokenizer

_KINDS: dict[str, Kind] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_REPORT_SECONDS = 0.05
_ACCELERATORS = ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")


@dataclass(frozen=True)
class NativePlan:
    """A load that is decided and not done.

    Attributes:
        found: the decoder on the disk.
        device: ``cpu``.
    """

    spec: ModelSpec
    source: ResolvedSource
    found: DecoderFiles
    defaults: OwnDefaults
    device: str = "cpu"

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two loads that would give the same weights."""
        return ("native", str(self.source.folder), self.found.kind)

    @property
    def size(self) -> memory.LoadSize:
        """What the load takes."""
        kept = self.found.bytes
        return memory.LoadSize(kept if self.found.is_mapped else kept + self.found.largest, kept)


def plan(spec: ModelSpec, source: ResolvedSource) -> NativePlan:
    """Decide whether a model can be loaded so.

    Raises:
        Other: it cannot; says why.
        ModelError: a file is damaged, or holds what no model's does.
    """
    reason = unsupported_spec(spec)
    if reason is not None:
        raise Other(reason)
    folder = source.folder
    files.check_documents(folder)
    path = folder / files.CONFIG
    content = files.read_json(path)
    found = find(spec, folder, content)
    config_checks.check_config(path, content, files.read_weights(files.folder_weights(folder)))
    defaults = generation_defaults.read_own(folder, content, found.config.vocabulary)
    if defaults is None:
        raise Other(f"its {generation_defaults.FILE} asks for more than sampling")
    return NativePlan(spec, source, found, defaults)


def load(plan: NativePlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: a tokenizer that is damaged.
        Abandoned: from ``report``.
    """
    spec, found = plan.spec, plan.found
    total = len(found.wanted)
    progress = LoadProgress("load", spec.source, 0, total, "tensors")
    with explained(spec, plan.device):
        paths = {path for path, _ in found.tensors.values()}
        opened = {path: _MappedFile(path, found.states[path]) for path in paths}
        count = itertools.count()
        with ReadAhead(list(opened)) as ahead:
            tokenizer = _tokenizer(plan)
            decoder = _Reader(
                found, opened, lambda: report(replace(progress, done=next(count)))
            ).parts()
            for each in opened.values():
                each.check()
            while found.is_mapped and not ahead.wait(_REPORT_SECONDS):
                report(replace(progress, done=int(ahead.share * total)))
        report(replace(progress, done=total))
    defaults, special = plan.defaults, found.config.special_tokens
    ends = special["eos_token_id"] if defaults.eos_token_id is None else defaults.eos_token_id
    begin = special["bos_token_id"] if defaults.bos_token_id is None else defaults.bos_token_id
    return LoadedModel(
        tokenizer=tokenizer,
        device=plan.device,
        precision=found.kind,
        class_name=found.config.class_name,
        context=found.config.context,
        parameters=found.parameters,
        memory_bytes=decoder.bytes,
        mapped_bytes=decoder.bytes if found.is_mapped else found.mapped_bytes,
        stop_sequences=defaults.stop_sequences,
        defaults=replace(
            defaults,
            bos_token_id=begin,
            eos_token_id=generation_defaults.end_tokens(spec.source, ends, tokenizer.eos_token_id),
        ),
        decoder=decoder,
        cache_budget=spec.cache_budget,
    )


def _tokenizer(plan: NativePlan) -> Any:
    """A `FastTokenizer`, or where there can be none the one of transformers."""
    spec, folder = plan.spec, plan.source.folder
    tokenizer = load_fast_tokenizer(spec.source, folder, plan.found.model_type)
    if tokenizer is None:
        tokenizer = tokenizer_snapshot.find(folder)
    if tokenizer is not None:
        return tokenizer
    optional_libraries.require(spec)
    with quiet("transformers", "huggingface_hub"):
        whole = load_tokenizer(spec, folder)
        tokenizer_snapshot.keep(folder, whole)
    return whole


def unsupported_spec(spec: ModelSpec) -> str | None:
    """What is asked for that only torch can do, or None."""
    if spec.adapters:
        return "adapters are merged"
    if spec.draft_model is not None:
        return "it has a draft model"
    if spec.quantization is not None:
        return "its weights are to be quantised"
    if spec.device not in ("auto", "cpu"):
        return f"it is for {spec.device}"
    if spec.device == "auto" and any(map(_exists, _ACCELERATORS)):
        return "there is an accelerator"
    if kernels() is None:
        return why_none()
    return None


def _exists(path: str) -> bool:
    return Path(path).exists()


@dataclass(frozen=True)
class DecoderFiles:
    """A decoder on the disk, whose tensors are those that its config asks for.

    Attributes:
        tensors: by name, each with the file that it is in.
        states: of the files when they were looked at.
        stored: the kind of its weights in the files.
        kind: of the numbers that it is computed with.
    """

    model_type: str
    config: DecoderConfig
    tensors: Mapping[str, tuple[Path, Tensor]]
    states: Mapping[Path, tuple[int, ...]]
    stored: Kind
    kind: Kind

    @cached_property
    def wanted(self) -> list[DecoderTensor]:
        """The tensors that it has, of those in the files."""
        return list(decoder_parts.tensors(self.config))

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(self._tensor(each).elements for each in self.wanted)

    @property
    def bytes(self) -> int:
        """What it takes once it is loaded."""
        return self.parameters * numbers.dtype(self.kind).itemsize

    @property
    def mapped_bytes(self) -> int:
        """What of that stays in the files."""
        if self.stored != self.kind:
            return 0
        return sum(self._tensor(each).size for each in self.wanted if not each.transposed)

    @property
    def is_mapped(self) -> bool:
        """Whether all of its weights stay in their files."""
        return self.mapped_bytes == self.bytes

    @property
    def largest(self) -> int:
        """Bytes of its largest tensor on the disk."""
        return max(self._tensor(each).size for each in self.wanted)

    def _tensor(self, wanted: DecoderTensor) -> Tensor:
        return self.tensors[wanted.name][1]


def find(spec: ModelSpec, folder: Path, content: Any) -> DecoderFiles:
    """The decoder in a folder, by what config.json says.

    Raises:
        Other: there is none that is known here.
        ModelError: a file is damaged.
    """
    config = decoder_config.read(content)
    if spec.trust_remote_code and content.get("auto_map"):
        raise Other("it comes with code of its own, which is trusted")
    paths = files.folder_weights(folder)
    if any(path.suffix != ".safetensors" for path in paths):
        raise Other("its weights are pickled")
    states = {path: _state(path.stat()) for path in paths}
    tensors = {tensor.name: (path, tensor) for path in paths for tensor in files.tensors(path)}
    config = replace(config, names=config.names.as_in(tensors))
    if f"{config.names.heads[0]}.weight" in tensors:
        config = replace(config, tied=False)  # transformers takes it, whatever config.json says
    dtypes = set()
    for name, shape, _ in decoder_parts.tensors(config):
        if name not in tensors:
            raise Other(f"it has no {name}")
        tensor = tensors[name][1]
        if tensor.shape != shape or tensor.dtype not in _KINDS:
            raise Other(f"{name} is another one")
        dtypes |= {tensor.dtype} if len(shape) > 1 else set()
    if len(dtypes) > 1:
        raise Other("its weights are of several types")
    stored = _KINDS[dtypes.pop()]
    precision = spec.precision if spec.precision != "auto" else config.precision or stored
    if not isinstance(precision, str) or precision not in numbers.KINDS:
        raise Other(f"{precision} has no kernels")
    return DecoderFiles(content["model_type"], config, tensors, states, stored, precision)


class _MappedFile:
    """A file whose content is mapped, as long as anybody has an array of it."""

    def __init__(self, path: Path, before: tuple[int, ...]) -> None:
        self._path = path
        self._before = before
        self._file = path.open("rb")
        self.check()
        self.content = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def check(self) -> None:
        """Raise a `ModelError` where somebody has written to the file since.

        The weights would be others then or, where it became shorter, end the process.
        """
        if _state(os.fstat(self._file.fileno())) != self._before:
            raise ModelError(
                f"the weights in {self._path} were changed while the model was in memory",
                hint="Unload the model, or run again: it is loaded anew then.",
                code="model_changed",
            )


def _state(found: os.stat_result) -> tuple[int, ...]:
    return found.st_ino, found.st_size, found.st_mtime_ns


class _Reader:
    """Reads the tensors of a decoder; ``progress`` is called for each that is copied."""

    def __init__(
        self,
        found: DecoderFiles,
        opened: Mapping[Path, _MappedFile],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._found = found
        self._mapped = memory.MappedWeights(found.mapped_bytes)
        self._opened = opened
        self._progress = progress
        self._transposed = {each.name for each in found.wanted if each.transposed}

    def parts(self) -> Parts:
        """All that the decoder is made of."""
        found = self._found
        return DecoderBuilder(found.config, found.kind, self._numbers, self._check).parts()

    def _check(self) -> None:
        for file in self._opened.values():
            file.check()

    def _numbers(self, name: str) -> np.ndarray:
        """A tensor: where it is in its file, or converted, or transposed."""
        path, tensor = self._found.tensors[name]
        kind, wanted = _KINDS[tensor.dtype], self._found.kind
        content = self._opened[path].content
        raw = np.frombuffer(content, np.uint8, tensor.size, tensor.begin)
        if tensor.begin % numbers.dtype(kind).itemsize:
            raw = raw.copy()  # to where numbers may begin
        stored = raw.view(numbers.dtype(kind)).reshape(tensor.shape)
        if kind == wanted and name not in self._transposed:
            return stored
        self._progress()
        found = stored
        if kind != wanted:
            found = converted(found, kind, wanted, usual_threads())
        if name in self._transposed:
            found = transposed(found, wanted)
        _let_go(content, tensor)
        return found


def _let_go(content: mmap.mmap, tensor: Tensor) -> None:
    """Have the pages of a tensor no longer count as this process's memory."""
    start = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
    length = tensor.begin + tensor.size - start
    if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED, start, length)
