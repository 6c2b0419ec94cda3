"""From a folder to a model in memory."""

from __future__ import annotations

import os
import pickle
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...encoding import without_mark
from ...errors import ComposeError, ModelError, one_line, shortened
from .. import memory
from ..spec import Abandoned, LoadProgress, ModelSpec, Report
from ..tokenization import chat, tokenizer_limits
from ..tokenization.detokenizer import Decoder
from ..tokenization.prompt_tokens import PromptTokens
from . import config_checks, files, generation_defaults, lora, optional_libraries
from .generation_defaults import GenerationDefaults
from .library_logging import quiet
from .lora import LoraAdapter
from .source import ResolvedSource, resolve

if TYPE_CHECKING:
    import torch
    from transformers import GenerationConfig, PreTrainedModel, PreTrainedTokenizerBase
    from transformers.configuration_utils import PreTrainedConfig

_CONTEXT_NAMES = (
    "max_position_embeddings",
    "max_target_positions",
    "max_decoder_position_embeddings",
    "max_sequence_length",
)


@dataclass(frozen=True)
class LoadPlan:
    """A load that is decided and not done: everything that makes the weights what they are."""

    spec: ModelSpec
    source: ResolvedSource
    config: PreTrainedConfig
    device: str
    precision: str
    weights: files.Weights
    report: Report = field(repr=False, compare=False)
    adapters: tuple[LoraAdapter, ...] = ()
    draft: LoadPlan | None = None

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


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. Only its engine's thread may hold this.

    ``context`` is the number of tokens that the model can attend to, None where it has no limit;
    ``stop_sequences`` are those of its generation_config. ``precision`` is ``int8`` where linear
    layers are quantised. ``memory_bytes`` counts the weights, those of the draft model too.
    ``draft`` has the same vocabulary, though its logits may be longer or shorter by what pads them.
    ``cache_budget`` is as the `ModelSpec` says. ``left_out`` is what the model's own settings ask
    for and do not get.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    precision: str
    context: int | None
    parameters: int
    memory_bytes: int
    stop_sequences: list[str]
    draft: LoadedModel | None = None
    cache_budget: int | None = None
    left_out: Sequence[generation_defaults.LeftOut] = ()

    @property
    def encoder_decoder(self) -> bool:
        """Whether the prompt goes to an encoder and the text is a reply of its own."""
        return bool(self.model.config.is_encoder_decoder)

    @cached_property
    def stop_ids(self) -> frozenset[int]:
        """The tokens that end a text, by the generation_config, the config and the tokenizer."""
        generation_config: Any = self.model.generation_config
        ids = generation_config.eos_token_id
        if ids is None:
            return frozenset()
        return frozenset(ids if isinstance(ids, list) else [int(ids)])

    @cached_property
    def defaults(self) -> GenerationDefaults:
        """Its generation_config's values for what a request leaves open."""
        config: Any = self.model.generation_config
        return GenerationDefaults.of(config)

    @cached_property
    def turn_end(self) -> set[int]:
        """The token that ends the reply in a chat, by the chat template; none where it has none."""
        return chat.turn_end(self.tokenizer)

    @cached_property
    def prompt_tokens(self) -> PromptTokens:
        """Gives prompts as tokens."""
        return PromptTokens(self.tokenizer)

    @cached_property
    def decode(self) -> Decoder:
        """Gives tokens as text, without special ones."""
        return Decoder(self.tokenizer)


def require(spec: ModelSpec) -> None:
    """Check that the libraries are installed that only some models need.

    Raises:
        ModelError: one is not.
    """
    wanted = [
        ("quantization: int8", "torchao", "int8", spec.quantization is not None),
        ("peft_adapters", "peft", "lora", bool(spec.adapters)),
    ]
    for key, library, extra, needed in wanted:
        if needed and find_spec(library) is None:
            raise ModelError(
                f"{library} is not installed, and '{key}' needs it",
                hint=f"Run: pip install 'modelcompose-jupyter[{extra}]'",
                code="not_installed",
            )


