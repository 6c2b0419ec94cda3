"""Credentials are kept out of every text that leaves the process: this is the one way out.

Errors, log records, events and records of runs, diagrams and copied commands pass through here. Two
things are masked: what has been named a secret (`remember`), in each form in which libraries quote
it, and, in messages, what looks like a credential wherever it comes from.

Texts that a model reads and writes are not messages, and stay as they are. The patterns bound what
they try at each place, since guests have a part in what they are given.
"""

from __future__ import annotations

import json
import logging
import re
import threading
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice, repeat
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "•••"
"""What stands in place of a secret."""

_SHORTEST = 4
_LONGEST_WORD = 15
_LONG_TOKEN = 30  # tokens of the Hub have 34 letters behind their prefix
_MOST = 500
"""Secrets of this user that are known at a time, and as many of documents."""
_MOST_OF_A_DOCUMENT = 50

# Of a URL the user and password go, of its query the values that grant access. What has a port
# before its first slash and an "@" behind it may be a path, or a password with a slash in it.
_USER = re.compile(
    r"((?<![\w+.-])(?:https?|socks\w{0,3}|ftp|wss?)://)[^\s/'\"<>]{1,500}@"
    r"|((?<![\w+.-])[a-z][a-z0-9+.-]{0,30}://)[^\s/:@'\"<>]{1,200}:"
    r"(?!\d{1,5}/)[^\s'\"<>]{0,500}@",
    re.IGNORECASE,
)
_PERHAPS_USER = re.compile(
    r"((?<![\w+.-])[a-z][a-z0-9+.-]{0,30}://[^\s/@'\"<>]{1,200}/)[^\s@'\"<>]{1,500}@", re.IGNORECASE
)
_USER_ALONE = re.compile(
    r"(?<![\w@:.~%+\\-])[\w.~%+-]{1,200}:[^\s@/:'\"\\]{1,500}@(?=[\w.-]{1,200}(?::\d|/))"
)
_QUERY = re.compile(
    r"([?&;](?:x-(?:amz|goog|ms|oss)-[\w-]{1,50}|key-pair-id|[\w.%-]{0,50}"
    r"(?:token|signature|sig|api_?key|secret|passw(?:or)?d|credentials?))=)[^&\s'\"<>)\]]+",
    re.IGNORECASE,
)
_QUERY_PERHAPS = re.compile(
    r"([?&;](?:policy|key|auth|pass|pw|code)=)([^&\s'\"<>)\]]+)", re.IGNORECASE
)
_HEADER = re.compile(
    r"((?:authorization|x-api-key|x-hf-token)(?:['\"]?\s*[:=]|['\"]\s*,)\s*b?['\"]?"
    r"(?:(?:bearer|basic|token|digest)\s+)?|\bbearer:?\s+)([^\s'\"\\,;<>$]+)",
    re.IGNORECASE,
)
_COOKIE = re.compile(
    r"(\b(?:set-)?cookie['\"]?\s*[:=]\s*)([^'\"\n]{0,500}=[^'\"\n]*)", re.IGNORECASE
)
_ASSIGNED = re.compile(
    r"((?<![A-Za-z0-9])(?:--)?([A-Za-z][\w-]{0,60})['\"]?(?:\s*=\s*|:\s*|(?<=token)\s)b?['\"]?)"
    r"([^\s'\",;&)\]}$]+)"
)
_KINDS = re.compile(
    r"(?<![A-Za-z0-9_-])(?:(?:hf|api_org|hf_oauth|hf_jwt|npm|gh[pousr]|github_pat|glpat|xox[a-z]|sk|pypi)"
    r"[_-][\w-]{12,2000}|AKIA[0-9A-Z]{16}|AIza[\w-]{30,100}"
    r"|eyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]*)"
)
_PEM = re.compile(r"(-----BEGIN [A-Z ]{0,30}PRIVATE KEY-----)[^-]*")

# Keys whose values are secrets: one of these words, or nearly so, and none of the others, which
# tokenizers and limits have.
_SECRET_WORDS = frozenset(
    (
        "token", "secret", "password", "passwd", "passphrase", "pwd", "pass", "apikey", "key",
        "auth", "authorization", "credential", "bearer",
    )
)  # fmt: skip
_OTHER_WORDS = frozenset(
    (
        "eos", "bos", "pad", "unk", "sep", "cls", "mask", "special", "max", "min", "num", "skip",
        "image", "begin", "forced", "decoder", "end", "start", "stop", "id", "ids", "first",
        "per", "second", "count", "top", "add", "public", "pair",
    )
)  # fmt: skip
_KEY_OF_LINE = re.compile(
    r"(?:^\s*(?:[-?#]\s+)*|[{,]\s*)([\"']?)([A-Za-z][\w-]{1,40})\1(\s*[:=]|\s)\s*"
)
_VARIABLE = re.compile(r"\s*[\"']?\$\{[\w.]+\}[\"']?\s*(?:[#,}]|$)")
_FIRST_WORD = re.compile(r"[^ ]{0,200}")
_PIECES = re.compile(r"[^\s\"'{}\[\]|,()$=*!&?:#]+")

