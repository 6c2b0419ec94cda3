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
from collections.abc import Callable, Mapping
from itertools import repeat
from typing import Any
from urllib.parse import quote, quote_plus

MASK = "•••"
"""What stands in place of a secret."""

_SHORTEST = 4
_LONGEST_WORD = 15
_MOST = 200

# Of a URL the user and password go, of its query the values that grant access.
_USER = re.compile(
    r"((?<![\w+.-])[a-z][a-z0-9+.-]{0,30}://)"
    r"(?:[^\s/@'\"<>]{1,500}@|[^\s/:@'\"<>]{1,200}:(?!\d{1,5}(?:/|$))[^\s@'\"<>]{0,500}@)",
    re.IGNORECASE,
)
_USER_OF_PROXY = re.compile(r"(?<![\w/@:.~%+-])[\w.~%+-]{1,200}:[^\s@/:'\"]{1,500}@(?=[\w.-]+:\d)")
_QUERY = re.compile(
    r"([?&;](?:x-(?:amz|goog|ms|oss)-[\w-]{1,50}|key-pair-id|policy|expires|[\w.%-]{0,50}"
    r"(?:token|signature|sig|api_?key|secret|passw(?:or)?d|credentials?))=)[^&\s'\"<>)\]]+",
    re.IGNORECASE,
)
_HEADER = re.compile(
    r"((?:authorization|cookie|x-api-key)['\"]?\s*[:=,]\s*b?['\"]?(?:(?:bearer|basic|token)\s+)?"
    r"|\bbearer\s+)(?!\$|TOKEN\b|realm\b|bearer\b|basic\b)[^\s'\"\\,;]{6,}",
    re.IGNORECASE,
)
_PASSWORD = re.compile(
    r"\b((?:api[_-]?key|access[_-]?token|hf_token|auth[_-]?token|password|passwd|secret)"
    r"['\"]?\s*[:=]\s*['\"]?)(?![\s$'\"])[^\s'\",;&)\]}]+",
    re.IGNORECASE,
)
_KNOWN_KINDS = re.compile(
    r"(?<![A-Za-z0-9])(?:hf_[A-Za-z0-9]{16,}|api_org_[A-Za-z0-9]{16,}|sk-[\w-]{16,}"
    r"|gh[pousr]_[A-Za-z0-9]{20,}|github_pat_\w{20,}|glpat-[\w-]{16,}|xox[a-z]-[\w-]{10,}"
    r"|AKIA[0-9A-Z]{16}|AIza[\w-]{30,}|eyJ[\w-]{8,2000}\.[\w-]{8,2000}\.[\w-]*)"
)
# A line of a document whose key says that its value is a secret, but for `${…}` alone.
_LINE = re.compile(
    r"(^|[\s{,\-\"'])((?:\w{0,50}[_-])?(?:token|api[_-]?key|password|secret)[\"']?\s*:\s*)"
    r"(?!\s*[\"']?\$\{[\w.]+\}[\"']?\s*(?:[#,}]|$))(?=\S)(.+)",
    re.IGNORECASE,
)
_SECRET_NAME = re.compile(
    r"(?:^|_)(?:token|secret|password|passwd|pass|pwd|api_?key|key|credentials?|auth|pat)(?:_|$)",
    re.IGNORECASE,
)

_lock = threading.Lock()
_secrets: dict[str, None] = {}
_pattern: re.Pattern[str] | None = None


def remember(secret: object, least: int = _SHORTEST) -> None:
    """Mask this text from now on, in every message of the process.

    Args:
        secret: the text, without the blanks around it. Nothing is done for what is no text, nor
            for what may be a word of a message: letters alone, and not many.
        least: how many characters it has at least.
    """
    global _pattern
    text = secret.strip() if isinstance(secret, str) else ""
    is_word = text.isalpha() and len(text) <= _LONGEST_WORD
    if is_word or len(text) < least or MASK in text:
        return
    with _lock:
        if text in _secrets:
            return
        _secrets[text] = None
        while len(_secrets) > _MOST:
            del _secrets[next(iter(_secrets))]
        forms = {form for each in _secrets for form in _forms(each)}
        longest_first = sorted(forms, key=len, reverse=True)
        _pattern = re.compile(rf"(?<!\w)(?:{'|'.join(map(re.escape, longest_first))})(?!\w)")


def remember_variables(environment: Mapping[str, str]) -> None:
    """Mask the values of environment variables whose names say that they are secrets."""
    for name, value in environment.items():
        if _SECRET_NAME.search(name):
            remember(value)


def _forms(secret: str) -> set[str]:
    """A secret as it may be quoted: as it is, escaped by Python or JSON, in a URL."""
    escaped = {repr(secret)[1:-1], ascii(secret)[1:-1], json.dumps(secret)[1:-1]}
    lines = {line.strip() for line in secret.splitlines() if len(line.strip()) >= _SHORTEST}
    return {secret, quote(secret, safe=""), quote_plus(secret), *escaped, *lines}


def redact(text: str) -> str:
    """A message without credentials."""
    text = _without_secrets(text)
    text = _USER.sub(r"\1", text)
    text = _USER_OF_PROXY.sub("", text)
    for pattern in (_QUERY, _HEADER, _PASSWORD):
        text = pattern.sub(rf"\1{MASK}", text)
    return _KNOWN_KINDS.sub(MASK, text)


def redact_line(line: str) -> str:
    """A line of a document without credentials; what stands before the first keeps its column."""
    return redact(_LINE.sub(rf"\1\2{MASK}", line))


def redacted(data: Any) -> Any:
    """Plain data that this package says: its texts without credentials."""
    return _each_text(data, redact)


def without_secrets(data: Any) -> Any:
    """Plain data that users gave: without what is known to be a secret, and else as it is."""
    return _each_text(data, _without_secrets)


def is_masked(data: Any) -> bool:
    """Whether a text of plain data was masked."""
    found = False

    def look(text: str) -> str:
        nonlocal found
        found = found or MASK in text
        return text

    _each_text(data, look)
    return found


def _without_secrets(text: str) -> str:
    return _pattern.sub(MASK, text) if _pattern is not None else text


def _each_text(data: Any, change: Callable[[str], str]) -> Any:
    if isinstance(data, str):
        return change(data)
    if isinstance(data, Mapping):
        result = {}
        for key, value in data.items():  # a comprehension would take twice the depth
            result[key] = _each_text(value, change)
        return result
    if isinstance(data, list):
        return list(map(_each_text, data, repeat(change)))
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
