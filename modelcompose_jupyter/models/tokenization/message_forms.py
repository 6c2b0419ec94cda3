"""The forms in which chat templates read the content of messages: a text, or a list of parts.

A template that reads the other form fails seldom: mostly it leaves out the content. So which it
reads is found out with words of our own in place of what is said.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ...errors import ComposeError
from .chat_template import TemplateLimit

Messages = Sequence[Mapping[str, Any]]


class Form(NamedTuple):
    """Whose messages have a list of parts as their content: the system's, tools', others'."""

    system: bool
    tool: bool
    others: bool

    def of(self, messages: Messages) -> list[Mapping[str, Any]]:
        """Messages in this form."""
        return [
            {**each, "content": [{"type": "text", "text": each["content"]}]}
            if "content" in each and self._has_parts(each["role"])
            else each
            for each in messages
        ]

    def _has_parts(self, role: str) -> bool:
        return {"system": self.system, "tool": self.tool}.get(role, self.others)


FORMS = (
    Form(False, False, False),
    Form(True, True, True),
    Form(False, True, True),
    Form(True, False, False),
    Form(True, False, True),
    Form(False, False, True),
)

_MARK = "zq{}xkzq"
_MARKED = re.compile(r"""(['"]text['"]: ['"])?zq(\d+)xkzq""")
_PARTS = re.compile(r"""['"]text['"]: ['"]""")
_CALLED, _ARGUMENTS = "zqcalledzq", {"zqnamezq": "zqvaluezq"}


class Finding(NamedTuple):
    """How a template took messages with words of our own in place of what is said.

    Attributes:
        form: that of the messages.
        text: what it wrote, in lower case.
        lost: the role of the first message that it left out, or None.
    """

    form: Form
    text: str
    lost: str | None


def find(render: Callable[[Messages], str], messages: Messages) -> Finding | None:
    """The form in which a template writes all messages, else the first in which it writes any text;
    None where it fails in every form."""
    marked = [_marked(place, each) for place, each in enumerate(messages)]
    first: Finding | None = None
    for form in FORMS:
        try:
            text = render(form.of(marked)).casefold()
        except TemplateLimit:
            raise
        except ComposeError:
            continue
        read, plain = _read(text)
        missing = (
            each["role"]
            for place, each in enumerate(marked)
            # Some write calls in place of what is said beside them.
            if not (place in read if each.get("content") else plain) and not each.get("tool_calls")
        )
        found = Finding(form, text, next(missing, None))
        if found.lost is None:
            return found
        first = first or found
    return first


def _marked(place: int, message: Mapping[str, Any]) -> Mapping[str, Any]:
    """A message with words in place of its own that no template writes itself."""
    marked = dict(message)
    if "content" in message:
        marked["content"] = _MARK.format(place) if message["content"].strip() else ""
    if message.get("tool_calls"):
        function = {"name": _CALLED, "arguments": _ARGUMENTS}
        marked["tool_calls"] = [{**call, "function": function} for call in message["tool_calls"]]
    return marked


def _read(text: str) -> tuple[set[int], bool]:
    """The places of the messages whose marks a template wrote, and not in a list of parts as Python
    or JSON has it; and whether there is no such list at all."""
    found = [(int(each[2]), bool(each[1])) for each in _MARKED.finditer(text)]
    listed = {place for place, is_listed in found if is_listed}
    return {place for place, _ in found} - listed, not _PARTS.search(text)