def plan(spec: ModelSpec, source: ResolvedSource, report: Report) -> LoadPlan:
    """Decide how to load: which classes, where, at which precision, with what beside the model.

    Adapters and the draft model are fetched where they are not on this disk.

    Raises:
        ModelError: not a model for text generation, unknown to the installed transformers, needs
            trust_remote_code, damaged, or the device is not there; the same of its draft model, or
            what is wrong with an adapter.
        Abandoned: from ``report``.
    """
    _require_libraries()
    device = choose_device(spec.device)
    with quiet("transformers", "huggingface_hub"), _explained(spec, device):
        weights = files.weights(source.folder)
        config = _config(spec, source.folder, weights)
        _check_generates(spec, config)
        method = _check_quantised(spec, config, device)
        precision = spec.precision
        if precision == "auto":
            stored = _stored(config, weights)
            precision = stored if method else _usual_precision(stored, device)
    merged = tuple(lora.resolve(each, report) for each in spec.adapters)
    wanted = spec.draft
    draft = None if wanted is None else plan(wanted, resolve(wanted, report), report)
    if draft is not None and (draft.config.is_encoder_decoder or config.is_encoder_decoder):
        raise ModelError(
            f"{draft.spec.source} cannot draft for {spec.source}: an encoder-decoder model neither"
            " has nor is a draft model",
            hint="Leave out draft_model.",
            code="draft_mismatch",
        )
    return LoadPlan(spec, source, config, device, precision, weights, report, merged, draft)


