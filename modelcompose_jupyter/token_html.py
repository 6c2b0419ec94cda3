"""Tokens coloured by their probabilities, as HTML that is readable without a kernel.

The colour is one hue, the more opaque the less likely a token was, so it is right on light and on
dark ground and for every kind of colour vision; very unlikely ones have a line below them, too.
Styles stand at the elements, since applications take style sheets out of what they do not trust.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

from .thought_html import folded
from .translation import localized
from .workflow import Run
from .workflow.token_groups import Group, cut, groups, probability
from .workflow.tokens import Token

STEPS = (0.9, 0.6, 0.3, 0.1, 0.01)
"""Probabilities from which on a token has step 0, 1, … of colour; below the last it has one more.
``widgets/token_words.js`` has the same."""

HUE = "224,100,0"
OPACITIES = (0.0, 0.12, 0.25, 0.38, 0.52, 0.66)
"""The colour of each step; ``widgets/run_view.css`` has the same."""
LINES = {4: "dotted", 5: "solid"}
"""The lines below the least likely steps; ``widgets/run_view.css`` has the same."""

_TEXT = "margin:0 0 1em;white-space:pre-wrap;overflow-wrap:anywhere"
_MOST_COLOURED = 4_000  # tokens of a text; what follows is plain
_MOST_EXPLAINED = 500  # tokens of a text that say what else was likely: some 100 bytes each
_LEAST_EXPLAINED = 0.001  # of what else was likely


def run_html(run: Run) -> str:
    """The texts of a run that has ended, coloured; empty where no tokens are known."""
    if not any(run.tokens):
        return ""
    found = zip(run.streams.items(), run.token_starts, run.tokens, strict=True)
    return "".join(
        _thought_html(run, stream, tokens) + _answer_html(text, start, tokens)
        for (stream, text), start, tokens in found
    )


def _thought_html(run: Run, stream: tuple[Any, ...], tokens: Sequence[Token]) -> str:
    thought = [each for each in tokens if each.part == "reasoning"]
    if not (text := run.reasoning_streams[stream]):
        return ""
    html = token_html(thought, before="" if thought else text, length=len(text))
    return folded(html, run.reasoning_tokens[stream])


def _answer_html(text: str, start: int, tokens: Sequence[Token]) -> str:
    answer = [each for each in tokens if each.part == "text"]
    return token_html(answer, before=text[: start if tokens else None], length=len(text) - start)


def token_html(tokens: Sequence[Token], *, before: str = "", length: int | None = None) -> str:
    """A text of tokens, each with what it was and what else was likely as its tooltip.

    Args:
        before: what stands before the tokens.
        length: how many characters of their text are shown; all if None.
    """
    shown = list(tokens) if length is None else cut(tokens, length)
    spans = "".join(_spans(list(groups(shown, ended=True))))
    return f'<div dir="auto" style="{_TEXT}">{escape(before)}{spans}</div>'


def step(probability: float | None) -> int:
    """How much colour a probability has: the less likely, the more; 0 for none."""
    if probability is None:
        return 0
    return next((number for number, least in enumerate(STEPS) if probability >= least), len(STEPS))


def _spans(found: Sequence[Group]) -> Iterator[str]:
    for number, group in enumerate(found):
        if number >= _MOST_COLOURED:
            yield escape(group.text)
            continue
        attributes = _style(step(group.probability))
        if number < _MOST_EXPLAINED:
            attributes += f' title="{escape(explained(group))}"'
        text = group.text.lstrip(" ") or group.text
        yield " " * (len(group.text) - len(text))  # without colour, as in the panel
        shown = escape(text) or f"<code>{escape(visible(group.tokens[0].token))}</code>"
        yield f"<span{attributes}>{shown}</span>" if attributes else shown


def _style(step: int) -> str:
    if step == 0:
        return ""
    line = f";text-decoration:underline {LINES[step]}" if step in LINES else ""
    return f' style="background-color:rgba({HUE},{OPACITIES[step]}){line}"'


def explained(group: Group) -> str:
    """What tokens were and what else was likely, in a line each."""
    lines = []
    for token in group.tokens:
        lines.append(f"{visible(token.token)}  {_told(token)}".rstrip())
        for each in token.alternatives:
            share = probability(each.logprob) or 0.0
            if each.id != token.id and share >= _LEAST_EXPLAINED:
                lines.append(f"    {visible(each.token)}  {percent(share)}")
    return "\n".join(lines)


def _told(token: Token) -> str:
    share = probability(token.logprob)
    return "" if share is None else localized(f"{percent(share)}, rank {token.rank}")


def percent(probability: float) -> str:
    """A probability in words: ``12 %``."""
    if probability >= 0.995:
        return "> 99 %"
    if probability >= 0.0995:
        return f"{100 * probability:.0f} %"
    return f"{100 * probability:.1f} %" if probability >= 0.001 else "< 0.1 %"


_VISIBLE = str.maketrans({" ": "␣", "\n": "↵", "\r": "↵", "\t": "⇥"})


def visible(text: str) -> str:
    """A token with signs for what is not seen."""
    return text.translate(_VISIBLE)
