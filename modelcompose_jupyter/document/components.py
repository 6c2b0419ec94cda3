"""Components in their one normal form: what jobs call."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from .reader import KeyPath
from .templates import Template


@dataclass(frozen=True)
class Action:
    """One call of a component's model.

    ``text`` is the prompt's template, or a list of them; where ``is_chat`` that of a chat's
    messages, where ``takes_tokens`` that of prompts as lists of tokens. ``parameters`` maps the
    names of generation parameters to templates; ``output`` is None where the text itself is the
    output. With ``gives_text`` it is the text as it came, whatever its format, though it was cut,
    in a call of a tool, too.
    """

    id: str
    path: KeyPath
    text: Template
    parameters: dict[str, Template]
    output: Template | None = None
    is_chat: bool = False
    takes_tokens: bool = False
    gives_text: bool = False
    default: bool = False

    @property
    def named_tools(self) -> dict[str, KeyPath]:
        """The Python functions that it names as tools, with the place of each; those that only a
        run's input names are not among them."""
        template = self.parameters.get("tools")
        if template is None or not isinstance(template.value, list):
            return {}
        several = enumerate(template.value)
        return {each: (*template.path, n) for n, each in several if isinstance(each, str)}


@dataclass(frozen=True)
class Component:
    """What jobs call: one of the kinds below."""

    id: str
    path: KeyPath
    default: bool = field(default=False, kw_only=True)
    max_concurrent_count: int = field(default=0, kw_only=True)

    @property
    def tokens(self) -> list[Any]:
        """Its Hub tokens as they are written."""
        return []

    @property
    def sources(self) -> list[str]:
        """Where its models come from, as they are written."""
        return []


@dataclass(frozen=True)
class ModelComponent(Component):
    """A model, and the actions that call it.

    ``model`` maps the model's settings to templates. ``chat_template`` is Jinja in place of the
    model's own, or None.
    """

    model: dict[str, Template] = field(repr=False)  # which has the Hub's tokens
    actions: tuple[Action, ...]
    chat_template: str | None = field(default=None, repr=False)

    @property
    def tokens(self) -> list[Any]:
        """Its Hub tokens as they are written, those of its adapters too."""
        found: list[Any] = []
        rest: list[Any] = [self._written]
        while rest:
            each = rest.pop()
            if isinstance(each, Mapping):
                found += [each["token"]] if "token" in each else []
                rest += each.values()
            elif isinstance(each, list):
                rest += each
        return found

    @property
    def _written(self) -> dict[str, Any]:
        return {key: template.value for key, template in self.model.items()}

    @property
    def sources(self) -> list[str]:
        """Where its model, its draft model and its adapters come from, as they are written."""
        written = self._written
        sources = [written["source"], written.get("draft_model", "")]
        for adapter in written.get("peft_adapters", ()):
            model = adapter["model"]
            # A path in the long form need not begin with a dot.
            sources += [f"./{model.get('path')}"] if isinstance(model, Mapping) else [model]
        return [str(each) for each in sources]


@dataclass(frozen=True)
class FunctionComponent(Component):
    """A Python function: ``function`` is its name, or ``module:name`` of a module beside the
    document. ``output`` is None where what it gives is the output."""

    function: str
    output: Template | None = None


@dataclass(frozen=True)
class WorkflowComponent(Component):
    """Another workflow of the document, or with ``is_of_file`` of another one; the default one
    where ``workflow`` is None.

    ``input`` is None where the whole input goes through, ``output`` where that workflow's is the
    output.
    """

    workflow: str | None
    is_of_file: bool = False
    input: Template | None = None
    output: Template | None = None