def load(plan: LoadPlan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: not enough memory, damaged or incomplete files.
        Abandoned: from ``report``.
    """
    spec, folder = plan.spec, plan.source.folder
    progress = LoadProgress("load", spec.source, 0, None, "tensors")

    def on_step(done: int, total: int | None) -> None:
        nonlocal progress
        progress = replace(progress, done=done, total=total)
        report(progress)

    memory.check_available(spec.source, plan.size.peak, plan.device)
    quietly = quiet("transformers", "huggingface_hub", "peft", on_step=on_step)
    with quietly, _explained(spec, plan.device):
        tokenizer = _tokenizer(spec, folder)
        if plan.draft is not None:
            _check_vocabulary(plan, plan.draft, tokenizer)
        with _explained(spec, plan.device, generation_defaults.FILE):
            generation, left_out = generation_defaults.read(folder, plan.config)
        with _watched(plan, lambda: report(progress)):
            model = _model(plan, generation)
        parameters = model.num_parameters()
        with _watched(plan, lambda: report(progress), alone=False):
            if spec.quantization is not None:
                _quantize(model, plan.device)
            model = model.to(plan.device).eval()
        loaded = replace(_finish(plan, model, tokenizer, parameters), left_out=left_out)
    if plan.draft is None:
        return loaded
    draft = load(plan.draft, report)
    return replace(loaded, draft=draft, memory_bytes=loaded.memory_bytes + draft.memory_bytes)


def _watched(
    plan: LoadPlan, still_wanted: Callable[[], None], alone: bool = True
) -> AbstractContextManager[Any]:
    """Make tensors for a plan: ``alone`` as transformers must, in what its files account for."""
    from . import model_building

    stored = plan.weights.size + sum(adapter.memory_bytes for adapter in plan.adapters)
    how = model_building.building if alone else model_building.bounded
    return how(plan.spec.source, still_wanted, plan.weights.tensors, stored)


@contextmanager
def _explained(
    spec: ModelSpec, device: str, file: str = f"{files.CONFIG} or weights"
) -> Iterator[None]:
    """Say of whatever goes wrong that it is a file of the model that cannot be used."""
    try:
        yield
    except (ComposeError, Abandoned):
        raise
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        raise _load_error(spec, device, error, file) from None


def _is_panic(error: BaseException) -> bool:
    """Whether a library in Rust gave up, which Python's libraries do not expect as an error."""
    return type(error).__name__ == "PanicException"


def _size(plan: LoadPlan) -> memory.LoadSize:
    """What one model takes. What is quantised on a device of its own is never whole there."""
    spec = plan.spec
    whole = plan.weights.memory_bytes(plan.precision)
    merging = sum(adapter.memory_bytes for adapter in plan.adapters)
    on_cpu = plan.device == "cpu"
    if spec.quantization is None:
        return memory.LoadSize(whole + merging if on_cpu else whole, whole)
    from . import quantization

    with _explained(spec, plan.device):
        empty = _empty(plan)
    after = quantization.sizes(empty, plan.device, files.WIDTHS.get(plan.precision))
    if on_cpu:
        return memory.LoadSize(whole + max(merging, after.largest), after.kept)
    return memory.LoadSize(after.kept + after.largest, after.kept)


def _empty(plan: LoadPlan) -> PreTrainedModel:
    """The model without its weights."""
    import torch

    progress = LoadProgress("load", plan.spec.source, 0, None, "tensors")
    with _watched(plan, lambda: plan.report(progress)), torch.device("meta"):
        auto = _auto_class(plan.config)
        model: PreTrainedModel = auto.from_config(
            plan.config, trust_remote_code=plan.spec.trust_remote_code
        )
    model.tie_weights()
    return model


def _quantize(model: PreTrainedModel, device: str) -> None:
    from . import quantization

    quantization.quantize(model, device)
    memory.give_back()


def _check_vocabulary(plan: LoadPlan, draft: LoadPlan, tokenizer: PreTrainedTokenizerBase) -> None:
    """Both must mean the same by each token; embeddings may be padded to different lengths."""
    other = _tokenizer(draft.spec, draft.source.folder)
    if tokenizer.get_vocab() == other.get_vocab():
        return
    raise ModelError(
        f"{draft.spec.source} cannot draft for {plan.spec.source}: their vocabularies differ"
        f" ({len(other)} and {len(tokenizer)} tokens)",
        hint="Choose a smaller model of the same family.",
        code="draft_mismatch",
    )


def choose_device(wanted: str) -> str:
    """The name of a device that is there: ``cpu``, ``cuda:N`` or ``mps``."""
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if wanted == "auto":
        wanted = "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = wanted.partition(":")
    if kind == "cuda":
        number = int(index or (torch.cuda.current_device() if cuda else 0))
        if number < cuda:
            return f"cuda:{number}"
        found = f"{cuda} CUDA device{'s' if cuda != 1 else ''}"
    elif kind == "cpu" or (kind == "mps" and mps):
        return kind
    else:
        found = "no such device"
    raise ModelError(
        f"the device {wanted} is not available: torch {torch.__version__} finds {found}",
        hint="Use device: auto or device: cpu, or install a torch that supports the device.",
        code="device_unavailable",
    )


def context_length(config: PreTrainedConfig) -> int | None:
    """How many tokens a model can attend to; None for recurrent and relative-position models.

    A sliding window is no limit: older tokens fall out of it, positions still end at the maximum.
    """
    text = config.get_text_config(decoder=True)
    for name in _CONTEXT_NAMES:
        length = getattr(text, name, None)
        if isinstance(length, int) and length > 0:
            return length
    return None


def _require_libraries() -> None:
    # Threads of OpenMP spin while they wait. For long, on a shared processor, they wait for each
    # other's turns, and a token takes ten times as long; not at all, and waking them costs more
    # than a small product. So they spin for about as long as one. Read when torch or the kernels
    # are loaded, each of which has its own threads.
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ["OMP_WAIT_POLICY"] = "PASSIVE"
        os.environ.setdefault("GOMP_SPINCOUNT", "10000")
    for name in ("torch", "transformers"):
        try:
            __import__(name)
        except ImportError:
            raise ModelError(
                f"{name} is not installed, and local models need it",
                hint="Run: pip install torch transformers",
                code="not_installed",
            ) from None
    from .quantization import silence

    silence()


def _config(spec: ModelSpec, folder: Path, weights: files.Weights) -> PreTrainedConfig:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    files.check_documents(folder)
    path = folder / files.CONFIG
    raw = files.read_json(path)
    config_checks.check_config(path, raw, weights)
    kind = raw.get("model_type") if isinstance(raw, dict) else None
    known = isinstance(kind, str) and kind in CONFIG_MAPPING
    if not known and isinstance(raw, dict) and raw.get("auto_map") and not spec.trust_remote_code:
        raise ModelError(
            f"{spec.source} needs Python code that comes with the model",
            hint="Read that code, then set trust_remote_code: true and pin a revision.",
            code="trust_remote_code",
        )
    if not known and not (isinstance(raw, dict) and raw.get("auto_map")):
        raise _unknown_architecture(spec, raw)
    with _explained(spec, "cpu", files.CONFIG):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    return config


def _unknown_architecture(spec: ModelSpec, raw: Any) -> ModelError:
    import transformers

    kind = raw.get("model_type") if isinstance(raw, dict) else None
    return ModelError(
        f"{spec.source} has the architecture '{shortened(str(kind))}', which transformers"
        f" {transformers.__version__} does not know",
        hint="Run: pip install --upgrade transformers, or choose another model.",
        code="unknown_architecture",
    )


def _check_generates(spec: ModelSpec, config: PreTrainedConfig) -> None:
    named: Any = config.architectures
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    kind = names[0] if names else config.model_type
    auto = _auto_class(config)
    if _needs_images(config):
        raise ModelError(
            f"{spec.source} is a {kind}: it reads images, which is not supported",
            hint="Choose a language model, or one of images and text that can do without images.",
            code="not_text_generation",
        )
    other = bool(names) and all(_other_task(name) for name in names)
    other = other and not _class_names(auto, config) & set(names)
    if not other and (_custom(config) or type(config) in auto._model_mapping):
        return
    raise ModelError(
        f"{spec.source} is a {kind}, which does not generate text",
        hint="Choose a causal or encoder-decoder language model.",
        code="not_text_generation",
    )


def _other_task(architecture: str) -> bool:
    _, given, task = architecture.rpartition("For")  # RoFormerForCausalLM
    text = ("CausalLM", "ConditionalGeneration", "VisionText2Text")
    return bool(given) and not task.startswith(text)


def _class_names(auto: Any, config: PreTrainedConfig) -> set[str]:
    """What transformers would build for a config; SeamlessM4TForTextToText is one by its name."""
    if type(config) not in auto._model_mapping:
        return set()
    found = auto._model_mapping[type(config)]
    return {kind.__name__ for kind in (found if isinstance(found, tuple) else (found,))}


def _custom(config: PreTrainedConfig) -> bool:
    return bool(getattr(config, "auto_map", None))


def _auto_class(config: PreTrainedConfig) -> Any:
    """The class that makes the model; one of images and text is loaded for its text."""
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForSeq2SeqLM,
    )

    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    with_images = AutoModelForImageTextToText._model_mapping
    return (
        AutoModelForImageTextToText
        if type(config) in with_images and type(config) not in auto._model_mapping
        else auto
    )


