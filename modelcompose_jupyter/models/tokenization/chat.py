"""The messages of a chat as the text that a model reads: the chat template of its tokenizer."""

from __future__ import annotations

import html
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from itertools import islice
from typing import Any

from ...document.types import Message
from ...errors import ComposeError, InputError, ModelError
from ..generation import Cancelled, unwatched
from . import chat_template
from .chat_template import Check, TemplateLimit

# Words that no template writes itself
_QUESTION, _REPLY, _MARK = "zqquestionzq", "zqreplyzq", "zq{}xkzq"
_MOST_WORDS = 200
_SURE = 64
"""Characters from which on a message is not what a template writes by itself."""
_AT_ONCE = 10_000  # words


def text_of(
    tokenizer: Any,
    messages: Sequence[Message],
    variables: Mapping[str, Any] | None = None,
    check: Check = unwatched,
) -> str:
    """The text of a conversation, up to where the reply begins.

    It has all special tokens already: the template writes them.

    Args:
        variables: what else the template may read, ``enable_thinking`` say.
        check: raises where nobody wants the text any more.

    Raises:
        ModelError: the model has no chat template, or one that fails or asks for too much.
        InputError: the template cannot take these messages, or leaves out what is said in one.
    """
    return _Template(tokenizer, variables or {}, check).text(messages)


def unread(tokenizer: Any, variables: Mapping[str, Any]) -> list[str]:
    """The variables that the tokenizer's chat template does not read."""
    template = _source(tokenizer)
    return [name for name in variables if not re.search(rf"\b{re.escape(name)}\b", template)]


def turn_end(tokenizer: Any) -> set[int]:
    """The special token that the chat template writes behind a reply, if it writes one.

    A model says it when its turn is over, though its configuration may not name it as an end. Where
    nothing ends a turn, it is what begins the next. None where a turn is more than its reply, as
    where channels of thought are special tokens, too: what ends the reply may end a thought.
    """
    said: list[Message] = [
        {"role": "user", "content": _QUESTION},
        {"role": "assistant", "content": _REPLY},
        {"role": "user", "content": _QUESTION},
    ]
    check = chat_template.in_time()  # that of one rendering does for all
    for first in ([], [Message(role="system", content=_QUESTION)]):  # some want one
        with suppress(ComposeError):
            template = _Template(tokenizer, {}, check)
            before = template.text([*first, said[0]]).rstrip()
            whole = template.text([*first, *said])
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


def _source(tokenizer: Any) -> str:
    """A tokenizer's chat template; a `ModelError` where it has none, or several and no default."""
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

    def __init__(
        self, tokenizer: Any, variables: Mapping[str, Any], check: Check = unwatched
    ) -> None:
        self._source = _source(tokenizer)
        self._tokenizer = tokenizer
        self._variables = variables
        self._check = check

    def text(self, messages: Sequence[Message]) -> str:
        """The conversation as the model reads it, with all that is said in it."""
        form, own = self._form(messages)
        text = self._render(_in_form(messages, form))
        self._check_words(messages, text, own)
        return text

    def _form(self, messages: Sequence[Message]) -> tuple[tuple[bool, bool], str]:
        """How the template takes the content of messages (see `_FORMS`), and what it writes around
        it.

        It is found out with words of our own in place of what is said, since a template that reads
        the other form fails seldom: mostly it leaves out the content.
        """
        marked: list[Message] = [
            {**each, "content": _MARK.format(place) if each["content"].strip() else ""}
            for place, each in enumerate(messages)
        ]
        lost: Message | None = None
        for form in _FORMS:
            try:
                text = self._render(_in_form(marked, form)).casefold()
            except TemplateLimit:
                raise
            except ComposeError:
                continue
            read, plain = _read(text)
            missing = [
                each
                for place, each in enumerate(marked)
                if not (place in read if each["content"] else plain)
            ]
            if not missing:
                return form, text
            lost = lost or missing[0]
        if lost is not None:
            raise _lost(lost["role"])
        return _FORMS[0], ""  # which fails, and says why

    def _check_words(self, messages: Sequence[Message], text: str, own: str) -> None:
        """Raise InputError where words of the user's, or the system's, are not in the text.

        They are counted, since the template may write some of them itself, and another message
        may have them, too. Templates trim, escape and join, and take out switches that they know.
        A reply may lose its thoughts. Of messages that stand in the text as they are, no word is
        looked at.
        """
        said = [each for each in messages if each["role"] != "assistant"]
        said, text = _without_whole(said, text, own)
        if not said:
            return
        words = [_words(self._without_switches(each["content"]), self._check) for each in said]
        wanted: Counter[str] = Counter()
        for each in words:
            wanted.update(each)
        own_words = _words(own, self._check)
        for plain in (lambda text: text, html.unescape, _without_escapes):
            changed = plain(text).casefold()
            lacking = wanted - (_words(changed, self._check) - own_words)
            # They may stand in longer ones, where a template joins what is said to its own words.
            for word in sorted(lacking)[:_MOST_WORDS]:
                self._check()
                if changed.count(word) - own.count(word) >= wanted[word]:
                    del lacking[word]
            if not lacking:
                return
        raise _lost(next(m["role"] for m, own in zip(said, words, strict=True) if own & lacking))

    def _without_switches(self, content: str) -> str:
        """What is said without words such as ``/no_think`` that the template looks for."""
        return re.sub(
            r"/\w+", lambda found: "" if found.group() in self._source else found.group(), content
        )

    def _render(self, messages: Sequence[Mapping[str, Any]]) -> str:
        from jinja2 import TemplateError, TemplateSyntaxError

        tokenizer = self._tokenizer
        try:
            if _has_its_own_way(tokenizer):
                text = tokenizer.apply_chat_template(
                    list(messages), tokenize=False, add_generation_prompt=True, **self._variables
                )
                return str(text)
            variables = {**tokenizer.special_tokens_map, **self._variables}
            return chat_template.render(self._source, messages, variables, self._check)
        except (ComposeError, Cancelled):
            raise
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


