"""A model's chat template, ready to be rendered: its tokenizer's, or one that takes its place."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ...errors import ComposeError, InputError, ModelError
from ..generation import Cancelled, unwatched
from . import chat_template
from .chat_template import Check

_REASONING = ("reasoning_content", "reasoning", "thinking")
"""What templates call the thoughts of a message: each gets them under all of these names."""

Messages = Sequence[Mapping[str, Any]]
Tools = Sequence[Mapping[str, Any]]
"""Descriptions of tools in OpenAI's shape, their parameters as a JSON schema."""


class Refused(InputError):
    """A chat template raised an error of its own about the messages, in these ``words``."""

    def __init__(self, words: str) -> None:
        super().__init__(f"the model's chat template cannot take these messages: {words}")
        self.words = words


class ChatRenderer:
    """Renders conversations by one template.

    Args:
        tokenizer: whose template it is, and whose special tokens.
        template: Jinja that takes the place of the tokenizer's.
        variables: what else the template may read, ``enable_thinking`` say.
        check: raises where nobody wants the text any more.

    Attributes:
        source: the template.
        tokenizer: whose it is, or whose place it takes.

    Raises:
        ModelError: the tokenizer has no template, or several and no default.
    """

    def __init__(
        self,
        tokenizer: Any,
        template: str | None = None,
        variables: Mapping[str, Any] | None = None,
        check: Check = unwatched,
    ) -> None:
        self.source = source_of(tokenizer, template)
        self.tokenizer = tokenizer
        self._template = template
        self._variables = variables or {}
        self._check = check

    def in_time(self) -> ChatRenderer:
        """The same, for as long in all as one rendering may take."""
        bound, check = chat_template.in_time(), self._check

        def both() -> None:
            bound()
            check()

        return ChatRenderer(self.tokenizer, self._template, self._variables, both)

    def render(self, messages: Messages, tools: Tools = (), *, opens_reply: bool = True) -> str:
        """The text of a conversation, as the template writes it.

        Args:
            opens_reply: whether it ends where a reply begins.

        Raises:
            Refused: the template says that it cannot take these messages.
            ModelError: it fails, or asks for too much.
        """
        from jinja2 import TemplateError, TemplateSyntaxError

        said = [_with_thoughts(each) for each in messages]
        try:
            if self._template is None and _has_its_own_way(self.tokenizer):
                text = self.tokenizer.apply_chat_template(
                    said,
                    tools=list(tools) or None,
                    tokenize=False,
                    add_generation_prompt=opens_reply,
                    **self._variables,
                )
                return str(text)
            variables = {
                **self.tokenizer.special_tokens_map,
                **self._variables,
                "tools": list(tools) or None,
                "add_generation_prompt": opens_reply,
            }
            return chat_template.render(self.source, said, variables, self._check)
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
                raise Refused(str(error)) from None
            raise ModelError(
                f"the model's chat template fails: {type(error).__name__}: {error}",
                hint="It may need a variable: give it as chat_template_kwargs. Else mend the"
                " document's 'chat_template'; a model's own template is its author's to mend.",
                code="chat_template",
            ) from None


def source_of(tokenizer: Any, template: str | None = None) -> str:
    """The chat template that is used: the one that is given, else the tokenizer's.

    Raises:
        ModelError: there is none, or there are several and no default.
    """
    if template is not None:
        return template
    found = getattr(tokenizer, "chat_template", None)
    if isinstance(found, Mapping):
        if "default" not in found:
            names = ", ".join(f"'{name}'" for name in sorted(found))
            raise ModelError(
                f"the model has several chat templates and none is the default: {names}",
                hint="Name one of them 'default' in its tokenizer_config.json, or give one as"
                " 'chat_template'.",
                code="no_chat_template",
            )
        found = found["default"]
    if not isinstance(found, str) or not found:
        raise ModelError(
            "the model has no chat template, so it takes no messages",
            hint="Use a model that was made for chats, or 'task: text-generation' with 'text';"
            " or give one as 'chat_template'.",
            code="no_chat_template",
        )
    return found


def _with_thoughts(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message with its thoughts under all names that templates have for them."""
    thoughts = message.get(_REASONING[0])
    return {**message, **({} if thoughts is None else dict.fromkeys(_REASONING, thoughts))}


def _has_its_own_way(tokenizer: Any) -> bool:
    """Whether a tokenizer brings other code for its chats than transformers' own."""
    kinds = type(tokenizer).__mro__
    kind = next((each for each in kinds if "apply_chat_template" in vars(each)), None)
    return kind is not None and kind.__name__ != "PreTrainedTokenizerBase"
