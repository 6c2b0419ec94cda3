"""The Run: one object that every surface observes.

A run is what its events say. Whoever drives it adds events; state, text, result and error follow
from them, so a run in another process is the same object fed from a stream. `events` has what they
tell.
"""

from __future__ import annotations

import asyncio
import contextlib
import copy
import sys
import threading
import time
import uuid
from bisect import bisect_right
from collections import deque
from collections.abc import (
    AsyncIterator,
    Callable,
    Collection,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from dataclasses import replace
from html import escape
from textwrap import indent
from typing import Any, TypeVar

from ..errors import ComposeError, RunCancelled, listed
from ..redaction import get_logger, redacted, without, without_secrets
from .answers import check_choice, meant, plain_answer
from .events import Event, EventType, State
from .job_states import Jobs
from .notebook_metadata import as_metadata, saved_run
from .tokens import Token, TokenStreams, token_bytes

_log = get_logger(__name__)
_TICK = 0.1  # seconds; waits are this long at most, so that an interrupt is never late

# What is told of a run holds no credentials; its text and output are the user's own.
_SAFE = {
    "state": without_secrets,
    "progress": redacted,
    "job": redacted,
    "question": without_secrets,
    "item": redacted,
    "error": redacted,
}

# Why a run's texts ended, the most telling first; calls only where no answer came of them.
_REASONS = ("cancelled", "length", "stop", "eos", "tool_calls")

# Phases that count what a job does many times.
_COUNTED = ("repeat", "item", "round")

MERGED_AT = 4096
"""Of so many events a run that goes on keeps what still says something, so that what it takes is
its texts, however many there are."""

T = TypeVar("T")


def _subject(event: Event) -> Any:
    """What an event speaks of; what a later one says of the same stands for both."""
    data = event.data
    if event.type in ("text", "reasoning"):
        return (event.type, *data["stream"])
    if event.type == "tokens":
        return ("tokens", data.get("part"), *data["stream"])
    if event.type == "progress":
        return ("progress", data["phase"], data.get("job"), data.get("state"))
    if event.type == "call":
        return ("call", *data["stream"], data["call"])
    if event.type == "job":
        return ("job", data["job"])
    if event.type == "question":
        return ("question", data["id"])
    if event.type == "item":
        return ("item", data["job"], data["index"])
    if event.type == "tool":
        return ("tool", *data["stream"], data["id"])
    return event.number


def _bytes(value: Any) -> int:
    """The memory that plain data takes, about."""
    total, rest = 0, [value]
    while rest:  # not by recursion: an input may be nested as deeply as Python can bear
        each = rest.pop()
        if isinstance(each, Mapping):
            rest += [*each.keys(), *each.values()]
        elif isinstance(each, list | tuple):
            rest += each
        total += sys.getsizeof(each)
    return total


def _size(event: Event) -> int:
    """The memory that an event takes, about. Tokens are many, so they are not looked at one by one:
    that is done on a loop that others wait for."""
    if event.type == "tokens" and event.data["tokens"]:
        return len(event.data["tokens"]) * token_bytes(event.data["tokens"][-1])
    return _bytes(event.data)


class _TextStream:
    """The growing text of one sequence."""

    def __init__(self) -> None:
        self._pieces: list[str] = []
        self._length = 0
        self.finish_reason: str | None = None

    @property
    def text(self) -> str:
        if len(self._pieces) > 1:
            self._pieces = ["".join(self._pieces)]
        return self._pieces[0] if self._pieces else ""

    def put(self, offset: int, text: str) -> None:
        if offset < self._length:
            self._pieces = [self.text[:offset]]
        self._pieces.append(text)
        self._length = offset + len(text)


class _ReasoningStream(_TextStream):
    """The growing thoughts of one sequence.

    Attributes:
        tokens: how many these have.
    """

    def __init__(self) -> None:
        super().__init__()
        self.tokens = 0


class _WrittenCall(_TextStream):
    """The growing arguments of a call."""

    def __init__(self, id: str, name: str) -> None:
        super().__init__()
        self.id, self.name = id, name


class Run:
    """One run of a workflow. Safe to use from any thread; it can be awaited.

    When it ends its events are merged, and before where there are very many (see `_merge`): whoever
    has read those up to a number comes to the same text, output and state by those beyond it,
    before and after that.

    ``workflow`` is the id of the workflow, and ``metadata`` what whoever submitted the run says of
    it, which changes nothing. ``output`` and ``error`` are None until there is one; ``size`` is
    what the input, metadata and events take in bytes, about, counted when it has ended. What is
    told of a run holds no credentials: ``input`` is as it may be shown, and ``secrets`` are texts
    of the whole input that may not.
    """

    def __init__(
        self,
        workflow: str,
        input: Any,
        cancel: Callable[[], None],
        answer: Callable[[str, Any], None] = lambda id, value: None,
        *,
        id: str | None = None,
        parameters: Mapping[str, Any] | None = None,
        metadata: Mapping[str, Any] | None = None,
        secrets: Collection[str] = (),
        document: str | None = None,
    ) -> None:
        self._secrets = secrets
        self._document = document
        self.id: str = id or uuid.uuid4().hex[:12]
        self.workflow = workflow
        self.input = input
        self.metadata = metadata
        self._request_cancel = cancel
        self._request_answer = answer
        self._changed = threading.Condition()
        self._events: list[Event] = []
        self._merged = 0  # of the events, so many
        self._announced: set[Any] = set()  # what they spoke of
        self.size: int = 0
        self._watchers: list[Callable[[], None]] = []
        self._done_callbacks: list[Callable[[Run], object]] = []
        self.state: State = State.QUEUED
        self.output: Any = None
        self.error: ComposeError | None = None
        self._summary: dict[str, Any] = {
            "usage": {"prompt": 0, "reused": 0, "generated": 0},
            "parameters": dict(parameters or {}),
        }
        self._streams: dict[tuple[Any, ...], _TextStream] = {}
        self._thoughts: dict[tuple[Any, ...], _ReasoningStream] = {}
        self._tokens = TokenStreams()
        self._written_calls: dict[tuple[Any, ...], _WrittenCall] = {}
        self._tool_calls: dict[tuple[Any, ...], Mapping[str, Any]] = {}
        self._jobs: dict[str, Mapping[str, Any]] = {}
        self._counts: dict[str, dict[str, int]] = {}
        self._questions: dict[str, Mapping[str, Any]] = {}
        self._items: dict[str, dict[int, Mapping[str, Any]]] = {}
        self._chats: dict[tuple[str, int], list[Sequence[Mapping[str, Any]]]] = {}
        # What a longer run of the same begins with, if this one can be extended, by (job, repeat,
        # prompt): the prompt's digest, and the tokens of each sequence. No event tells them.
        self.drafts: Mapping[tuple[str, int, int], tuple[str, Sequence[Sequence[int]]]] = {}

    # What it tells

    @property
    def done(self) -> bool:
        return self.state.is_final

    @property
    def document(self) -> str | None:
        """The hash of its document; None where this process has not been told."""
        told: str | None = self._summary.get("record", {}).get("document")
        return self._document or told

    @property
    def began_at(self) -> float | None:
        """When it began, in seconds since the epoch; None until then."""
        with self._changed:
            return self._events[0].time if self._events else None

    @property
    def ended_at(self) -> float | None:
        """When it ended, in seconds since the epoch; None until then."""
        return self._events[-1].time if self.done else None

    @property
    def text(self) -> str:
        """The text so far; several texts stand in their order, with a blank line between them.
        Those that are empty are left out."""
        return "\n\n".join(filter(None, self.streams.values()))

    @property
    def reasoning(self) -> str:
        """What the model thought so far before it wrote `text`, which has none of it; of several
        texts in their order, with a blank line between them. Empty where it did not think, or
        nobody knows how it marks its thoughts."""
        return "\n\n".join(thought for thought in self.reasoning_streams.values() if thought)

    @property
    def finish_reason(self) -> str | None:
        """Why generation ended: ``eos``, ``stop``, ``length``, ``cancelled``, or ``tool_calls``
        where all that came is calls of tools, which are left to who asked.

        Of several texts, the reason of the one that was cut most: cancelled, length, stop, eos.
        """
        reasons = self.finish_reasons.values()
        return next((each for each in _REASONS if each in reasons), None)

    @property
    def finish_reasons(self) -> dict[tuple[Any, ...], str | None]:
        """Why each of `streams` ended; None of one that has not."""
        with self._changed:
            return {key: stream.finish_reason for key, stream in self._streams.items()}

    @property
    def tool_calls(self) -> list[dict[str, Any]]:
        """The calls of tools so far, in their order: each with ``id``, ``name``, ``arguments`` and
        ``state``, and what came of it: see `workflow.events.ToolData`."""
        with self._changed:
            return [copy.deepcopy(dict(each)) for each in self._tool_calls.values()]

    @property
    def written_calls(self) -> dict[tuple[Any, ...], list[dict[str, str]]]:
        """The calls of tools so far as the model has written them, by `streams`: each with ``id``,
        ``name`` and ``arguments``, which is JSON, or the beginning of it where it was cut."""
        with self._changed:
            found: dict[tuple[Any, ...], list[dict[str, str]]] = {key: [] for key in self._streams}
            for (_, *stream, _), call in self._written_calls.items():
                of = {"id": call.id, "name": call.name, "arguments": call.text}
                found.setdefault(tuple(stream), []).append(of)
            return found

    @property
    def jobs(self) -> Jobs:
        """The jobs by their ids, each with its ``type`` and ``state``, and what else there is to
        say: see `workflow.events.JobData`. Of repeats, elements and rounds ``done`` of ``total``
        have ended. It shows itself as a table."""
        with self._changed:
            counts = dict(self._counts)
            jobs = Jobs((name, copy.deepcopy(dict(each))) for name, each in self._jobs.items())
        for name, job in jobs.items():
            del job["job"]
            job.update(counts.get(name, {}))
        return jobs

    @property
    def questions(self) -> list[dict[str, Any]]:
        """The questions that wait for an answer, in their order; see `answer`. Each with ``id``,
        ``message``, ``value`` and ``choices``, and what else there is to say: see
        `workflow.events.QuestionData`."""
        return [each for each in self.asked if each["state"] == "open" and not self.done]

    @property
    def asked(self) -> list[dict[str, Any]]:
        """All that people were asked so far, as `questions`, with the ``answer``."""
        with self._changed:
            return [copy.deepcopy(dict(each)) for each in self._questions.values()]

    @property
    def has_asked(self) -> bool:
        """Whether it has asked anything: it is there for those who come to answer."""
        return bool(self._questions)

    @property
    def items(self) -> dict[str, dict[int, dict[str, Any]]]:
        """What jobs go through, by their ids and the indexes: elements and rounds so far, each with
        its ``state`` and what else there is to say: see `workflow.events.ItemData`."""
        with self._changed:
            return {
                job: {index: dict(of[index]) for index in sorted(of)}
                for job, of in self._items.items()
            }

    @property
    def messages(self) -> list[dict[str, Any]]:
        """The whole exchange of a chat that has tools, as messages in OpenAI's shape: what it was
        given, each reply with its calls, what came of them, and the last reply. Of several chats,
        the first."""
        return self._messages_from(0)

    @property
    def added_messages(self) -> list[dict[str, Any]]:
        """Those of `messages` that it was not given."""
        return self._messages_from(1)

    def _messages_from(self, part: int) -> list[dict[str, Any]]:
        with self._changed:
            parts = next(iter(self._chats.values()), [])[part:]
            return copy.deepcopy([dict(each) for said in parts for each in said])

    @property
    def failed_of_a_cut(self) -> bool:
        """Whether it failed because its limit cut a text that has to be whole."""
        return self.error is not None and self.error.code in ("format_cut", "tool_call_cut")

    @property
    def extendable_by(self) -> int:
        """How many tokens more a longer run may give a text that its limit has cut: 0 where none
        was cut, the model's context has no room, or the run has not completed."""
        return int(self._summary.get("extendable_by", 0))

    @property
    def usage(self) -> dict[str, int]:
        """Tokens, counted when it has ended: ``prompt``, ``reused`` and ``generated``; and of
        these ``reasoning``, where a model may have thought."""
        return self._of_summary("usage")

    @property
    def parameters(self) -> dict[str, Any]:
        """The generation parameters really used, complete when it has ended.

        ``seed`` is there at once, unless the document computes it. Of several generations, those
        of the first; ``record["generations"]`` has them all.
        """
        return self._of_summary("parameters")

    @property
    def limited_by(self) -> str | None:
        """What set ``max_output_length``, where it is not what was asked: ``context`` or ``host``.

        As ``parameters``, of the first generation.
        """
        return self._summary.get("limited_by")

    @property
    def timings(self) -> dict[str, float]:
        """Seconds: ``queue``, ``load``, ``first_token``, ``tools`` where functions were called,
        ``answers`` while it only waited for people, ``total``; and ``tokens_per_second``."""
        return self._of_summary("timings")

    @property
    def warnings(self) -> list[str]:
        """What was changed or had no effect, a sentence each."""
        return list(self._summary.get("warnings", ()))

    @property
    def record(self) -> dict[str, Any]:
        """What is needed to run it again: document, model, seeds, parameters, versions."""
        return self._of_summary("record")

    @property
    def models(self) -> list[str]:
        """The sources of the models that generated its texts, each once; as in ``record``, so a
        guest is told none."""
        generations = self._summary.get("record", {}).get("generations", ())
        return list(dict.fromkeys(each["model"]["source"] for each in generations))

    @property
    def streams(self) -> dict[tuple[Any, ...], str]:
        """The texts so far by stream: (job, repeat, prompt, sequence), in their order."""
        with self._changed:
            return {key: stream.text for key, stream in self._streams.items()}

    @property
    def reasoning_streams(self) -> dict[tuple[Any, ...], str]:
        """What was thought before each of `streams` so far; empty where nothing was."""
        with self._changed:
            return {key: self._thoughts_of(key).text for key in self._streams}

    @property
    def reasoning_tokens(self) -> dict[tuple[Any, ...], int]:
        """How many tokens that has, of each."""
        with self._changed:
            return {key: self._thoughts_of(key).tokens for key in self._streams}

    def _thoughts_of(self, stream: tuple[Any, ...]) -> _ReasoningStream:
        return self._thoughts.get(stream) or _ReasoningStream()

    @property
    def tokens(self) -> list[list[Token]]:
        """The tokens generated so far, a list for each of `streams`, those of thoughts and of their
        markers among them; empty lists where ``logprobs`` was not asked for."""
        with self._changed:
            return [self._tokens.tokens("text", key) for key in self._streams]

    @property
    def token_starts(self) -> list[int]:
        """The character of each of `streams` where the first of its `tokens` begins: behind the
        prompt, where the text has that. Of a text that a stop sequence ended, the last tokens are
        beyond its end."""
        with self._changed:
            return [self._tokens.start(key) for key in self._streams]

    @property
    def prompt_tokens(self) -> list[list[Token]]:
        """The tokens of the prompts, a list for each of `streams`; empty lists where
        ``prompt_logprobs`` was not asked for."""
        with self._changed:
            return [self._tokens.tokens("prompt", key) for key in self._streams]

    def token_data(self, stream: tuple[Any, ...], part: str = "text") -> list[Mapping[str, Any]]:
        """The tokens so far of one of `streams`, or of its prompt, as the events' plain data."""
        with self._changed:
            return list(self._tokens.of(part, stream))

    def _of_summary(self, key: str) -> dict[str, Any]:
        return copy.deepcopy(self._summary.get(key, {}))

    # Waiting and watching

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended; returns whether it has. Seconds; None waits for ever."""
        return self.wait_for(lambda: self.done, timeout)

    def wait_for(self, holds: Callable[[], bool], timeout: float | None = None) -> bool:
        """Wait until something holds, which may change with each event; returns whether it does.

        Seconds; None waits for ever.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        with self._changed:
            while not holds():
                left = _TICK if deadline is None else min(_TICK, deadline - time.monotonic())
                if left <= 0:
                    return False
                self._changed.wait(left)
        return True

    async def until(self, holds: Callable[[], bool], timeout: float | None = None) -> bool:
        """`wait_for` in a coroutine; the event loop goes on."""
        return await _until(holds, self.watch, timeout)

    async def until_done(self, timeout: float | None = None) -> bool:
        """`wait` in a coroutine; the run goes on though the coroutine be cancelled."""
        return await _until(lambda: self.done, self.add_done_callback, timeout)

    def result(self, timeout: float | None = None) -> Any:
        """The output, when it has ended.

        Raises:
            ComposeError: what went wrong; RunCancelled if it was stopped.
            TimeoutError: it has not ended in ``timeout`` seconds.
        """
        if not self.wait(timeout):
            raise TimeoutError(f"run {self.id} has not ended in {timeout} s")
        if self.error is not None:
            # Without the frames of earlier raises, which would keep their variables alive.
            raise self.error.with_traceback(None)
        return self.output

    def events(self, after: int = -1) -> EventIterator[Event]:
        """Every event beyond number ``after``, as they come, until the run has ended.

        This, `stream` and `follow` are for ``for`` and for ``async for``.
        """
        return EventIterator(self, after, lambda event: event)

    @property
    def last_event(self) -> int:
        """The number of the last event; -1 where there is none yet."""
        with self._changed:
            return self._events[-1].number if self._events else -1

    def events_so_far(self, after: int = -1, most: int | None = None) -> list[Event]:
        """The events beyond number ``after`` that there are, the first ``most`` of them; does not
        wait."""
        with self._changed:
            start = bisect_right(self._events, after, key=lambda event: event.number)
            return self._events[start : None if most is None else start + most]

    def stream(self) -> EventIterator[str]:
        """The text as it comes; the pieces together are ``text``. Several texts come one after the
        other."""
        read = self._reader()
        return EventIterator(self, -1, lambda event: read() if event.type == "text" else None)

    def follow(self) -> EventIterator[str | Event]:
        """`stream`, with the events that are no text between the pieces."""
        read = self._reader()
        return EventIterator(self, -1, lambda event: read() if event.type == "text" else event)

    def _reader(self) -> Callable[[], str | None]:
        """Gives what there is of the text that it has not given yet, None for nothing."""
        position = shown = 0

        def read() -> str | None:
            nonlocal position, shown
            piece, position, shown = self.fresh_text(position, shown)
            return piece or None

        return read

    def fresh_text(self, position: int, shown: int) -> tuple[str, int, int]:
        """What `stream` gives next to a reader that has so many characters of the text at a
        position, from 0; and its new position, and how many of that it has then."""
        pieces = []
        with self._changed:
            streams = list(self._streams.values())
            while position < len(streams):
                text = streams[position].text
                if shown == 0 and text and any(each.text for each in streams[:position]):
                    pieces.append("\n\n")
                pieces.append(text[shown:])
                shown = len(text)
                last = position == len(streams) - 1
                if last or streams[position].finish_reason is None:
                    break
                position, shown = position + 1, 0
        return "".join(pieces), position, shown

    def watch(self, callback: Callable[[], None]) -> Callable[[], None]:
        """Call back after every event, on the thread that added it; returns how to stop.

        The callback gets nothing: it reads `events` from where it was. One that raises is not
        called again, and harms nothing.
        """
        with self._changed:
            self._watchers.append(callback)
        return lambda: self._remove(self._watchers, callback)

    def _remove(self, callbacks: list[T], callback: T) -> None:
        with self._changed, contextlib.suppress(ValueError):
            callbacks.remove(callback)

    def add_done_callback(self, callback: Callable[[Run], object]) -> Callable[[], None]:
        """Call back once with the run when it has ended, on the thread that ends it, or at once if
        it has; returns how to stop.

        As with futures, callbacks are called in the order in which they were added, and one that
        raises is logged and harms nothing. They come before watchers hear of the end.
        """
        with self._changed:
            if not self.done:
                self._done_callbacks.append(callback)
                return lambda: self._remove(self._done_callbacks, callback)
        self._call_done([callback])
        return lambda: None

    def _call_done(self, callbacks: Iterable[Callable[[Run], object]]) -> None:
        for callback in callbacks:
            try:
                callback(self)
            except Exception:
                _log.exception("what was to be called at the end of run %s failed", self.id)

    def __await__(self) -> Generator[Any, None, Any]:
        yield from self.ended().__await__()
        return self.result()

    async def ended(self) -> None:
        """Wait for its end in a coroutine; the run stops where the coroutine is cancelled."""
        # Short sleeps rather than one long wait: an interrupt of a cell that awaits is noticed
        # only when its event loop wakes up.
        try:
            while not await self.until_done(_TICK / 4):
                pass
        except asyncio.CancelledError:
            self.cancel()
            raise

    def cancel(self) -> None:
        """Stop it: generation ends within a token, the text so far stays. Any thread."""
        if not self.done:
            self._request_cancel()

    def answer(self, value: Any = None, question: str | None = None) -> None:
        """Answer a question that it waits at. Any thread; returns when it is answered.

        Args:
            value: what takes the place of the value in question; None goes on as it is.
            question: the id of the question, where there are several.

        Raises:
            InputError: no question is open (``no_question``), or several are; there is none of that
                id (``unknown_question``), or it is open no more (``already_answered``); the answer
                is none of its choices (``not_a_choice``).
            ComposeError: its host is gone.
        """
        self._request_answer(self._meant(question), plain_answer(value))

    def check_answer(self, value: Any = None, question: str | None = None) -> None:
        """Raise InputError where `answer` would refuse this; answers nothing."""
        check_choice(self._questions[self._meant(question)], plain_answer(value))

    def _meant(self, question: str | None) -> str:
        with self._changed:
            over = {"state": "withdrawn"} if self.done else {}
            asked = {id: {**each, **over} for id, each in self._questions.items()}
        return meant(self.id, asked, question)

    # Driving

    def add(self, type: EventType, data: Mapping[str, Any]) -> None:
        """Add an event; only whoever drives the run calls this. Nothing follows the final state."""

        def made() -> Event:
            shown = without(_SAFE[type](data), self._secrets) if type in _SAFE else data
            return Event(self.last_event + 1, type, time.time(), shown)

        self._add(made)

    def take(self, event: Event) -> None:
        """`add` an event of the same run elsewhere, with the number that it has there. Numbers
        grow."""
        self._add(lambda: event)

    def _add(self, made: Callable[[], Event]) -> None:
        with self._changed:
            if self.done:
                return
            event = made()
            self._events.append(event)
            self._apply(event)
            watchers = list(self._watchers)
            done_callbacks: list[Callable[[Run], object]] = []
            if self.state.is_final:
                self._merge(0)
                given = _bytes(self.input) + _bytes(self.metadata) + _bytes(self.drafts)
                self.size = given + sum(map(_size, self._events))
                done_callbacks, self._done_callbacks = self._done_callbacks, []
            elif len(self._events) - self._merged >= MERGED_AT:
                self._merge(self._merged)
            self._changed.notify_all()
        self._call_done(done_callbacks)
        for watcher in watchers:
            try:
                watcher()
            except Exception:
                _log.exception("a watcher of run %s failed and is not called again", self.id)
                self._remove(self._watchers, watcher)

    def _apply(self, event: Event) -> None:
        data = event.data
        if event.type == "text":
            stream = self._streams.setdefault(tuple(data["stream"]), _TextStream())
            stream.put(data["offset"], data["text"])
            # One that begins again, in another attempt of its job, has not ended.
            known = stream.finish_reason if data["offset"] else None
            stream.finish_reason = data.get("finish_reason", known)
        elif event.type == "reasoning":
            thoughts = self._thoughts.setdefault(tuple(data["stream"]), _ReasoningStream())
            thoughts.put(data["offset"], data["text"])
            thoughts.tokens = data.get("tokens", 0)
        elif event.type == "tokens":
            self._tokens.put(data)
        elif event.type == "call":
            call = _WrittenCall(data["id"], data["name"])
            self._written_calls.setdefault(_subject(event), call).put(data["offset"], data["text"])
        elif event.type == "tool":
            self._tool_calls[_subject(event)] = data
        elif event.type == "job":
            self._jobs[data["job"]] = data
        elif event.type == "question":
            self._questions[data["id"]] = data
            is_open = any(each["state"] == "open" for each in self._questions.values())
            self.state = State.INTERRUPTED if is_open else State.RUNNING
        elif event.type == "progress" and data["phase"] in _COUNTED:
            counts = {"done": data["done"], "total": data["total"]}
            self._counts[data["job"]] = counts
            if data["done"] == 0:  # the job is tried again
                self._items.pop(data["job"], None)
        elif event.type == "item":
            of = self._items.setdefault(data["job"], {})
            of[data["index"]] = {k: v for k, v in data.items() if k not in ("job", "index")}
        elif event.type == "messages":
            chat = self._chats.setdefault((data["job"], data["repeat"]), [])
            if data.get("begins"):
                chat.clear()
            chat.append(data["messages"])
        elif event.type == "result":
            self.output = data["output"]
        elif event.type == "error":
            self.error = ComposeError.from_dict(dict(data))
        elif event.type == "state":
            self._summary |= data.get("summary", {})
            state = State(data["state"])
            if state is State.CANCELLED and self.error is None:
                self.error = RunCancelled(f"run {self.id} was stopped")
            self.state = state  # last: who sees the end sees all of it

    def _merge(self, start: int) -> None:
        """Keep of the events from the place ``start`` on what still says something.

        The text events of a stream become two: its announcement, which is in the order of streams,
        and one with the whole text, in the place of the last. Those of its thoughts become one,
        those of its tokens, and those of each call that was written. Of each job's progress in a
        phase the last event stays; of each job the first, too, which says the order of jobs.
        Everything else stays as it is, and what stays keeps its number.
        """
        events = self._events[start:]
        last = {_subject(event): event.number for event in events}
        announced = self._announced if start else set()
        kept = []
        for event in events:
            subject = _subject(event)
            is_last = last[subject] == event.number
            if event.type == "text":
                if is_last:
                    stream = self._streams[tuple(event.data["stream"])]
                    data = {"stream": event.data["stream"], "offset": 0, "text": stream.text}
                    if stream.finish_reason is not None:
                        data["finish_reason"] = stream.finish_reason
                    kept.append(replace(event, data=data))
                elif subject not in announced:
                    kept.append(replace(event, data={**event.data, "offset": 0, "text": ""}))
                announced.add(subject)
            elif is_last and event.type == "reasoning":
                text = self._thoughts[tuple(event.data["stream"])].text
                kept.append(replace(event, data={**event.data, "offset": 0, "text": text}))
            elif is_last and event.type == "tokens":
                part = event.data.get("part", "text")
                tokens = list(self._tokens.of(part, tuple(event.data["stream"])))
                kept.append(replace(event, data={**event.data, "offset": 0, "tokens": tokens}))
            elif is_last and event.type == "call":
                text = self._written_calls[subject].text
                kept.append(replace(event, data={**event.data, "offset": 0, "text": text}))
            elif is_last or (event.type == "job" and subject not in announced):
                kept.append(event)
                announced.add(subject)
        self._events[start:] = kept
        self._merged, self._announced = len(self._events), announced

    def saved(self) -> dict[str, Any]:
        """What `restored` makes it of again, when it has ended: plain data and events."""
        return {
            "id": self.id,
            "workflow": self.workflow,
            "document": self.document,
            "input": self.input,
            "metadata": self.metadata,
            "parameters": self.parameters,
            "events": self.events_so_far(),
            "drafts": self.drafts,
            "size": self.size,
        }

    @classmethod
    def restored(cls, saved: Mapping[str, Any]) -> Run:
        """A run that has ended, from what was `saved` of it."""
        given = {key: saved[key] for key in ("id", "parameters", "metadata", "document")}
        run = cls(saved["workflow"], saved["input"], lambda: None, **given)
        for event in saved["events"]:
            run._apply(event)
        run._events, run.size = list(saved["events"]), saved["size"]
        run.drafts = saved["drafts"]
        return run

    def notebook_metadata(self) -> dict[str, Any]:
        """What a notebook keeps in the metadata of the output that shows it: the record, and what
        came of it. Empty until it has ended, and where it has no record."""
        if not self.done:
            return {}
        return as_metadata(self.record, self.parameters, self.events_so_far())

    @classmethod
    def from_notebook(cls, kept: Mapping[str, Any]) -> Run:
        """A run that has ended, from what a notebook has kept of it.

        Raises:
            ValueError: that is no run, or its record alone.
        """
        return cls.restored(saved_run(kept))

    def _repr_mimebundle_(self, **_: Any) -> tuple[dict[str, str], dict[str, Any]]:
        """IPython's hook: what a notebook keeps of a run stays with the output that shows it. Where
        it has several jobs these are shown, too."""
        data, jobs = {"text/plain": repr(self)}, self.jobs
        if len(jobs) > 1:
            shown = f"<div><code>{escape(repr(self))}</code></div>{jobs._repr_html_()}"
            data = {"text/plain": f"{self!r}\n{indent(repr(jobs), '  ')}", "text/html": shown}
        return data, self.notebook_metadata()

    def __repr__(self) -> str:
        name = "" if self.workflow.startswith("__") else f" of {self.workflow}"
        parts = [f"Run {self.id}{name}", str(self.state)]
        if self.finish_reason:
            parts.append(self.finish_reason)
        if self.done:
            parts.append(f"{self.usage['generated']} tokens")
        if "seed" in self.parameters:
            parts.append(f"seed {self.parameters['seed']}")
        if self.state is State.INTERRUPTED:
            parts.append(f"asks {listed(each['id'] for each in self.questions)}")
        if self.error is not None and self.state is State.FAILED:
            parts.append(self.error.message)
        return f"<{' · '.join(parts)}>"


async def _until(
    holds: Callable[[], bool],
    subscribe: Callable[[Callable[..., None]], Callable[[], None]],
    timeout: float | None,
) -> bool:
    """Wait in a coroutine until something holds, which may change when ``subscribe`` calls back;
    returns whether it does. Here alone an event of a run wakes an event loop."""
    loop = asyncio.get_running_loop()
    heard = asyncio.Event()
    rung = False

    def ring(*_: Run) -> None:  # on the thread that adds events
        nonlocal rung
        if not rung and holds():  # once for all that come before it is heard
            rung = True
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(heard.set)

    leave = subscribe(ring)
    try:
        if not holds():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(timeout):
                    await heard.wait()
    finally:
        leave()
    return holds()


class EventIterator(Iterator[T], AsyncIterator[T]):
    """An iterator over a run from one of its events on, until the run has ended.

    ``for`` waits in short steps that an interrupt can end; ``async for`` never blocks its event
    loop. Of one reader; leaving a loop does nothing to the run, and another one goes on from there.
    ``after`` is the number of the last event that the reader has, and ``read`` gives what it gets
    of each event, None for nothing.
    """

    def __init__(self, run: Run, after: int, read: Callable[[Event], T | None]) -> None:
        self._run = run
        self._after = after
        self._read = read
        self._fresh: deque[Event] = deque()
        self.over: bool = False

    def __next__(self) -> T:
        while (item := self.get(_TICK)) is None:
            if self.over:
                raise StopIteration
        return item

    def get(self, timeout: float) -> T | None:
        """What comes next; None where nothing has within so many seconds, or nothing will: then it
        is ``over``."""
        item = self._item()
        if item is None and not self.over:
            self._run.wait_for(self._has_more, timeout)
            item = self._item()
        return item

    async def __anext__(self) -> T:
        # However much there is: others of the loop have their turn, and a cancel is heard.
        await asyncio.sleep(0)
        while (item := self._item()) is None:
            if self.over:
                raise StopAsyncIteration
            await self._run.until(self._has_more, _TICK)
        return item

    def _has_more(self) -> bool:
        return self._run.last_event > self._after or self._run.done

    def _item(self) -> T | None:
        """What comes next; None where nothing has come yet, or nothing will."""
        while self._fresh or self._look():
            item = self._read(self._fresh.popleft())
            if item is not None:
                return item
        return None

    def _look(self) -> bool:
        """Take in what has happened; whether anything has."""
        ended = self._run.done  # before looking: nothing comes after it
        self._fresh.extend(self._run.events_so_far(self._after))
        if self._fresh:
            self._after = self._fresh[-1].number
        else:
            self.over = ended
        return bool(self._fresh)
