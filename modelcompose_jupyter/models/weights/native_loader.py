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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ...errors import ModelError
from .. import memory
from ..native import codes, numbers
from ..native.build import kernels, why_none
from ..native.codes import Codes, Form
from ..native.decoder import Layer, Parts
from ..native.linear import Linear, converted
from ..native.numbers import Kind
from ..native.threads import usual_threads
from ..spec import LoadProgress, ModelSpec, Quantization, Report
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
from .library_logging import quiet
from .load_errors import explained
from .loaded_model import LoadedModel
from .packed_weights import PackedWeights, form_of
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
        return ("native", str(self.source.folder), self.found.precision)

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
    progress = LoadProgress("load", spec.source, 0, found.count, "tensors")
    with explained(spec, plan.device):
        paths = {path for path, _ in found.tensors.values()}
        opened = {path: _MappedFile(path, found.states[path]) for path in paths}
        count = itertools.count()
        packed = found.room()
        with ReadAhead([packed.path] if packed and packed.path else list(opened)) as ahead:
            tokenizer = _tokenizer(plan)
            decoder = _Reader(
                found, opened, packed, lambda: report(replace(progress, done=next(count)))
            ).parts()
            for each in opened.values():
                each.check()
            if packed is not None:
                packed.keep()
            is_mapped = found.is_mapped if packed is None else packed.is_mapped
            while is_mapped and not ahead.wait(_REPORT_SECONDS):
                report(replace(progress, done=int(ahead.share * found.count)))
        report(replace(progress, done=found.count))
    defaults, special = plan.defaults, found.config.special_tokens
    ends = special["eos_token_id"] if defaults.eos_token_id is None else defaults.eos_token_id
    begin = special["bos_token_id"] if defaults.bos_token_id is None else defaults.bos_token_id
    return LoadedModel(
        tokenizer=tokenizer,
        device=plan.device,
        precision=found.precision,
        class_name=found.config.class_name,
        context=found.config.context,
        parameters=found.parameters,
        memory_bytes=decoder.bytes,
        mapped_bytes=decoder.bytes if is_mapped else 0,
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
        quantization: of the weights of linear layers, which are made from those in the files.
    """

    model_type: str
    config: DecoderConfig
    tensors: Mapping[str, tuple[Path, Tensor]]
    states: Mapping[Path, tuple[int, ...]]
    stored: Kind
    kind: Kind
    quantization: Quantization | None

    @property
    def precision(self) -> str:
        """What its weights are like once it is loaded."""
        return self.quantization or self.kind

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
        """What it takes once it is loaded.

        Of an embedding that stays in its file beside codes, only the rows of tokens are read.
        """
        if self.quantization is not None:
            return sum(self._piece_sizes().values())
        return self.parameters * numbers.dtype(self.kind).itemsize

    @property
    def is_mapped(self) -> bool:
        """Whether its weights stay in their files."""
        return self.quantization is None and self.stored == self.kind

    @property
    def largest(self) -> int:
        """Bytes of its largest tensor on the disk."""
        return max(tensor.size for _, tensor in self.tensors.values())

    def room(self) -> PackedWeights | None:
        """Room for its codes, where it has some."""
        if self.quantization is None:
            return None
        files = [(str(path), state) for path, state in self.states.items()]
        return PackedWeights(self._piece_sizes(), (files, self.model_type, self.quantization))

    def _piece_sizes(self) -> dict[str, int]:
        """Bytes of the codes of its linear layers, by name."""
        return {name: form.size(outputs, inputs) for name, outputs, inputs, form in self._pieces()}

    def _pieces(self) -> Iterator[tuple[str, int, int, Form]]:
        """What has codes: a linear layer or, where several are one tensor, each of them."""
        config = self.config
        yield "lm_head", config.vocabulary, config.hidden, self.form("lm_head")
        for name, shape in _wanted(config):
            *_, part, kind = name.split(".")
            if len(shape) != 2 or kind != "weight" or part in ("embed_tokens", "lm_head"):
                continue
            layer = name.removesuffix(f".{part}.weight")
            for own, outputs in _parts(config, part, shape[0]):
                yield f"{layer}.{own}", outputs, shape[1], self.form(f"{layer}.{own}")

    def form(self, name: str) -> Form:
        """How many bits the weights of a linear layer get."""
        assert self.quantization is not None
        number = name.split(".")[2] if "." in name else "0"
        return form_of(name.rpartition(".")[2], int(number), self.config.layers, self.quantization)

    def _tensor(self, name: str) -> Tensor:
        return self.tensors[name][1]


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
    dtypes = set()
    for name, shape in _wanted(config):
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
    if spec.quantization is not None:
        precision = "float32"
    if not isinstance(precision, str) or precision not in numbers.KINDS:
        raise Other(f"{precision} has no kernels")
    return DecoderFiles(
        content["model_type"], config, tensors, states, stored, precision,
        spec.settled_quantization,
    )  # fmt: skip


def _parts(config: DecoderConfig, name: str, outputs: int) -> list[tuple[str, int]]:
    """The linear layers that a tensor is, with their outputs."""
    queries, keys = config.query_heads * config.head_size, config.key_heads * config.head_size
    if name == "qkv_proj":
        return [("q_proj", queries), ("k_proj", keys), ("v_proj", keys)]
    if name == "gate_up_proj":
        return [("gate_proj", config.intermediate), ("up_proj", config.intermediate)]
    return [(name, outputs)]


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
        packed: PackedWeights | None,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self._found = found
        self._packed = packed
        self._config = found.config
        self._tensors = found.tensors
        self._kind = found.kind
        is_mapped = found.is_mapped if packed is None else packed.is_mapped
        self._mapped = memory.MappedWeights(found.bytes if is_mapped else 0)
        self._opened = opened
        self._progress = progress

    def parts(self) -> Parts:
        config = self._config
        layers = [self._layer(number) for number in range(config.layers)]
        embedding = self._embedding()
        head = embedding
        if not config.tied or self._packed is not None:
            tensor = "model.embed_tokens" if config.tied else "lm_head"
            (head,) = self._linears(tensor, ["lm_head"], [config.vocabulary])
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
        if config.fused:
            qkv = self._linear(f"{attention}.qkv_proj")
            gate_up = self._linear(f"{mlp}.gate_up_proj")
        else:
            qkv = [self._linear(f"{attention}.{name}_proj")[0] for name in "qkv"]
            gate_up = [self._linear(f"{mlp}.{name}_proj")[0] for name in ("gate", "up")]
        around = config.norms_around
        before_mlp = "pre_feedforward_layernorm" if around else "post_attention_layernorm"
        return Layer(
            qkv=qkv,
            output=self._linear(f"{attention}.o_proj")[0],
            gate_up=gate_up,
            down=self._linear(f"{mlp}.down_proj")[0],
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

    def _embedding(self) -> Linear:
        """As its file has it where there are codes: only rows of tokens are read."""
        name = "model.embed_tokens.weight"
        if self._packed is None:
            return Linear(self._numbers(name), None, self._kind)
        stored, kind = self._stored(name)
        return Linear(stored, None, kind)

    def _linear(self, tensor: str) -> list[Linear]:
        """The linear layers that a tensor is, one after the other."""
        layer, _, name = tensor.rpartition(".")
        shape = self._tensors[f"{tensor}.weight"][1].shape
        parts = _parts(self._config, name, shape[0])
        return self._linears(tensor, [f"{layer}.{own}" for own, _ in parts], [n for _, n in parts])

    def _linears(self, tensor: str, names: Sequence[str], outputs: Sequence[int]) -> list[Linear]:
        has_bias = tensor.rpartition(".")[2] in self._config.biases
        bias = self._numbers(f"{tensor}.bias") if has_bias else None
        if self._packed is None:
            return Linear(self._numbers(f"{tensor}.weight"), bias, self._kind).parts(*outputs)
        stored, kind = self._stored(f"{tensor}.weight")
        parts = Linear(stored, bias, kind).parts(*outputs)
        made = [
            replace(each, weights=self._codes(name, each.weights, kind), kind=self._kind)
            for name, each in zip(names, parts, strict=True)
        ]
        if not self._packed.is_filled:
            self._let_go(f"{tensor}.weight")
        return made

    def _codes(self, name: str, weights: np.ndarray | Codes, kind: Kind) -> Codes:
        assert self._packed is not None and not isinstance(weights, Codes)
        form, room = self._found.form(name), self._packed.piece(name)
        outputs, inputs = weights.shape
        if self._packed.is_filled:
            return codes.found(room, outputs, inputs, form)
        self._progress()
        return codes.coded(weights, kind, form, room, usual_threads())

    def _norm(self, name: str) -> np.ndarray:
        """The weights of a norm, as a model of this kind of numbers has them, in float32."""
        own = numbers.as_float32(self._numbers(f"{name}.weight"), self._kind)
        return np.ascontiguousarray(own + np.float32(self._config.norm_offset))

    def _numbers(self, name: str) -> np.ndarray:
        """A tensor: where it is in its file, or converted."""
        stored, kind = self._stored(name)
        if kind == self._kind:
            return stored
        self._progress()
        found = converted(stored, kind, self._kind, usual_threads())
        self._let_go(name)
        return found

    def _stored(self, name: str) -> tuple[np.ndarray, Kind]:
        """A tensor as its file has it."""
        path, tensor = self._tensors[name]
        kind = _KINDS[tensor.dtype]
        content = self._opened[path].content
        raw = np.frombuffer(content, np.uint8, tensor.size, tensor.begin)
        if tensor.begin % numbers.dtype(kind).itemsize:
            raw = raw.copy()  # to where numbers may begin
        return raw.view(numbers.dtype(kind)).reshape(tensor.shape), kind

    def _let_go(self, name: str) -> None:
        """Have the pages of a tensor no longer count as this process's memory."""
        path, tensor = self._tensors[name]
        start = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = tensor.begin + tensor.size - start
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._opened[path].content.madvise(mmap.MADV_DONTNEED, start, length)
