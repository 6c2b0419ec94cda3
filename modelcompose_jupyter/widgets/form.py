"""The form of a panel: fields in rows with their labels, help and errors, rare ones folded away."""

from __future__ import annotations

import html
from collections.abc import Iterator, Sequence
from typing import Any

import ipywidgets

from ..document import Input
from .conversation import Conversation
from .inputs import Inputs
from .speaking import CHIP, HELP

_MISSING = "modelcompose-missing"
_CHIP_LENGTH = 40

# What people change all the time stands in the form; other parameters that have a value already
# are a click away.
_USUAL = ("max_output_length", "temperature", "seed")
_TOKENS = ("min_output_length", "max_output_length", "max_input_length")


def label_of(each: Input) -> str:
    """What the document calls an input, else its name in words: ``max_output_length`` is "Max
    output length (tokens)"."""
    if noted := each.notes.get("label"):
        return noted
    if each.type.name == "messages" and not each.type.is_list:
        return "Message"
    return label_of_name(each.name) + (" (tokens)" if each.parameter in _TOKENS else "")


def label_of_name(name: str) -> str:
    """A name in words."""
    words = " ".join(name.replace("_", " ").split()) or name
    return words[:1].upper() + words[1:]


class Row(ipywidgets.VBox):
    """A field with its help, examples to take, and what is wrong with it."""

    def __init__(self, each: Input, field: Any) -> None:
        self.input = each
        self.folds: list[Any] = []  # the toggles that show it
        self._field = field
        field.description = label_of(each) + (" *" if each.required else "")
        field.tooltip = each.help or ""
        field.style.description_width = "initial"
        field.layout.width = "100%"
        self._error = ipywidgets.HTML()
        self._error.add_class("modelcompose-field-error")
        super().__init__([field, *_help(each), *_examples(each, field), self._error])
        self.add_class("modelcompose-input")

    def say(self, error: str) -> None:
        """Show what is wrong with the value; nothing where ``error`` is empty."""
        shown = f'<span role="alert">{html.escape(error)}</span>' if error else ""
        if self._error.value != shown:
            self._error.value = shown
        mark = self._field.add_class if error else self._field.remove_class
        mark(_MISSING)
        for toggle in self.folds if error else ():
            toggle.value = True  # an error is to be seen

    def is_of(self, field: Any) -> bool:
        return field is self._field

    @property
    def is_message(self) -> bool:
        """Whether it is where a chat's next message is written."""
        return isinstance(self._field, Conversation)

    def focus(self) -> None:
        self._field.focus()


def _help(each: Input) -> list[Any]:
    """What the document says of an input; what all documents say of a parameter, on demand."""
    if not each.help:
        return []
    shown = ipywidgets.HTML(html.escape(each.help))
    shown.add_class(HELP)
    if not each.description:
        shown.add_class("modelcompose-on-demand")
    return [shown]


def _examples(each: Input, field: Any) -> list[Any]:
    """Examples that the document gives, as buttons that enter them."""

    def chip(example: str) -> Any:
        short = example if len(example) <= _CHIP_LENGTH else example[: _CHIP_LENGTH - 1] + "…"
        button = ipywidgets.Button(description=short, tooltip=example)
        button.layout.width = "auto"
        button.on_click(lambda _: setattr(field, "value", example))
        button.add_class(CHIP)
        return button

    if not each.examples or not isinstance(field, ipywidgets.Textarea | ipywidgets.Text):
        return []
    chips = ipywidgets.HBox([chip(example) for example in each.examples])
    chips.add_class("modelcompose-examples")
    return [chips]


class Form:
    """The rows of a workflow's inputs.

    Attributes:
        rows: by the inputs' names.
    """

    def __init__(self, inputs: Inputs, signature_inputs: Sequence[Input]) -> None:
        self.rows = {each.name: Row(each, inputs[each.name]) for each in signature_inputs}

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows.values())

    def fields(self) -> list[Any]:
        """What a form shows: rows, and rare ones in a part that is folded away."""
        mine = [row for row in self if not row.is_message]
        rare = [row for row in mine if _is_rare(row.input)]
        usual = [row for row in mine if row not in rare]
        return [*usual, *(folded("Advanced", rare) if rare else [])]


def _is_rare(each: Input) -> bool:
    is_usual = each.parameter is None or each.parameter in _USUAL
    return not is_usual and not each.required


def folded(title: str, parts: Sequence[Any]) -> list[Any]:
    """A toggle, and what it shows: the style sheet folds it, so that no kernel is waited for."""
    toggle = ipywidgets.ToggleButton(description=title, tooltip="")
    toggle.layout.width = "auto"
    toggle.add_class("modelcompose-fold")
    body = ipywidgets.VBox(list(parts))
    body.add_class("modelcompose-folded")
    for row in _rows(body):
        row.folds.append(toggle)
    return [toggle, body]


def _rows(part: Any) -> Iterator[Row]:
    if isinstance(part, Row):
        yield part
    for child in getattr(part, "children", ()):
        yield from _rows(child)
