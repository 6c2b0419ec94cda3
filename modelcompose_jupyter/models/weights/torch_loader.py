"""Loading by transformers: any model that it knows, for any device."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ...errors import ModelError
from .. import memory
from ..spec import LoadProgress, ModelSpec, Report
from . import files, generation_defaults, lora
from .architectures import auto_class, context_length, read_config
from .devices import choose_device, stored_precision, usual_precision
from .library_logging import quiet
from .load_errors import explained, not_of_its_weights
from .loaded_model import LoadedModel
from .lora import LoraAdapter
from .prequantized import check_prequantized
from .source import ResolvedSource, resolve
from .tokenizer import load_tokenizer

if TYPE_CHECKING:
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.configuration_utils import PreTrainedConfig


@dataclass(frozen=True)
class TorchPlan:
    """A load that is decided and not done: everything that makes the weights what they are.

    Attributes:
        reason: why it is not done in C; None where nobody has asked.
    """

    spec: ModelSpec
    source: ResolvedSource
    config: PreTrainedConfig
    device: str
    precision: str
    weights: files.Weights
    report: Report = field(repr=False, compare=False)
    adapters: tuple[LoraAdapter, ...] = ()
    draft: TorchPlan | None = None
    reason: str | None = None

    @property
    def key(self) -> tuple[object, ...]:
        """Equal for two loads that would give the same weights."""
        return (
            str(self.source.folder),
            self.device,
            self.precision,
            self.spec.quantization,
            tuple(adapter.key for adapter in self.adapters),
            self.draft and self.draft.key,
        )

    @cached_property
    def size(self) -> memory.LoadSize:
        """What the load takes, its draft model's included."""
        size = _size(self)
        return size.followed_by(self.draft.size) if self.draft else size


def plan(
    spec: ModelSpec, source: ResolvedSource, report: Report, reason: str | None = None
) -> TorchPlan:
    """Decide how to load: which classes, where, at which precision, with what beside the model.

    Adapters and the draft model are fetched where they are not on this disk.

    Args:
        reason: why it is not done in C; None where nobody has asked.

    Raises:
        ModelError: not a model for text generation, unknown to the installed transformers, needs
            trust_remote_code, damaged, or the device is not there; the same of its draft model, or
            what is wrong with an adapter.
        Abandoned: from ``report``.
    """
    _settle_waiting_threads()
    device = choose_device(spec.device)
    with quiet("transformers", "huggingface_hub"), explained(spec, device):
        weights = files.read_weights(files.folder_weights(source.folder))
        config = read_config(spec, source.folder, weights)
        method = check_prequantized(spec, config, device, reason)
        precision = spec.precision
        if precision == "auto":
            stored = stored_precision(config, weights)
            precision = stored if method else usual_precision(stored, device)
    _check_quantization(spec, device)
    merged = tuple(lora.resolve(each, report) for each in spec.adapters)
    wanted = spec.draft
    draft = None if wanted is None else _draft_plan(wanted, report)
    if draft is not None and (draft.config.is_encoder_decoder or config.is_encoder_decoder):
        raise ModelError(
            f"{draft.spec.source} cannot draft for {spec.source}: an encoder-decoder model neither"
            " has nor is a draft model",
            hint="Leave out draft_model.",
            code="draft_mismatch",
        )
    return TorchPlan(
        spec, source, config, device, precision, weights, report, merged, draft, reason
    )


def _draft_plan(spec: ModelSpec, report: Report) -> TorchPlan:
    source = resolve(spec, report)
    if source.parts:
        raise ModelError(
            f"{spec.source} is in GGUF, and a draft model runs on torch, which does not read that",
            hint="Name the original repository as draft_model, or leave it out.",
            code="driver_unavailable",
        )
    return plan(spec, source, report)


