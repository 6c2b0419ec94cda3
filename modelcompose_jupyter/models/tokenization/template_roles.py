"""Why a chat template refuses messages: which roles it takes, in which order, found by trying it.

Templates say in words of their own what they do not take, and seldom of which message. So small
conversations are rendered to see what this one takes.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise, takewhile
from typing import NamedTuple

from ...errors import ComposeError, InputError
from .chat_renderer import ChatRenderer, Messages, Refused
from .chat_template import TemplateLimit
from .message_forms import FORMS

_WORD = "zqsaidzq"


class _Reason(NamedTuple):
    what: str
    hint: str


def explained(renderer: ChatRenderer, messages: Messages, refused: Refused) -> InputError:
    """The error of a template as one that says what it takes, where that can be found out."""
    reason = next(_reasons(renderer.in_time(), [each["role"] for each in messages]), None)
    if reason is None:
        hint = "Many want the user and the assistant in turns, and no system message or one."
        return InputError(refused.message, hint=hint)
    return InputError(
        f"the model's chat template {reason.what} (in its own words: {refused.words})",
        hint=reason.hint,
    )


def _reasons(renderer: ChatRenderer, roles: Sequence[str]) -> Iterator[_Reason]:
    """What a template does not take of messages with these roles."""

    def takes(*roles: str) -> bool:
        return _takes(renderer, roles)

    first = len(list(takewhile(lambda role: role == "system", roles)))
    if "system" in roles and takes("user"):
        if not takes("system", "user"):
            yield _Reason("takes no system message", "Say it in the user's first message.")
        elif first > 1 and not takes("system", "system", "user"):
            hint = "Say all of it in one."
            yield _Reason("takes one system message, and message 2 is another", hint)
        elif "system" in roles[first:] and not takes("user", "assistant", "system", "user"):
            number = first + roles[first:].index("system") + 1
            what = f"takes a system message at the beginning alone, and message {number} is one"
            yield _Reason(what, "Say it there, or as the user.")
    elif "system" not in roles and not takes("user") and takes("system", "user"):
        yield _Reason("wants a system message at the beginning", "Begin with one.")
    lead = () if takes("user") else ("system",)
    if not takes(*lead, "user", "assistant", "user"):
        return
    if roles[first : first + 1] == ["assistant"] and not takes(*lead, "assistant", "user"):
        what = f"begins with the user, and message {first + 1} is the assistant's"
        yield _Reason(what, "Leave it out, or put what it replies to before it.")
    turns = [(at, role) for at, role in enumerate(roles) if role != "system"]
    for (_, before), (at, role) in pairwise(turns):
        twice = ("user", "user") if role == "user" else ("user", "assistant", "assistant", "user")
        if before == role != "tool" and not takes(*lead, *twice):
            other = "assistant" if role == "user" else "user"
            yield _Reason(
                f"wants user and assistant in turns, and message {at + 1} is a second {role}'s",
                f"Make one of the two, or put one of the {other}'s between them.",
            )


def _takes(renderer: ChatRenderer, roles: Sequence[str]) -> bool:
    """Whether a template renders messages with these roles."""
    messages = [{"role": role, "content": _WORD} for role in roles]
    for form in FORMS:
        try:
            renderer.render(form.of(messages))
        except TemplateLimit:
            raise
        except ComposeError:
            continue
        return True
    return False
