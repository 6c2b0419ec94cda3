"""How a model's chat template has calls of tools written, the grammar of it, and the way back.

A template says it only by doing it: an assistant's message with calls is rendered with words of our
own, and what stands around them is the syntax. Where a template knows no tools it is `HERMES`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from ...document import grammars
from ...document.tool_definitions import Definition, name_of
from ...errors import ComposeError
from . import tool_prompt
from .chat_renderer import ChatRenderer
from .detokenizer import stop_begun
from .tool_prompt import CallForm

MOST_CALLS = 16
"""Of one reply."""

# Words that no template writes itself; ids as some ask for them: nine letters and digits.
_QUESTION, _REPLY, _KEY, _VALUE = "zqquestionzq", "zqreplyzq", "zqkeyzq", "zqvaluezq"
_NAMES, _IDS = ("zqonezq", "zqtwozq"), ("zqidaaaaa", "zqidbbbbb")
_MARKER = re.compile(r"<[^<>\s]{2,}>|\[[^\[\]\s]{2,}\]|[^\s{\[(\"']{3,}")
_THOUGHTS = re.compile(r"\s*<think>.*?</think>\s*", re.DOTALL)
_NAME = r"(?P<name>[\w.-]+)"
_ARGUMENTS = ("arguments", "parameters")


@dataclass(frozen=True)
class CallSyntax:
    """How calls are written: ``opening name middle arguments``, and ``between`` in the place of
    ``opening`` for each further one; then ``closing``. Arguments are JSON.

    Attributes:
        between: None where a reply has one call at most.
        special: the ids of the special tokens in these texts, by their own.
    """

    opening: str
    middle: str
    between: str | None
    closing: str
    special: Mapping[str, int] = field(default_factory=dict, hash=False)

    @cached_property
    def marker(self) -> str | None:
        """By what a call is known that stands behind text; None where it can only be the whole
        reply, as bare JSON."""
        first = next((each for each in self.special if self.opening.startswith(each)), None)
        if first is not None:
            return first
        found = _MARKER.match(self.opening)
        return found[0] if found else None

    def written(self, calls: Sequence[tuple[str, Mapping[str, Any]]]) -> str:
        """Calls, each a name and arguments, as a model of this syntax writes them."""
        leads = [self.opening, *[self.between or ""] * len(calls)]
        pieces = [
            f"{lead}{name}{self.middle}{json.dumps(arguments, ensure_ascii=False)}"
            for lead, (name, arguments) in zip(leads, calls, strict=False)
        ]
        return "".join([*pieces, self.closing])

    def grammar(
        self,
        tools: Iterable[Definition],
        choice: str = "auto",
        *,
        parallel: bool = True,
        text: str | None = None,
    ) -> str:
        """The grammar of a reply that may call tools, as the llguidance library takes it.

        Args:
            choice: ``auto`` for text, and calls behind it; ``required`` for calls alone; the name
                of a tool for one of that.
            parallel: whether there may be several calls.
            text: the grammar of a reply that calls nothing, of `document.grammars`; free if None.
        """
        chosen = [each for each in tools if choice in ("auto", "required", name_of(each))]
        body = [f"call_{number}" for number in range(len(chosen))]
        rules = [f"call: {' | '.join(body)}"]
        for number, tool in enumerate(chosen):
            lead = self._lark(name_of(tool) + self.middle)
            schema = grammars.of_arguments(tool["function"]["parameters"])
            rules += [f"call_{number}: {lead} arguments_{number}"]
            rules += [f"arguments_{number}: %json {schema}"]
        further = ""
        if parallel and self.between is not None and choice in ("auto", "required"):
            further = f"({self._lark(self.between)} call){{0,{MOST_CALLS - 1}}} "
        rest = f"call {further}{self._lark(self.closing)}"
        own = None if text is None else {**_apart_of(text), "name": "text"}
        if choice != "auto":
            rules += [f"start: {self._lark(self.opening)} {rest}"]
        else:
            rules += self._behind_text(rest, "@text" if own else None)
        lark = {"lark_grammar": "\n".join(rules) + "\n"}
        return json.dumps({"grammars": [lark, own] if own else [lark]}, ensure_ascii=False)

    def _behind_text(self, rest: str, own: str | None) -> list[str]:
        """The rules of text with calls behind it, or in its place where a text has rules of its
        own."""
        marker, opening = self.marker, self._lark(self.opening)
        if own is not None:
            return [f"start: {own} | {opening} {rest}"]
        if marker is None:
            no_call = f"~/(?s:{_pattern(self.opening)}.*)/"
            return [f"start: TEXT | {opening} {rest}", f"TEXT: /(?s:.*)/ & {no_call}"]
        if marker in self.special:
            return [f"start: TEXT ({opening} {rest})?", "TEXT: /(?s:.*)/"]
        behind = self._lark(self.opening[len(marker) :])
        return [
            f"start: TEXT | head {behind} {rest}",
            "head[lazy]: HEAD",
            f"HEAD: /(?s:.*){_pattern(marker)}/",
            "TEXT: /(?s:.*)/",
        ]

    def _lark(self, text: str) -> str:
        """A text as a sequence of a Lark grammar: special tokens by their ids, the rest quoted."""
        if not text:
            return ""
        parts = [text]
        if self.special:
            found = "|".join(map(re.escape, sorted(self.special, key=len, reverse=True)))
            parts = re.split(f"({found})", text)
        return " ".join(
            f"<[{self.special[each]}]>"
            if each in self.special
            else json.dumps(each, ensure_ascii=False)
            for each in parts
            if each
        )


HERMES = CallSyntax(
    opening='<tool_call>\n{"name": "',
    middle='", "arguments": ',
    between='}\n</tool_call>\n<tool_call>\n{"name": "',
    closing="}\n</tool_call>",
)
"""As Hermes, Qwen and many others write calls; models that know no tools are told of it."""


def _apart_of(grammar: str) -> dict[str, Any]:
    """A grammar of `document.grammars` as a part of another: Lark's notation, or JSON of a list."""
    if not grammar.startswith("{"):
        return {"lark_grammar": grammar}
    found: dict[str, Any] = json.loads(grammar)["grammars"][0]
    return found


