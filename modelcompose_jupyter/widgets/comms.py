"""How messages from the browser reach widgets, in a kernel with several threads for them, and how
widgets end."""

from __future__ import annotations

from typing import Any

import ipywidgets


def pin_subshell(widget: Any) -> None:
    """Have messages to a widget, and to those in it, handled in the order in which they were sent.

    A page names the subshell that is to handle what it says, the same for all of its widgets.
    ipykernel 7.4 puts the subshell of the last cell or message that a widget changed under in its
    place. So a prompt and the click after it would be handled on different threads, in any order;
    a Stop would wait behind a cell that blocks; and nothing would arrive from a page that is
    loaded again, whose earlier subshell is gone. Here the page has its way.
    """
    for child in getattr(widget, "children", ()):
        pin_subshell(child)
    if hasattr(widget.comm, "_reply_subshell_for"):
        widget.comm._reply_subshell_for = lambda _, named: named


def close_all(widget: Any) -> None:
    """Close a widget and those in it, which ipywidgets would keep for ever."""
    for child in getattr(widget, "children", ()):
        close_all(child)
    for part in (getattr(widget, "layout", None), getattr(widget, "style", None)):
        if isinstance(part, ipywidgets.Widget):
            part.close()
    widget.unobserve_all()
    widget.close()
