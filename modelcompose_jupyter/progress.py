"""Progress and results of runs in words, the same for a cell and a terminal."""

from __future__ import annotations

import json
import sys
from typing import Any

from .units import size
from .workflow import Event, Run


def progress_line(event: Event) -> str | None:
    """What a progress event says, or None where it is nothing to show."""
    data = event.data
    if event.type != "progress" or data["phase"] not in ("download", "load"):
        return None
    if data["phase"] == "load":
        share = f" {data['done']}/{data['total']}" if data["total"] else ""
        return f"Loading {data['model']}{share}"
    of = f" of {size(data['total'])}" if data["total"] else ""
    return f"Downloading {data['model']} {size(data['done'])}{of}"


class TerminalLine:
    """One line on standard error that changes in place; an empty one wipes it."""

    def __init__(self) -> None:
        self._shown = ""

    def show(self, text: str | None) -> None:
        """Show a text; None leaves what is there."""
        if text is not None and text != self._shown:
            sys.stderr.write(f"\r{text.ljust(len(self._shown))}\r{text}")
            sys.stderr.flush()
            self._shown = text


def status_line(run: Run) -> str:
    """How a run ended: reason, tokens, rate, seed."""
    parts = [run.finish_reason or str(run.state)]
    generated = run.usage.get("generated")
    if generated is not None:
        parts.append(f"{generated} token{'' if generated == 1 else 's'}")
    rate = run.timings.get("tokens_per_second")
    if rate:
        parts.append(f"{rate:.1f} tokens/s")
    if "seed" in run.parameters and run.parameters.get("do_sample"):
        parts.append(f"seed {run.parameters['seed']}")
    return " · ".join(parts)


def as_text(output: Any) -> str:
    """An output for people and files: text as it is, anything else as JSON."""
    if isinstance(output, str):
        return output
    return json.dumps(output, ensure_ascii=False, indent=2, default=str)


def says_only(output: Any, text: str) -> bool:
    """Whether an output says no more than the text that was streamed."""
    if isinstance(output, dict) and len(output) == 1:
        (output,) = output.values()
    return bool(output == text)
