"""Thoughts of models as HTML that is readable without a kernel: folded above what was answered."""

from __future__ import annotations

from html import escape

from .translation import localized


def thought_label(tokens: int) -> str:
    """What the fold of a thought says; ``widgets/thought_fold.js`` has the same."""
    return f"Thought for {tokens:,} token{'' if tokens == 1 else 's'}" if tokens else "Thoughts"


def folded(html: str, tokens: int) -> str:
    """A thought, given as HTML that is safe to show, which has so many tokens; 0 where nobody
    knows."""
    label = localized(thought_label(tokens))
    return f'<details class="modelcompose-thought"><summary>{label}</summary>{html}</details>'


def thought_html(thought: str, tokens: int) -> str:
    """A thought as it was written; nothing where there is none."""
    if not thought:
        return ""
    style = "white-space:pre-wrap;overflow-wrap:anywhere;opacity:0.75;margin:0.3em 0 1em"
    return folded(f'<div dir="auto" style="{style}">{escape(thought)}</div>', tokens)
