"""The messages of a chat as the text that a model reads: by the chat template of its tokenizer, or
one that takes its place."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from ...document.types import Message
from ...errors import ComposeError, InputError
from ..generation import unwatched
from . import chat_template, message_forms, said_words, template_roles, tool_prompt
from .chat_renderer import ChatRenderer, Messages, Refused, Tools, source_of
from .chat_template import Check

# Words that no template writes itself
_QUESTION, _REPLY, _END = "zqquestionzq", "zqreplyzq", "zqendofreplyzq"


def text_of(
    tokenizer: Any,
    messages: Sequence[Message],
    variables: Mapping[str, Any] | None = None,
    check: Check = unwatched,
    *,
    tools: Tools = (),
    template: str | None = None,
) -> str:
    """The text of a conversation, up to where the reply begins, or goes on where the last message
    is the assistant's.

    It has all special tokens already: the template writes them.

    Args:
        variables: what else the template may read, ``enable_thinking`` say.
        check: raises where nobody wants the text any more.
        tools: what the model may call.
        template: a chat template in place of the tokenizer's.

    Raises:
        ModelError: the model has no chat template, or one that fails or asks for too much.
        InputError: the template cannot take these messages, or leaves out what is said in one.
    """
    renderer = ChatRenderer(tokenizer, template, variables, check)
    if messages[-1].get("tool_calls"):
        raise InputError(
            "the last message calls tools, and nothing can be replied to it",
            hint="What they gave comes next: a message of role 'tool' for each call.",
        )
    said, described = tool_prompt.adapted(renderer, messages, tools)

    def render(messages: Messages) -> str:
        return renderer.render(messages, described, opens_reply=not is_continued(messages))

    try:
        found = message_forms.find(render, said)
        if found is None:  # it fails, and says why
            return render(said)
        if found.lost is not None:
            raise said_words.lost(found.lost)
        text, own = _up_to_reply(render, found.form.of, said), found.text
    except Refused as refused:
        raise template_roles.explained(renderer, messages, refused) from None
    said_words.check_said([*said_words.said_in(said)], text, own, renderer.source, check)
    return text


def is_continued(messages: Messages) -> bool:
    """Whether a reply goes on from the last message, which is the assistant's."""
    role: str = messages[-1]["role"]
    return role == "assistant"


def _up_to_reply(
    render: Callable[[Messages], str], form: Callable[[Messages], Messages], messages: Messages
) -> str:
    """The text of a conversation without what a template writes behind a last message that is to be
    continued."""
    if not is_continued(messages):
        return render(form(messages))
    *before, last = messages
    content: str = last["content"]
    begun = content.rstrip()
    text = render(form([*before, {**last, "content": begun + _END}]))
    places = [each.start() for each in re.finditer(_END, text, re.IGNORECASE)]
    if not places:
        raise said_words.lost("assistant")
    return text[: places[-1]] + content[len(begun) :]  # templates trim what is over


def unread(
    tokenizer: Any, variables: Mapping[str, Any], *, template: str | None = None
) -> list[str]:
    """The variables that the chat template does not read."""
    source = source_of(tokenizer, template)
    return [name for name in variables if not re.search(rf"\b{re.escape(name)}\b", source)]


def turn_end(tokenizer: Any, template: str | None = None) -> set[int]:
    """The special token that the chat template writes behind a reply, if it writes one.

    A model says it when its turn is over, though its configuration may not name it as an end. Where
    nothing ends a turn, it is what begins the next. None where a turn is more than its reply, as
    where channels of thought are special tokens, too: what ends the reply may end a thought.

    Args:
        template: one in place of the tokenizer's.
    """
    said: list[Message] = [
        {"role": "user", "content": _QUESTION},
        {"role": "assistant", "content": _REPLY},
        {"role": "user", "content": _QUESTION},
    ]
    check = chat_template.in_time()  # that of one rendering does for all
    for first in ([], [Message(role="system", content=_QUESTION)]):  # some want one
        with suppress(ComposeError):
            before = text_of(tokenizer, [*first, said[0]], check=check, template=template).rstrip()
            whole = text_of(tokenizer, [*first, *said], check=check, template=template)
            return _end_of(tokenizer, whole[len(before) :]) if whole.startswith(before) else set()
    return set()


def _end_of(tokenizer: Any, turn: str) -> set[int]:
    """The first special token behind the reply of a turn, if there is none before the reply."""
    opening, rest = re.split(_REPLY, turn, maxsplit=1, flags=re.IGNORECASE)
    behind = re.split(_QUESTION, rest, maxsplit=1, flags=re.IGNORECASE)[0]
    return set() if _special(tokenizer, opening) else set(_special(tokenizer, behind)[:1])


def _special(tokenizer: Any, text: str) -> list[int]:
    """The special tokens in a text."""
    added = tokenizer.added_tokens_decoder  # which is made anew each time that it is asked for
    special = {*tokenizer.all_special_ids, *(id for id in added if added[id].special)}
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    return [id for id in ids if id in special]


def later_turns(messages: Sequence[Message]) -> tuple[Sequence[Message], list[int]]:
    """The system messages that begin a conversation, and where its turns begin but the first one.

    A turn begins with a message of the user's. A conversation is cut by leaving out all between the
    system messages and a turn.
    """
    start = next((i for i, each in enumerate(messages) if each["role"] != "system"), 0)
    later = [i for i, each in enumerate(messages) if each["role"] == "user" and i > start]
    return messages[:start], later


def least_characters(messages: Sequence[Message]) -> int:
    """How many characters of a conversation a template writes at least.

    Of replies perhaps none, and blanks may become fewer.
    """
    said = (each["content"] for each in messages if each["role"] != "assistant")
    return sum(len("".join(content.split())) for content in said)