_NEARLY = {
    word[:at] + word[at + 1 :] for word in _SECRET_WORDS if len(word) > 4 for at in range(len(word))
} | {word for word in _SECRET_WORDS if len(word) > 4}

_lock = threading.Lock()
_secrets: dict[str, None] = {}
_of_documents: dict[str, None] = {}  # who writes one must not make the others forgotten
_pattern: re.Pattern[str] | None = None
_is_new = False  # whether more is known than the pattern has; it takes time to make


def is_secret_key(key: object) -> bool:
    """Whether a key, or what it seems to be meant for, names a secret."""
    if not isinstance(key, str) or len(key) > 60:
        return False
    words = [word for word in re.split(r"[^a-z]+", key.lower()) if word]
    return _OTHER_WORDS.isdisjoint(words) and any(map(_is_secret_word, words))


def _is_secret_word(word: str) -> bool:
    """Whether a word is one of a secret's, or one letter away from a long one."""
    if word in _SECRET_WORDS or word.removesuffix("s") in _SECRET_WORDS:
        return True
    return len(word) > 3 and (word in _NEARLY or not _NEARLY.isdisjoint(_shorter(word)))


def _shorter(word: str) -> Iterator[str]:
    """A word without each of its letters in turn."""
    return (word[:at] + word[at + 1 :] for at in range(len(word)))


def remember(secret: object) -> None:
    """Mask this text from now on, in every message of the process.

    For what this user's own documents, environment and programs hold; what a request brings is its
    run's alone. Nothing is done for what is no text, nor for what may be a word of a message:
    letters alone, and not many.
    """
    _keep(_secrets, [secret])


def _keep(known: dict[str, None], secrets: Iterable[object]) -> None:
    """Add secrets to those that are known; of too many the ones go that were named first."""
    global _is_new
    for secret in secrets:
        text = secret.strip() if isinstance(secret, str) else ""
        is_word = text.isalpha() and len(text) <= _LONGEST_WORD
        if is_word or len(text) < _SHORTEST or MASK in text:
            continue
        with _lock:
            if text in known:
                known[text] = known.pop(text)
                continue
            known[text] = None
            if len(known) > _MOST:
                del known[next(iter(known))]
            _is_new = True


def remember_in_text(document: str) -> None:
    """Mask what stands behind the keys of secrets in a document, however wrong the document is.

    Of one document the first are kept, here and in `remember_in_data`: no document that somebody
    sent may have those of others forgotten.
    """
    _keep(_of_documents, islice(_in_text(document), _MOST_OF_A_DOCUMENT))


def _in_text(document: str) -> Iterator[str]:
    for line in document.splitlines():
        for found in _KEY_OF_LINE.finditer(line):
            if is_secret_key(found[2]) and not _VARIABLE.match(line, found.end()):
                for piece in _PIECES.finditer(line, found.end()):
                    if "." not in piece[0] and _is_secret(piece[0]):
                        yield piece[0]
                break  # what stands behind another key was among them


def remember_in_data(data: Any) -> None:
    """Mask the texts below the keys of secrets in plain data, but for templates."""
    _keep(_of_documents, islice(_in_data(data), _MOST_OF_A_DOCUMENT))


def _in_data(data: Any) -> Iterator[str]:
    rest = deque([(data, False)])  # in the document's order, as its text is
    while rest:
        each, secret = rest.popleft()
        if isinstance(each, Mapping):
            rest += [(value, secret or is_secret_key(key)) for key, value in each.items()]
        elif isinstance(each, list):
            rest += [(value, secret) for value in each]
        elif secret and isinstance(each, str) and "${" not in each:
            yield each


def remember_variables(environment: Mapping[str, str]) -> None:
    """Mask the values of environment variables whose names say that they are secrets."""
    for name, value in environment.items():
        if is_secret_key(name):
            remember(value)


def _pattern_of(secrets: Iterable[str]) -> re.Pattern[str] | None:
    forms = {form for each in secrets for form in _forms(each)}
    if not forms:
        return None
    longest_first = sorted(forms, key=len, reverse=True)
    return re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def _forms(secret: str) -> set[str]:
    """A secret as it may be quoted: as it is, escaped by Python or JSON, in a URL."""
    escaped = {repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]}
    lines = {line.strip() for line in secret.splitlines() if len(line.strip()) >= _SHORTEST}
    return {secret, quote(secret, safe=""), quote_plus(secret), *escaped, *lines}


