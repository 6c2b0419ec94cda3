"""Progress and results of runs in words, the same for a cell and a terminal."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from .formatting import duration, size
from .workflow import Event, Run, State

WAITING_PHASES = ("download", "load", "queue")
"""The phases of progress in which a run waits: for a model, or for its turn."""

_RATE_SECONDS = 1.0  # a rate over less says nothing


@dataclass(frozen=True)
class Progress:
    """How far something is: in words, and as a share from 0 to 1 (None where it is not known)."""

    text: str
    share: float | None


class ProgressMeter:
    """Says what progress events mean. Keeps when each download began, to know its rate."""

    def __init__(self) -> None:
        self._first: dict[str, Event] = {}

    def waiting(self, event: Event) -> str | None:
        """What an event says of what the run waits for: a model on its way, or its turn.

        None where it says nothing of that; empty where the wait is over.
        """
        if event.type != "progress" or event.data["phase"] not in WAITING_PHASES:
            return None
        return self.see(event).text

    def see(self, event: Event) -> Progress:
        """What a progress event says."""
        data = event.data
        done, total = data["done"], data["total"]
        share = done / total if total else None
        match data["phase"]:
            case "download":
                return Progress(self._download(event), share)
            case "load":
                of = f" {done}/{total}" if total else ""
                return Progress(f"Loading {data['model']}{of}", share)
            case "queue":
                ahead = data["ahead"]
                return Progress(f"{ahead} ahead in the queue" if ahead else "", share)
            case "job":
                return Progress(f"{done} of {total} jobs", share)
            case _:
                return Progress(f"{done} of {total} {data['unit']}", share)

    def _download(self, event: Event) -> str:
        data = event.data
        done, total = data["done"], data["total"]
        first = self._first.setdefault(data["model"], event)
        parts = [
            f"Downloading {data['model']} {size(done)}" + (f" of {size(total)}" if total else "")
        ]
        seconds = event.time - first.time
        rate = (done - first.data["done"]) / seconds if seconds >= _RATE_SECONDS else 0
        if rate > 0:
            parts.append(f"{size(rate)}/s")
            if total:
                parts.append(f"{duration((total - done) / rate)} left")
        return " · ".join(parts)


def ending(run: Run) -> str:
    """How a run ended, in a word: why its text did, unless it failed."""
    return str(run.state) if run.state is State.FAILED else run.finish_reason or str(run.state)


def status_line(run: Run) -> str:
    """How a run ended: reason, tokens, rate, first token, model, seed."""
    parts = [ending(run)]
    generated = run.usage.get("generated")
    if generated is not None:
        parts.append(f"{generated} token{'' if generated == 1 else 's'}")
    timings = run.timings
    if timings.get("tokens_per_second"):
        parts.append(f"{timings['tokens_per_second']:.1f} tokens/s")
        parts.append(f"first token {duration(timings['first_token'])}")
    generations = run.record.get("generations", ())
    parts += dict.fromkeys(each["model"]["source"] for each in generations)
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
