"""What a notebook keeps of a panel: the last text, readable without a kernel.

A widget is gone when its kernel is. So a second output stands beside it, hidden while there is a
widget to look at, with the text of the last run and its record.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from html import escape
from typing import Any

from IPython.display import display

from ..document import Output
from ..progress import status_line
from ..workflow import METADATA_KEY, Run
from .conversation import turns_html
from .outputs import Part, parts, preformatted


class StaticOutput:
    """The output that keeps a run in the notebook.

    Args:
        outputs: the outputs of the workflow's signature.
        conversations: the names of its inputs that are one; what was said is kept with the reply.
        for_guests: whether nothing is kept: the notebook is a page, which its visitors cannot save.
    """

    def __init__(
        self,
        outputs: Sequence[Output],
        conversations: Sequence[str] = (),
        *,
        for_guests: bool = False,
    ) -> None:
        self._for_guests = for_guests
        self._outputs = tuple(outputs)
        self._conversations = tuple(conversations)
        self._display_id = uuid.uuid4().hex
        self._run: Run | None = None
        self._displayed = False

    def display(self) -> None:
        """Put the output into the cell that runs."""
        if self._for_guests:
            return
        self._displayed = True
        self._publish(update=False)

    def keep(self, run: Run) -> None:
        """Keep a run that has ended, in place of the last one. Any thread."""
        self._run = run
        if self._displayed:
            self._publish(update=True)

    def _publish(self, update: bool) -> None:
        data = {"text/plain": "", "text/html": _html("")}
        metadata: dict[str, Any] = {}
        if self._run is not None:
            data, metadata = bundle(self._run, self._outputs, self._conversations)
        display(data, metadata=metadata, raw=True, display_id=self._display_id, update=update)


def bundle(
    run: Run, outputs: Sequence[Output], conversations: Sequence[str] = ()
) -> tuple[dict[str, str], dict[str, Any]]:
    """A run that has ended as a MIME bundle, and its record as the metadata."""
    found = parts(run, outputs) or [Part("", "text", run.text, preformatted(run.text))]
    plain = "\n\n".join(
        f"{part.label}:\n{part.text}" if part.label else part.text for part in found
    )
    html = "".join(
        (f"<h4>{escape(part.label)}</h4>" if part.label else "") + part.html for part in found
    )
    for turns in (run.input.get(name) or [] for name in reversed(conversations)):
        said = "\n\n".join(f"{turn['role']}:\n{turn['content']}" for turn in turns)
        plain, html = f"{said}\n\nassistant:\n{plain}", turns_html(turns) + html
    status = f"[{status_line(run)}]"
    if run.error is not None:
        plain, html = f"{plain}\n{run.error}", html + preformatted(str(run.error))
    data = {
        "text/plain": f"{plain}\n{status}",
        "text/html": _html(f"{html}<div><small>{escape(status)}</small></div>"),
    }
    return data, {METADATA_KEY: run.record}


def _html(content: str) -> str:
    return f'<div class="modelcompose-saved">{content}</div>'