def _needs_images(config: PreTrainedConfig) -> bool:
    """Whether it is of images and text, and cannot generate from text alone as others do."""
    from transformers import AutoModelForImageTextToText, GenerationMixin

    auto = _auto_class(config)
    if auto is not AutoModelForImageTextToText:
        return False
    found = auto._model_mapping[type(config)]
    kind = found[0] if isinstance(found, tuple) else found
    plain = getattr(kind, "generate", None) is GenerationMixin.generate
    return config.is_encoder_decoder or not plain or kind.main_input_name != "input_ids"


def _check_quantised(spec: ModelSpec, config: PreTrainedConfig, device: str) -> str | None:
    """How the weights are quantised as they are stored, if they are."""
    method = optional_libraries.check_quantised(spec.source, config, device)
    if method and spec.quantization is not None:
        raise ModelError(
            f"{spec.source} is quantised already ({method}), so it cannot be by quantization:"
            f" {spec.quantization}",
            hint="Leave out quantization, or take the repository that is not quantised.",
            code="unsupported_format",
        )
    return method


def _stored(config: PreTrainedConfig, weights: files.Weights) -> str:
    """The precision of the weights, ``auto`` where only loading can tell."""
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    if dtype:
        return str(dtype).removeprefix("torch.")
    return weights.precision or "auto"


def _usual_precision(stored: str, device: str) -> str:
    """As stored. But processors are slow at float16, and neither products in C nor those packed by
    torch take it: there it is bfloat16, which takes as much memory."""
    return "bfloat16" if (stored, device) == ("float16", "cpu") else stored


