"""From a folder to a model in memory."""

from __future__ import annotations

import os
import sys
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ComposeError, ModelError
from . import files, memory
from .quiet import quiet
from .source import Source
from .spec import Abandoned, ModelSpec, Progress, Report

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase
    from transformers.configuration_utils import PreTrainedConfig

_CONTEXT_NAMES = (
    "max_position_embeddings",
    "max_target_positions",
    "max_decoder_position_embeddings",
    "max_sequence_length",
)
# While it builds a model, transformers changes torch's default dtype and initialisers for the whole
# process, and two at once restore each other's.
_building = threading.Lock()
_OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory")


@dataclass(frozen=True)
class Plan:
    """A load that is decided and not done: everything that makes the weights what they are."""

    spec: ModelSpec
    source: Source
    config: PreTrainedConfig
    device: str
    precision: str

    @property
    def key(self) -> tuple[str, str, str]:
        """Equal for two loads that would give the same weights."""
        return str(self.source.folder), self.device, self.precision


@dataclass(frozen=True)
class LoadedModel:
    """A model in memory. Only its engine's thread may hold this.

    ``context`` is the number of tokens that the model can attend to, None where it has no limit;
    ``stop_sequences`` are those of its generation_config.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    device: torch.device
    precision: str
    context: int | None
    parameters: int
    memory_bytes: int
    stop_sequences: list[str]

    @property
    def encoder_decoder(self) -> bool:
        """Whether the prompt goes to an encoder and the text is a reply of its own."""
        return bool(self.model.config.is_encoder_decoder)


def plan(spec: ModelSpec, source: Source) -> Plan:
    """Decide how to load: which classes, where, at which precision.

    Raises:
        ModelError: not a model for text generation, unknown to the installed transformers, needs
            trust_remote_code, or the device is not there.
    """
    _require_libraries()
    device = choose_device(spec.device)
    with quiet("transformers", "huggingface_hub"):
        config = _config(spec, source.folder)
    _check_generates(spec, source.folder, config)
    precision = spec.precision if spec.precision != "auto" else _stored(config)
    return Plan(spec, source, config, device, precision)


def load(plan: Plan, report: Report) -> LoadedModel:
    """Load weights and tokenizer.

    Raises:
        ModelError: not enough memory, damaged or incomplete files.
        Abandoned: from ``report``.
    """
    spec, folder = plan.spec, plan.source.folder

    def on_step(done: int, total: int | None) -> None:
        report(Progress("load", spec.source, done, total, "tensors"))

    size = files.weights_size(folder, spec.precision)
    memory.check(spec.source, size.memory_bytes, plan.device)
    with quiet("transformers", "huggingface_hub", on_step=on_step):
        try:
            tokenizer = _tokenizer(spec, folder)
            model = _model(plan)
        except (ComposeError, Abandoned):
            raise
        except Exception as error:
            raise _load_error(spec, plan.device, error) from None
    return _finish(plan, model, tokenizer)


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
    if "torch" not in sys.modules:
        # Threads of OpenMP spin while they wait; on a shared processor they then wait for each
        # other's turns, and a token takes ten times as long. Read once, when torch is imported.
        os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    for name in ("torch", "transformers"):
        try:
            __import__(name)
        except ImportError:
            raise ModelError(
                f"{name} is not installed, and local models need it",
                hint="Run: pip install torch transformers",
                code="not_installed",
            ) from None


def _config(spec: ModelSpec, folder: Path) -> PreTrainedConfig:
    from transformers import AutoConfig
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    raw = files.read_json(folder / files.CONFIG)
    known = isinstance(raw, dict) and raw.get("model_type") in CONFIG_MAPPING
    if not known and isinstance(raw, dict) and raw.get("auto_map") and not spec.trust_remote_code:
        raise ModelError(
            f"{spec.source} needs Python code that comes with the model",
            hint="Read that code, then set trust_remote_code: true and pin a revision.",
            code="trust_remote_code",
        )
    if not known and not (isinstance(raw, dict) and raw.get("auto_map")):
        raise _unknown_architecture(spec, raw)
    try:
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    except Exception as error:
        raise _load_error(spec, "cpu", error) from None
    return config


def _unknown_architecture(spec: ModelSpec, raw: Any) -> ModelError:
    import transformers

    kind = raw.get("model_type") if isinstance(raw, dict) else None
    return ModelError(
        f"{spec.source} has the architecture '{kind}', which transformers"
        f" {transformers.__version__} does not know",
        hint="Run: pip install --upgrade transformers, or choose another model.",
        code="unknown_architecture",
    )


def _check_generates(spec: ModelSpec, folder: Path, config: PreTrainedConfig) -> None:
    names = config.architectures or []
    other = bool(names) and all(_other_task(name) for name in names)
    if not other and (_custom(config) or type(config) in _auto_class(config)._model_mapping):
        return
    kind = names[0] if names else config.model_type
    raise ModelError(
        f"{spec.source} is a {kind}, which does not generate text",
        hint="Choose a causal or encoder-decoder language model.",
        code="not_text_generation",
    )


def _other_task(architecture: str) -> bool:
    _, given, task = architecture.partition("For")
    return bool(given) and not task.startswith(("CausalLM", "ConditionalGeneration"))


def _custom(config: PreTrainedConfig) -> bool:
    return bool(getattr(config, "auto_map", None))


def _auto_class(config: PreTrainedConfig) -> Any:
    from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

    return AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM


def _stored(config: PreTrainedConfig) -> str:
    dtype = getattr(config, "dtype", None) or getattr(config.get_text_config(), "dtype", None)
    return str(dtype).removeprefix("torch.") if dtype else "auto"


def _tokenizer(spec: ModelSpec, folder: Path) -> PreTrainedTokenizerBase:
    from transformers import AutoTokenizer

    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    except Exception as error:
        raise ModelError(
            f"the tokenizer of {spec.source} cannot be loaded: {one_line(error)}",
            hint="A missing library is named above; otherwise its files are damaged.",
            code="corrupt_model",
        ) from None
    return tokenizer


def _model(plan: Plan) -> PreTrainedModel:
    spec, folder = plan.spec, plan.source.folder
    with _building:
        model, info = _auto_class(plan.config).from_pretrained(
            folder,
            config=plan.config,
            dtype=spec.precision,
            local_files_only=True,
            trust_remote_code=spec.trust_remote_code,
            use_safetensors=files.folder_weights(folder)[0].suffix == ".safetensors",
            weights_only=True,
            output_loading_info=True,
        )
    missing = sorted(info["missing_keys"])
    if missing:
        raise ModelError(
            f"the weights of {spec.source} are incomplete: {len(missing)} tensors are missing,"
            f" {missing[0]} among them",
            hint=f"{type(model).__name__} needs them; were they saved from another kind of model?",
            code="incomplete_model",
        )
    return model.to(plan.device).eval()


def _finish(plan: Plan, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> LoadedModel:
    """Settle what generate() would take from the model: lengths and stops come with a request."""
    defaults: Any = model.generation_config
    stops = defaults.stop_strings or []
    defaults.max_length = defaults.max_new_tokens = defaults.stop_strings = None
    text_config = model.config.get_text_config(decoder=True)
    for name in ("eos_token_id", "bos_token_id"):
        if getattr(defaults, name) is None:
            setattr(defaults, name, getattr(text_config, name, None))
    if defaults.pad_token_id is None:
        defaults.pad_token_id = tokenizer.pad_token_id
    weights = {p.data_ptr(): p for p in [*model.parameters(), *model.buffers()]}.values()
    return LoadedModel(
        model=model,
        tokenizer=tokenizer,
        device=model.device,
        precision=str(model.dtype).removeprefix("torch."),
        context=context_length(model.config),
        parameters=model.num_parameters(),
        memory_bytes=sum(w.numel() * w.element_size() for w in weights),
        stop_sequences=[stops] if isinstance(stops, str) else list(stops),
    )


def _load_error(spec: ModelSpec, device: str, error: Exception) -> ModelError:
    if is_out_of_memory(error):
        return ModelError(
            f"{spec.source} does not fit into the memory of {device}",
            hint="Unload other models, take a smaller model, or set precision: bfloat16.",
            code="out_of_memory",
        )
    return ModelError(
        f"{spec.source} cannot be loaded: {one_line(error)}",
        hint="Its files may be damaged or made for another version of transformers.",
        code="load_failed",
    )


def is_out_of_memory(error: BaseException) -> bool:
    """Whether an error of torch, on any device, means that memory ran out."""
    import torch

    if isinstance(error, (MemoryError, torch.OutOfMemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(
        sign in str(error).lower() for sign in _OUT_OF_MEMORY
    )


def one_line(error: BaseException) -> str:
    """The first line of an error, or its kind."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
