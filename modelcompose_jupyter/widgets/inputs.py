"""The inputs of a workflow as ordinary ipywidgets, which can be linked and observed."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import ipywidgets

from ..document import Input, Signature
from ..document import types as values
from ..document.parameters import SLIDER_RANGES
from ..document.to_plain import to_plain
from ..document.types import Message
from ..errors import InputError, did_you_mean
from ..redaction import MASK
from ..text_encoding import without_mark
from .conversation import Conversation


class Inputs:
    """The widgets by the names of the inputs: ``inputs.temperature``, ``inputs["top p"]``.

    Args:
        signature: of the workflow.
        given: values to begin with, in place of the defaults.

    Raises:
        InputError: there is no such input, or it cannot have that value.
    """

    def __init__(self, signature: Signature, given: Mapping[str, Any]) -> None:
        self._inputs = {each.name: each for each in signature.inputs}
        chat = signature.conversations[:1]  # one is enough for a panel
        self._widgets = {
            name: Conversation(name, each.default or []) if name in chat else widget_for(each)
            for name, each in self._inputs.items()
        }
        signature.check_names(given)
        _fill(self, {name: given[name] for name in given if name in self._inputs})

    def __setattr__(self, name: str, value: Any) -> None:
        if name in vars(self).get("_widgets", ()):
            raise AttributeError(f"'{name}' is a widget; write inputs.{name}.value = {value!r}")
        super().__setattr__(name, value)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["_widgets"][name]
        except KeyError:
            raise AttributeError(f"the workflow has no input '{name}'") from None

    def __getitem__(self, name: str) -> Any:
        return self._widgets[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._widgets)

    def __len__(self) -> int:
        return len(self._widgets)

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self._widgets]

    def __repr__(self) -> str:
        shown = (f"{name}={widget.value!r}" for name, widget in self._widgets.items())
        return f"Inputs({', '.join(shown)})"


def read(inputs: Inputs, said: list[Message] | None = None) -> dict[str, Any]:
    """What the widgets say, as inputs of a run. An empty field is an input that is not given.

    A conversation is what was ``said``; with the message that is written now if None.

    Raises:
        InputError: a field for a list or an object holds something else, or a conversation has no
            message to reply to.
    """
    return _read(inputs, Conversation.asked if said is None else lambda _: said)


def _read(inputs: Inputs, messages: Callable[[Conversation], list[Message]]) -> dict[str, Any]:
    found = {}
    for name, each in inputs._inputs.items():
        widget = inputs[name]
        is_chat = isinstance(widget, Conversation)
        value = (messages(widget) or None) if is_chat else _value(each, widget.value)
        if value is not None and value != "":
            found[name] = value
    return found


def conversation(inputs: Inputs) -> Conversation | None:
    """The field that holds the conversation, in a chat."""
    found = (widget for name in inputs if isinstance(widget := inputs[name], Conversation))
    return next(found, None)


def entered(inputs: Inputs, signature: Signature) -> dict[str, Any]:
    """What was entered into fields that another signature has as well, of the same type."""
    types = {each.name: each.type for each in signature.inputs}
    try:
        given = _read(inputs, Conversation.entered)
    except InputError:
        return {}
    return {
        name: value
        for name, value in given.items()
        if (each := inputs._inputs[name]).type == types.get(name)
        and value not in (each.default, _as_typed(each.default))
    }


def write(inputs: Inputs, given: Mapping[str, Any]) -> None:
    """Set the widgets to the inputs of an earlier run; those it had none of, to their defaults."""
    defaults = {name: each.default for name, each in inputs._inputs.items()}
    _fill(inputs, {**defaults, **{name: given[name] for name in given if name in inputs._inputs}})


def several(inputs: Inputs, name: str, given: Sequence[Any]) -> list[Any]:
    """Values of an input, each as somebody would type it into its field, or as it is.

    Raises:
        InputError: one is no value of the input's type.
    """
    each = inputs._inputs.get(name) or Input(name, values.Type("integer"))  # the seed of runs
    return [_converted(each, _value(each, value)) for value in given]


def enter(inputs: Inputs, name: str, texts: Sequence[str]) -> None:
    """Set a widget to what somebody would type into it; a list may come as several texts.

    Raises:
        InputError: there is no such input, or the text is no value of its type.
    """
    if name not in inputs._inputs:
        known = list(inputs)
        listed = f"Inputs are {', '.join(known)}." if known else "The workflow takes no input."
        raise InputError(f"there is no input '{name}'", hint=did_you_mean(name, known) or listed)
    each = inputs._inputs[name]
    takes_list = each.type.holds_list
    text = "\n".join(texts) if takes_list else texts[-1]
    _fill(inputs, {name: _value(each, text)})


def _fill(inputs: Inputs, given: Mapping[str, Any]) -> None:
    for name, raw in given.items():
        if inputs._inputs[name].secret and raw == MASK:
            continue  # of an earlier run, which does not tell it
        widget, value = inputs[name], _converted(inputs._inputs[name], raw)
        if isinstance(widget, Conversation):
            widget.fill(value or [])
        elif isinstance(widget, ipywidgets.Textarea | ipywidgets.Text):
            widget.value = _as_typed(value)
        elif value is not None:
            if hasattr(widget, "min"):  # parameters may leave their usual range
                widget.min, widget.max = min(widget.min, value), max(widget.max, value)
            widget.value = value


def _converted(each: Input, value: Any) -> Any:
    """A value of the input's type; an empty one is none where the type has no empty values."""
    if value == "" and each.type.empty_is_missing:
        return None
    try:
        return values.convert(to_plain(value), each.type)
    except values.ConversionError as error:
        raise InputError(f"input '{each.name}': {error}").of(each.name) from None


