"""A model's generation_config.json: its own defaults of generation, as far as they can be used.

Strangers write it: for code that is not here, for other versions of transformers, by hand. What
generate() could not run with is left out, and a run that would have used it says so; every other
option stays as it is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, shortened
from . import files

if TYPE_CHECKING:
    from transformers import GenerationConfig
    from transformers.configuration_utils import PreTrainedConfig

FILE = "generation_config.json"

_OF_ITS_OWN = "generate() does not do that by itself"
_UNKNOWN = "it is not known here"
_WRONG = "its value is not one that generate() takes"
_MOST_NAMES = 5
MOST_ENDS = 1000
"""Tokens that end a text, and texts that do: models have ten at most."""
_LONGEST_END = 10_000
_LARGEST_COUNT = 2**31 - 1
_MOST_BEAMS = 256  # as in a document
_MOST_PHRASES = 10_000
"""Of bad_words_ids and sequence_bias; each is looked for at each step."""


@dataclass(frozen=True)
class LeftOut:
    """An option that a model asks for and does not get.

    ``runs`` are those that would have used it: ``all``, those of one ``beam``, or of ``beams``.
    """

    name: str
    why: str
    runs: str = "all"


def warnings(left_out: Sequence[LeftOut], beams: int) -> list[str]:
    """What a run says of the options that it lacks: a sentence for each reason."""
    names: dict[str, list[str]] = {}
    for each in left_out:
        if each.runs in ("all", "beams" if beams > 1 else "beam"):
            names.setdefault(each.why, []).append(shortened(" ".join(each.name.split()) or "''"))
    return [
        f"the model's {FILE} asks for {_listed(each)}; that is left out: {why}"
        for why, each in names.items()
    ]


def _listed(names: list[str]) -> str:
    more = len(names) - _MOST_NAMES
    return ", ".join(names[:_MOST_NAMES]) + (f" and {more} more" if more > 0 else "")


def end_tokens(source: str, named: Any, own: int | None) -> list[int] | None:
    """The tokens that end a text: those that the configuration names, and the tokenizer's own.

    Fine-tuned models often have the end of a turn in their tokenizer alone.

    Args:
        source: what messages call the model.
        named: ``eos_token_id`` of its configuration: one, several, or what is none.
        own: the tokenizer's.
    """
    ends = [each for each in (named if isinstance(named, list) else [named]) if _count(each, None)]
    if len(ends) > MOST_ENDS:
        raise ModelError(
            f"the eos_token_id of {source} in its {files.CONFIG} has {len(ends)} tokens, and"
            f" {MOST_ENDS} at most are heeded",
            hint="Have it name the tokens that end a text alone.",
            code="load_failed",
        )
    if own is not None and own not in ends:
        ends.append(own)
    return ends or None


def read(folder: Path, config: PreTrainedConfig) -> tuple[GenerationConfig, list[LeftOut]]:
    """A model's own settings of generation, and what of them is left out.

    Where there is no file of them, old models have them in config.json. A damaged one is a
    `ModelError`.
    """
    from transformers import GenerationConfig

    path = folder / FILE
    own = path.is_file()
    content = files.read_json(path if own else folder / files.CONFIG)
    if not isinstance(content, dict):
        return GenerationConfig(), [LeftOut("something that is no mapping", _WRONG)]
    if not own:
        known = vars(GenerationConfig())
        content = {name: value for name, value in content.items() if name in known}
    vocabulary = getattr(config.get_text_config(decoder=True), "vocab_size", None)
    kept, left_out = _split(content, vocabulary if isinstance(vocabulary, int) else None)
    if config.is_encoder_decoder and kept.pop("guidance_scale", 1) != 1:
        left_out.append(LeftOut("guidance_scale", _OF_ITS_OWN))
    if (folder / "custom_generate" / "generate.py").is_file():
        left_out.append(LeftOut("custom_generate", _OF_ITS_OWN))
    options = kept if own else {**kept, "_from_model_config": True}
    return GenerationConfig(**options), left_out


@dataclass(frozen=True)
class OwnDefaults:
    """What a model's own settings give for what a request leaves open, without transformers.

    The names are those of generate(); None is what the model leaves open as well.
    """

    min_p: float | None = None
    repetition_penalty: float | None = None
    length_penalty: float | None = None
    early_stopping: bool | str | None = None
    min_length: int | None = None
    min_new_tokens: int | None = None
    bos_token_id: int | None = None
    eos_token_id: int | list[int] | None = None
    decoder_start_token_id: int | list[int] | None = None
    stop_strings: str | list[str] | None = None

    @property
    def stop_sequences(self) -> list[str]:
        """Texts before which a text ends."""
        stops = self.stop_strings or []
        return [stops] if isinstance(stops, str) else list(stops)


_OF_THE_CHOICE = {
    "do_sample", "temperature", "top_k", "top_p", "num_beams", "pad_token_id", "use_cache",
    *(each.name for each in fields(OwnDefaults)),
}  # fmt: skip
"""What sampling heeds, and what changes no text."""
_CACHES = {
    "dynamic", "static", "hybrid", "hybrid_chunked", "sliding_window", "offloaded",
    "offloaded_static", "offloaded_hybrid", "offloaded_hybrid_chunked",
}  # fmt: skip
"""Ways of transformers to keep keys and values, none of which changes a text."""


def read_own(folder: Path, config: dict[str, Any], vocabulary: int) -> OwnDefaults | None:
    """A model's own settings where sampling heeds them all; else None, and `read` has the word.

    Args:
        config: what config.json says, where old models have them.

    Raises:
        ModelError: the file is damaged.
    """
    path = folder / FILE
    content = files.read_json(path) if path.is_file() else config
    if not isinstance(content, dict) or (folder / "custom_generate").exists():
        return None
    if content is config:
        content = {name: value for name, value in config.items() if name in {*_KINDS, *_CUSTOM}}
    kept = {}
    for name, value in content.items():
        if _asks_nothing(name, value) or (name == "cache_implementation" and value in _CACHES):
            continue
        if name not in _OF_THE_CHOICE or not _KINDS[name](value, vocabulary):
            return None
        kept[name] = value
    return OwnDefaults(**{each.name: kept.get(each.name) for each in fields(OwnDefaults)})


def is_value(name: str, value: Any) -> bool:
    """Whether an option of generate() may have this value."""
    return value is not None and _KINDS[name](value, None)


def _asks_nothing(name: str, value: Any) -> bool:
    """Whether an option is none, or one that a run decides itself."""
    is_none = value is None or value == [] or (value == -1 and name.endswith("_token_id"))
    return is_none or name in _OURS or name.startswith("_")


def _split(content: dict[str, Any], vocabulary: int | None) -> tuple[dict[str, Any], list[LeftOut]]:
    kept: dict[str, Any] = {}
    left_out: list[LeftOut] = []
    for name, value in content.items():
        if _asks_nothing(name, value):
            continue
        if name in _CUSTOM:
            nothing, runs = _CUSTOM[name]
            if value not in nothing:
                left_out.append(LeftOut(name, _OF_ITS_OWN, runs))
        elif name == "cache_implementation":
            if value not in _caches():
                left_out.append(LeftOut(name, _UNKNOWN))
        elif name not in _KINDS:
            left_out.append(LeftOut(name, _UNKNOWN))
        elif _KINDS[name](value, vocabulary) and _is_valid(name, value):
            kept[name] = value
        else:
            left_out.append(LeftOut(name, _WRONG))
    return kept, left_out


def _is_valid(name: str, value: Any) -> bool:
    """Whether transformers takes a value at all."""
    from transformers import GenerationConfig

    try:
        GenerationConfig(**{name: value})
    except Exception:  # whatever it is, a run must not meet it
        return False
    return True


def _caches() -> Iterator[str]:
    """Ways to keep keys and values that do not change a text, so that none of them matters."""
    from transformers.generation import configuration_utils

    known = getattr(configuration_utils, "ALL_CACHE_IMPLEMENTATIONS", ())
    return (name for name in known if name != "quantized")


Check = Callable[[Any, int | None], bool]


def _number(least: float = -math.inf, most: float = math.inf, *, above: bool = False) -> Check:
    def check(value: Any, _: int | None) -> bool:
        if isinstance(value, bool) or not isinstance(value, int | float):
            return False
        return math.isfinite(value) and least <= value <= most and not (above and value == least)

    return check


def _count(value: Any, _: int | None) -> bool:
    return type(value) is int and 0 <= value <= _LARGEST_COUNT


def _is(kind: type) -> Check:
    return lambda value, _: isinstance(value, kind)


def _id(value: Any, vocabulary: int | None) -> bool:
    return _count(value, None) and (vocabulary is None or value < vocabulary)


def _each(check: Check, most: float = math.inf) -> Check:
    """A list of one value or more, up to ``most``."""
    return lambda value, vocabulary: (
        isinstance(value, list)
        and 0 < len(value) <= most
        and all(check(each, vocabulary) for each in value)
    )


def _pair(first: Check, second: Check) -> Check:
    """A list of two values."""
    return lambda value, vocabulary: (
        isinstance(value, list)
        and len(value) == 2
        and first(value[0], vocabulary)
        and second(value[1], vocabulary)
    )


def _one_or_each(check: Check) -> Check:
    each = _each(check, MOST_ENDS)
    return lambda value, vocabulary: check(value, vocabulary) or each(value, vocabulary)


def _text(value: Any, _: int | None) -> bool:
    return isinstance(value, str) and len(value) <= _LONGEST_END


def _tokens(value: Any, vocabulary: int | None) -> bool:
    """Tokens that may be others' too; some must remain."""
    known = isinstance(value, list) and all(
        type(each) is int and abs(each) <= _LARGEST_COUNT for each in value
    )
    return known and (vocabulary is None or len(set(value)) < vocabulary)


