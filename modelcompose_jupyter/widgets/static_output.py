"""What a notebook keeps of a widget, readable without a kernel: of a panel the last run.

A widget is gone when its kernel is. So a second output stands beside it, hidden while there is a
widget to look at, with the texts, and the records of runs.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Mapping
from html import escape
from typing import Any, Generic, TypeVar

from IPython.display import display

from ..diagram import Diagram
from ..document import Signature
from ..progress import status_line
from ..thought_html import thought_html
from ..token_html import run_html
from ..translation import localized, reader_language
from ..workflow import Run
from .conversation import turns_html, with_replies, with_reply
from .outputs import Part, parts, preformatted
from .steps_html import loose_texts, steps_html
from .tool_calls import calls_html, calls_of, calls_text, shown_turns

Bundle = tuple[dict[str, str], dict[str, Any]]
"""Data by MIME types, and metadata."""

T = TypeVar("T")
_SPEAKER = "\n\nassistant:\n"


class StaticOutput(Generic[T]):
    """The output that keeps something in the notebook, a run say, as ``bundle`` shows it."""

    def __init__(self, bundle: Callable[[T], Bundle]) -> None:
        self._bundle = bundle
        self._display_id = uuid.uuid4().hex
        self._kept: T | None = None
        self._displayed = False

    def display(self) -> None:
        """Put the output into the cell that runs."""
        self._displayed = True
        self._publish(update=False)

    def keep(self, kept: T) -> None:
        """Keep what has ended, in place of what was kept before. Any thread."""
        if kept is self._kept:
            return
        self._kept = kept
        if self._displayed:
            self._publish(update=True)

    def forget(self) -> None:
        """Keep nothing any more. Any thread."""
        self._kept = None
        if self._displayed:
            self._publish(update=True)

    def _publish(self, update: bool) -> None:
        data = {"text/plain": "", "text/html": _html("")}
        metadata: dict[str, Any] = {}
        if self._kept is not None:
            data, metadata = self._bundle(self._kept)
        display(data, metadata=metadata, raw=True, display_id=self._display_id, update=update)


def bundle(run: Run, signature: Signature, diagram: Diagram | None = None) -> Bundle:
    """A run that has ended as a MIME bundle, with its conversations, and the metadata that keeps
    it; with the ``diagram`` of its workflow, what became of the jobs. In the language of who reads
    what is shown now."""
    outputs = parts(run, signature.outputs)
    texts = run.streams if diagram is None else loose_texts(run)
    said = "\n\n".join(filter(None, texts.values()))
    found = outputs or [Part("", "text", run.text, preformatted(said) if said else "")]
    plain = "\n\n".join(
        f"{part.label}:\n{part.text}" if part.label else part.text for part in found
    )
    html = "".join(
        (f"<h4>{escape(part.label)}</h4>" if part.label else "") + part.html for part in found
    )
    chats = [run.input.get(name) or [] for name in signature.conversations]
    reply, thought, count = "", run.reasoning, run.usage.get("reasoning", 0)
    is_reply = bool(chats and run.text and not outputs)
    calls = calls_of(run)
    if coloured := run_html(run):
        heading = f"<h4>{localized('Assistant')}</h4>"
        html = (heading if is_reply else html if outputs else "") + coloured
    elif is_reply:
        reply, html = run.text, ""
    else:
        html = thought_html(thought, count) + html
    if calls and not reply:
        html = calls_html(calls) + html
    if calls:
        plain = f"{calls_text(calls)}\n{plain}"
    for turns in reversed(chats):
        said = "\n\n".join(map(_said, shown_turns(turns)))
        is_begun = is_reply and turns and turns[-1]["role"] == "assistant"
        plain = f"{said}{'' if is_begun else _SPEAKER}{plain}"
        if reply and calls:
            turns = with_replies(turns, run)
        elif reply:
            turns = with_reply(turns, reply, thought)
        html = turns_html(turns, count if reply else 0) + html
        reply = ""
    if diagram is not None:
        told = steps_html(run, diagram.in_language(reader_language()))
        html, plain = f"{told}{html}", f"{run.jobs!r}\n\n{plain}"
    status = f"[{localized(status_line(run))}]"
    if run.error is not None:
        error = "\n".join(run.error.lines(reader_language()))
        plain, html = f"{plain}\n{error}", html + preformatted(error)
    data = {
        "text/plain": f"{plain}\n{status}",
        "text/html": _html(f"{html}<div><small>{escape(status)}</small></div>"),
    }
    return data, run.notebook_metadata()


def _said(turn: Mapping[str, Any]) -> str:
    """A turn as plain text, with its calls before what it says."""
    parts = [f"{turn['role']}:", calls_text(turn.get("calls", ())), turn["content"]]
    return "\n".join(part for number, part in enumerate(parts) if part or number != 1)


def _html(content: str) -> str:
    return f'<div class="modelcompose-saved">{content}</div>'