def _as_typed(value: Any) -> str:
    """A value as somebody would type it into a field."""
    if value is None:
        return ""
    if isinstance(value, list) and value and all(_is_line(each) for each in value):
        return "\n".join(value)
    return values.text(value)


def _is_line(value: Any) -> bool:
    """Whether a text can stand on a line of a list, and is read as it was."""
    if not isinstance(value, str) or "\n" in value:
        return False
    return value.strip() == value != "" and not value.startswith("[")


def _value(each: Input, value: Any) -> Any:
    if not isinstance(value, str):
        return value
    if each.type.holds_list:
        return _list(each.name, value)
    if each.type.name in ("object", "json"):
        return _json(each.name, value) if value.strip() else None
    return value


def _list(name: str, text: str) -> list[Any] | None:
    """A list as it is typed: JSON, or a text a line."""
    text = without_mark(text)
    if not text.strip():
        return None
    if text.lstrip().startswith("["):
        return list(_json(name, text))
    return [line.strip() for line in text.splitlines() if line.strip()]


def _json(name: str, text: str) -> Any:
    try:
        return json.loads(without_mark(text))
    except json.JSONDecodeError as error:
        raise InputError(
            f"input '{name}' is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            hint="Texts stand in double quotes, as in JSON everywhere.",
        ).of(name) from None


def widget_for(each: Input) -> Any:
    """The widget for an input that is no conversation, with its default in it."""
    type_, default = each.type, each.default
    is_text = isinstance(default, str)
    if type_.holds_list or type_.name in ("object", "json"):
        hint = "One a line, or a JSON list" if type_.holds_list else "JSON"
        return _field(ipywidgets.Textarea, _as_typed(default), placeholder=hint)
    if type_.name == "select":
        empty = [] if each.required or default is not None else [("", None)]
        options = [*empty, *((option, option) for option in type_.options)]
        return ipywidgets.Dropdown(
            options=options, value=default if default in type_.options else options[0][1]
        )
    if type_.name == "boolean":
        return ipywidgets.Checkbox(value=bool(default), indent=False)
    if type_.name == "slider":
        return _slider(type_, type_.range, default)
    if type_.name in ("number", "integer"):
        if default is None or is_text:
            return _field(ipywidgets.Text, "", placeholder=_placeholder(each))
        if each.parameter in SLIDER_RANGES:
            return _slider(type_, SLIDER_RANGES[each.parameter], default)
        kind = ipywidgets.IntText if type_.name == "integer" else ipywidgets.FloatText
        return kind(value=default, continuous_update=False)
    if each.secret:
        return _field(ipywidgets.Password, "", placeholder=_placeholder(each))
    kind = ipywidgets.Text if type_.name == "string" else ipywidgets.Textarea
    return _field(kind, _as_typed(default), placeholder=_placeholder(each))


def _field(kind: Any, value: str, placeholder: str) -> Any:
    return kind(value=value, placeholder=placeholder, continuous_update=False)


def _placeholder(each: Input) -> str:
    """What stands in an empty field: a note of the document, or what an empty one means."""
    if noted := each.notes.get("placeholder"):
        return noted
    if each.required:
        return ""
    return "Drawn for each run" if each.parameter == "seed" else "Not given"


def _slider(type_: values.Type, range_: tuple[float, float, float | None], default: Any) -> Any:
    minimum, maximum, step = range_
    value = minimum if default is None else default
    whole = type_.counts_whole
    kind = ipywidgets.IntSlider if whole else ipywidgets.FloatSlider
    options: dict[str, Any] = {
        "min": min(minimum, value),
        "max": max(maximum, value),
        "value": value,
        "step": step or (1 if whole else (maximum - minimum) / 100),
        "continuous_update": False,
    }
    if not whole:
        decimals = len(f"{options['step']:.6f}".rstrip("0").partition(".")[2])
        options["readout_format"] = f".{max(decimals, 1)}f"
    return kind(**options)
