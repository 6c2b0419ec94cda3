"""A decoder on the disk: its tensors, and what becomes of them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from ..native import numbers
from ..native.codes import Form
from ..native.numbers import Kind
from ..spec import ModelSpec, Quantization
from . import decoder_config, decoder_parts, files
from .config_reader import Other
from .decoder_config import DecoderConfig
from .decoder_parts import DecoderTensor, LinearTensor, Role
from .packed_weights import PackedWeights, form_of
from .quantized import layers
from .quantized import settings as quantized_settings
from .quantized.settings import Settings
from .read_ahead import Span
from .stored_tensors import FileState, SafetensorsTensor, StoredTensor, state_of


@dataclass(frozen=True)
class DecoderFiles:
    """A decoder on the disk, whose tensors are those that its config asks for.

    Attributes:
        tensors: by name, each with the file that it is in.
        states: of the files when they were looked at.
        kind: of the numbers that it is computed with.
        quantization: of the weights of linear layers, which are made from those in the files.
        keeps_codes: whether codes that the files have are kept as they are.
        variant: what was added to its tensors; ``stored_as`` how its weights are to be read, where
            files have them as codes. Both change what is made of the same files.
    """

    model_type: str
    config: DecoderConfig
    tensors: Mapping[str, tuple[Path, StoredTensor]]
    states: Mapping[Path, FileState]
    kind: Kind
    quantization: Quantization | None = None
    keeps_codes: bool = False
    variant: tuple[object, ...] = ()
    stored_as: Settings | None = None

    @cached_property
    def wanted(self) -> list[DecoderTensor]:
        """The tensors that it has, of those in the files."""
        return list(decoder_parts.tensors(self.config))

    @cached_property
    def linears(self) -> list[LinearTensor]:
        """The tensors of its linear layers, the head's first, though it may be tied."""
        return list(decoder_parts.linears(self.config))

    @property
    def precision(self) -> str:
        """What its weights are like once it is loaded; of codes, from which they came."""
        if self.quantization is not None:
            return self.quantization
        became: dict[tuple[str, str], None] = {}
        for linear in self.linears:
            tensor, form = self.tensor_of(linear), self.form(linear, linear.roles[0])
            if tensor.kind is None:
                became[f"int{form.bits}" if form else self.kind, tensor.type_name] = None
        return ", ".join(f"{own} ({stored})" for own, stored in became) or self.kind

    @property
    def has_codes(self) -> bool:
        """Whether weights of linear layers are codes."""
        return self.quantization is not None or self.keeps_codes

    @property
    def parameters(self) -> int:
        """How many numbers it has; factors at the ends of layers are no parameters."""
        scales = self.config.layers if self.config.names.output_scale is not None else 0
        return sum(each.elements for each in self._all) - scales

    @property
    def bytes(self) -> int:
        """What it takes once it is loaded.

        Of an embedding that stays in its file beside codes, and of the table of the layers'
        inputs, only the rows of tokens are read.
        """
        width = numbers.dtype(self.kind).itemsize
        if not self.has_codes:
            return width * sum(each.elements for _, each in self._read)
        beside = [
            tensor.elements * numbers.dtype(self.kind_of(tensor)).itemsize
            for each in self.linears
            if self.form(each, each.roles[0]) is None and (tensor := self.tensor_of(each))
        ]
        places = self.config.names.positions and self.config.context * self.config.hidden
        return sum(self.piece_sizes().values()) + sum(beside) + width * (places or 0)

    @property
    def mapped_bytes(self) -> int:
        """What stays in its files of that."""
        if self.has_codes:
            return 0
        return sum(each.size for _, each in self._read if each.stays(self.kind))

    @property
    def is_mapped(self) -> bool:
        """Whether most of its weights stay in their files."""
        return 2 * self.mapped_bytes > self.bytes

    @property
    def largest_converted(self) -> int:
        """Bytes of the largest of its tensors that is copied while something is made of it."""
        sizes = [0]
        for _, tensor in self._read:
            # Codes are made from numbers where these are in the file, or from its codes in parts.
            kind = (tensor.kind or "float32") if self.quantization else self.kind
            is_kept = self.keeps_codes and tensor.form is not None
            if not is_kept and not tensor.stays(kind):
                sizes.append(tensor.elements * numbers.dtype(kind).itemsize)
        return max(sizes)

    def room(self) -> PackedWeights | None:
        """Room for its codes, where it has some."""
        if not self.has_codes:
            return None
        # Some programs write into a file and set back when that was, but not the time of that.
        opened = [(str(path), path.stat().st_ctime_ns, *own) for path, own in self.states.items()]
        how = self.quantization or "as stored"
        made_from = (opened, self.model_type, how, self.variant, self.stored_as)
        return PackedWeights(self.piece_sizes(), made_from)

    def piece_sizes(self) -> dict[str, int]:
        """Bytes of the codes of its linear layers, by name."""
        return {name: form.size(outputs, inputs) for name, outputs, inputs, form in self._pieces()}

    def _pieces(self) -> Iterator[tuple[str, int, int, Form]]:
        """What has codes: each linear layer of a tensor, with its outputs and inputs."""
        for linear in self.linears:
            for number, (role, outputs) in enumerate(
                zip(linear.roles, linear.outputs, strict=True)
            ):
                if form := self.form(linear, role):
                    yield piece_name(linear, number), outputs, linear.inputs, form
        config = self.config
        if self.keeps_codes and not config.tied and (form := self._table.form):
            yield config.table_name, config.vocabulary, config.hidden, form

    def form(self, linear: LinearTensor, role: Role) -> Form | None:
        """What the weights of a linear layer become; None where they are numbers."""
        if self.quantization is not None:
            return form_of(role, linear.layer, self.config.layers, self.quantization)
        return self.tensor_of(linear).form if self.keeps_codes else None

    def kind_of(self, tensor: StoredTensor) -> Kind:
        """Of the weights of a linear layer that are numbers; beside codes they stay as they are."""
        return tensor.kind or self.kind if self.has_codes else self.kind

    def tensor_of(self, linear: LinearTensor) -> StoredTensor:
        """The tensor of linear layers; of a tied head the embedding."""
        if linear.layer is None and self.config.tied:
            return self._table
        return self.tensors[linear.weight.name][1]

    @property
    def _table(self) -> StoredTensor:
        return self.tensors[self.config.table_name][1]

    @property
    def spans(self) -> list[Span]:
        """Where in the files what is read whole stands; what stands side by side is one."""
        found: list[Span] = []
        for path, tensor in sorted(self._read, key=lambda place: (place[0], place[1].begin)):
            span = Span(path, tensor.begin, tensor.begin + tensor.size)
            if found and found[-1].path == path and span.begin <= found[-1].end:
                span = Span(path, found[-1].begin, max(span.end, found.pop().end))
            found.append(span)
        return found

    @property
    def _read(self) -> list[tuple[Path, StoredTensor]]:
        """Those that are read whole, each with its file."""
        table = self.config.input_table_name
        return [self.tensors[each.name] for each in self.wanted if each.name != table]

    @property
    def _all(self) -> list[StoredTensor]:
        return [self.tensors[each.name][1] for each in self.wanted]


