"""A model's config, and which class of transformers makes the model from it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, shortened
from ..spec import ModelSpec
from . import config_checks, files
from .load_errors import explained

if TYPE_CHECKING:
    from transformers.configuration_utils import PreTrainedConfig

_CONTEXT_NAMES = (
    "max_position_embeddings",
    "max_target_positions",
    "max_decoder_position_embeddings",
    "max_sequence_length",
    "max_seq_len",
)
_TEXT_TASKS = ("CausalLM", "ConditionalGeneration", "VisionText2Text")


def read_config(spec: ModelSpec, folder: Path, weights: files.Weights) -> PreTrainedConfig:
    """The config of a model that generates text.

    Raises:
        ModelError: config.json is damaged or cannot be that of the weights; the installed
            transformers does not know its architecture, or that generates no text; or it needs
            Python code that comes with the model, and the spec does not trust that.
    """
    from transformers import AutoConfig, __version__
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    files.check_documents(folder)
    path = folder / files.CONFIG
    read = files.read_json(path)
    config_checks.check_config(path, read, weights)
    content = read if isinstance(read, dict) else {}
    kind = content.get("model_type")
    if not (isinstance(kind, str) and kind in CONFIG_MAPPING):
        if not content.get("auto_map"):
            raise ModelError(
                f"{spec.source} has the architecture '{shortened(str(kind))}', which transformers"
                f" {__version__} does not know",
                hint="Run: pip install --upgrade transformers, or choose another model.",
                code="unknown_architecture",
            )
        if not spec.trust_remote_code:
            raise ModelError(
                f"{spec.source} needs Python code that comes with the model",
                hint="Read that code, then set trust_remote_code: true and pin a revision.",
                code="trust_remote_code",
            )
    with explained(spec, "cpu", files.CONFIG):
        config: PreTrainedConfig = AutoConfig.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    _check_generates(spec, config)
    return config


def auto_class(config: PreTrainedConfig) -> Any:
    """transformers' class that makes the model; one of images and text is loaded for its text."""
    from transformers import (
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoModelForSeq2SeqLM,
    )

    auto = AutoModelForSeq2SeqLM if config.is_encoder_decoder else AutoModelForCausalLM
    if _classes(auto, config) or not _classes(AutoModelForImageTextToText, config):
        return auto
    return AutoModelForImageTextToText


def context_length(config: PreTrainedConfig) -> int | None:
    """How many tokens a model can attend to; None for recurrent and relative-position models.

    A sliding window is no limit: older tokens fall out of it, positions still end at the maximum.
    """
    text = config.get_text_config(decoder=True)
    lengths = (getattr(text, name, None) for name in _CONTEXT_NAMES)
    return next((each for each in lengths if isinstance(each, int) and each > 0), None)


def _check_generates(spec: ModelSpec, config: PreTrainedConfig) -> None:
    named: Any = config.architectures
    names = [name for name in named if isinstance(name, str)] if isinstance(named, list) else []
    kind = names[0] if names else config.model_type
    if _needs_images(config):
        raise ModelError(
            f"{spec.source} is a {kind}: it reads images, which is not supported",
            hint="Choose a language model, or one of images and text that can do without images.",
            code="not_text_generation",
        )
    classes = _classes(auto_class(config), config)
    # SeamlessM4TForTextToText is one by its name.
    made = {each.__name__ for each in classes} & set(names)
    of_others = bool(names) and not made and all(map(_is_of_other_task, names))
    if not of_others and (classes or getattr(config, "auto_map", None)):
        return
    raise ModelError(
        f"{spec.source} is a {kind}, which does not generate text",
        hint="Choose a causal or encoder-decoder language model.",
        code="not_text_generation",
    )


def _is_of_other_task(architecture: str) -> bool:
    _, given, task = architecture.rpartition("For")  # RoFormerForCausalLM
    return bool(given) and not task.startswith(_TEXT_TASKS)


def _classes(auto: Any, config: PreTrainedConfig) -> tuple[Any, ...]:
    """The classes that one of transformers' auto classes has for a config; often one, or none."""
    if type(config) not in auto._model_mapping:
        return ()
    found = auto._model_mapping[type(config)]
    return found if isinstance(found, tuple) else (found,)


def _needs_images(config: PreTrainedConfig) -> bool:
    """Whether it is of images and text, and cannot generate from text alone as others do."""
    from transformers import AutoModelForImageTextToText, GenerationMixin

    auto = auto_class(config)
    if auto is not AutoModelForImageTextToText:
        return False
    kind = _classes(auto, config)[0]
    plain = getattr(kind, "generate", None) is GenerationMixin.generate
    return config.is_encoder_decoder or not plain or kind.main_input_name != "input_ids"
