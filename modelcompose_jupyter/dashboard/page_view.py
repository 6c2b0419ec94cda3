"""The page of a document as a widget: a panel for each workflow, and what is to be known of it.

Its parts are written by the kernel's threads alone, except for what the panels show of runs.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from html import escape
from pathlib import Path
from typing import Any

import anywidget
import ipywidgets
import traitlets

from ..callable import Workflow
from ..document import Document
from ..errors import ComposeError, InputError
from ..translation import environment_language, localized
from ..widgets import inputs as fields
from ..widgets.esm import joined
from ..widgets.panel import Panel
from ..widgets.snippets import as_curl, examples
from . import DOCUMENT_VARIABLE
from .url_params import UrlParams

_FOLDER = Path(__file__).parent


class PageView(ipywidgets.VBox):
    """The public workflows of a document, one below the other tab.

    Attributes:
        panels: the panels by the workflows' ids.

    Args:
        document: what to show.
        query: of the page's address, without its ``?``.
        headings: whether the title of the only workflow stands in its panel.
        unfolded: whether the diagram is seen at once.
        before: panels of an earlier state of the document, whose entered values are kept.

    Raises:
        InputError: no workflow of the document is public.
        ComposeError: the host that is to run the workflows is gone.
    """

    def __init__(
        self,
        document: Document,
        query: str = "",
        *,
        headings: bool = True,
        unfolded: bool = False,
        before: Mapping[str, Panel] | None = None,
    ) -> None:
        asked = UrlParams(query)
        public = {each.id: each for each in document.workflows if not each.private}
        if not public:
            raise InputError(
                "the document has no public workflow", hint="Leave 'private: true' out of one."
            )
        chosen = asked.choose(document, public)
        workflows = {id: Workflow(document, id, for_guests=True) for id in public}
        _ = workflows[chosen].host  # attached now: commands to copy name its address
        self.panels = {
            id: Panel(
                each,
                _entered(each, (before or {}).get(id)),
                name=_python(document, id),
                keep_as=_kept_as(document, id),
            )
            for id, each in workflows.items()
        }
        asked.fill(self.panels[chosen].inputs)
        parts = [_part(self.panels[id], each, unfolded) for id, each in workflows.items()]
        if len(parts) > 1:
            titles = [each.title or each.id for each in workflows.values()]
            index = list(workflows).index(chosen)
            parts = [ipywidgets.Tab(parts, titles=titles, selected_index=index)]
        super().__init__([_style(), *_notes(asked.notes), *parts])
        self.add_class("modelcompose-page")
        if not headings:
            self.add_class("modelcompose-untitled")


class About(anywidget.AnyWidget):
    """How a workflow works and how to call it over HTTP, both folded away."""

    _esm = joined(_FOLDER / "about.js")

    diagram = traitlets.Unicode(help="The jobs as SVG; empty where the panel shows them.").tag(
        sync=True
    )
    curl = traitlets.Unicode(help="A command that runs the workflow.").tag(sync=True)
    unfolded = traitlets.Bool(help="Whether the diagram is seen at once.").tag(sync=True)


def failure(error: ComposeError, *, for_guests: bool = True) -> ipywidgets.VBox:
    """An error in place of a page."""
    shown = escape(error.shown(for_guests=for_guests, language=environment_language()))
    text = f'<pre class="modelcompose-error" role="alert">{shown}</pre>'
    page = ipywidgets.VBox([_style(), ipywidgets.HTML(text)])
    page.add_class("modelcompose-page")
    return page


def _python(document: Document, workflow: str) -> str:
    """What Python calls a workflow: visitors have given it no name."""
    given = [document.source.file, *([workflow] if len(document.workflows) > 1 else [])]
    return f"load({', '.join(json.dumps(each, ensure_ascii=False) for each in given)})"


def _kept_as(document: Document, workflow: str) -> str:
    """The name by which a browser keeps the conversations of a workflow of a document: another
    document at the same address has others."""
    path = os.environ.get(DOCUMENT_VARIABLE, document.source.file)
    return f"{hashlib.sha256(path.encode()).hexdigest()[:16]}:{workflow}"


def _entered(workflow: Workflow, before: Panel | None) -> dict[str, Any]:
    return fields.entered(before.inputs, workflow.signature) if before is not None else {}


def _part(panel: Panel, workflow: Workflow, unfolded: bool) -> ipywidgets.VBox:
    """A workflow's panel and what is to be known of it; the command follows the inputs."""
    # A panel that shows how the jobs go has drawn them.
    picture = workflow.diagram.svg if panel.diagram is None else ""
    about = About(diagram=picture, unfolded=unfolded)

    def show_command(_: Any = None) -> None:
        try:
            values = fields.read(panel.inputs)
        except InputError:
            return  # half-typed JSON: the command before it stays
        shown = {**examples(workflow.signature), **values}
        about.curl = as_curl(workflow.document, workflow.id, shown)

    show_command()
    for name in panel.inputs:
        panel.inputs[name].observe(show_command, "value")
    part = ipywidgets.VBox([panel, about])
    part.add_class("modelcompose-part")
    return part


def _notes(errors: list[ComposeError]) -> list[ipywidgets.HTML]:
    """What of the address could not be used."""
    if not errors:
        return []
    lines = (f"{localized(each.message)}. {localized(each.hint or '')}".rstrip() for each in errors)
    items = "".join(f"<li>{escape(line)}</li>" for line in lines)
    return [
        ipywidgets.HTML(
            '<div class="modelcompose-notes" role="note">'
            f"{localized('In the address of this page:')}<ul>{items}</ul></div>"
        )
    ]


def _style() -> ipywidgets.HTML:
    """The style sheet, also where no template has one."""
    sheet = (_FOLDER / "page.css").read_text(encoding="utf-8")
    style = ipywidgets.HTML(f"<style>{sheet}</style>")
    style.layout.display = "none"
    return style
