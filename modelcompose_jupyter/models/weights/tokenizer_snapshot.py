"""Tokenizers of transformers, kept for processes that do without it.

For many models transformers makes the tokenizer by rules of its own class. What it made is kept, in
the form of the `tokenizers` library, if it then gives the same; the next process reads that, which
takes hundredths of a second in place of seconds.
"""

from __future__ import annotations

import hashlib
import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from .. import disk_cache
from ..tokenization.fast_tokenizer import FastTokenizer, Settings
from . import files

_MOST = 16
_PROBES = (
    "", "Hello, World! 1 + 22 = 23", "  two\n\tlines \r\n", "naïve café — 옛날 옛적에 🦊👩‍🔬",
    "x" * 300, "٠½ﬁＡßİ\u200b\ufeff", "don't , . ! ? 've 's",
)  # fmt: skip


def find(folder: Path) -> FastTokenizer | None:
    """The tokenizer of a model, as transformers has made it once; None where that is not kept."""
    kept = disk_cache.find(_name(folder))
    if kept is None:
        return None
    from tokenizers import Tokenizer

    try:
        found = json.loads(kept)
        return FastTokenizer(Tokenizer.from_str(found["tokenizer"]), Settings(**found["settings"]))
    except Exception:  # of another version, say: it is made anew
        return None


def keep(folder: Path, tokenizer: Any) -> None:
    """Keep a tokenizer of transformers, if one of the `tokenizers` library is equal to it."""
    if not _is_plain(tokenizer):
        return
    from tokenizers import Tokenizer

    template = tokenizer.chat_template
    settings = {
        "special_tokens": dict(tokenizer.special_tokens_map),
        "extra": [str(each) for each in tokenizer.extra_special_tokens or ()],
        "chat_template": template if isinstance(template, str | None) else dict(template),
        "truncation_side": tokenizer.truncation_side,
    }
    text = tokenizer.backend_tokenizer.to_str()
    fast = FastTokenizer(Tokenizer.from_str(text), Settings(**settings))
    if _is_equal(fast, tokenizer):
        content = json.dumps({"tokenizer": text, "settings": settings})
        disk_cache.keep(_name(folder), content.encode(), _MOST)


def _is_plain(tokenizer: Any) -> bool:
    """Whether a tokenizer has no code of its own for what is done with it later."""
    from transformers import TokenizersBackend

    kind = type(tokenizer)
    if not isinstance(tokenizer, TokenizersBackend) or not kind.__module__.startswith(
        "transformers."
    ):
        return False
    if tokenizer.split_special_tokens:
        return False
    cleans = tokenizer.clean_up_tokenization_spaces
    if cleans and type(tokenizer.backend_tokenizer.model).__name__ != "BPE":
        return False
    own = ("__call__", "_encode_plus", "decode", "_decode", "apply_chat_template")
    return all(getattr(kind, name) is getattr(TokenizersBackend, name) for name in own)


def _is_equal(fast: FastTokenizer, whole: Any) -> bool:
    """Whether both give the same for some texts, and know the same tokens."""
    special = " ".join(fast.special_tokens_map.values())
    for text in (*_PROBES, special, f"a{special}b"):
        for adds in (True, False):
            tokens = whole(text, add_special_tokens=adds)["input_ids"]
            if fast(text, add_special_tokens=adds)["input_ids"] != tokens:
                return False
        for skips in (True, False):
            decoded = whole.decode(tokens, skip_special_tokens=skips)
            if fast.decode(tokens, skip_special_tokens=skips) != decoded:
                return False
    facts = ("special_tokens_map", "all_special_ids", "bos_token_id", "eos_token_id",
             "pad_token_id", "unk_token_id", "chat_template")  # fmt: skip
    return fast.get_vocab() == whole.get_vocab() and all(
        getattr(fast, name) == getattr(whole, name) for name in facts
    )


def _name(folder: Path) -> str:
    """Another one for other files, and other versions of the libraries."""
    key = hashlib.sha256()
    for library in ("transformers", "tokenizers"):
        key.update(f"{library} {version(library)}\n".encode())
    names = sorted(path.name for path in folder.iterdir())
    for name in files.small_files(names, code=False):
        content = (folder / name).read_bytes()
        key.update(f"{name} {len(content)}\n".encode())
        key.update(content)
    return f"tokenizer-{key.hexdigest()[:32]}.json"