def load(plan: TorchPlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer; a `ModelError` where files are damaged."""
    spec, folder = plan.spec, plan.source.folder
    size = plan.size.kept
    progress = LoadProgress("load", spec.source, 0, size)

    def on_step(done: int, total: int | None) -> None:
        """So many tensors are there, which are taken to be of one size."""
        nonlocal progress
        if total:
            progress = replace(progress, done=size * done // total)
        report(progress)

    report(progress)

    quietly = quiet("transformers", "huggingface_hub", "peft", on_step=on_step)
    with quietly, explained(spec, plan.device):
        tokenizer = load_tokenizer(spec, folder)
        if plan.draft is not None:
            _check_vocabulary(plan, plan.draft, tokenizer)
        with explained(spec, plan.device, generation_defaults.FILE):
            generation, left_out = generation_defaults.read(folder, plan.config)
        with _watched(plan, lambda: report(progress)):
            model = _model(plan, generation)
        parameters = model.num_parameters()
        with _watched(plan, lambda: report(progress), alone=False):
            if (wanted := spec.settled_quantization) is not None:
                from . import quantization

                quantization.quantize(model, plan.device, wanted)
                memory.give_back()
            model = model.to(plan.device).eval()
        loaded = _finish(plan, model, tokenizer, parameters, left_out)
    if plan.draft is None:
        return loaded
    draft = load(plan.draft, report)
    return replace(loaded, draft=draft, memory_bytes=loaded.memory_bytes + draft.memory_bytes)


def _watched(
    plan: TorchPlan, still_wanted: Callable[[], None], alone: bool = True
) -> AbstractContextManager[Any]:
    """Bound the tensors that are made for a plan by what its files can be the reason of.

    ``alone``: no other model is built meanwhile, which transformers needs.
    """
    from . import model_building

    stored = plan.weights.size + sum(adapter.memory_bytes for adapter in plan.adapters)
    how = model_building.building if alone else model_building.Bounded
    return how(plan.spec.source, still_wanted, plan.weights.tensors, stored)


def _size(plan: TorchPlan) -> memory.LoadSize:
    """What one model takes.

    On an accelerator linear layers are quantised one by one, so they are never all there as stored.
    """
    spec = plan.spec
    whole = plan.weights.memory_bytes(plan.precision)
    merging = sum(adapter.memory_bytes for adapter in plan.adapters)
    on_cpu = plan.device == "cpu"
    if (wanted := spec.settled_quantization) is None:
        return memory.LoadSize(whole + merging if on_cpu else whole, whole)
    from . import quantization

    with explained(spec, plan.device):
        empty = _empty(plan)
    width = files.WIDTHS.get(plan.precision)
    kept, largest = quantization.sizes(empty, plan.device, width, wanted)
    return memory.LoadSize(whole + max(merging, largest) if on_cpu else kept + largest, kept)


def _empty(plan: TorchPlan) -> PreTrainedModel:
    """The model without its weights."""
    import torch

    progress = LoadProgress("load", plan.spec.source)
    with _watched(plan, lambda: plan.report(progress)), torch.device("meta"):
        model: PreTrainedModel = auto_class(plan.config).from_config(
            plan.config, trust_remote_code=plan.spec.trust_remote_code
        )
    model.tie_weights()
    return model


def _check_quantization(spec: ModelSpec, device: str) -> None:
    from . import quantization

    wanted = spec.settled_quantization
    if wanted is not None and not quantization.can_be(wanted, device):
        raise ModelError(
            f"'quantization: {spec.quantization}' is for processors with kernels in C, and"
            f" {spec.source} is to run on {device}",
            hint="Set 'quantization: int8' or, where there is none, a C compiler.",
            code="unsupported_quantization",
        )


def _check_vocabulary(
    plan: TorchPlan, draft: TorchPlan, tokenizer: PreTrainedTokenizerBase
) -> None:
    """Raise a `ModelError` where a draft model has another vocabulary than its model.

    The lengths of the embeddings say nothing: they may be padded differently.
    """
    other = load_tokenizer(draft.spec, draft.source.folder)
    if tokenizer.get_vocab() == other.get_vocab():
        return
    raise ModelError(
        f"{draft.spec.source} cannot draft for {plan.spec.source}: their vocabularies differ"
        f" ({len(other)} and {len(tokenizer)} tokens)",
        hint="Choose a smaller model of the same family.",
        code="draft_mismatch",
    )


def _settle_waiting_threads() -> None:
    """Have the threads of OpenMP spin for about as long as a small product takes, then sleep.

    Those that spin for long, on a shared processor, wait for each other's turns, and a token takes
    ten times as long; to wake those that do not spin costs more than the product. It is read when
    torch is loaded.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")


def _model(plan: TorchPlan, generation: GenerationConfig) -> PreTrainedModel:
    spec, folder = plan.spec, plan.source.folder
    model: PreTrainedModel
    model, info = auto_class(plan.config).from_pretrained(
        folder,
        config=plan.config,
        generation_config=generation,
        dtype=plan.precision,
        local_files_only=True,
        trust_remote_code=spec.trust_remote_code,
        use_safetensors=files.folder_weights(folder)[0].suffix == ".safetensors",
        weights_only=True,
        ignore_mismatched_sizes=True,
        output_loading_info=True,
    )
    _check_shapes(spec, model, info["mismatched_keys"])
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {spec.source} are incomplete: {len(missing)} tensors are missing,"
            f" {missing[0]} among them",
            hint=f"{type(model).__name__} needs them; were they saved from another kind of model?",
            code="incomplete_model",
        )
    return lora.merge(model, plan.adapters) if plan.adapters else model