def redact(text: str) -> str:
    """A message without credentials."""
    text = _without_secrets(text)
    text = _USER.sub(lambda found: found[1] or found[2], text)
    text = _PERHAPS_USER.sub(rf"\1{MASK}@", text)
    text = _USER_ALONE.sub("", text)
    text = _QUERY.sub(rf"\1{MASK}", text)
    text = _QUERY_PERHAPS.sub(lambda found: _masked_if(_is_secret(found[2]), found), text)
    text = _COOKIE.sub(rf"\1{MASK}", text)
    text = _HEADER.sub(lambda found: _masked_if(_is_secret(found[2]), found), text)
    text = _ASSIGNED.sub(
        lambda found: _masked_if(_is_secret(found[3]) and is_secret_key(found[2]), found), text
    )
    text = _PEM.sub(rf"\1{MASK}", text)
    return _KINDS.sub(lambda found: MASK if _is_token(found[0]) else found[0], text)


def _is_token(word: str) -> bool:
    """Whether what begins as tokens do is one: letters and digits, or too long for a name."""
    prefix, _, rest = word.partition("_")
    return _is_mixed(word) or (prefix == "hf" and rest.isalnum() and len(rest) >= _LONG_TOKEN)


def _masked_if(is_secret: bool, found: re.Match[str]) -> str:
    return f"{found[1]}{MASK}" if is_secret else found[0]


def _is_secret(value: str) -> bool:
    """Whether what stands in the place of a secret is one, and no word of a sentence."""
    return MASK not in value and len(value) > 4 and (_is_mixed(value) or len(value) > 24)


def _is_mixed(value: str) -> bool:
    """Whether there are digits in it, or letters of both sizes, as in no word."""
    sizes = any(char.isupper() for char in value[1:]) and any(char.islower() for char in value)
    return sizes or any(char.isdigit() for char in value)


def redact_line(line: str, start: int | None = None) -> str:
    """A line of a document without credentials.

    What stands before the first keeps its column. ``start`` is the index from which the line is a
    part of a secret, if it is known to be.
    """
    if start is not None and not _VARIABLE.match(line, start):
        return redact(line[:start]) + MASK
    for found in _KEY_OF_LINE.finditer(line):
        end = found.end()
        sure = found[3].strip() or _is_secret(_FIRST_WORD.match(line, end)[0])  # type: ignore[index]
        if end < len(line) and sure and is_secret_key(found[2]) and not _VARIABLE.match(line, end):
            return redact(line[:end]) + MASK
    return redact(line)


def redacted(data: Any) -> Any:
    """Plain data that this package says: its texts without credentials."""
    return each_text(data, redact)


def without_secrets(data: Any) -> Any:
    """Plain data that users gave: without what is known to be a secret, and else as it is."""
    return each_text(data, _without_secrets)


def without(data: Any, secrets: Iterable[str]) -> Any:
    """Plain data without these texts, as they may be quoted."""
    pattern = _pattern_of(each for each in secrets if len(each) >= _SHORTEST)
    return data if pattern is None else each_text(data, lambda text: pattern.sub(MASK, text))


def texts_of(data: Any) -> list[str]:
    """The texts in plain data, without the blanks around them."""
    found: list[str] = []

    def look(text: str) -> str:
        found.append(text.strip())
        return text

    each_text(data, look)
    return found


def is_masked(data: Any) -> bool:
    """Whether a text of plain data was masked."""
    return any(MASK in text for text in texts_of(data))


def _without_secrets(text: str) -> str:
    """A text without all that is known to be a secret."""
    global _pattern, _is_new
    if _is_new:
        with _lock:
            _pattern, _is_new = _pattern_of([*_secrets, *_of_documents]), False
    pattern = _pattern
    return pattern.sub(MASK, text) if pattern is not None else text


def each_text(data: Any, change: Callable[[str], str]) -> Any:
    """Plain data with each of its texts changed; keys stay."""
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        result = {}
        for key, value in data.items():  # a comprehension would take twice the depth
            result[key] = each_text(value, change)
        return result
    if isinstance(data, list):
        return list(map(each_text, data, repeat(change)))
    return data


class _Filter(logging.Filter):
    """Redacts records before any handler has them, tracebacks and extra facts included."""

    def filter(self, record: logging.LogRecord) -> bool:
        record.msg, record.args = redact(record.getMessage()), None
        if record.exc_info and record.exc_info[1] is not None:
            record.exc_text = redact(logging.Formatter().formatException(record.exc_info))
            # For handlers that look at the error itself: what it says, without what it holds.
            _, error, traceback = record.exc_info
            told = Exception(redact(f"{type(error).__name__}: {error}"))
            record.exc_info = (Exception, told, traceback)
        if facts := getattr(record, "facts", None):
            record.facts = redacted(facts)
        return True


_filter = _Filter()


def get_logger(name: str) -> logging.Logger:
    """A logger of this package, none of whose records holds a credential."""
    logger = logging.getLogger(name)
    logger.addFilter(_filter)  # adds it once only
    return logger