def _watermark(value: Any, _: int | None) -> bool:
    checks: dict[str, Check] = {
        "greenlist_ratio": _number(0, 1),
        "bias": _number(),
        "hashing_key": _count,
        "context_width": _count,
        "seeding_scheme": _is(str),
    }
    return isinstance(value, dict) and all(
        name in checks and checks[name](each, None) for name, each in value.items()
    )


_KINDS: dict[str, Check] = {
    "do_sample": _is(bool),
    "num_beams": lambda value, _: _count(value, None) and value <= _MOST_BEAMS,
    "temperature": _number(0),
    "top_k": _count,
    "top_p": _number(0, 1),
    "min_p": _number(0, 1),
    "top_h": _number(0, 1, above=True),
    "typical_p": _number(0, 1, above=True),
    "epsilon_cutoff": _number(0, 1),
    "eta_cutoff": _number(0, 1),
    "repetition_penalty": _number(0, above=True),
    "encoder_repetition_penalty": _number(0, above=True),
    "length_penalty": _number(),
    "early_stopping": lambda value, _: isinstance(value, bool) or value == "never",
    "no_repeat_ngram_size": _count,
    "encoder_no_repeat_ngram_size": _count,
    "min_length": _count,
    "min_new_tokens": _count,
    "max_time": _number(0, above=True),
    "stop_strings": _one_or_each(_text),
    "bad_words_ids": _each(_each(_id), _MOST_PHRASES),
    "sequence_bias": _each(_pair(_each(_id), _is(float)), _MOST_PHRASES),
    "suppress_tokens": _tokens,
    "begin_suppress_tokens": _tokens,
    "forced_bos_token_id": _id,
    "forced_eos_token_id": _one_or_each(_id),
    "exponential_decay_length_penalty": _pair(_count, _number(0, above=True)),
    "remove_invalid_values": _is(bool),
    "renormalize_logits": _is(bool),
    "guidance_scale": _number(0),
    "watermarking_config": _watermark,
    "use_cache": _is(bool),
    "pad_token_id": _id,
    "bos_token_id": _id,
    "eos_token_id": lambda value, _: _one_or_each(_id)(value, None),
    "decoder_start_token_id": _one_or_each(_id),
}
"""The options that generate() computes by itself, and which values each of them may have."""

