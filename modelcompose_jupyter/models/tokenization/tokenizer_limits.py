"""Bounds on what a tokenizer makes of a text: its author chose the steps, which can grow it.

They are looked at once, when it has been loaded: all together may make a text longer only within a
bound. Regular expressions are not looked into: their library gives up one that tries too much at a
place of a text, which is an error of the request. One that tries nearly as much at each place takes
hundredths of a second for each character; requests are cancelled between slices of a long text.
"""

from __future__ import annotations

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from ...errors import ModelError
from .prompt_tokens import steps_of
from .vocabulary import longest_token

MOST_GROWTH = 64
"""Bytes that all steps may make of one byte; ▁ for a blank is three, and Unicode's longest
compatibility form is eleven."""
MOST_ADDED = 64
"""Special tokens around a text; models have one to four."""
MOST_STEPS = 256
"""Of a normalizer, and the like; models have about ten, or one for each sign they leave out."""
MOST_REPLACED = 65_536
"""Characters in all texts that steps look for and put in their place; models have some hundred."""
LONGEST_TOKEN = 8_192
"""Characters of a token; runs of blanks reach some hundred."""
LONGEST_PIECE = 256
"""Characters of a token of a Unigram, which tries all lengths at each place; SentencePiece makes
them 16 at most."""
LONGEST_WORD = 1_000
"""Characters that WordPiece looks up as one word, which takes their square; BERT has 100."""
LONGEST_PATTERN = 20_000
"""Characters of a regular expression; the longest that models have are below 2,000."""
_PROBE = "Hello, World! 1 + 22 = 23\n\tNaïve café — 옛날 옛적에 🦊  end."


def check_tokenizer(tokenizer: Any, name: str) -> None:
    """Look at a tokenizer that has been loaded, and switch off that it pads or cuts by itself.

    Raise a `ModelError`, with this name in it, where it makes of a text what no model's does.
    """
    backend: Any = getattr(tokenizer, "backend_tokenizer", None)
    _bound(name, "has a token of", longest_token(tokenizer), LONGEST_TOKEN, "characters")
    if backend is not None:
        backend.no_padding()
        backend.no_truncation()
        for part in ("normalizer", "pre_tokenizer", "post_processor", "decoder"):
            _check_part(name, part.replace("_", "-"), steps_of(getattr(backend, part)))
        _check_model(name, backend)
    try:
        count = len(tokenizer(_PROBE)["input_ids"])
    except BaseException as error:  # a panic of Rust is no Exception
        if isinstance(error, KeyboardInterrupt | SystemExit):
            raise
        return  # its alphabet may lack some of it, as those of proteins do; requests say so
    most = MOST_GROWTH * len(_PROBE.encode()) + MOST_ADDED
    _bound(name, "makes", count, most, f"tokens of a text of {len(_PROBE)} characters")


def _check_part(name: str, part: str, steps: Sequence[dict[str, Any]]) -> None:
    _bound(name, f"has a {part} of", len(steps), MOST_STEPS, "steps")
    replaced = sum(len(each) for step in steps for each in _replacement(step) or ())
    _bound(name, f"has a {part} that replaces", replaced, MOST_REPLACED, "characters")
    growth = _growth_of_all(steps)
    _bound(name, f"has a {part} that makes", growth, MOST_GROWTH, "bytes of one")
    for step in steps:
        pattern = step.get("pattern")
        expression = pattern.get("Regex", "") if isinstance(pattern, dict) else ""
        _bound(name, "has a pattern of", len(expression), LONGEST_PATTERN, "characters")
        if step.get("type") == "TemplateProcessing":
            _check_template(name, step)


@dataclass
class _Made:
    """What steps that replace texts made: how many bytes of one, and texts that may be in it; None
    where these are not known."""

    growth: float
    texts: list[str] | None

    def add(self, texts: list[str] | None, found: str, content: str) -> None:
        """Other texts, after a step in which something was found in them."""
        if self.texts is None or texts is None or any(_spans(found, each) for each in texts):
            self.texts = None
        else:
            self.texts += [each.replace(found, content) for each in texts]


def _growth_of_all(steps: Sequence[dict[str, Any]]) -> float:
    """How many bytes steps make of one, at most.

    What a step makes of a text grows again where a later one finds something in it. Steps that
    replace texts find nothing in what others made unless they share the text, or a part at its end.
    """
    before, made = 1.0, list[_Made]()
    for step in steps:
        growth = _growth(step)
        replacement = _replacement(step)
        if replacement is None:
            before *= growth * max((each.growth for each in made), default=1.0)
            made = []
        else:
            found, content = replacement
            touched = [each for each in made if _touches(found, each.texts)]
            made = [each for each in made if each not in touched]
            growth *= max((each.growth for each in touched), default=1.0)
            if before * growth > MOST_GROWTH:
                return before * growth
            made.append(_Made(growth, [content]))
            for each in touched:
                made[-1].add(each.texts, found, content)
    return before * max((each.growth for each in made), default=1.0)


def _replacement(step: dict[str, Any]) -> tuple[str, str] | None:
    """What a step looks for and what it puts there, where both are texts."""
    pattern = step.get("pattern")
    if step.get("type") != "Replace" or not isinstance(pattern, dict) or "String" not in pattern:
        return None
    return pattern["String"], step["content"]


def _touches(found: str, texts: list[str] | None) -> bool:
    """Whether a text may be found in others, or partly in them and partly beside them."""
    return texts is None or any(found in text or _spans(found, text) for text in texts)


def _spans(found: str, text: str) -> bool:
    """Whether a text may be found partly in another one and partly beside it."""
    if set(found).isdisjoint(text):
        return False
    parts = range(1, len(found))
    return text in found or any(
        text.endswith(found[:part]) or text.startswith(found[part:]) for part in parts
    )


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
    _bound(name, "adds", added, MOST_ADDED, "special tokens to each text")
    _bound(name, "takes each text", texts, 1, "times")


def _check_model(name: str, backend: Any) -> None:
    model = backend.model
    if type(model).__name__ == "Unigram":
        longest = max(map(len, backend.get_vocab(with_added_tokens=False)), default=0)
        _bound(name, "has a piece of", longest, LONGEST_PIECE, "characters")
    for key in ("continuing_subword_prefix", "end_of_word_suffix"):
        affix = getattr(model, key, None) or ""
        _bound(name, "adds", len(affix), MOST_GROWTH, "characters to parts of words")
    word = getattr(model, "max_input_chars_per_word", 0)
    _bound(name, "looks up words of", word, LONGEST_WORD, "characters")


def _bound(name: str, does: str, found: float, most: int, what: str) -> None:
    """Raise a `ModelError` for more than the most."""
    if found > most:
        raise ModelError(
            f"{name} {does} {found:.0f} {what}, and {most} is the most",
            hint="No model needs that: fetch its tokenizer.json anew, or choose another model.",
            code="corrupt_model",
        )
