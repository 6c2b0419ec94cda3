"""How messages from the browser reach widgets in a kernel with several threads for them."""

from __future__ import annotations

from typing import Any


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
