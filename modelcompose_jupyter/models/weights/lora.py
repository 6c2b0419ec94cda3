"""LoRA adapters: from where they are into the weights of a model."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, one_line
from ..spec import AdapterSpec, Report
from ..tokenization import regex_safety
from . import config_checks, file_kinds, files, hub
from .source import folder_of, is_folder

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_PATTERNS = (
    "target_modules", "exclude_modules", "modules_to_save", "layers_pattern", "rank_pattern",
    "alpha_pattern", "target_parameters",
)  # fmt: skip
"""Of an adapter's config: what peft takes for regular expressions, or puts into such."""


@dataclass(frozen=True)
class LoraAdapter:
    """An adapter on this disk.

    ``config`` is its adapter_config.json; ``memory_bytes`` is what its weights take while they are
    merged, in float32.
    """

    spec: AdapterSpec
    folder: Path
    config: dict[str, Any]
    memory_bytes: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return self.spec.name or self.spec.model.source

    @property
    def key(self) -> tuple[str, float]:
        """Equal for two that add the same to the weights."""
        return str(self.folder), self.spec.weight


def resolve(spec: AdapterSpec, report: Report) -> LoraAdapter:
    """Find an adapter, downloading it if need be.

    Raises:
        ModelError: it does not exist, cannot be fetched, is not whole or is no LoRA.
    """
    source = spec.model.source
    folder = folder_of(source) if is_folder(source) else _Download(spec.model, report).fetch()
    files.check_adapter(folder)
    files.check_documents(folder)
    config = files.read_json(folder / files.ADAPTER_CONFIG)
    kind = config.get("peft_type") if isinstance(config, dict) else None
    if kind != "LORA":
        raise ModelError(
            f"the adapter {spec.name or source} is no LoRA: its peft_type is {kind}",
            hint="Adapters of other kinds do not run here.",
            code="not_lora",
        )
    _check_patterns(folder / files.ADAPTER_CONFIG, config)
    (path,) = files.adapter_weights(folder)
    if path.suffix != ".safetensors":  # torch alone reads others
        return LoraAdapter(spec, folder, config, 2 * path.stat().st_size)
    weights = files.read_weights([path])
    config_checks.check_config(folder / files.ADAPTER_CONFIG, config, weights)
    return LoraAdapter(spec, folder, config, weights.memory_bytes("float32"))


def _check_patterns(path: Path, config: dict[str, Any]) -> None:
    """Raise a `ModelError` for a pattern of layers that would take for ever to match."""
    for name in _PATTERNS:
        value = config.get(name)
        for pattern in [value] if isinstance(value, str) else value or ():
            if not isinstance(pattern, str) or regex_safety.is_quick(pattern):
                continue
            what, most = "may take for ever to match", regex_safety.LONGEST
            if len(pattern) > most:
                what = f"is too long: {len(pattern)} characters, and {most} is the most"
            raise ModelError(
                f"{path} is not used: its {name} has a pattern that {what}",
                hint="Write the names of the layers, or a pattern without repeats in repeats.",
                code="corrupt_model",
            )


def merge(model: PreTrainedModel, adapters: Sequence[LoraAdapter]) -> PreTrainedModel:
    """Add adapters to a model's weights, each by its factor. What comes back has plain layers.

    transformers must build no other model meanwhile.

    Raises:
        ModelError: an adapter is damaged, or for another model, or cannot be weighted or combined.
    """
    from peft.tuners.lora import LoraLayer

    _check_combination(adapters)
    named = {f"adapter{number}": adapter for number, adapter in enumerate(adapters)}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        wrapped = _wrapped(model, *next(iter(named.items())))
        for name, adapter in named.items():
            _load(wrapped, adapter, name)
        layers = [layer for layer in wrapped.modules() if isinstance(layer, LoraLayer)]
        for name, adapter in named.items():
            for layer in layers:
                layer.set_scale(name, adapter.spec.weight)
        if _untie(wrapped, layers):
            model.config.tie_word_embeddings = False
        merged: PreTrainedModel = wrapped.merge_and_unload(adapter_names=list(named))
    del wrapped, layers
    for attribute in ("peft_config", "_hf_peft_config_loaded"):
        merged.__dict__.pop(attribute, None)
    return merged


