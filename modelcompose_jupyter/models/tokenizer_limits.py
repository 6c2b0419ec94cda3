"""What a tokenizer may do: it is a program of its model's author, of steps that can grow a text.

Its steps are looked at once, when it has been loaded: none may make much more of a text than there
is. Regular expressions need no bound here: their library gives up one that tries too much, which
is an error of the request, and long texts come in slices where they may be too long.
"""

from __future__ import annotations

import base64
import math
from collections.abc import Iterator
from typing import Any

from ..errors import ModelError
from .prompt_tokens import flat, state

MOST_GROWTH = 64
"""Bytes that all steps may make of one byte; ▁ for a blank is three, and Unicode's longest
compatibility form is eleven."""
MOST_ADDED = 64
"""Special tokens around a text; models have one to four."""
MOST_STEPS = 64
"""Of a normalizer, and the like; the most that models have is about ten."""
LONGEST_TOKEN = 8_192
"""Characters of a token; runs of blanks reach some hundred."""
LONGEST_WORD = 1_000
"""Characters that WordPiece looks up as one word, which takes their square; BERT has 100."""
LONGEST_PATTERN = 20_000
"""Characters of a regular expression; the longest that models have are below 2,000."""
_PROBE = "Hello, World! 1 + 22 = 23\n\tNaïve café — 옛날 옛적에 🦊  end."
_SEVERAL = ("normalizers", "pretokenizers", "processors", "decoders")


def check(tokenizer: Any, name: str) -> None:
    """Look at a tokenizer that has been loaded, and switch off that it pads or cuts by itself.

    Args:
        tokenizer: a `transformers.PreTrainedTokenizerBase`.
        name: what it is called in errors.

    Raises:
        ModelError: it makes of a text what no model's does.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    longest = max(map(len, tokenizer.get_vocab()), default=0)
    if longest > LONGEST_TOKEN:
        raise _beyond(name, f"has a token of {longest} characters", LONGEST_TOKEN)
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            _check_part(name, part.replace("_", "-"), state(getattr(backend, part)))
        _check_model(name, backend.model)
    try:
        count = len(tokenizer(_PROBE)["input_ids"])
    except BaseException as error:
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        raise _failing(name, error) from None
    most = MOST_GROWTH * len(_PROBE.encode()) + MOST_ADDED
    if count > most:
        raise _beyond(name, f"makes {count} tokens of a text of {len(_PROBE)} characters", most)


def _check_part(name: str, part: str, content: Any) -> None:
    several = next((key for key in _SEVERAL if content and key in content), _SEVERAL[0])
    steps = flat(content, several)
    if len(steps) > MOST_STEPS:
        raise _beyond(name, f"has a {part} of {len(steps)} steps", MOST_STEPS)
    growth = math.prod(map(_growth, steps))
    if growth > MOST_GROWTH:
        raise _beyond(name, f"has a {part} that makes {growth:.0f} bytes of one", MOST_GROWTH)
    for step in steps:
        pattern = step.get("pattern")
        expression = pattern.get("Regex", "") if isinstance(pattern, dict) else ""
        if len(expression) > LONGEST_PATTERN:
            raise _beyond(name, f"has a pattern of {len(expression)} characters", LONGEST_PATTERN)
        if step.get("type") == "TemplateProcessing":
            _check_template(name, step)


def _growth(step: dict[str, Any]) -> float:
    """How many bytes a step makes of one, at most; what it adds once counts as made of one."""
    kind = step.get("type")
    if kind == "Replace":
        found = len(step["pattern"].get("String", "").encode())
        return max(1.0, len(step["content"].encode()) / max(1, found))
    if kind == "Prepend":
        return max(1.0, len(step["prepend"].encode()) / 4)
    if kind == "Precompiled":
        return max(1.0, max(map(len, _replacements(step["precompiled_charsmap"]))) / 3)
    texts = (each for key in ("prefix", "suffix", "replacement") for each in [step.get(key)])
    return max((len(each) / 4 for each in texts if isinstance(each, str)), default=1.0)


def _replacements(charsmap: str) -> Iterator[bytes]:
    """What SentencePiece's table of characters has for them: behind a tree, texts that end in 0."""
    content = base64.b64decode(charsmap or "")
    tree = int.from_bytes(content[:4], "little")
    yield b""
    yield from content[4 + tree :].split(b"\0")


def _check_template(name: str, step: dict[str, Any]) -> None:
    """Bound what is put around a text; it stands there itself once."""
    added = texts = 0
    for piece in step["single"]:
        if "Sequence" in piece:
            texts += 1
        else:
            token = step["special_tokens"].get(piece["SpecialToken"]["id"], {})
            added += len(token.get("ids", ()))
    if added > MOST_ADDED:
        raise _beyond(name, f"adds {added} special tokens to each text", MOST_ADDED)
    if texts > 1:
        raise _beyond(name, f"takes each text {texts} times", 1)


def _check_model(name: str, model: Any) -> None:
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        affix = getattr(model, key, None) or ""
        if len(affix) > MOST_GROWTH:
            raise _beyond(name, f"adds {len(affix)} characters to parts of words", MOST_GROWTH)
    word = getattr(model, "max_input_chars_per_word", 0)
    if word > LONGEST_WORD:
        raise _beyond(name, f"looks up words of {word} characters", LONGEST_WORD)


def _beyond(name: str, what: str, most: int) -> ModelError:
    return ModelError(
        f"{name} {what}, and {most} is the most",
        hint="No model needs that: fetch its tokenizer.json anew, or choose another model.",
        code="corrupt_model",
    )


def _failing(name: str, error: BaseException) -> ModelError:
    return ModelError(
        f"{name} fails with a short text: {type(error).__name__}: {str(error)[:200]}",
        hint="Its files may be damaged, or made for another version of transformers.",
        code="corrupt_model",
    )
