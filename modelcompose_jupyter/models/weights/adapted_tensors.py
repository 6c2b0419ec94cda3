"""LoRA adapters in a decoder that runs in C: added to its tensors while these are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..native import numbers
from ..native.numbers import Kind
from . import decoder_parts, files
from .config_reader import Other
from .decoder_config import DecoderConfig
from .decoder_files import DecoderFiles
from .decoder_parts import LinearTensor
from .lora import LoraAdapter
from .stored_tensors import FileTensor, SafetensorsTensor, StoredTensor, state_of

_PREFIX = "base_model.model."
_INERT = frozenset({
    "arrow_config", "auto_mapping", "base_model_name_or_path", "corda_config", "eva_config",
    "ensure_weight_tying", "fan_in_fan_out", "inference_mode", "init_lora_weights", "lora_alpha",
    "lora_dropout", "lora_ga_config", "loftq_config", "megatron_core", "peft_type",
    "peft_version", "qalora_group_size", "r", "revision", "runtime_config", "target_modules",
    "task_type", "use_rslora",
})  # fmt: skip
"""Keys of an adapter's config that say nothing else than what is read here."""


@dataclass(frozen=True)
class Factors:
    """What an adapter adds to a tensor: a product of two small matrices.

    Attributes:
        down: [rank, inputs]; ``up`` [outputs, rank].
        scale: of their product.
    """

    down: FileTensor
    up: FileTensor
    scale: float

    def product(self) -> np.ndarray:
        """[outputs, inputs], float32."""
        with np.errstate(all="ignore"):  # what is no number shows in the scores
            found: np.ndarray = self.up.float32() @ self.down.float32()
            found *= np.float32(self.scale)
        return found


@dataclass(frozen=True)
class AdaptedTensor(StoredTensor):
    """A tensor to which something is added. It stays in no file."""

    stored: StoredTensor
    added: Sequence[Factors]

    @property
    def kind(self) -> Kind | None:
        return self.stored.kind

    @property
    def type_name(self) -> str:
        return self.stored.type_name

    def stays(self, kind: Kind) -> bool:
        return False

    def numbers(self, raw: np.ndarray, kind: Kind) -> np.ndarray:
        """In the order in which peft adds and rounds."""
        wide = numbers.as_float32(self.stored.numbers(raw, kind), kind)
        for each in self.added:
            wide = numbers.rounded(wide + each.product(), kind)
        return numbers.converted(wide, "float32", kind)


def adapted(found: DecoderFiles, adapters: Sequence[LoraAdapter]) -> DecoderFiles:
    """A decoder with adapters added to its tensors.

    Raises:
        Other: an adapter does something else than adding to weights of linear layers, or is none of
            this model.
        ModelError: an adapter's file is damaged.
    """
    added: dict[str, list[Factors]] = {}
    for adapter in adapters:
        for name, factors in _factors(adapter, found.config).items():
            added.setdefault(name, []).append(factors)
    tensors = dict(found.tensors)
    for name, all_ in added.items():
        path, stored = tensors[name]
        tensors[name] = path, AdaptedTensor(stored, all_)
    opened = {each.up.path: each.up.state for all_ in added.values() for each in all_}
    states = sorted((str(path), state) for path, state in opened.items())
    return replace(found, tensors=tensors, variant=(*(each.key for each in adapters), *states))


def _factors(adapter: LoraAdapter, config: DecoderConfig) -> dict[str, Factors]:
    """What an adapter adds, by the names of tensors."""
    scale = _scale(adapter.config) * adapter.spec.weight
    (path,) = files.adapter_weights(adapter.folder)
    if path.suffix != ".safetensors":
        raise Other(f"the adapter {adapter.name} is pickled")
    state = state_of(path.stat())
    there = {each.name: each for each in files.tensors(path)}
    linears = {each.name: each for each in decoder_parts.linears(config)}
    found = {}
    for name, linear in linears.items():
        if not _is_target(linear, adapter.config):
            continue
        own = [there.pop(f"{_PREFIX}{name}.lora_{each}.weight", None) for each in "AB"]
        down, up = own
        if down is None or up is None or (linear.layer is None and config.tied):
            raise Other(f"the adapter {adapter.name} changes other layers")
        rank = adapter.config["r"]
        if down.shape != (rank, linear.inputs) or up.shape != (sum(linear.outputs), rank):
            raise Other(f"the adapter {adapter.name} is for layers of another size")
        if SafetensorsTensor(down).kind is None or SafetensorsTensor(up).kind is None:
            raise Other(f"the adapter {adapter.name} has numbers of other kinds")
        down_there, up_there = (FileTensor(path, state, each) for each in (down, up))
        found[linear.weight.name] = Factors(down_there, up_there, scale)
    if there or not found:
        raise Other(f"the adapter {adapter.name} changes other things")
    return found


def _is_target(linear: LinearTensor, config: Mapping[str, Any]) -> bool:
    targets = config.get("target_modules")
    if targets == "all-linear":
        return linear.layer is not None
    if not isinstance(targets, list) or not all(isinstance(each, str) for each in targets):
        raise Other("an adapter names its layers by a pattern")
    return any(linear.name == each or linear.name.endswith(f".{each}") for each in targets)


def _scale(config: Mapping[str, Any]) -> float:
    """What a plain adapter's products are multiplied by."""
    special = [
        key for key, value in config.items()
        if key not in _INERT and value and not (key == "bias" and value == "none")
    ]  # fmt: skip
    rank, alpha = config.get("r"), config.get("lora_alpha")
    if not isinstance(config.get("task_type"), str | type(None)):
        raise Other("an adapter's task_type is none")
    if special or type(rank) is not int or rank < 1 or not isinstance(alpha, int | float):
        raise Other(f"an adapter asks for {special[0] if special else 'no rank'}")
    return float(alpha / rank**0.5 if config.get("use_rslora") else alpha / rank)
