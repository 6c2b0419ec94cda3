"""Progress and results of runs in words, the same for a cell and a terminal."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .formatting import duration, elapsed, size
from .workflow import Event, Run, State
from .workflow.job_states import ordinal, short_error, state_word

WAITING_PHASES = ("start", "download", "load", "queue", "prefill")
"""The phases of progress in which a run waits: for a model, for its turn, for its first token."""

COUNTING_PHASES = ("repeat", "item", "round")
"""The phases in which a job does something many times."""

_STEPS = {
    "engine": "Starting the engine",
    "kernels": "Compiling the kernels, once on this computer",
    "torch": "Importing torch",
}
_FEW = 3  # jobs that are named
_RATE_SECONDS = 1.0  # a rate over less says nothing
_WORTH_SECONDS = 0.2  # of a wait that is worth a word at the end
_LIMITS = {"context": "the end of the model's context", "host": "the host's limit"}


@dataclass(frozen=True)
class Progress:
    """How far something is.

    Attributes:
        text: in words.
        share: from 0 to 1; None where it is not known.
        since: when it began, in seconds since the epoch.
    """

    text: str
    share: float | None
    since: float

    def line(self, now: float) -> str:
        """The words, with the seconds that it has taken until ``now``, from the first one on."""
        seconds = now - self.since
        return f"{self.text} · {elapsed(seconds)}" if self.text and seconds >= 1 else self.text


class ProgressMeter:
    """Says what progress events mean. Keeps the first of what goes on: since when, at what rate."""

    def __init__(self) -> None:
        self._first: dict[tuple[Any, ...], Event] = {}

    def see(self, event: Event) -> Progress:
        """What a progress event says. The words are empty where a queue has ended."""
        data = event.data
        done, total = data["done"], data["total"]
        subject = tuple(data.get(key) for key in ("phase", "job", "model", "step"))
        first = self._first.setdefault(subject, event)
        if done == total:
            del self._first[subject]
        share = done / total if total else None
        return Progress(self._words(event, first), share, first.time)

    def _words(self, event: Event, first: Event) -> str:
        data = event.data
        done, total = data["done"], data["total"]
        match data["phase"]:
            case "start":
                return _STEPS.get(str(data.get("step")), "Starting")
            case "download":
                return _download(event, first)
            case "load":
                return f"Loading {data['model']}" + (
                    f" {size(done)} of {size(total)}" if data["unit"] == "B" and total else ""
                )
            case "queue":
                ahead = data["ahead"]
                return f"{ahead} ahead in the queue" if ahead else ""
            case "prefill":
                return f"Reading the prompt, {done:,} of {total:,} tokens"
            case "job":
                return f"{done} of {total} jobs"
            case "item":
                return f"{done:,} of {total:,} items · {data['job']}"
            case "round":
                return f"Round {min(done + 1, total):,} of at most {total:,} · {data['job']}"
            case _:
                return f"{done} of {total} {data['unit']}"


def change_words(job: Mapping[str, Any]) -> str:
    """What an event tells of a job, where that is a change of the way that the run goes; empty
    where it is none."""
    id, state, error = job["job"], job["state"], job.get("error")
    if state == "skipped":
        return f"Skipped: {id}"
    if state == "waiting":
        wait = f" in {duration(job['wait'])}" if job.get("wait") else ""
        words = f"Trying again{wait} (attempt {job['attempt']} of {job['attempts']})"
        failure = next(reversed(job.get("failures", ())), None)
        return f"{words}: {id}" + (f", {short_error(failure)}" if failure else "")
    if state not in ("completed", "failed"):
        return ""
    if error is not None and (state == "completed" or job.get("route")):
        led = f"led to '{job['route']}'" if job.get("route") else "the run goes on"
        return f"Failed: {id}, {led}: {short_error(error)}"
    return f"Took the branch '{job['route']}' · {id}" if job.get("route") else ""


def end_words(job: Mapping[str, Any]) -> str:
    """What an event tells of a job that has ended; empty where it has not."""
    if job["state"] != "completed":
        return ""
    took = duration(job["seconds"]) if job.get("seconds") else ""
    return " · ".join(filter(None, [f"Done: {job['job']}", took]))


def _download(event: Event, first: Event) -> str:
    data = event.data
    done, total = data["done"], data["total"]
    parts = [f"Downloading {data['model']} {size(done)}" + (f" of {size(total)}" if total else "")]
    seconds = event.time - first.time
    rate = (done - first.data["done"]) / seconds if seconds >= _RATE_SECONDS else 0
    if rate > 0:
        parts.append(f"{size(rate)}/s")
        if total:
            parts.append(f"{duration((total - done) / rate)} left")
    return " · ".join(parts)


class Waiting:
    """What a run waits for at each moment, from what its events say.

    Args:
        since: when the wait began, in seconds since the epoch.
    """

    def __init__(self, since: float) -> None:
        self._meter = ProgressMeter()
        self._progress = Progress("Starting", None, since)
        self._counted: dict[str, str] = {}
        self._thinks = False
        self._words = 0
        self._in_word = False

    def take(self, event: Event) -> None:
        """Take in an event that is no text."""
        if event.type == "progress" and event.data["phase"] in WAITING_PHASES:
            found = self._meter.see(event)
            is_over = event.data["done"] == event.data["total"]
            self._progress = Progress("Reading the prompt", None, event.time) if is_over else found
        elif event.type == "question":
            is_open = event.data["state"] == "open"
            self._progress = Progress("Waiting for an answer" if is_open else "", None, event.time)
        elif event.type == "progress" and event.data["phase"] in COUNTING_PHASES:
            found = self._meter.see(event)
            is_over = event.data["done"] == event.data["total"]
            self._counted[event.data["job"]] = "" if is_over else found.text
        elif event.type == "job":
            self._take_job(event)
        elif event.type == "reasoning" and not self.has_text:
            count = event.data.get("tokens", 0)
            since = self._progress.since if self._thinks else event.time
            self._thinks = True
            self._progress = Progress(f"Thinking, {_tokens(count)}", None, since)

    def _take_job(self, event: Event) -> None:
        job = event.data
        if job["state"] in ("completed", "failed"):
            self._counted.pop(job["job"], None)
        if words := change_words(job):
            self._progress = Progress(words, None, event.time)
        elif job["state"] == "running" and job.get("attempt"):
            words = f"{ordinal(job['attempt'])} attempt of {job['attempts']} · {job['job']}"
            self._progress = Progress(words, None, event.time)

    def wrote(self, text: str, *, is_shown: bool) -> None:
        """Take in what has come of the text, which says enough where it is shown."""
        since = self._progress.since if self._words else time.time()
        starts = len(text.split()) - (self._in_word and not text[:1].isspace())
        self._words += max(0, starts)
        self._in_word = not text[-1:].isspace()
        words = (
            "" if is_shown else f"Writing, {self._words:,} word{'' if self._words == 1 else 's'}"
        )
        self._progress = Progress(words, None, since)

    @property
    def words(self) -> str:
        """What it waits for; empty where its text comes."""
        return "" if self.has_text else self._progress.text

    @property
    def has_text(self) -> bool:
        """Whether the text has begun."""
        return self._words > 0

    def line(self, now: float) -> str:
        """What it waits for, with the seconds so far, behind what is counted; empty where there is
        nothing to say."""
        told = " · ".join(filter(None, [*self._counted.values(), self._progress.text]))
        return Progress(told, None, self._progress.since).line(now)


def ending(run: Run) -> str:
    """How a run ended: ``Finished``, ``Cut at 80 tokens``, ``Calls returned``, ``Scored``,
    ``Stopped by you`` or ``Failed``.

    A text that was cut could go on; ``run.finish_reason`` is ``length`` then.
    """
    if run.state is State.FAILED:
        return "Failed"
    if run.state is State.CANCELLED:
        return "Stopped by you"
    if not run.done:
        return str(run.state).capitalize()
    if "score" in run.record:
        return "Scored"
    if run.finish_reason == "tool_calls":
        return "Calls returned"
    reasons = [each for each in run.finish_reasons.values() if each != "tool_calls"]
    cut = reasons.count("length")
    if not cut:
        return "Finished"
    limit = _limit(run)
    if len(reasons) == 1:
        return f"Cut at {limit}" if limit else "Cut"
    total = len(reasons)
    return f"{cut} of {total} texts cut at {limit}" if limit else f"{cut} of {total} texts cut"


def _limit(run: Run) -> str:
    """At how many tokens texts were cut, and what set that limit, where it is one for all."""
    own = run.parameters.get("max_output_length"), run.limited_by
    limits = {
        (each["parameters"].get("max_output_length"), each.get("limited_by"))
        for each in run.record.get("generations", ())
        if "length" in each["finish_reasons"]
    } or {own}  # a guest has no record
    if len(limits) != 1:
        return ""
    ((length, limited_by),) = limits
    if length is None:
        return ""
    return ", ".join(filter(None, [_tokens(length), _LIMITS.get(str(limited_by))]))


def status_line(run: Run) -> str:
    """How a run ended, in a line: `ending`, tokens, seconds, rate, models where there are several,
    seed."""
    return " · ".join([ending(run), *details(run)])


def brief(run: Run) -> str:
    """How a run ended, in a few words: `ending`, tokens, rate."""
    return " · ".join([ending(run), *_amount(run), *_rate(run)])


def details(run: Run) -> list[str]:
    """What there is to say of a run that has ended beside how, a few words each."""
    parts, timings = [*_ways(run), *_amount(run)], run.timings
    if "total" in timings:
        told = _waits(timings)
        parts.append(duration(timings["total"]) + (f" ({', '.join(told)})" if told else ""))
    parts += _rate(run)
    parts += run.models if len(run.models) > 1 else ()
    if "seed" in run.parameters and run.parameters.get("do_sample"):
        parts.append(f"seed {run.parameters['seed']}")
    return parts


def _waits(timings: Mapping[str, float]) -> list[str]:
    """What a run waited for that is worth a word, and how long."""
    load, queue, tools, answers = (
        timings.get(each, 0) for each in ("load", "queue", "tools", "answers")
    )
    waits = {
        f"{duration(load)} loading": load,
        f"{duration(queue)} in the queue": queue,
        f"{duration(tools)} in tools": tools,
        f"{duration(answers)} for answers": answers,
    }
    return [words for words, took in waits.items() if took >= _WORTH_SECONDS]


def _ways(run: Run) -> list[str]:
    """Which jobs were skipped, and what was tried again or went on after a failure."""
    jobs = run.jobs
    of = {
        "skipped": [name for name, job in jobs.items() if job["state"] == "skipped"],
        "went on after a failure": [
            name for name, job in jobs.items() if state_word(job) == "recovered"
        ],
        "tried again": [
            name
            for name, job in jobs.items()
            if state_word(job) == "completed" and _was_tried_again(job)
        ],
    }
    return [f"{word}: {_few(names)}" for word, names in of.items() if names]


def _was_tried_again(job: Mapping[str, Any]) -> bool:
    return any(each.get("again") for each in job.get("failures", ()))


def _few(names: Sequence[str]) -> str:
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    return f"{', '.join(names[:_FEW])}{more}"


def _amount(run: Run) -> list[str]:
    """Its tokens, unless its ending tells them."""
    generated = run.usage.get("generated") or 0
    is_said = list(run.finish_reasons.values()) == ["length"] and _limit(run)
    parts = [_tokens(generated)] if generated and not is_said else []
    if thought := run.usage.get("reasoning"):
        parts.append(f"{thought:,} of thought")
    return parts


def _rate(run: Run) -> list[str]:
    rate = run.timings.get("tokens_per_second")
    if not rate or (run.usage.get("generated") or 0) < 2:
        return []
    return [f"{rate:.0f} tokens/s" if rate >= 10 else f"{rate:.1f} tokens/s"]


def _tokens(count: int) -> str:
    return f"{count:,} token{'' if count == 1 else 's'}"


def as_text(output: Any) -> str:
    """An output for people and files: text as it is, anything else as JSON."""
    if isinstance(output, str):
        return output
    return json.dumps(output, ensure_ascii=False, indent=2, default=str)


def says_only(output: Any, text: str) -> bool:
    """Whether an output says no more than the text that was streamed, which may be its JSON."""
    said = [output, *(output.values() if isinstance(output, dict) and len(output) == 1 else ())]
    if text in said:
        return True
    if all(isinstance(each, str) for each in said):
        return False
    try:
        return json.loads(text) in said
    except (ValueError, RecursionError):
        return False
