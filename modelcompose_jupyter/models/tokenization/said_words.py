"""Whether all that is said in a chat stands in the text that its template makes of it.

Templates that do not know a role, or a form of content, mostly leave it out without a word. So what
is said is looked for in the text, word by word where the template changes it.
"""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import islice
from typing import Any, NamedTuple

from ...errors import InputError
from .chat_template import Check

_MOST_WORDS = 200
_SURE = 64
"""Characters from which on a text is not what a template writes by itself."""
_AT_ONCE = 10_000  # words
_WORD = re.compile(r"""\w+|[^\w\s&<>"'\\]""")
_LETTERS = re.compile(r"\w+")


class Said(NamedTuple):
    """Something that is said: by whom, and the text of it.

    ``is_call`` is whether a template may write it in any notation, so that its signs say nothing.
    """

    role: str
    text: str
    is_call: bool = False


def said_in(messages: Sequence[Mapping[str, Any]]) -> Iterator[Said]:
    """What messages say and call. Replies may be left out of it: they lose their thoughts."""
    for each in messages:
        if each["role"] != "assistant":
            yield Said(each["role"], each["content"])
        for call in each.get("tool_calls") or ():
            function = call["function"]
            words = [function["name"], *_leaves(function["arguments"])]
            yield Said("assistant", " ".join(words), is_call=True)


def _leaves(value: Any) -> Iterator[str]:
    """The names and texts and whole numbers in arguments: what every notation writes alike."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield str(key)
            yield from _leaves(each)
    elif isinstance(value, list | tuple):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, str) or type(value) is int:
        yield str(value)


def check_said(said: Sequence[Said], text: str, own: str, source: str, check: Check) -> None:
    """Raise InputError where words that are said are not in the text.

    They are counted, since the template may write some of them itself, and another message may have
    them, too. Templates trim, escape and join, and take out switches that they know. Of what stands
    in the text as it is, no word is looked at.

    Args:
        own: the text that the template makes of other words in their place.
        source: the template.
        check: raises where nobody wants to know any more.
    """
    said, text = _without_whole(said, text, own)
    if not said:
        return
    words = [_words_of(each, source, check) for each in said]
    wanted: Counter[str] = Counter()
    for each in words:
        wanted.update(each)
    own_words = _words(_WORD, own, check)
    ways: Sequence[Callable[[str], str]] = (str, html.unescape, _without_escapes)
    for plain in ways:
        changed = plain(text).casefold()
        lacking = wanted - (_words(_WORD, changed, check) - own_words)
        # They may stand in longer ones, where a template joins what is said to its own words.
        for word in sorted(lacking)[:_MOST_WORDS]:
            check()
            if changed.count(word) - own.count(word) >= wanted[word]:
                del lacking[word]
        if not lacking:
            return
    raise lost(next(m.role for m, own in zip(said, words, strict=True) if own & lacking))


def lost(role: str) -> InputError:
    """The error for what a message of a role says, and the model would not read."""
    who = "the system message" if role == "system" else f"a message of the {role}"
    return InputError(
        f"the model's chat template leaves out words of {who}, which the model would not read",
        hint="Say it in the first message of the user."
        if role == "system"
        else "Mend the document's 'chat_template', where it has one; else use another model, or"
        " 'task: text-generation' with a 'text' of your own.",
        code="message_lost",
    )


def _words_of(said: Said, source: str, check: Check) -> Counter[str]:
    if said.is_call:
        return _words(_LETTERS, said.text, check)
    return _words(_WORD, _without_switches(said.text, source), check)


def _without_switches(content: str, source: str) -> str:
    """What is said without words such as ``/no_think`` that the template looks for."""
    return re.sub(r"/\w+", lambda found: "" if found.group() in source else found.group(), content)


def _without_whole(said: Sequence[Said], text: str, own: str) -> tuple[list[Said], str]:
    """What does not stand in the text as it is, and the text without that which does.

    Something short may be what the template writes itself. All are looked for behind the one
    before; where one is not there, nobody knows where the next should be.
    """
    left: list[Said] = []
    pieces: list[str] = []
    start = 0
    for number, each in enumerate(said):
        content = each.text.strip()
        if len(content) >= _SURE and not each.is_call:
            place = text.find(content, start)
            if place < 0:
                left += said[number:]
                break
            if content.casefold() not in own:
                pieces.append(text[start:place])
                start = place + len(content)
                continue
        left.append(each)
    return left, "\n".join([*pieces, text[start:]])


def _words(pattern: re.Pattern[str], text: str, check: Check) -> Counter[str]:
    """The words of a text, and its signs but those that are often escaped."""
    found = pattern.finditer(text.casefold())
    words: Counter[str] = Counter()
    while some := [each.group() for each in islice(found, _AT_ONCE)]:
        words.update(some)
        check()
    return words


def _without_escapes(text: str) -> str:
    """A text without the escapes of JSON and Python."""
    return re.sub(r"\\(u[0-9a-fA-F]{4}|.)", _unescaped, text)


def _unescaped(found: re.Match[str]) -> str:
    code = found[1]
    return chr(int(code[1:], 16)) if len(code) == 5 else " " if code in "nrtbf" else code