def _pattern(text: str) -> str:
    """A text as a regular expression between slashes."""
    return re.escape(text).replace("/", r"\/").replace("\n", "n")


# Finding out


def syntax_of(renderer: ChatRenderer) -> CallSyntax:
    """How the replies to a conversation call tools: as its template writes calls, if it describes
    tools itself.

    Raises:
        ModelError: there is no template, or it asks for too much.
    """
    found = None
    reading = tool_prompt.reading(renderer)
    if reading.tools and reading.calls is not None:
        with suppress(ComposeError, ValueError):  # what it does not take
            found = _found(renderer.in_time(), reading.calls)
    syntax = found or HERMES
    texts = "".join([syntax.opening, syntax.middle, syntax.between or "", syntax.closing])
    added = renderer.tokenizer.added_tokens_decoder
    special = {token.content: id for id, token in added.items() if token.special}
    return replace(syntax, special={text: id for text, id in special.items() if text in texts})


def _found(renderer: ChatRenderer, form: CallForm) -> CallSyntax | None:
    question = {"role": "user", "content": _QUESTION}
    tools = [_tool(name) for name in _NAMES]

    def rendered(**reply: Any) -> str:
        messages = form.of([question, {"role": "assistant", "content": "", **reply}])
        return renderer.render(messages, tools, opens_reply=False)

    before, _, tail = rendered(content=_REPLY).rpartition(_REPLY)
    eos = renderer.tokenizer.special_tokens_map.get("eos_token")
    ends = [each for each in (tail.strip(), eos) if each]

    def pieces(count: int) -> list[str] | None:
        """What stands before, between and behind the names and arguments of so many calls."""
        calls = [
            {
                "id": id,
                "type": "function",
                "function": {"name": name, "arguments": {_KEY: _VALUE}},
            }
            for name, id in zip(_NAMES[:count], _IDS, strict=False)
        ]
        whole = rendered(tool_calls=calls)
        reply = _THOUGHTS.sub("", whole[_in_common(before, whole) :], count=1)
        return _apart(reply, _NAMES[:count], ends)

    one = pieces(1)
    if one is None or not one[1]:
        return None
    opening, middle, closing = one
    two = pieces(2) if form.takes_several else None
    is_regular = two is not None and [two[0], two[1], two[3], two[4]] == [*one[:2], *one[1:]]
    return CallSyntax(opening, middle, two[2] if two and is_regular else None, closing)


def _apart(reply: str, names: Sequence[str], ends: Iterable[str]) -> list[str] | None:
    """The pieces of a reply between the names and arguments of its calls; None where these are not
    there, in their order."""
    found: list[str] = []
    for name in names:
        lead, is_there, reply = reply.partition(name)
        start = reply.rfind("{", 0, reply.find(_KEY))
        if not is_there or start < 0:
            return None
        arguments, end = json.JSONDecoder().raw_decode(reply, start)
        if arguments != {_KEY: _VALUE}:
            return None
        found += [lead, reply[:start]]
        reply = reply[end:]
    places = [place for end in ends if (place := reply.find(end)) >= 0]
    found.append(reply[: min(places, default=len(reply))].rstrip())
    found[0] = found[0].lstrip()
    found = [_without_ids(each) for each in found]
    return None if any(id in each for id in _IDS for each in found) else found