def _tokenizer(spec: ModelSpec, folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    except BaseException as error:
        if not isinstance(error, Exception) and not _is_panic(error):
            raise
        what = f"the tokenizer of {spec.source}"
        lacking = optional_libraries.of_tokenizer(folder) or optional_libraries.missing(error)
        if lacking:
            raise optional_libraries.not_installed(what, lacking) from None
        raise ModelError(
            f"{what} cannot be loaded: {one_line(error)}",
            hint="Its tokenizer.json or tokenizer_config.json may be damaged, or made for another"
            " version of transformers.",
            code="corrupt_model",
        ) from None
    tokenizer_limits.check_tokenizer(tokenizer, f"the tokenizer of {spec.source}")
    if isinstance(template := getattr(tokenizer, "chat_template", None), str):
        tokenizer.chat_template = without_mark(template)
    return tokenizer


def _model(plan: LoadPlan, generation: GenerationConfig) -> PreTrainedModel:
    spec, folder = plan.spec, plan.source.folder
    model, info = _auto_class(plan.config).from_pretrained(
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
    loaded: PreTrainedModel = model
    return lora.merge(loaded, plan.adapters) if plan.adapters else loaded


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
    raise ModelError(
        f"the weights of {spec.source} do not fit config.json: {name} is {shapes}{others}",
        hint="Both must come from the same save_pretrained(): copy or fetch them anew.",
        code="incomplete_model",
    )


def _shape(size: Any) -> str:
    return "×".join(str(length) for length in size) or "a single number"


def _finish(
    plan: LoadPlan, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, parameters: int
) -> LoadedModel:
    """Settle what generate() would take from the model: lengths and stops come with a request."""
    own: Any = model.generation_config
    stops = own.stop_strings or []
    own.max_length = own.max_new_tokens = own.stop_strings = None
    text_config = model.config.get_text_config(decoder=True)
    for name in ("eos_token_id", "bos_token_id"):
        if getattr(own, name) is None:
            setattr(own, name, getattr(text_config, name, None))
    own.eos_token_id = _ends(plan.spec, own.eos_token_id, tokenizer)
    if own.pad_token_id is None:
        own.pad_token_id = tokenizer.pad_token_id
    weights = {p.data_ptr(): p for p in [*model.parameters(), *model.buffers()]}.values()
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=model.device,
        precision=plan.spec.quantization or str(model.dtype).removeprefix("torch."),
        context=context_length(model.config),
        parameters=parameters,
        memory_bytes=sum(w.numel() * w.element_size() for w in weights),
        stop_sequences=[stops] if isinstance(stops, str) else list(stops),
        cache_budget=plan.spec.cache_budget,
    )


def _ends(spec: ModelSpec, named: Any, tokenizer: PreTrainedTokenizerBase) -> list[int] | None:
    """The tokens that end a text: those that the configuration names, and the tokenizer's own.

    Fine-tuned models often have the end of a turn in their tokenizer alone.
    """
    ends = generation_defaults.ends(named)
    if len(ends) > generation_defaults.MOST_ENDS:
        raise ModelError(
            f"the eos_token_id of {spec.source} in its {files.CONFIG} has {len(ends)} tokens, and"
            f" {generation_defaults.MOST_ENDS} at most are heeded",
            hint="Have it name the tokens that end a text alone.",
            code="load_failed",
        )
    own = tokenizer.eos_token_id
    if own is not None and own not in ends:
        ends.append(own)
    return ends or None


def _load_error(spec: ModelSpec, device: str, error: BaseException, file: str) -> ModelError:
    if memory.is_out_of_memory(error):
        return ModelError(
            f"{spec.source} does not fit into the memory of {device}",
            hint="Unload other models, take a smaller one, or set precision: bfloat16 or"
            " quantization: int8.",
            code="out_of_memory",
        )
    if lacking := optional_libraries.missing(error):
        return optional_libraries.not_installed(spec.source, lacking)
    if isinstance(error, pickle.UnpicklingError | EOFError):
        return ModelError(
            f"the weights of {spec.source} are damaged, or hold more than numbers: a pickle may run"
            " code, so it is not read",
            hint="Take the repository that has model.safetensors.",
            code="load_failed",
        )
    # The texts of some kinds say nothing alone: a KeyError's is the key.
    speaks = isinstance(error, ValueError | OSError | RuntimeError | ImportError)
    kind = "" if speaks else f"{type(error).__name__}: "
    return ModelError(
        f"{spec.source} cannot be loaded, by its {file}: {kind}{one_line(error)}",
        hint="Its files may be damaged or made for another version of transformers.",
        code="load_failed",
    )
