"""Tools in what a model reads: as its chat template writes them, in words where it does not.

A template may know the variable ``tools``, the calls in messages of the assistant's, and the role
``tool``, each by itself. What it does not know is said in words that many models have learnt:
calls as JSON between ``<tool_call>`` and ``</tool_call>``, what came of them between
``<tool_response>`` and ``</tool_response>``. Where tools are described in these words, all is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

from ...errors import ComposeError
from .chat_renderer import ChatRenderer, Messages, Tools
from .chat_template import TemplateLimit
from .message_forms import FORMS

# Words that no template writes itself; ids as some ask for them: nine letters and digits.
_SAID, _TOOL, _CALLED = "zqsaidzq", "zqtoolzq", "zqcalledzq"
_KEY, _VALUE, _RESULT = "zqkeyzq", "zqvaluezq", "zqresultzq"
_IDS = ("zqidaaaaa", "zqidbbbbb")

_DESCRIPTION = """\
You can call functions. Each of these lines describes one, in JSON:
<tools>
{tools}
</tools>
To call one, write its name and its arguments as JSON between these tags:
<tool_call>
{{"name": "the name", "arguments": {{"an argument": "its value"}}}}
</tool_call>
What it gives is told between <tool_response> and </tool_response>."""


@dataclass(frozen=True)
class CallForm:
    """How a template takes the calls in a message.

    Attributes:
        as_json: whether arguments are a text of JSON.
        keeps_content: whether a message that says nothing has a content, which is empty.
        takes_several: whether a message may have several.
    """

    as_json: bool
    keeps_content: bool
    takes_several: bool = True

    def of(self, messages: Messages) -> list[Mapping[str, Any]]:
        """Messages with their calls in this form."""
        apart = messages if self.takes_several else list(_one_by_one(messages))
        return [self._message(each) if each.get("tool_calls") else each for each in apart]

    def _message(self, message: Mapping[str, Any]) -> Mapping[str, Any]:
        found = dict(message)
        if not (self.keeps_content or found["content"]):
            del found["content"]
        if self.as_json:
            found["tool_calls"] = [
                {
                    **call,
                    "function": {
                        **call["function"],
                        "arguments": json.dumps(call["function"]["arguments"], ensure_ascii=False),
                    },
                }
                for call in found["tool_calls"]
            ]
        return found


@dataclass(frozen=True)
class ToolReading:
    """What a chat template makes of tools by itself.

    Attributes:
        tools: whether it describes those that its variable ``tools`` has.
        calls: how it takes calls in messages of the assistant's; None where it leaves them out.
        results: whether it takes messages of role ``tool``.
        system: whether it takes a system message.
    """

    tools: bool
    calls: CallForm | None
    results: bool
    system: bool


def reading(renderer: ChatRenderer) -> ToolReading:
    """What a template makes of tools. It is found out once for each tokenizer and template.

    Raises:
        TemplateLimit: it asks for too much.
    """
    known = _known.setdefault(renderer.tokenizer, {})
    if renderer.source not in known:
        if len(known) >= _MOST_KNOWN:
            known.clear()
        known[renderer.source] = _found(renderer.in_time())
    return known[renderer.source]


_known: WeakKeyDictionary[Any, dict[str, ToolReading]] = WeakKeyDictionary()
_MOST_KNOWN = 16


def _found(renderer: ChatRenderer) -> ToolReading:
    described = _text(renderer, [_said("user")], [_tool()])
    calls = _call_form(renderer)
    if calls is not None:
        exchange = calls.of([_said("user"), _calling(1), _result(0)])
    else:
        exchange = [_said("user"), _said("assistant"), _result(0)]
    return ToolReading(
        tools=_TOOL in described and _KEY in described,
        calls=calls,
        # One that writes any role by its name does not know this one.
        results="tool" in renderer.source and _RESULT in _text(renderer, exchange),
        system=_RESULT in _text(renderer, [{"role": "system", "content": _RESULT}, _said("user")]),
    )


def adapted(renderer: ChatRenderer, messages: Messages, tools: Tools) -> tuple[Messages, Tools]:
    """Messages and tools as a template takes them: what it does not know of them is in words."""
    if not tools and not any(each["role"] == "tool" or _calls(each) for each in messages):
        return messages, ()
    found = reading(renderer)
    in_words = bool(tools) and not found.tools
    if found.calls is None or in_words:
        messages = [*map(_in_words, messages)]
    else:
        messages = found.calls.of(messages)
    if in_words or not found.results:
        messages = list(_with_results_in_words(messages))
    return (_described(messages, tools, found.system), ()) if in_words else (messages, tools)


# Finding out


def _call_form(renderer: ChatRenderer) -> CallForm | None:
    for as_json in (False, True):
        for keeps_content in (True, False):
            one = CallForm(as_json, keeps_content)
            if not _writes_calls(renderer, one, 1):
                continue
            return CallForm(as_json, keeps_content, _writes_calls(renderer, one, 2))
    return None


def _writes_calls(renderer: ChatRenderer, form: CallForm, count: int) -> bool:
    """Whether a template writes so many calls of a message; some take none without results, some
    know no results."""
    results = [_result(number) for number in range(count)]
    for behind in (results, [_said("user")]):
        text = _text(renderer, form.of([_said("user"), _calling(count), *behind]))
        if text.count(_CALLED) >= count and all(each in text for each in (_KEY, _VALUE)):
            return True
    return False


def _text(renderer: ChatRenderer, messages: Messages, tools: Tools = ()) -> str:
    """The text of messages, in any form that has all they say; empty where there is none."""
    system = {"role": "system", "content": _SAID}  # which some templates want
    for first in ([], [system]):
        best = ""
        for form in FORMS:
            try:
                text = renderer.render(form.of([*first, *messages]), tools).casefold()
            except TemplateLimit:
                raise
            except ComposeError:
                continue
            if text.count(_SAID) >= sum(each.get("content") == _SAID for each in messages):
                best = max(best, text, key=_marks)
        if best:
            return best
    return ""


def _marks(text: str) -> int:
    return sum(each in text for each in (_TOOL, _KEY, _VALUE, _CALLED, _RESULT))


def _said(role: str) -> Mapping[str, Any]:
    return {"role": role, "content": _SAID}


def _tool() -> Mapping[str, Any]:
    schema = {"type": "object", "properties": {_KEY: {"type": "string", "description": _VALUE}}}
    function = {"name": _TOOL, "description": _TOOL, "parameters": {**schema, "required": [_KEY]}}
    return {"type": "function", "function": function}


def _calling(count: int) -> Mapping[str, Any]:
    function = {"name": _CALLED, "arguments": {_KEY: _VALUE}}
    calls = [{"id": id, "type": "function", "function": function} for id in _IDS[:count]]
    return {"role": "assistant", "content": "", "tool_calls": calls}


def _result(number: int) -> Mapping[str, Any]:
    id = _IDS[number]
    return {"role": "tool", "content": _RESULT, "tool_call_id": id, "name": _CALLED}


def _calls(message: Mapping[str, Any]) -> Any:
    return message.get("tool_calls") or ()


# In words, and one by one


def _in_words(message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message with its calls as a part of what it says."""
    if not _calls(message):
        return message
    called = [
        json.dumps(
            {"name": each["function"]["name"], "arguments": each["function"]["arguments"]},
            ensure_ascii=False,
        )
        for each in message["tool_calls"]
    ]
    lines = [message["content"], *(f"<tool_call>\n{each}\n</tool_call>" for each in called)]
    rest = {key: message[key] for key in message if key != "tool_calls"}
    return {**rest, "content": "\n".join(filter(None, lines))}