_FORMS = ((False, False), (True, True), (False, True), (True, False))
"""Whether the content of the system's messages, and of others', is a list of parts and no text."""


def _in_form(messages: Sequence[Message], form: tuple[bool, bool]) -> list[Mapping[str, Any]]:
    return [
        {**each, "content": [{"type": "text", "text": each["content"]}]}
        if form[each["role"] != "system"]
        else each
        for each in messages
    ]


_MARKED = re.compile(r"""(['"]text['"]: ['"])?zq(\d+)xkzq""")
_PARTS = re.compile(r"""['"]text['"]: ['"]""")


def _read(text: str) -> tuple[set[int], bool]:
    """The places of the messages whose marks a template wrote, and not in a list of parts as Python
    or JSON has it; and whether there is no such list at all."""
    found = [(int(each[2]), bool(each[1])) for each in _MARKED.finditer(text)]
    listed = {place for place, is_listed in found if is_listed}
    return {place for place, _ in found} - listed, not _PARTS.search(text)


def _without_whole(said: Sequence[Message], text: str, own: str) -> tuple[list[Message], str]:
    """The messages that do not stand in the text as they are, and the text without those that do.

    A short one may be what the template writes itself. All are looked for behind the one before;
    where one is not there, nobody knows where the next should be.
    """
    left: list[Message] = []
    pieces: list[str] = []
    start = 0
    for number, message in enumerate(said):
        content = message["content"].strip()
        if len(content) >= _SURE:
            place = text.find(content, start)
            if place < 0:
                left += said[number:]
                break
            if content.casefold() not in own:
                pieces.append(text[start:place])
                start = place + len(content)
                continue
        left.append(message)
    return left, "\n".join([*pieces, text[start:]])


_WORD = re.compile(r"""\w+|[^\w\s&<>"'\\]""")


def _words(text: str, check: Check) -> Counter[str]:
    """The words of a text and its signs, without those that are often escaped."""
    found = _WORD.finditer(text.casefold())
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


def _has_its_own_way(tokenizer: Any) -> bool:
    """Whether a tokenizer brings other code for its chats than transformers' own."""
    kinds = type(tokenizer).__mro__
    kind = next((each for each in kinds if "apply_chat_template" in vars(each)), None)
    return kind is not None and kind.__name__ != "PreTrainedTokenizerBase"


def _lost(role: str) -> InputError:
    who = "the system message" if role == "system" else f"a message of the {role}"
    return InputError(
        f"the model's chat template leaves out words of {who}, which the model would not read",
        hint="Say it in the first message of the user."
        if role == "system"
        else "Use another model, or 'task: text-generation' with a 'text' of your own.",
        code="message_lost",
    )
