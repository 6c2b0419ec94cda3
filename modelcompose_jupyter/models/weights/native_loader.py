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
from .file_bounds import BrokenFile
from .generation_defaults import OwnDefaults
from .gguf import model as gguf_model
from .gguf import repack
from .gguf import tokenizer as gguf_tokenizer
from .gguf.model import GgufModel
from .gguf.weights import DecoderTensor, blocks_of, weights_of
from .library_logging import quiet
from .load_errors import explained
from .loaded_model import LoadedModel
from .packed_weights import PackedWeights, form_of
from .read_ahead import ReadAhead
from .safetensors_header import Tensor
from .source import ResolvedSource
from .tokenizer import load_fast_tokenizer, load_tokenizer

_KINDS: dict[str, Kind] = {"F32": "float32", "BF16": "bfloat16", "F16": "float16"}
_EMBEDDING = "model.embed_tokens"
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
        return ("native", str(self.source.place), self.found.precision)

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
    with files.checked(source.parts[0]):
        try:
            found = _found(spec, config.model_type, config.decoder, model.tensors, states)
        except Other as other:
            raise BrokenFile(str(other)) from None
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
        packed = found.room()
        with ReadAhead([packed.path] if packed and packed.path else list(opened)) as ahead:
            tokenizer, own_ends = _tokenizer(plan)
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
    if plan.gguf is not None:
        ends, begin = own_ends, tokenizer.bos_token_id
    return LoadedModel(
        tokenizer=tokenizer,
        device=plan.device,
        precision=found.precision,
        class_name=found.config.class_name,
        context=found.config.context,
        parameters=found.parameters,
        memory_bytes=decoder.bytes,
        mapped_bytes=found.mapped_bytes if packed is None else decoder.bytes if is_mapped else 0,
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
        quantization: of the weights of linear layers, which are made from those in the files.
        keeps_codes: whether codes that the files have are kept as they are.
    """

    model_type: str
    config: DecoderConfig
    tensors: Mapping[str, tuple[Path, Tensor | DecoderTensor]]
    states: Mapping[Path, tuple[int, ...]]
    kind: Kind
    quantization: Quantization | None
    keeps_codes: bool = False

    @property
    def precision(self) -> str:
        """What its weights are like once it is loaded; of codes, from which they came."""
        if self.quantization is not None:
            return self.quantization
        became: dict[str, str] = {}
        for name, shape in _wanted(self.config):
            tensor = self._tensor(name)
            if len(shape) == 2 and isinstance(tensor, DecoderTensor) and tensor.kind is None:
                form = self.form(_linear_name(name))
                became[tensor.stored.type.name] = f"int{form.bits}" if form else self.kind
        return ", ".join(f"{own} ({stored})" for stored, own in became.items()) or self.kind

    @property
    def has_codes(self) -> bool:
        """Whether weights of linear layers are codes."""
        return self.quantization is not None or self.keeps_codes

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
        width = numbers.dtype(self.kind).itemsize
        if not self.has_codes:
            return self.parameters * width
        beside = [
            self._tensor(name).elements
            for name, shape in _wanted(self.config)
            if len(shape) == 2 and self.keeps_codes and self.form(_linear_name(name)) is None
        ]
        return sum(self._piece_sizes().values()) + width * sum(beside)

    @property
    def mapped_bytes(self) -> int:
        """What stays in its files of that."""
        if self.has_codes:
            return 0
        return sum(each.size for each in self._all if _stays(each, self.kind))

    @property
    def is_mapped(self) -> bool:
        """Whether most of its weights stay in their files."""
        return 2 * self.mapped_bytes > self.bytes

    @property
    def largest_converted(self) -> int:
        """Bytes on the disk of the largest of its tensors that does not stay there."""
        return max(
            (each.size for each in self._all if self.has_codes or not _stays(each, self.kind)),
            default=0,
        )

    def room(self) -> PackedWeights | None:
        """Room for its codes, where it has some."""
        if not self.has_codes:
            return None
        files = [(str(path), state) for path, state in self.states.items()]
        how = self.quantization or "as stored"
        return PackedWeights(self._piece_sizes(), (files, self.model_type, how))

    def _piece_sizes(self) -> dict[str, int]:
        """Bytes of the codes of its linear layers, by name."""
        return {name: form.size(outputs, inputs) for name, outputs, inputs, form in self._pieces()}

    def _pieces(self) -> Iterator[tuple[str, int, int, Form]]:
        """What has codes: a linear layer or, where several are one tensor, each of them."""
        config = self.config
        if form := self.form("lm_head"):
            yield "lm_head", config.vocabulary, config.hidden, form
        if not config.tied and self.keeps_codes and (form := self.form(_EMBEDDING)):
            yield _EMBEDDING, config.vocabulary, config.hidden, form
        for name, shape in _wanted(config):
            *_, part, kind = name.split(".")
            if len(shape) != 2 or kind != "weight" or part in ("embed_tokens", "lm_head"):
                continue
            layer = name.removesuffix(f".{part}.weight")
            for own, outputs in _parts(config, part, shape[0]):
                if form := self.form(f"{layer}.{own}"):
                    yield f"{layer}.{own}", outputs, shape[1], form

    def form(self, name: str) -> Form | None:
        """What the weights of a linear layer become; None where they are numbers."""
        if self.quantization is None:
            return self._stored_form(name) if self.keeps_codes else None
        number = name.split(".")[2] if "." in name else "0"
        return form_of(name.rpartition(".")[2], int(number), self.config.layers, self.quantization)

    def _stored_form(self, name: str) -> Form | None:
        """That of the codes in the file, whole or as a part of a tensor."""
        layer, dot, part = name.rpartition(".")
        whole = {"q_proj": "qkv_proj", "k_proj": "qkv_proj", "v_proj": "qkv_proj",
                 "gate_proj": "gate_up_proj", "up_proj": "gate_up_proj"}  # fmt: skip
        if name == "lm_head" and self.config.tied:
            name = _EMBEDDING
        elif f"{name}.weight" not in self.tensors:
            name = f"{layer}{dot}{whole[part]}"
        tensor = self._tensor(f"{name}.weight")
        return tensor.form if isinstance(tensor, DecoderTensor) else None

    @property
    def _all(self) -> list[Tensor | DecoderTensor]:
        return [self._tensor(name) for name, _ in _wanted(self.config)]

    def _tensor(self, name: str) -> Tensor | DecoderTensor:
        return self.tensors[name][1]


def _linear_name(tensor: str) -> str:
    """The linear layer of a tensor, or the first of several."""
    name = tensor.removesuffix(".weight")
    return name.replace("qkv_proj", "q_proj").replace("gate_up_proj", "gate_proj")


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
        if isinstance(tensor, Tensor) and tensor.dtype not in _KINDS:
            raise Other(f"{name} is another one")
        matrices += [tensor] if len(shape) > 1 else []
    precision = spec.precision if spec.precision != "auto" else config.precision
    is_free = precision is None and spec.quantization is None
    precision = precision or _stored_kind(matrices)
    if spec.quantization is not None:
        precision = "float32"
    if not isinstance(precision, str) or precision not in numbers.KINDS:
        raise Other(f"{precision} has no kernels")
    quantization = spec.settled_quantization
    found = DecoderFiles(model_type, config, tensors, states, precision, quantization)
    if not is_free or not any(map(_has_form, matrices)):
        return found
    # What is no code beside codes is float32. Where that is most, all take less as numbers.
    with_codes = replace(found, kind="float32", keeps_codes=True)
    return with_codes if with_codes.bytes < found.bytes else found


def _has_form(tensor: Tensor | DecoderTensor) -> bool:
    return isinstance(tensor, DecoderTensor) and tensor.form is not None


def _stored_kind(matrices: Sequence[Tensor | DecoderTensor]) -> Kind:
    """The kind of numbers that weights are, or best become."""
    kinds: Counter[Kind] = Counter()
    for each in matrices:
        if isinstance(each, DecoderTensor):
            # Codes have 8 bits at most, and so have numbers in bfloat16.
            kinds[each.kind or "bfloat16"] += each.elements
        else:
            kinds[_KINDS[each.dtype]] += each.elements
    if len(kinds) > 1 and not isinstance(matrices[0], DecoderTensor):
        raise Other("its weights are of several types")
    return kinds.most_common(1)[0][0]


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
        mapped = found.mapped_bytes
        if packed is not None and packed.is_mapped:
            mapped = found.bytes
        self._mapped = memory.MappedWeights(mapped)
        self._opened = opened
        self._progress = progress

    def parts(self) -> Parts:
        config = self._config
        layers = [self._layer(number) for number in range(config.layers)]
        embedding = self._embedding()
        head = embedding
        if not config.tied or self._found.quantization is not None:
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
        name = f"{_EMBEDDING}.weight"
        if self._found.keeps_codes:
            piece = "lm_head" if self._config.tied else _EMBEDDING
            return self._linears(_EMBEDDING, [piece], [self._config.vocabulary])[0]
        if self._packed is None:
            return Linear(self._numbers(name), None, self._kind)
        tensor, raw = self._raw(name)
        if isinstance(tensor, DecoderTensor):
            kind = tensor.kind or "bfloat16"
            return Linear(weights_of(tensor, raw, kind), None, kind)
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
        if self._found.form(names[0]) is None:
            return Linear(self._numbers(f"{tensor}.weight"), bias, self._kind).parts(*outputs)
        if self._found.keeps_codes:
            return self._repacked(tensor, bias, names, outputs)
        assert self._packed is not None
        stored, kind = self._stored(f"{tensor}.weight")
        parts = Linear(stored, bias, kind).parts(*outputs)
        made = [
            replace(each, weights=self._codes(name, each.weights, kind), kind=self._kind)
            for name, each in zip(names, parts, strict=True)
        ]
        if not self._packed.is_filled:
            self._let_go(f"{tensor}.weight")
        return made

    def _repacked(
        self, tensor: str, bias: np.ndarray | None, names: Sequence[str], outputs: Sequence[int]
    ) -> list[Linear]:
        """The linear layers that a tensor is, with the codes that the file has for it."""
        assert self._packed is not None
        stored, raw = self._raw(f"{tensor}.weight")
        assert isinstance(stored, DecoderTensor)
        type, inputs = stored.stored.type, stored.shape[1]
        blocks = raw.reshape(stored.shape[0], -1, type.size)
        if not repack.is_exact(type, blocks):
            return Linear(weights_of(stored, raw, self._kind), bias, self._kind).parts(*outputs)
        if not self._packed.is_filled:
            blocks = blocks_of(stored, raw)
        made, ends = [], np.cumsum(outputs)
        for name, end, count in zip(names, ends, outputs, strict=True):
            room = self._packed.piece(name)
            if self._packed.is_filled:
                weights = repack.found(type, count, inputs, room)
            else:
                self._progress()
                weights = repack.repacked(type, blocks[end - count : end], room)
            own = None if bias is None else bias[end - count : end]
            made.append(Linear(weights, own, self._kind))
        if not self._packed.is_filled:
            self._let_go(f"{tensor}.weight")
        return made

    def _codes(self, name: str, weights: np.ndarray | Codes, kind: Kind) -> Codes:
        assert self._packed is not None and not isinstance(weights, Codes)
        form, room = self._found.form(name), self._packed.piece(name)
        assert form is not None
        outputs, inputs = weights.shape
        if self._packed.is_filled:
            return codes.found(room, outputs, inputs, form)
        self._progress()
        return codes.coded(weights, kind, form, room, usual_threads())

    def _norm(self, name: str) -> np.ndarray:
        """The weights of a norm, as a model of this kind of numbers has them, in float32."""
        tensor, raw = self._raw(f"{name}.weight")
        if isinstance(tensor, DecoderTensor):  # it is float32 there, whatever the others are
            return weights_of(tensor, raw, "float32")
        own = numbers.as_float32(self._numbers(f"{name}.weight"), self._kind)
        return np.ascontiguousarray(own + np.float32(self._config.norm_offset))

    def _numbers(self, name: str) -> np.ndarray:
        """A tensor: where it is in its file, or converted."""
        stored, kind = self._stored(name)
        if kind == self._kind:
            if not _stays(self._tensors[name][1], kind):
                self._let_go(name)
            return stored
        self._progress()
        found = converted(stored, kind, self._kind, usual_threads())
        self._let_go(name)
        return found

    def _stored(self, name: str) -> tuple[np.ndarray, Kind]:
        """A tensor as its file has it."""
        tensor, raw = self._raw(name)
        if isinstance(tensor, DecoderTensor):
            return self._made(tensor, raw), self._kind
        kind = _KINDS[tensor.dtype]
        if tensor.begin % numbers.dtype(kind).itemsize:
            raw = raw.copy()  # to where numbers may begin
        return raw.view(numbers.dtype(kind)).reshape(tensor.shape), kind

    def _made(self, tensor: DecoderTensor, raw: np.ndarray) -> np.ndarray:
        found = weights_of(tensor, raw, self._kind)
        if not tensor.stays(self._kind):
            self._progress()
        return found

    def _raw(self, name: str) -> tuple[Tensor | DecoderTensor, np.ndarray]:
        """A tensor, and its bytes."""
        path, tensor = self._tensors[name]
        content = self._opened[path].content
        return tensor, np.frombuffer(content, np.uint8, tensor.size, tensor.begin)

    def _let_go(self, name: str) -> None:
        """Have the pages of a tensor no longer count as this process's memory."""
        path, tensor = self._tensors[name]
        start = -(-tensor.begin // mmap.PAGESIZE) * mmap.PAGESIZE
        length = tensor.begin + tensor.size - start
        if length > 0 and hasattr(mmap, "MADV_DONTNEED"):
            self._opened[path].content.madvise(mmap.MADV_DONTNEED, start, length)
