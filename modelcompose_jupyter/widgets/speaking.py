"""Widgets in the language of the page that shows them.

The browser says which language that is (``words.js``). What a widget says of its own is translated
where it leaves the kernel: in Python it is English. Labels of scripts come with the scripts.
"""

from __future__ import annotations

import html
from collections.abc import Iterator
from typing import Any
from weakref import WeakKeyDictionary

import ipywidgets
import traitlets
from anywidget import AnyWidget

from ..translation import told, translated

_LABELS = ("description", "tooltip", "placeholder")
HELP, CHIP = "modelcompose-help", "modelcompose-chip"
"""Classes of what shows a help text, and of a button that has a value of the user's."""

_english: WeakKeyDictionary[Any, dict[str, tuple[str, str]]] = WeakKeyDictionary()


class SpeakingWidget(AnyWidget):
    """A widget whose traits that are `words` are in the browser's language."""

    language = traitlets.Unicode("", help="The browser's, as a tag; empty until it is known.").tag(
        sync=True
    )

    @traitlets.observe("language")
    def _speak(self, _: Any) -> None:
        if self.comm is not None:
            self.send_state([name for name in self.keys if self.trait_metadata(name, "is_words")])

    def in_words(self, data: Any, *keys: str) -> Any:
        """Messages in plain data in the browser's language; of mappings those of ``keys``."""
        return told(data, self.language, *keys)


def words(trait: Any, *keys: str) -> Any:
    """A trait that is told the browser, and whose texts are messages; of mappings those of
    ``keys``."""

    def to_json(value: Any, widget: Any) -> Any:
        return widget.in_words(value, *keys)

    return trait.tag(sync=True, to_json=to_json, is_words=True)


def label(root: Any, language: str) -> None:
    """Have ordinary widgets, from ``root`` down, say what they say in a language."""
    for widget in _tree(root):
        if CHIP in widget._dom_classes:
            continue
        for name, text in _labels(widget):
            english, shown = _english.get(widget, {}).get(name, (text, text))
            if text != shown:  # it was changed meanwhile
                english = text
            now = _in_language(english, language, is_html=name == "value")
            _english.setdefault(widget, {})[name] = (english, now)
            if now != text:
                setattr(widget, name, now)


def _labels(widget: Any) -> Iterator[tuple[str, str]]:
    names = [*_LABELS, *(["value"] if HELP in widget._dom_classes else [])]
    for name in names:
        text = getattr(widget, name, None)
        if isinstance(text, str) and text:
            yield name, text


def _in_language(text: str, language: str, *, is_html: bool) -> str:
    if is_html:
        return html.escape(translated(html.unescape(text), language))
    if text.endswith(" *"):  # a field that is to be filled in
        return f"{translated(text[:-2], language)} *"
    return translated(text, language)


def _tree(root: Any) -> Iterator[Any]:
    if isinstance(root, ipywidgets.DOMWidget):
        yield root
    for child in getattr(root, "children", ()):
        yield from _tree(child)
