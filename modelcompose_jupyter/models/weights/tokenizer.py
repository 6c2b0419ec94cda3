"""A model's tokenizer, loaded from its folder."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import ModelError, one_line
from ...text_encoding import without_mark
from ..spec import ModelSpec
from ..tokenization.tokenizer_limits import check_tokenizer
from . import optional_libraries
from .load_errors import is_panic

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


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
