"""The messages of a chat as the text that a model reads: the chat template of its tokenizer."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..document.types import Message
from ..errors import ComposeError, InputError, ModelError


def encode(
    tokenizer: Any, messages: Sequence[Message], variables: Mapping[str, Any] | None = None
) -> tuple[str, list[int]]:
    """The text of a conversation, up to where the reply begins, and its tokens.

    Args:
        tokenizer: of the model.
        messages: the conversation.
        variables: what else the template may read, ``enable_thinking`` say.

    Raises:
        ModelError: the model has no chat template, or one that fails.
        InputError: the template cannot take these messages, or leaves out what is said in one.
    """
    template = _Template(tokenizer, variables or {})
    text = template.text(messages)
    # The template writes the special tokens itself: none are added to them.
    return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])


def unread(tokenizer: Any, variables: Mapping[str, Any]) -> list[str]:
    """The variables that the tokenizer's chat template does not read."""
    template = _source(tokenizer)
    return [name for name in variables if not re.search(rf"\b{re.escape(name)}\b", template)]


def turn_end(tokenizer: Any) -> set[int]:
    """The special token that the chat template writes behind a reply, if it writes one.

    A model says it when its turn is over, though its configuration may not name it as an end. Where
    nothing ends a turn, it is what begins the next.
    """
    reply = _mark(1)
    turns: list[Message] = [
        {"role": "user", "content": _mark(0)},
        {"role": "assistant", "content": reply},
        {"role": "user", "content": _mark(2)},
    ]
    try:
        rest = _Template(tokenizer, {}).text(turns).partition(reply)[2].lstrip()
    except ComposeError:
        return set()
    first = tokenizer(rest, add_special_tokens=False)["input_ids"][:1]
    return {id for id in first if id in tokenizer.all_special_ids or _is_special(tokenizer, id)}


def without_oldest(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation without its oldest turn, or None where there is only one.

    A turn begins with a message of the user's; system messages before the first one stay.
    """
    start = next((i for i, each in enumerate(messages) if each["role"] != "system"), 0)
    later = [i for i, each in enumerate(messages) if each["role"] == "user" and i > start]
    return [*messages[:start], *messages[later[0] :]] if later else None


def _is_special(tokenizer: Any, id: int) -> bool:
    token = tokenizer.added_tokens_decoder.get(id)
    return token is not None and token.special


def _source(tokenizer: Any) -> str:
    """The chat template of a tokenizer.

    Raises:
        ModelError: it has none, or several of which none is the default.
    """
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, Mapping):
        if "default" not in template:
            names = ", ".join(f"'{name}'" for name in sorted(template))
            raise ModelError(
                f"the model has several chat templates and none is the default: {names}",
                hint="Name one of them 'default' in its tokenizer_config.json.",
                code="no_chat_template",
            )
        template = template["default"]
    if not isinstance(template, str) or not template:
        raise ModelError(
            "the model has no chat template, so it takes no messages",
            hint="Use a model that was made for chats, or 'task: text-generation' with 'text'.",
            code="no_chat_template",
        )
    return template


class _Template:
    """The chat template of a tokenizer, with the variables that a request sets."""

    def __init__(self, tokenizer: Any, variables: Mapping[str, Any]) -> None:
        _source(tokenizer)
        self._tokenizer = tokenizer
        self._variables = variables

    def text(self, messages: Sequence[Message]) -> str:
        """The conversation as the model reads it, with all that is said in it."""
        text = self._render([self._form(messages)(each) for each in messages])
        for message in messages:
            if message["role"] != "assistant" and not _holds(text, message["content"]):
                raise _lost(message["role"])
        return text

    def _form(self, messages: Sequence[Message]) -> Callable[[Message], Mapping[str, Any]]:
        """How the template takes the content of messages: as a text, or as a list of parts.

        It is found out with words of our own in place of what is said, since a template that reads
        the other form fails seldom: mostly it leaves out the content.
        """
        marked: list[Message] = [
            {"role": each["role"], "content": _mark(place) if each["content"].strip() else ""}
            for place, each in enumerate(messages)
        ]
        lost: Message | None = None
        for form in (_as_text, _as_parts):
            try:
                text = self._render([form(each) for each in marked]).casefold()
            except ComposeError:
                continue
            written_out = "'text'" in text or '"text"' in text  # a list as Python or JSON has it
            missing = [each for each in marked if written_out or each["content"] not in text]
            if not missing:
                return form
            lost = lost or missing[0]
        if lost is not None:
            raise _lost(lost["role"])
        return _as_text  # which fails, and says why

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        from jinja2 import TemplateError, TemplateSyntaxError

        try:
            return str(
                self._tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=True, **self._variables
                )
            )
        except TemplateSyntaxError as error:
            raise ModelError(
                f"the model's chat template cannot be read: {error.message} (line {error.lineno})",
                hint="Its author, or an edit of it, made a mistake; fetch the model anew, or mend"
                " chat_template.jinja.",
                code="chat_template",
            ) from None
        except Exception as error:
            if type(error) is TemplateError:  # what templates raise themselves, about the messages
                raise InputError(
                    f"the model's chat template cannot take these messages: {error}",
                    hint="Many want the user and the assistant in turns, and no system message"
                    " or one.",
                ) from None
            raise ModelError(
                f"the model's chat template fails: {type(error).__name__}: {error}",
                hint="It may need a variable: give it as chat_template_kwargs. Else its author"
                " must mend it.",
                code="chat_template",
            ) from None


def _as_text(message: Message) -> Mapping[str, Any]:
    return message


def _as_parts(message: Message) -> Mapping[str, Any]:
    return {**message, "content": [{"type": "text", "text": message["content"]}]}


def _mark(place: int) -> str:
    """A word that no template writes itself."""
    return f"zq{place}xkzq"


def _holds(text: str, content: str) -> bool:
    """Whether a text has the words of a content, in their order; what is between them may differ.

    Templates trim, escape and join, and may write words of their own in between.
    """
    text, place = text.casefold(), 0
    for word in _words(content.casefold()):
        found = text.find(word, place)
        if found < 0:
            return False
        place = found + len(word)
    return True


def _words(text: str) -> Iterator[str]:
    return (each.group() for each in re.finditer(r"\w+", text))


def _lost(role: str) -> InputError:
    who = "the system message" if role == "system" else f"a message of the {role}"
    return InputError(
        f"the model's chat template leaves out words of {who}, which the model would not read",
        hint="Say it in the first message of the user."
        if role == "system"
        else "Use another model, or 'task: text-generation' with a 'text' of your own.",
        code="message_lost",
    )
