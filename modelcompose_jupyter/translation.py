"""Messages in the language of who reads them.

English is the source: messages are written, logged and sent in English, with their codes. A
surface translates where it shows. What stands in a message at its placeholders is not known there
any more, so it is found again: among the templates of the catalog the one is looked for that fits,
what stands in its placeholders is taken out, and the translation is filled with it. A placeholder
may hold a message, which is translated, too; names and what stands in quotes stay as they are.
What is not found stays English.

Catalogs are made by ``translations/messages.py`` and read when somebody reads another language.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import Any

DOMAIN = "modelcompose_jupyter"
ENGLISH = "en"
VISITOR_VARIABLE = "HTTP_ACCEPT_LANGUAGE"
"""The environment variable of a page's kernel that has its visitor's languages."""
LOCALES = Path(__file__).parent / "locale"

_LONGEST = 20_000  # characters of a text that is looked for; longer ones stay English
_DEPTH = 6  # of messages in messages
_WEAK, _WEAKEST = 8, 4  # letters; a template with fewer, such as ``{0} of {1}``, fits many things
_CODE = "$[{'\"`"  # what an expression, plain data or a quoted name begins with
_QUOTES = "'\"`“"
_BETWEEN = " · "
"""What stands between the parts of a line, and never in one."""
_AMOUNT = re.compile(r"\d[^,( ]*(?:,\d[^,( ]*)*(?: \S{1,3}){0,3}")
_NUMBER = re.compile(r"\d")
_OF_A_KEY = re.compile(r"'[^']*': ")  # where a message is about, in front of it


def translated(text: str, language: str) -> str:
    """A message in a language, a tag such as ``ko`` or ``ko-KR``; English where it is unknown."""
    catalog = catalog_of(language)
    return text if catalog is None or not text else catalog.told(text)


def localized(text: str) -> str:
    """A message in the language of who reads it here: see `reader_language`."""
    return translated(text, reader_language())


def filled(template: str, *values: str, language: str) -> str:
    """A template with values at ``{0}``, ``{1}``, …, in a language.

    For what nobody could find again: words as few as ``{0} or {1}``, values that may be anything.
    They stay as they are, and may be HTML.
    """
    catalog = catalog_of(language)
    forms = None if catalog is None else catalog.messages.get(template)
    from .korean_particles import with_particles

    shown = {str(number): value for number, value in enumerate(values)}
    return with_particles(_fill(forms[0], shown)) if forms else _fill(template, shown)


def told(data: Any, language: str, *keys: str) -> Any:
    """Plain data in a language: its texts are messages; of mappings those of ``keys`` alone."""
    catalog = catalog_of(language)
    return data if catalog is None else _told(data, catalog, keys)


def reply_in(reply: Any, language: str) -> Any:
    """What an editor is answered, in its language."""
    return told(reply, language, "message", "hint", "help", "kind")


def _told(data: Any, catalog: Catalog, keys: tuple[str, ...]) -> Any:
    if isinstance(data, str):
        return catalog.told(data)
    if isinstance(data, Mapping):
        return {
            key: _told(value, catalog, keys)
            if key in keys or isinstance(value, Mapping | list)
            else value
            for key, value in data.items()
        }
    return [_told(each, catalog, keys) for each in data] if isinstance(data, list | tuple) else data


_reader: ContextVar[str] = ContextVar("reader", default="")


@contextmanager
def speaking(language: str) -> Iterator[None]:
    """What is `localized` meanwhile is in a reader's language, a tag; in the environment's if that
    is empty."""
    before = _reader.set(language and preferred(language))
    try:
        yield
    finally:
        _reader.reset(before)


def reader_language() -> str:
    """The language of who reads what is shown: of whom `speaking` speaks to, else of this process's
    environment."""
    return _reader.get() or environment_language()


def environment_language() -> str:
    """The language of who started this process: of a page's kernel the visitor's, as their browser
    asks for it; else the terminal's as gettext has it: of ``LANGUAGE`` the first that is known,
    where ``LC_ALL``, ``LC_MESSAGES`` or ``LANG`` name one at all."""
    if visitors := os.environ.get(VISITOR_VARIABLE):
        return preferred(visitors)
    names = ("LC_ALL", "LC_MESSAGES", "LANG")
    locale = next(filter(None, map(os.environ.get, names)), "")
    if locale.partition(".")[0] in ("", "C", "POSIX"):
        return ENGLISH
    for each in [*os.environ.get("LANGUAGE", "").split(":"), locale]:
        tag = _subtag(each)
        if tag == ENGLISH or tag in languages():
            return tag
    return ENGLISH


def preferred(accepted: str) -> str:
    """The first language of an ``Accept-Language`` header that is known; English for none."""
    tags = (_subtag(each.strip()) for each in accepted.split(","))
    return next((tag for tag in tags if tag == ENGLISH or tag in languages()), ENGLISH)


@lru_cache(maxsize=1)
def languages() -> Mapping[str, Path]:
    """The catalogs by the languages that there are beside English."""
    return {_subtag(path.parts[-3]): path for path in LOCALES.glob(f"*/LC_MESSAGES/{DOMAIN}.json")}


def in_all_languages(*messages: str) -> dict[str, dict[str, list[str]]]:
    """By language, the translations of some messages, by plural form: for scripts of pages, whose
    language nobody knows before them."""
    catalogs = {tag: catalog_of(tag) for tag in languages()}
    return {
        tag: {each: catalog.messages[each] for each in messages if each in catalog.messages}
        for tag, catalog in catalogs.items()
        if catalog is not None
    }


def catalog_of(language: str) -> Catalog | None:
    """The catalog of a language; None for English, and where there is none."""
    tag = _subtag(language)
    return None if tag in ("", ENGLISH) else _catalog(tag)


@lru_cache(maxsize=8)
def _catalog(tag: str) -> Catalog | None:
    import json

    path = languages().get(tag)
    return None if path is None else Catalog(tag, json.loads(path.read_text(encoding="utf-8")))


def _subtag(language: str) -> str:
    """``ko`` of ``ko_KR.UTF-8``, ``ko-KR`` and ``ko``."""
    return re.split(r"[-_.@;]", language, maxsplit=1)[0].lower()


@dataclass(frozen=True)
class Template:
    """A message with placeholders: ``literals`` are what stands around them.

    Attributes:
        forms: its translations, by `Catalog.plural`.
        weight: its letters outside of placeholders; of templates that fit the one with most counts.
    """

    literals: tuple[str, ...]
    fields: tuple[str, ...]
    forms: tuple[str, ...]

    @cached_property
    def weight(self) -> int:
        return sum(map(str.isalpha, "".join(self.literals)))

    def values(self, text: str) -> dict[str, str] | None:
        """What a text has at the placeholders; None where it does not fit."""
        first, *between, last = self.literals
        start, end = len(first), len(text) - len(last)
        if start > end or not (text.startswith(first) and text.endswith(last)):
            return None
        found: list[str] = []
        for literal in filter(None, between):
            place = text.find(literal, start, end)
            if place < 0:
                return None
            found.append(text[start:place])
            start = place + len(literal)
        found.append(text[start:end])
        for index, literal in enumerate(between, start=1):
            if not literal:  # of two placeholders side by side the first has all
                found.insert(index, "")
        if any(_BETWEEN in each for each in found):
            return None
        return dict(zip(self.fields, found, strict=True))

    def takes(self, values: Mapping[str, str], is_message: Callable[[str], bool]) -> bool:
        """Whether values may stand at the placeholders. A template that says little itself, such as
        ``{0} of {1}``, takes amounts, words, and what is a message; words stand before none of
        those that say least."""
        first, *others = values.values()
        if self.weight >= _WEAK or (self.literals[0] and self.weight >= _WEAKEST):
            return True
        is_word = " " not in first and (self.weight >= _WEAKEST or bool(self.literals[0]))
        if not (is_word or _AMOUNT.fullmatch(first) or is_message(first)):
            return False
        return self.weight >= _WEAKEST or all(
            " " not in each or each[:1] in _CODE or _AMOUNT.fullmatch(each) or is_message(each)
            for each in others
        )

    def quotes_more(self, values: Mapping[str, str]) -> bool:
        """Whether what stands in quotes goes on behind the quote that ends it, most likely."""
        return any(
            self.is_quoted(index) and self.literals[index + 1][0] in value
            for index, value in enumerate(values.values())
        )

    def is_quoted(self, index: int) -> bool:
        """Whether a placeholder stands in quotes: it is a name then, whatever it says."""
        before, after = self.literals[index], self.literals[index + 1]
        return "" not in (before, after) and before[-1] in _QUOTES and after[0] in "'\"`”"


class Catalog:
    """The messages of a language.

    Args:
        data: as JupyterLab has it: translations by the English messages; below ``""`` what is to be
            known of the language.
    """

    def __init__(self, tag: str, data: Mapping[str, Any]) -> None:
        self.tag = tag
        self.messages: dict[str, list[str]] = {key: data[key] for key in data if key}
        import gettext

        head = data[""]["plural_forms"]
        plural = re.search(r"plural=([^;]+)", head)
        self.plural: Callable[[int], int] = gettext.c2py(plural[1]) if plural else lambda _: 0
        self.told: Callable[[str], str] = lru_cache(maxsize=2048)(self._told)

    @cached_property
    def _templates(self) -> dict[str, list[Template]]:
        """The templates by how a text begins that they may fit, those that say most first; others
        that may fit any text by nothing."""
        found: dict[str, list[Template]] = {"": []}
        for template in self.templates():
            found.setdefault(_start(template.literals[0]), []).append(template)
        anywhere = found[""]
        fitting = {
            start: each if each is anywhere else [*each, *anywhere] for start, each in found.items()
        }
        return {start: sorted(each, key=_says_most) for start, each in fitting.items()}

    def templates(self) -> Iterator[Template]:
        """All messages with placeholders."""
        for message, forms in self.messages.items():
            parts = parsed(message)
            if parts is not None:
                yield Template(*parts, tuple(forms))

    def _told(self, text: str) -> str:
        return (self._found(text, _DEPTH) if len(text) <= _LONGEST else None) or text

    def _found(self, text: str, depth: int) -> str | None:
        """A text in this language; None where it is not known."""
        forms = self.messages.get(text)
        if forms is not None:
            return forms[self.plural(1)]
        core = text.strip()
        if core != text:
            known = self._found(core, depth) if core else None
            if known is None:  # or the space is the message's own
                return self._filled(text, depth)
            return text.replace(core, known, 1)
        if depth and _OF_A_KEY.match(text):
            return self._parts(text, depth)
        return self._filled(text, depth) or self._parts(text, depth)

    def _said(self, text: str, depth: int) -> bool:
        """Whether a text is one message, and not put together of several."""
        return text in self.messages or (depth > 0 and self.template(text, depth) is not None)

    def _filled(self, text: str, depth: int) -> str | None:
        template = self.template(text, depth) if depth else None
        if template is None:
            return None
        values = template.values(text) or {}
        shown = {
            field: value if template.is_quoted(index) else self._value(value, depth - 1)
            for index, (field, value) in enumerate(values.items())
        }
        form = template.forms[self._form(values.values())]
        from .korean_particles import with_particles

        return with_particles(_fill(form, shown))

    def template(self, text: str, depth: int = _DEPTH) -> Template | None:
        """The template that a text was made of: of those that fit, that which says most itself."""
        known, second = self._templates, None
        for each in known.get(_start(text), known[""]):
            values = each.values(text)
            if values is not None and each.takes(values, partial(self._said, depth=depth - 1)):
                if not each.quotes_more(values):
                    return each
                second = second or each
        return second

    def _form(self, values: Any) -> int:
        numbers = (value.replace(",", "") for value in values)
        return self.plural(next((int(each) for each in numbers if each.isdecimal()), 1))

    def _value(self, value: str, depth: int) -> str:
        """What stands at a placeholder: a word is a name, several may be a message; so may what
        begins with a number, as ``2nd``."""
        may_be = " " in value.strip() or _NUMBER.match(value)
        return (self._found(value, depth) if may_be else None) or value

    def _parts(self, text: str, depth: int) -> str | None:
        """A text that was put together of messages, such as a status line."""
        if depth == 0:
            return None
        for separator in ("\n", _BETWEEN):
            if separator in text:
                parts = text.split(separator)
                known = [self._found(part, depth - 1) for part in parts]
                shown = [now or part for now, part in zip(known, parts, strict=True)]
                return separator.join(shown) if any(known) else None
        if text.endswith(")") and " (" in text:  # an amount, and what it is made of
            before, _, inner = text[:-1].partition(" (")
            known = [self._found(before, depth - 1), self._listed(inner, depth - 1)]
            return f"{known[0]} ({known[1]})" if all(known) else None
        before, colon, after = text.partition(": ")
        if colon:
            known = [self._found(before, depth - 1), self._found(after, depth - 1)]
            if any(known):
                return f"{known[0] or before}: {known[1] or after}"
        return self._listed(text, depth - 1) if ", " in text else None

    def _listed(self, text: str, depth: int) -> str | None:
        """Messages with commas between; None where one of them is not known."""
        known = [self._found(part, depth) for part in text.split(", ")]
        return ", ".join(filter(None, known)) if all(known) else None


def parsed(message: str) -> tuple[tuple[str, ...], tuple[str, ...]] | None:
    """A template's literals and placeholders; None where it is none, or one of scripts, which name
    theirs."""
    from string import Formatter

    try:
        parts = list(Formatter().parse(message))
    except ValueError:  # braces of another kind
        return None
    fields = [field for _, field, _, _ in parts if field is not None]
    if not fields or not all(map(str.isdigit, fields)):
        return None
    literals, text = list[str](), ""
    for literal, field, _, _ in parts:
        text += literal
        if field is not None:
            literals.append(text)
            text = ""
    return (*literals, text), tuple(fields)


def _says_most(template: Template) -> tuple[bool, int, int]:
    """Sorts templates: those that fit many things come last, those that say most first."""
    begins = not template.literals[0] or template.literals[0][0] in " ,:;"
    fits_much = begins and template.weight < _WEAK
    return fits_much, -template.weight, -len("".join(template.literals))


_START = 3


def _start(text: str) -> str:
    """What templates are looked up by; nothing where a placeholder may stand in it."""
    return text[:_START] if len(text) >= _START else ""


def _fill(form: str, values: Mapping[str, str]) -> str:
    return re.sub(r"\{(\w+)\}|\{\{|\}\}", lambda m: values[m[1]] if m[1] else m[0][0], form)