def _check_shapes(
    spec: ModelSpec, model: PreTrainedModel, mismatched: Collection[tuple[str, Any, Any]]
) -> None:
    """Raise a `ModelError` for tensors of another shape than config.json says."""
    if not mismatched:
        return
    places = {name: place for place, name in enumerate(model.state_dict())}
    name, found, expected = min(mismatched, key=lambda each: places.get(each[0], len(places)))
    shapes = f"{_shape(found)}, {_shape(expected)} expected"
    others = f" (and {len(mismatched) - 1} more)" if len(mismatched) > 1 else ""
    raise not_of_its_weights(
        f"the weights of {spec.source} do not fit config.json: {name} is {shapes}{others}"
    )


def _shape(size: Any) -> str:
    return "×".join(str(length) for length in size) or "a single number"


def _finish(
    plan: TorchPlan,
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    parameters: int,
    left_out: Sequence[generation_defaults.LeftOut],
) -> LoadedModel:
    """Settle what generate() would take from the model: lengths and stops come with a request."""
    own: Any = model.generation_config
    stops = own.stop_strings or []
    own.max_length = own.max_new_tokens = own.stop_strings = None
    text_config = model.config.get_text_config(decoder=True)
    for name in ("eos_token_id", "bos_token_id"):
        if getattr(own, name) is None:
            setattr(own, name, getattr(text_config, name, None))
    own.eos_token_id = generation_defaults.end_tokens(
        plan.spec.source, own.eos_token_id, tokenizer.eos_token_id
    )
    if own.pad_token_id is None:
        own.pad_token_id = tokenizer.pad_token_id
    weights = {p.data_ptr(): p for p in [*model.parameters(), *model.buffers()]}.values()
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=str(model.device),
        class_name=type(model).__name__,
        precision=plan.spec.quantization or str(model.dtype).removeprefix("torch."),
        context=context_length(model.config),
        parameters=parameters,
        memory_bytes=sum(w.numel() * w.element_size() for w in weights),
        stop_sequences=[stops] if isinstance(stops, str) else list(stops),
        defaults=own,
        encoder_decoder=bool(model.config.is_encoder_decoder),
        cache_budget=plan.spec.cache_budget,
        driver_reason=plan.reason,
        left_out=left_out,
    )
