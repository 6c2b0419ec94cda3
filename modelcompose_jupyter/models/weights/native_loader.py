"""Loading a decoder that runs in C: straight from its files, with neither torch nor transformers.

Its weights stay where they are: the files are mapped, so a load reads them once if at all, all
processes share them, and the system may evict them. Only numbers of another kind are converted.
What is not known here, or damaged, is left to `torch_loader`, which knows more and says what is
wrong.
"""

from __future__ import annotations

import itertools
import mmap
import os
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from .. import memory
from ..native import numbers
from ..native.build import kernels, why_none
from ..native.decoder import Layer, Parts
from ..native.linear import Linear, converted
from ..native.numbers import Kind
from ..native.threads import usual_threads
from ..spec import LoadProgress, ModelSpec, Report
from . import (
    config_checks,
    decoder_config,
    files,
    generation_defaults,
    optional_libraries,
    tokenizer_snapshot,
)
from .decoder_config import DecoderConfig, Other
from .generation_defaults import OwnDefaults
from .gguf import model as gguf_model
from .gguf import tokenizer as gguf_tokenizer
from .gguf.model import GgufModel
from .gguf.weights import DecoderTensor, weights_of
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
        gguf: what a GGUF file says; None where the model is a folder.
    """

    spec: ModelSpec
    source: ResolvedSource
    found: DecoderFiles
    defaults: OwnDefaults
    device: str = "cpu"
    gguf: GgufModel | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two loads that would give the same weights."""
        return ("native", str(self.source.place), self.found.kind)

    @property
    def size(self) -> memory.LoadSize:
        """What the load takes."""
        kept = self.found.bytes
        return memory.LoadSize(kept + self.found.largest_converted, kept)


def plan(spec: ModelSpec, source: ResolvedSource) -> NativePlan:
    """Decide whether a model can be loaded so.

    Raises:
        Other: it cannot; says why.
        ModelError: a file is damaged, or holds what no model's does.
    """
    reason = unsupported_spec(spec, source)
    if reason is not None:
        raise Other(reason)
    if source.parts:
        return _gguf_plan(spec, source)
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


def _gguf_plan(spec: ModelSpec, source: ResolvedSource) -> NativePlan:
    states = {path: _state(path.stat()) for path in source.parts}
    model = gguf_model.read(source.parts)
    config = model.config
    found = _found(spec, config.model_type, config.decoder, model.tensors, states)
    return NativePlan(spec, source, found, model.defaults, gguf=model)