def _with_results_in_words(messages: Messages) -> Iterator[Mapping[str, Any]]:
    """Messages with what tools gave as the user's, together with what the user says behind it."""
    told: list[str] = []
    for each in messages:
        if each["role"] == "tool":
            told.append(f"<tool_response>\n{each['content']}\n</tool_response>")
        elif told and each["role"] == "user":
            yield {**each, "content": "\n".join([*told, each["content"]])}
            told = []
        else:
            if told:
                yield {"role": "user", "content": "\n".join(told)}
                told = []
            yield each
    if told:
        yield {"role": "user", "content": "\n".join(told)}


def _one_by_one(messages: Messages) -> Iterator[Mapping[str, Any]]:
    """Messages of one call each, with its result behind it, where there is one."""
    taken: set[int] = set()
    for place, each in enumerate(messages):
        if place in taken:
            continue
        if len(_calls(each)) < 2:
            yield each
            continue
        end = place + 1
        while end < len(messages) and messages[end]["role"] == "tool":
            end += 1
        said = each
        for call in each["tool_calls"]:
            yield {**said, "tool_calls": [call]}
            said = {"role": "assistant", "content": ""}
            for at in range(place + 1, end):
                if messages[at]["tool_call_id"] == call["id"]:
                    yield messages[at]
                    taken.add(at)


def _described(messages: Messages, tools: Tools, has_system: bool) -> list[Mapping[str, Any]]:
    """Messages of which the system's, or the user's first, says which tools there are."""
    lines = (json.dumps(each["function"], ensure_ascii=False) for each in tools)
    text = _DESCRIPTION.format(tools="\n".join(lines))
    found = list(messages)
    if not has_system:
        place = next((at for at, each in enumerate(found) if each["role"] == "user"), None)
        if place is None:
            return [{"role": "user", "content": text}, *found]
        found[place] = {**found[place], "content": f"{text}\n\n{found[place]['content']}"}
    elif found and found[0]["role"] == "system":
        found[0] = {**found[0], "content": f"{found[0]['content']}\n\n{text}"}
    else:
        found.insert(0, {"role": "system", "content": text})
    return found