def piece_name(linear: LinearTensor, number: int) -> str:
    """What the codes of one of a tensor's layers are called."""
    return f"{linear.name}.{number}"


def find(spec: ModelSpec, folder: Path, content: Any) -> DecoderFiles:
    """The decoder in a folder, by what config.json says.

    Raises:
        Other: there is none that is known here.
        ModelError: a file is damaged.
    """
    settings = quantized_settings.read(content) if isinstance(content, dict) else None
    if settings is not None:
        content = {key: content[key] for key in content if key not in quantized_settings.KEYS}
    config = decoder_config.read(content)
    own_code = content.get("auto_map")
    if own_code and (spec.trust_remote_code or not isinstance(own_code, dict)):
        raise Other("it comes with code of its own, which is trusted")
    paths = files.folder_weights(folder)
    if any(path.suffix != ".safetensors" for path in paths):
        raise Other("its weights are pickled")
    states = {path: state_of(path.stat()) for path in paths}
    there = {tensor.name: (path, tensor) for path in paths for tensor in files.tensors(path)}
    quantized = {} if settings is None else layers.weights_of(settings, there, states)
    names = config.names.as_in(there.keys() | quantized.keys())
    config = replace(config, names=names)
    if f"{config.names.heads[0]}.weight" in there.keys() | quantized.keys():
        config = replace(config, tied=False)  # transformers takes it, whatever config.json says
    turned = {each.name for each in decoder_parts.tensors(config) if each.transposed}
    tensors: dict[str, tuple[Path, StoredTensor]] = {
        name: (path, SafetensorsTensor(tensor, name in turned))
        for name, (path, tensor) in there.items()
    }
    tensors |= quantized
    found = of(spec, content["model_type"], config, tensors, states)
    return replace(found, stored_as=settings)


def of(
    spec: ModelSpec,
    model_type: str,
    config: DecoderConfig,
    tensors: Mapping[str, tuple[Path, StoredTensor]],
    states: Mapping[Path, FileState],
) -> DecoderFiles:
    """A decoder of these tensors.

    Raises:
        Other: they are not those that its config asks for.
    """
    matrices = []
    for name, shape, is_transposed in decoder_parts.tensors(config):
        if name not in tensors:
            raise Other(f"it has no {name}")
        tensor = tensors[name][1]
        if tensor.shape != (shape[::-1] if is_transposed else shape):
            raise Other(f"{name} is another one")
        if tensor.kind is None and isinstance(tensor, SafetensorsTensor):
            raise Other(f"{name} is of another type")
        matrices += [tensor] if len(shape) > 1 else []
    quantization = spec.settled_quantization
    precision = spec.precision if spec.precision != "auto" else config.precision
    is_free = spec.precision == "auto" and quantization is None and not spec.adapters
    precision = precision or _stored_kind(matrices)
    if quantization is not None:
        precision = "float32"
    if not isinstance(precision, str) or precision not in numbers.KINDS:
        raise Other(f"{precision} has no kernels")
    found = DecoderFiles(model_type, config, tensors, states, precision, quantization)
    if not is_free or all(each.form is None for each in matrices):
        return found
    # What becomes numbers beside codes is float32. Where that is most, all take less as numbers.
    with_codes = replace(found, kind="float32", keeps_codes=True)
    return with_codes if with_codes.bytes < found.bytes else found


def _stored_kind(matrices: Sequence[StoredTensor]) -> Kind:
    """The kind of numbers that weights are, or best become."""
    kinds: Counter[Kind] = Counter()
    for each in matrices:
        # Codes have 8 bits at most, and so have numbers in bfloat16.
        kinds[each.kind or "bfloat16"] += each.elements
    if len(kinds) > 1 and all(isinstance(each, SafetensorsTensor) for each in matrices):
        raise Other("its weights are of several types")
    return kinds.most_common(1)[0][0]