class _Download(hub.Download):
    """An adapter's two files on their way into the Hub's cache."""

    def _is_complete(self, folder: Path) -> bool:
        return (folder / files.ADAPTER_CONFIG).is_file() and bool(files.adapter_weights(folder))

    def _names(self) -> tuple[list[str], list[str]]:
        weights = [name for name in files.ADAPTER_WEIGHTS if name in self.files][:1]
        if files.ADAPTER_CONFIG in self.files and weights:
            return [files.ADAPTER_CONFIG], weights
        lacks = files.ADAPTER_WEIGHTS[0] if not weights else files.ADAPTER_CONFIG
        raise file_kinds.no_adapter(f"the repository {self.spec.source}", self.files, lacks)


def _check_combination(adapters: Sequence[LoraAdapter]) -> None:
    """What an adapter puts in place of weights can be neither weighted nor added to others'."""
    for adapter in adapters:
        config = adapter.config
        replaced = {
            "modules_to_save": config.get("modules_to_save"),
            "bias": config.get("bias", "none") != "none",
            "use_dora": config.get("use_dora"),
        }
        whole = next((name for name, is_so in replaced.items() if is_so), None)
        if whole and (len(adapters) > 1 or adapter.spec.weight != 1):
            raise ModelError(
                f"the adapter {adapter.name} replaces weights (it was trained with {whole}), so it"
                " cannot be weighted or combined with others",
                hint="Use it alone, without 'weight'.",
                code="adapter_mismatch",
            )


def _wrapped(model: PreTrainedModel, name: str, first: LoraAdapter) -> Any:
    from peft import PeftConfig, PeftModel

    try:
        config = PeftConfig.from_pretrained(str(first.folder))
        config.inference_mode = True
        return PeftModel(model, config, name)
    except Exception as error:
        raise _explained(first, error) from None


def _load(wrapped: Any, adapter: LoraAdapter, name: str) -> None:
    try:
        found = wrapped.load_adapter(str(adapter.folder), name, torch_device="cpu")
    except Exception as error:
        raise _explained(adapter, error) from None
    if wrong := [*found.missing_keys, *found.unexpected_keys]:
        raise _mismatch(adapter, f"{len(wrong)} of its weights have no counterpart")


def _untie(model: Any, layers: Sequence[Any]) -> bool:
    """Give layers that get something added weights of their own, where others use them too."""
    from torch import nn

    users = Counter(
        parameter.data_ptr()
        for module in model.modules()
        for parameter in module.parameters(recurse=False)
    )
    tied = [
        base for layer in layers if users[(base := layer.get_base_layer()).weight.data_ptr()] > 1
    ]
    for base in tied:
        base.weight = nn.Parameter(base.weight.detach().clone(), requires_grad=False)
    return bool(tied)


def _explained(adapter: LoraAdapter, error: Exception) -> ModelError:
    text = str(error)
    if "size mismatch" in text:
        return _mismatch(adapter, "its shapes do not fit")
    if "not found in the base model" in text:
        return _mismatch(adapter, "the layers that it changes are not there")
    return ModelError(
        f"the adapter {adapter.name} cannot be loaded: {one_line(error)}",
        hint="Its files may be damaged or made for another version of peft.",
        code="load_failed",
    )


def _mismatch(adapter: LoraAdapter, reason: str) -> ModelError:
    base = adapter.config.get("base_model_name_or_path")
    return ModelError(
        f"the adapter {adapter.name} is for another model: {reason}",
        hint=f"It says that it was made for {base}." if base else "Use it with its own model.",
        code="adapter_mismatch",
    )
