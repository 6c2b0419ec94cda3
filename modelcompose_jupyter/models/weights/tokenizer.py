"""A model's tokenizer, loaded from its folder: without transformers where that gives the same."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...errors import ModelError, one_line
from ...text_encoding import without_mark
from ..spec import ModelSpec
from ..tokenization.fast_tokenizer import NAMED, FastTokenizer, Settings
from ..tokenization.tokenizer_limits import check_tokenizer
from . import files, optional_libraries
from .load_errors import is_panic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


FILE = "tokenizer.json"
SETTINGS = "tokenizer_config.json"
_TEMPLATE = "chat_template.jinja"
_TAKEN_AS_IT_IS = {"PreTrainedTokenizerFast", "TokenizersBackend"}
"""The classes for which transformers takes tokenizer.json as it is; it makes others anew."""
_UNREAD = {
    "backend", "is_local", "local_files_only", "model_input_names", "model_max_length",
    "name_or_path", "padding_side", "processor_class", "tokenizer_class",
}  # fmt: skip
_READ = {
    "added_tokens_decoder", "additional_special_tokens", "chat_template", "extra_special_tokens",
    "clean_up_tokenization_spaces", "truncation_side", *NAMED,
}  # fmt: skip
_LEGACY = ("special_tokens_map.json", "added_tokens.json", "additional_chat_templates")
_MISTRAL = {"mistral", "mistral3", "voxtral", "ministral", "pixtral"}
"""Model types whose tokenizers transformers mends, or takes from a file of another name."""


def load_fast_tokenizer(source: str, folder: Path, model_type: str) -> FastTokenizer | None:
    """The tokenizer in a folder, without transformers; None where that might give another one.

    transformers makes the tokenizers of many classes by rules of its own, and reads many settings.
    So this takes only a tokenizer.json that it takes as it is, with settings that are known here.

    Args:
        source: what messages call the model.

    Raises:
        ModelError: it makes more of a text than any model's does.
    """
    from tokenizers import Tokenizer

    names = {path.name for path in folder.iterdir()}
    if not {FILE, SETTINGS} <= names or names & {*_LEGACY} or model_type in _MISTRAL:
        return None
    found = files.read_json(folder / SETTINGS)
    try:
        settings = _settings(found, folder)
        if settings is None:
            return None
        backend = Tokenizer.from_file(str(folder / FILE))
        if not _adds_nothing(found, settings, backend):
            return None
    except Exception:  # whatever is wrong with the files, transformers will say it
        return None
    tokenizer = FastTokenizer(backend, settings)
    check_tokenizer(tokenizer, f"the tokenizer of {source}")
    return tokenizer


def _settings(found: dict[str, Any], folder: Path) -> Settings | None:
    """What tokenizer_config.json says; None where something in it is not known here."""
    extra = found.get("extra_special_tokens") or found.get("additional_special_tokens") or []
    special = {name: _text(found[name]) for name in NAMED if found.get(name) is not None}
    template = found.get("chat_template")
    if isinstance(template, list):
        template = {each["name"]: each["template"] for each in template}
    if (folder / _TEMPLATE).is_file():
        template = (folder / _TEMPLATE).read_text(encoding="utf-8")
    side = found.get("truncation_side", "right")
    if (
        found.get("tokenizer_class") not in _TAKEN_AS_IT_IS
        or not set(found) <= _READ | _UNREAD
        or not isinstance(extra, list)
        or side not in ("left", "right")
    ):
        return None
    texts = [_text(each) for each in extra]
    if isinstance(template, str):
        template = without_mark(template)
    return Settings(special, texts, template, side)


def _text(token: Any) -> str:
    """A token of the settings: a text, or a mapping that has it."""
    is_mapping = isinstance(token, dict) and token.get("__type") == "AddedToken"
    text = token["content"] if is_mapping else token
    if not isinstance(text, str):
        raise TypeError("a token is no text")
    return text


def _adds_nothing(found: dict[str, Any], settings: Settings, backend: Any) -> bool:
    """Whether the settings name no token that tokenizer.json has otherwise, or not at all."""
    known = backend.get_added_tokens_decoder()
    special = {token.content for token in known.values() if token.special}
    if not {*settings.special_tokens.values(), *settings.extra} <= special:
        return False
    if found.get("clean_up_tokenization_spaces") and type(backend.model).__name__ != "BPE":
        return False
    for id, token in (found.get("added_tokens_decoder") or {}).items():
        own = known.get(int(id))
        if own is None or any(getattr(own, name, None) != token[name] for name in token):
            return False
    return True


def load_tokenizer(spec: ModelSpec, folder: Path) -> PreTrainedTokenizerBase:
    """The tokenizer whose files are in a folder.

    Raises:
        ModelError: they are damaged, take a library that is not installed, or make more of a text
            than any model's do.
    """
    from transformers import AutoTokenizer

    what = f"the tokenizer of {spec.source}"
    try:
        tokenizer: PreTrainedTokenizerBase = AutoTokenizer.from_pretrained(
            folder, local_files_only=True, trust_remote_code=spec.trust_remote_code
        )
    except BaseException as error:
        if not isinstance(error, Exception) and not is_panic(error):
            raise
        lacking = optional_libraries.of_tokenizer(folder) or optional_libraries.missing(error)
        if lacking:
            raise optional_libraries.not_installed(what, lacking) from None
        raise ModelError(
            f"{what} cannot be loaded: {one_line(error)}",
            hint="Its tokenizer.json or tokenizer_config.json may be damaged, or made for another"
            " version of transformers.",
            code="corrupt_model",
        ) from None
    check_tokenizer(tokenizer, what)
    if isinstance(template := getattr(tokenizer, "chat_template", None), str):
        tokenizer.chat_template = without_mark(template)
    return tokenizer