_CUSTOM: dict[str, tuple[tuple[Any, ...], str]] = {
    "penalty_alpha": ((0,), "beam"),
    "dola_layers": ((), "beam"),
    "prompt_lookup_num_tokens": ((0,), "beam"),
    "assistant_early_exit": ((0,), "beam"),
    "assistant_ensemble_weight": ((), "beam"),
    "speculation_type": ((), "beam"),
    "use_mtp": ((False,), "beam"),
    "num_beam_groups": ((1,), "beams"),
    "diversity_penalty": ((0,), "beams"),
    "low_memory": ((False,), "beams"),
    "constraints": ((), "all"),
    "force_words_ids": ((), "all"),
    "token_healing": ((False,), "all"),
    "custom_generate": ((), "all"),
}
"""Options that need more than generate() has: values that ask nothing, and who would use them."""

_OURS = {
    "max_length", "max_new_tokens", "num_return_sequences", "return_dict_in_generate",
    "output_attentions", "output_hidden_states", "output_scores", "output_logits",
    "cache_config", "max_cache_len", "compile_config", "disable_compile", "prefill_chunk_size",
    "continuous_batching_config", "is_assistant", "num_assistant_tokens",
    "num_assistant_tokens_schedule", "assistant_confidence_threshold", "max_matching_ngram_size",
    "assistant_lookbehind", "target_lookbehind", "transformers_version",
}  # fmt: skip
"""What a run decides itself, and what changes no text."""
