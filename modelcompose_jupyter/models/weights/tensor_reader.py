"""Reading a decoder's tensors from mapped files."""

from __future__ import annotations

import mmap
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from ...errors import ModelError
from .. import memory
from ..native import codes
from ..native.codes import Codes
from ..native.linear import Linear
from ..native.numbers import Kind
from ..native.parts import Parts
from ..native.threads import usual_threads
from .decoder_files import DecoderFiles, piece_name
from .decoder_parts import DecoderBuilder, LinearTensor
from .packed_weights import PackedWeights
from .stored_tensors import FileState, StoredTensor, state_of


class MappedFile:
    """A file whose content is mapped, as long as anybody has an array of it."""

    def __init__(self, path: Path, before: FileState) -> None:
        self._path = path
        self._before = before
        self._file = path.open("rb")
        self.check()
        self.content = mmap.mmap(self._file.fileno(), 0, access=mmap.ACCESS_READ)

    def check(self) -> None:
        """Raise a `ModelError` where somebody has written to the file since.

        The weights would be others then or, where it became shorter, end the process.
        """
        if state_of(os.fstat(self._file.fileno())) != self._before:
            raise ModelError(
                f"the weights in {self._path} were changed while the model was in memory",
                hint="Unload the model, or run again: it is loaded anew then.",
                code="model_changed",
            )


class TensorReader:
    """Reads the tensors of a decoder; see `decoder_parts.Reader`.

    Args:
        packed: room for its codes, where it has some.
        progress: is called for each tensor that is copied.
    """

    def __init__(
        self,
        found: DecoderFiles,
        opened: Mapping[Path, MappedFile],
        packed: PackedWeights | None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._found = found
        self._kind = found.kind
        self._opened = opened
        self._packed = packed
        self._progress = progress
        is_packed = packed is not None and packed.is_mapped
        self._mapped = memory.MappedWeights(found.bytes if is_packed else found.mapped_bytes)

    def parts(self, *, coded_cache: bool = False) -> Parts:
        """All that the decoder is made of; ``coded_cache`` as `Parts` has it."""
        builder = DecoderBuilder(self._found.config, self._kind, self, self._check)
        return replace(builder.parts(), coded_cache=coded_cache)

    def _check(self) -> None:
        for file in self._opened.values():
            file.check()

    def numbers(self, name: str) -> np.ndarray:
        tensor, raw = self._raw(name)
        return self._numbers(tensor, raw, name, self._kind)

    def float32(self, name: str) -> np.ndarray:
        tensor, raw = self._raw(name)
        return tensor.float32(raw, self._kind)

    def embedding(self, name: str) -> Linear:
        """As its file has it where there are codes: only rows of tokens are read."""
        tensor, raw = self._raw(name)
        if not self._found.has_codes:
            return Linear(self._numbers(tensor, raw, name, self._kind), None, self._kind)
        if self._found.keeps_codes and tensor.form is not None and tensor.has_exact_codes(raw):
            config = self._found.config
            piece = piece_name(self._found.linears[0], 0) if config.tied else name
            weights = self._kept(tensor, raw, slice(0, config.vocabulary), piece)
            return Linear(weights, None, self._kind)
        return self.rows(name)

    def rows(self, name: str) -> Linear:
        tensor, raw = self._raw(name)
        kind = tensor.kind or "bfloat16"
        return Linear(tensor.numbers(raw, kind), None, kind)

    def matrices(self, tensor: LinearTensor) -> list[np.ndarray | Codes]:
        found, name = self._found, tensor.weight.name
        if tensor.layer is None and found.config.tied:
            name = found.config.table_name
        stored, raw = self._raw(name)
        forms = [found.form(tensor, role) for role in tensor.roles]
        if None in forms or (found.keeps_codes and not stored.has_exact_codes(raw)):
            whole = self._numbers(stored, raw, name, found.kind_of(stored))
            return [whole[rows] for rows in tensor.rows]
        pieces = [piece_name(tensor, number) for number in range(len(forms))]
        if found.keeps_codes:
            parts = zip(tensor.rows, pieces, strict=True)
            made: list[np.ndarray | Codes] = [self._kept(stored, raw, *each) for each in parts]
        else:
            made = list(self._coded(tensor, stored, raw, pieces))
        if self._packed is not None and not self._packed.is_filled:
            self._let_go(name)
        return made

    def _coded(
        self, tensor: LinearTensor, stored: StoredTensor, raw: np.ndarray, pieces: Sequence[str]
    ) -> Iterator[Codes]:
        """The codes that come closest to a tensor's numbers, of each of its layers."""
        assert self._packed is not None
        kind: Kind = stored.kind or "float32"
        whole = None
        if not self._packed.is_filled:
            self._progress()
            whole = stored.numbers(raw, kind)
        for role, rows, piece in zip(tensor.roles, tensor.rows, pieces, strict=True):
            form, room = self._found.form(tensor, role), self._packed.piece(piece)
            assert form is not None
            if whole is None:
                yield codes.found(room, rows.stop - rows.start, tensor.inputs, form)
            else:
                yield codes.coded(whole[rows], kind, form, room, usual_threads())

    def _kept(self, tensor: StoredTensor, raw: np.ndarray, rows: slice, piece: str) -> Codes:
        """Rows of codes as the file has them, in the kernels' order."""
        assert self._packed is not None
        room = self._packed.piece(piece)
        if self._packed.is_filled:
            return tensor.kept_codes(rows, room)
        self._progress()
        return tensor.codes(raw, rows, room)

    def _numbers(self, tensor: StoredTensor, raw: np.ndarray, name: str, kind: Kind) -> np.ndarray:
        """Where they are in the file, or of a kind in memory of their own."""
        found = tensor.numbers(raw, kind)
        if not tensor.stays(kind):
            self._progress()
            self._let_go(name)
        return found

    def _raw(self, name: str) -> tuple[StoredTensor, np.ndarray]:
        """A tensor, and its bytes."""
        path, tensor = self._found.tensors[name]
        content = self._opened[path].content
        return tensor, np.frombuffer(content, np.uint8, tensor.size, tensor.begin)

    def _let_go(self, name: str) -> None:
        """Have the pages of a tensor no longer count as this process's memory."""
        path, tensor = self._found.tensors[name]
        start = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = tensor.begin + tensor.size - start
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._opened[path].content.madvise(mmap.MADV_DONTNEED, start, length)
