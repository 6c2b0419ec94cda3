"""The messages of a chat as the text that a model reads: the chat template of its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..document.types import Message
from ..errors import InputError, ModelError


def encode(tokenizer: Any, messages: Sequence[Message]) -> tuple[str, list[int]]:
    """The text of a conversation, up to where the reply begins, and its tokens.

    Raises:
        ModelError: the model has no chat template.
        InputError: the template cannot take these messages.
    """
    text = _text(tokenizer, messages)
    # The template writes the special tokens itself: none are added to them.
    return text, list(tokenizer(text, add_special_tokens=False)["input_ids"])


def _text(tokenizer: Any, messages: Sequence[Message]) -> str:
    from jinja2 import TemplateError

    try:
        return str(
            tokenizer.apply_chat_template(
                list(messages), tokenize=False, add_generation_prompt=True
            )
        )
    except TemplateError as error:
        raise InputError(
            f"the model's chat template cannot take these messages: {error}",
            hint="Many want the user and the assistant in turns, and no system message or one.",
        ) from None
    except ValueError:
        if getattr(tokenizer, "chat_template", None):
            raise
        raise ModelError(
            "the model has no chat template, so it takes no messages",
            hint="Use a model that was made for chats, or 'task: text-generation' with 'text'.",
            code="no_chat_template",
        ) from None


def without_oldest(messages: Sequence[Message]) -> list[Message] | None:
    """The conversation without its oldest turn, or None where there is only one.

    A turn begins with a message of the user's; system messages before the first one stay.
    """
    start = next((i for i, each in enumerate(messages) if each["role"] != "system"), 0)
    later = [i for i, each in enumerate(messages) if each["role"] == "user" and i > start]
    return [*messages[:start], *messages[later[0] :]] if later else None