def load(plan: NativePlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: a tokenizer that is damaged.
        Abandoned: from ``report``.
    """
    spec, found = plan.spec, plan.found
    progress = LoadProgress("load", spec.source, 0, found.count, "tensors")
    with explained(spec, plan.device, "config.json or weights" if plan.gguf is None else "file"):
        paths = {path for path, _ in found.tensors.values()}
        opened = {path: _MappedFile(path, found.states[path]) for path in paths}
        count = itertools.count()
        with ReadAhead(list(opened)) as ahead:
            tokenizer, own_ends = _tokenizer(plan)
            decoder = _Reader(
                found, opened, lambda: report(replace(progress, done=next(count)))
            ).parts()
            for each in opened.values():
                each.check()
            while found.is_mapped and not ahead.wait(_REPORT_SECONDS):
                report(replace(progress, done=int(ahead.share * found.count)))
        report(replace(progress, done=found.count))
    defaults, special = plan.defaults, found.config.special_tokens
    ends = special["eos_token_id"] if defaults.eos_token_id is None else defaults.eos_token_id
    begin = special["bos_token_id"] if defaults.bos_token_id is None else defaults.bos_token_id
    if plan.gguf is not None:
        ends, begin = own_ends, tokenizer.bos_token_id
    return LoadedModel(
        tokenizer=tokenizer,
        device=plan.device,
        precision=found.kind,
        class_name=found.config.class_name,
        context=found.config.context,
        parameters=found.parameters,
        memory_bytes=decoder.bytes,
        mapped_bytes=found.mapped_bytes,
        stop_sequences=defaults.stop_sequences,
        defaults=replace(
            defaults,
            bos_token_id=begin,
            eos_token_id=generation_defaults.end_tokens(spec.source, ends, tokenizer.eos_token_id),
        ),
        decoder=decoder,
        cache_budget=spec.cache_budget,
    )


def _tokenizer(plan: NativePlan) -> tuple[Any, list[int]]:
    """A tokenizer, and the tokens that end a text where the same file says it."""
    if plan.gguf is None:
        return _tokenizer_of_folder(plan), []
    rows = plan.found.config.vocabulary
    with files.checked(plan.source.parts[0]):
        return gguf_tokenizer.load(
            plan.gguf.metadata, plan.found.model_type, rows, plan.spec.source
        )


def _tokenizer_of_folder(plan: NativePlan) -> Any:
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


def unsupported_spec(spec: ModelSpec, source: ResolvedSource) -> str | None:
    """What is asked for that only torch can do, or None.

    torch does not read GGUF, so a machine with an accelerator runs that on the processor, too.
    """
    if spec.adapters:
        return "adapters are merged"
    if spec.draft_model is not None:
        return "it has a draft model"
    if spec.quantization is not None:
        return "its weights are to be quantised"
    if spec.device not in ("auto", "cpu"):
        return f"it is for {spec.device}"
    if spec.device == "auto" and not source.parts and any(map(_exists, _ACCELERATORS)):
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
        kind: of the numbers that it is computed with.
    """

    model_type: str
    config: DecoderConfig
    tensors: Mapping[str, tuple[Path, Tensor | DecoderTensor]]
    states: Mapping[Path, tuple[int, ...]]
    kind: Kind

    @property
    def count(self) -> int:
        """How many tensors it has."""
        return sum(1 for _ in _wanted(self.config))

    @property
    def parameters(self) -> int:
        """How many numbers it has."""
        return sum(self._tensor(name).elements for name, _ in _wanted(self.config))

    @property
    def bytes(self) -> int:
        """What it takes once it is loaded."""
        return self.parameters * numbers.dtype(self.kind).itemsize

    @property
    def mapped_bytes(self) -> int:
        """What stays in its files of that."""
        return sum(each.size for each in self._all if _stays(each, self.kind))

    @property
    def is_mapped(self) -> bool:
        """Whether most of its weights stay in their files."""
        return 2 * self.mapped_bytes > self.bytes

    @property
    def largest_converted(self) -> int:
        """Bytes on the disk of the largest of its tensors that does not stay there."""
        return max((each.size for each in self._all if not _stays(each, self.kind)), default=0)

    @property
    def _all(self) -> list[Tensor | DecoderTensor]:
        return [self._tensor(name) for name, _ in _wanted(self.config)]

    def _tensor(self, name: str) -> Tensor | DecoderTensor:
        return self.tensors[name][1]


def _stays(tensor: Tensor | DecoderTensor, kind: Kind) -> bool:
    """Whether a tensor's numbers are used where they are in the file."""
    if isinstance(tensor, DecoderTensor):
        return tensor.stays(kind)
    return _KINDS[tensor.dtype] == kind


def find(spec: ModelSpec, folder: Path, content: Any) -> DecoderFiles:
    """The decoder in a folder, by what config.json says.

    Raises:
        Other: there is none that is known here.
        ModelError: a file is damaged.
    """
    config = decoder_config.read(content)
    paths = files.folder_weights(folder)
    if any(path.suffix != ".safetensors" for path in paths):
        raise Other("its weights are pickled")
    states = {path: _state(path.stat()) for path in paths}
    tensors = {tensor.name: (path, tensor) for path in paths for tensor in files.tensors(path)}
    if "lm_head.weight" in tensors:  # transformers takes it, though config.json says otherwise
        config = replace(config, tied=False)
    return _found(spec, content["model_type"], config, tensors, states)


def _found(
    spec: ModelSpec,
    model_type: str,
    config: DecoderConfig,
    tensors: Mapping[str, tuple[Path, Tensor | DecoderTensor]],
    states: Mapping[Path, tuple[int, ...]],
) -> DecoderFiles:
    """A decoder of these tensors; `Other` where they are not those that its config asks for."""
    matrices = []
    for name, shape in _wanted(config):
        if name not in tensors:
            raise Other(f"it has no {name}")
        tensor = tensors[name][1]
        if tensor.shape != shape:
            raise Other(f"{name} is another one")
        matrices += [tensor] if len(shape) > 1 else []
    stored = _stored_kind(matrices)
    precision = spec.precision if spec.precision != "auto" else config.precision or stored
    if not isinstance(precision, str) or precision not in numbers.KINDS:
        raise Other(f"{precision} has no kernels")
    return DecoderFiles(model_type, config, tensors, states, precision)


def _stored_kind(matrices: list[Tensor | DecoderTensor]) -> Kind:
    """The kind of numbers that weights are, or best become."""
    kinds: Counter[Kind] = Counter()
    for each in matrices:
        if isinstance(each, DecoderTensor):
            # Codes have 8 bits at most, and so have numbers in bfloat16.
            kinds[each.kind or "bfloat16"] += each.elements
        elif each.dtype in _KINDS:
            kinds[_KINDS[each.dtype]] += each.elements
        else:
            raise Other(f"{each.name} is another one")
    if len(kinds) > 1 and not isinstance(matrices[0], DecoderTensor):
        raise Other("its weights are of several types")
    return kinds.most_common(1)[0][0]


def _wanted(config: DecoderConfig) -> Iterator[tuple[str, tuple[int, ...]]]:
    """The tensors of a decoder, with their shapes."""
    hidden, inner, size = config.hidden, config.intermediate, config.head_size
    queries, keys = config.query_heads * size, config.key_heads * size
    yield "model.embed_tokens.weight", (config.vocabulary, hidden)
    yield "model.norm.weight", (hidden,)
    if not config.tied:
        yield "lm_head.weight", (config.vocabulary, hidden)
    shapes = {
        "self_attn.q_proj": (queries, hidden), "self_attn.k_proj": (keys, hidden),
        "self_attn.v_proj": (keys, hidden), "self_attn.o_proj": (hidden, queries),
        "mlp.gate_proj": (inner, hidden), "mlp.up_proj": (inner, hidden),
        "mlp.down_proj": (hidden, inner),
    }  # fmt: skip
    if config.fused:
        shapes = {
            "self_attn.qkv_proj": (queries + 2 * keys, hidden),
            "self_attn.o_proj": (hidden, queries),
            "mlp.gate_up_proj": (2 * inner, hidden),
            "mlp.down_proj": (hidden, inner),
        }
    norms = {"input_layernorm": hidden, "post_attention_layernorm": hidden}
    if config.norms_around:
        norms |= {"pre_feedforward_layernorm": hidden, "post_feedforward_layernorm": hidden}
    if config.query_norms:
        norms |= {"self_attn.q_norm": size, "self_attn.k_norm": size}
    for layer in range(config.layers):
        for name, shape in shapes.items():
            yield f"model.layers.{layer}.{name}.weight", shape
            if name.rpartition(".")[2] in config.biases:
                yield f"model.layers.{layer}.{name}.bias", shape[:1]
        for name, width in norms.items():
            yield f"model.layers.{layer}.{name}.weight", (width,)


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
    """Makes the parts of a decoder; ``progress`` is called for each tensor that is converted."""

    def __init__(
        self,
        found: DecoderFiles,
        opened: Mapping[Path, _MappedFile],
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._config = found.config
        self._tensors = found.tensors
        self._kind = found.kind
        self._mapped = memory.MappedWeights(found.mapped_bytes)
        self._opened = opened
        self._progress = progress

    def parts(self) -> Parts:
        config = self._config
        layers = [self._layer(number) for number in range(config.layers)]
        embedding = self._numbers("model.embed_tokens.weight")
        head = Linear(embedding, None, self._kind) if config.tied else self._linear("lm_head")
        scale = np.array([config.embedding_scale], dtype=np.float32)
        return Parts(
            kind=self._kind,
            embedding=embedding,
            layers=layers,
            norm=self._norm("model.norm"),
            head=head,
            query_heads=config.query_heads,
            key_heads=config.key_heads,
            head_size=config.head_size,
            activation=config.activation,
            epsilon=config.epsilon,
            embedding_scale=float(numbers.rounded(scale, self._kind)[0]),
            check=self._check,
            rotations=lambda positions: {
                name: each.table(positions, self._kind) for name, each in config.rotations.items()
            },
        )

    def _check(self) -> None:
        for file in self._opened.values():
            file.check()

    def _layer(self, number: int) -> Layer:
        config = self._config
        at = f"model.layers.{number}"
        attention, mlp = f"{at}.self_attn", f"{at}.mlp"
        size, inner = config.head_size, config.intermediate
        if config.fused:
            queries, keys = config.query_heads * size, config.key_heads * size
            qkv = self._linear(f"{attention}.qkv_proj").parts(queries, keys, keys)
            gate_up = self._linear(f"{mlp}.gate_up_proj").parts(inner, inner)
        else:
            qkv = [self._linear(f"{attention}.{name}_proj") for name in "qkv"]
            gate_up = [self._linear(f"{mlp}.{name}_proj") for name in ("gate", "up")]
        around = config.norms_around
        before_mlp = "pre_feedforward_layernorm" if around else "post_attention_layernorm"
        return Layer(
            qkv=qkv,
            output=self._linear(f"{attention}.o_proj"),
            gate_up=gate_up,
            down=self._linear(f"{mlp}.down_proj"),
            before_attention=self._norm(f"{at}.input_layernorm"),
            before_mlp=self._norm(f"{at}.{before_mlp}"),
            after_attention=self._norm(f"{at}.post_attention_layernorm") if around else None,
            after_mlp=self._norm(f"{at}.post_feedforward_layernorm") if around else None,
            query_norm=self._norm(f"{attention}.q_norm") if config.query_norms else None,
            key_norm=self._norm(f"{attention}.k_norm") if config.query_norms else None,
            window=config.windows[number],
            scaling=config.scaling,
            rotation=config.layer_rotations[number],
        )

    def _linear(self, name: str) -> Linear:
        has_bias = name.rpartition(".")[2] in self._config.biases
        return Linear(
            self._numbers(f"{name}.weight"),
            self._numbers(f"{name}.bias") if has_bias else None,
            self._kind,
        )

    def _norm(self, name: str) -> np.ndarray:
        """The weights of a norm, as a model of this kind of numbers has them, in float32."""
        path, tensor = self._tensors[f"{name}.weight"]
        if isinstance(tensor, DecoderTensor):  # it is float32 there, whatever the others are
            raw = np.frombuffer(self._opened[path].content, np.uint8, tensor.size, tensor.begin)
            return weights_of(tensor, raw, "float32")
        own = numbers.as_float32(self._numbers(f"{name}.weight"), self._kind)
        return np.ascontiguousarray(own + np.float32(self._config.norm_offset))

    def _numbers(self, name: str) -> np.ndarray:
        """A tensor: where it is in its file, or converted."""
        path, tensor = self._tensors[name]
        content = self._opened[path].content
        raw = np.frombuffer(content, np.uint8, tensor.size, tensor.begin)
        if isinstance(tensor, DecoderTensor):
            found = weights_of(tensor, raw, self._kind)
            if not tensor.stays(self._kind):
                self._progress()
                _let_go(content, tensor)
            return found
        kind = _KINDS[tensor.dtype]
        if tensor.begin % numbers.dtype(kind).itemsize:
            raw = raw.copy()  # to where numbers may begin
        stored = raw.view(numbers.dtype(kind)).reshape(tensor.shape)
        if kind == self._kind:
            return stored
        self._progress()
        found = converted(stored, kind, self._kind, usual_threads())
        _let_go(content, tensor)
        return found


def _let_go(content: mmap.mmap, tensor: Tensor | DecoderTensor) -> None:
    """Have the pages of a tensor no longer count as this process's memory."""
    start = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
    length = tensor.begin + tensor.size - start
    if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
        content.madvise(mmap.MADV_DONTNEED, start, length)