def _without_ids(text: str) -> str:
    """What stands around calls without their ids, which models do not write."""
    ids = "|".join(_IDS)
    return re.sub(rf'(,\s*"id":\s*"({ids})"|"id":\s*"({ids})",\s*|\[CALL_ID\]({ids}))', "", text)


def _in_common(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


def _tool(name: str) -> Definition:
    parameters = {"type": "object", "properties": {_KEY: {"type": "string"}}}
    function = {"name": name, "description": name, "parameters": parameters}
    return {"type": "function", "function": function}


# Reading


class CallParser:
    """Takes the calls out of a reply, while it comes.

    Text is passed on but for what may begin a call. A call is there once its arguments are whole.
    What looked like a call and is none is text.

    Attributes:
        calls: those that are whole, each a name and arguments.
        written: the name and the text of the arguments of each call, as the model has written them
            so far: those that are whole, and one that is coming or was cut.
        is_cut: whether the reply was cut in a call, which is lost.
    """

    def __init__(self, syntax: CallSyntax) -> None:
        self.calls: list[tuple[str, dict[str, Any]]] = []
        self.written: list[tuple[str, str]] = []
        self.is_cut = False
        self._syntax = syntax
        self._held = ""
        self._in_calls = False
        self._is_text = False  # to its end
        self._lead: re.Match[str] | None = None  # what stands before the arguments that come

    def push(self, delta: str) -> str:
        """Take more of the reply; gives what is certain to be text, and was not before."""
        self._held += delta
        text = "" if self._in_calls else self._take_text()
        if self._in_calls and "}" in delta:
            while self._take_call():
                pass
        if self._in_calls:
            self._note_coming()
        return text

    def finish(self, is_whole: bool = True) -> str:
        """End the reply; gives what is left of its text.

        Args:
            is_whole: whether it ended by itself.
        """
        held, self._held = self._held, ""
        if not self._in_calls:
            return held
        closing = _flexible(self._syntax.closing)
        is_closed = bool(self.calls) and closing.fullmatch(held.rstrip()) is not None
        if not is_whole:
            self.is_cut = not is_closed
            return ""
        if self.calls:
            return ""
        self.calls = list(_loose_calls(held))
        self.written = [
            (name, json.dumps(arguments, ensure_ascii=False)) for name, arguments in self.calls
        ]
        return "" if self.calls else held

    def _take_text(self) -> str:
        held, marker = self._held, self._syntax.marker
        if self._is_text:
            end = len(held)
        elif marker is not None:
            end = held.find(marker)
            self._in_calls = end >= 0
            end = end if self._in_calls else len(held) - stop_begun(held, [marker])
        else:
            begun, opening = held.lstrip(), self._syntax.opening
            self._in_calls = begun.startswith(opening)
            self._is_text = not opening.startswith(begun) and not self._in_calls
            end = len(held) if self._is_text else 0
        self._held = held[end:]
        return held[:end]

    def _take_call(self) -> bool:
        found = self._find_lead()
        if found is None:
            return False
        try:
            arguments, end = json.JSONDecoder().raw_decode(self._held, found.end())
        except (ValueError, RecursionError):  # there is more to come
            return False
        if not isinstance(arguments, dict):
            return False
        self.written[len(self.calls) :] = [(found["name"], self._held[found.end() : end])]
        self.calls.append((found["name"], arguments))
        self._held, self._lead = self._held[end:], None
        return True

    def _find_lead(self) -> re.Match[str] | None:
        """What stands before the arguments of the next call, if all of that has come."""
        lead = self._syntax.between if self.calls else self._syntax.opening
        if self._lead is None and lead is not None:
            self._lead = _flexible(lead, _NAME, self._syntax.middle, "{").match(self._held)
        return self._lead

    def _note_coming(self) -> None:
        found = self._find_lead()
        if found is not None:
            self.written[len(self.calls) :] = [(found["name"], self._held[found.end() :])]


def _flexible(before: str, name: str = "", after: str = "", end: str = "") -> re.Pattern[str]:
    """Texts around a name, whatever blanks are in them, where ``end`` comes next."""
    parts = [r"\s*".join(map(re.escape, re.split(r"\s+", each))) for each in (before, after)]
    next = rf"\s*(?={re.escape(end)})" if end else ""
    return re.compile(rf"\s*{parts[0]}{name}{parts[1]}{next}")


def _loose_calls(text: str) -> Iterable[tuple[str, dict[str, Any]]]:
    """Calls among the JSON objects of a text that is none of a syntax."""
    decoder, place = json.JSONDecoder(), text.find("{")
    while place >= 0:
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError):
            return
        arguments: Any = next((value[key] for key in _ARGUMENTS if key in value), {})
        with suppress(ValueError):
            arguments = json.loads(arguments) if isinstance(arguments, str) else arguments
        if isinstance(value.get("name"), str) and isinstance(arguments, dict):
            yield value["name"], arguments
        place = text.find("{", end)
