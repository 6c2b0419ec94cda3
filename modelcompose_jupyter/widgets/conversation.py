"""The field of an input that is a conversation: the next message, and what was said before."""

from __future__ import annotations

import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from html import escape
from typing import Any

import ipywidgets

from ..document.types import ConversionError, Message, messages, text
from ..errors import InputError
from ..thought_html import thought_html
from ..translation import localized
from ..workflow import Run, State
from .outputs import markdown
from .tool_calls import NOT_CALLED, calls_html, shown_turns

_NAME_LENGTH = 40
_UNNAMED = "New conversation"
_MOST_KEPT = 50
_LONGEST_KEPT = 1_000_000  # characters of all that a browser brings back


@dataclass
class _Thread:
    """One conversation.

    Attributes:
        turns: what was said, without the reply of ``run``.
        run: the run whose reply belongs at the end, or None.
        name: that somebody gave it; empty until then.
        last_run: the run that was the last to reply.
    """

    turns: list[Message] = field(default_factory=list)
    run: Run | None = None
    name: str = ""
    last_run: Run | None = None

    def now(self) -> list[Message]:
        """What was said so far; the reply of a run joins it when that has ended."""
        if self.run is not None and self.run.done:
            said = with_replies(self.turns, self.run)
            if said != self.turns:
                self.turns, self.run = said, None
        return list(self.turns)

    @property
    def title(self) -> str:
        said = (each["content"] for each in self.turns if each["role"] == "user")
        first = " ".join(next(said, "").split())
        short = first if len(first) <= _NAME_LENGTH else first[: _NAME_LENGTH - 1] + "…"
        return self.name or short or _UNNAMED


class Conversation(ipywidgets.Textarea):
    """An area for the next message, which remembers what was said before, in conversations that
    have names.

    Its ``value`` is the text of the next message, which the kernel's threads write. What was said
    is kept here, and looked up when somebody asks. The reply of a run belongs to the conversation
    that it was sent in, when the run has ended, also when it was stopped. A run that failed has
    none: its message can be sent again.

    Args:
        name: of the input.
        start: the messages that a new conversation begins with.
    """

    def __init__(self, name: str, start: list[Message]) -> None:
        self._lock = threading.RLock()
        self._name = name
        self._start = start
        self._threads: dict[str, _Thread] = {}
        self._current = ""
        self._undone: tuple[str, _Thread] | None = None  # what `undo` brings back
        super().__init__(placeholder="Message", rows=2, continuous_update=False)
        self.begin()

    # What was said

    @property
    def turns(self) -> list[Message]:
        """The conversation so far."""
        with self._lock:
            return self._threads[self._current].now()

    def entered(self, text: str | None = None) -> list[Message]:
        """The conversation with the next message at its end, if there is one: what the field has,
        or ``text``.

        It breaks off a reply that goes on. A message that got no reply, since its run failed, gives
        way to the next one.
        """
        with self._lock:
            turns, run = self.turns, self._threads[self._current].run
        text = self.value if text is None else text
        if not text.strip():
            return turns
        if run is not None and (said := with_replies(turns, run)) != turns:
            turns = said
        elif turns and turns[-1]["role"] == "user":
            turns.pop()
        return [*turns, {"role": "user", "content": text}]

    @property
    def is_continued(self) -> bool:
        """Whether a run goes on from the last message, which is the assistant's."""
        with self._lock:
            thread = self._threads[self._current]
            turns = thread.now()
            return thread.run is not None and bool(turns) and turns[-1]["role"] == "assistant"

    def edited(self, index: int, text: str) -> list[Message]:
        """The conversation up to one of its messages, which says something else."""
        before, rest = self.until(index), self.turns[max(0, index) :]
        return [*before, {"role": rest[0]["role"] if rest else "user", "content": text}]

    def asked(self) -> list[Message]:
        """The messages for a run.

        Raises:
            InputError: the user has not said anything that is still to be answered.
        """
        found = self.entered()
        if not found or found[-1]["role"] != "user":
            what = f"there is no message to send: '{self._name}' is empty"
            raise InputError(what).of(self._name)
        return found

    def until(self, index: int) -> list[Message]:
        """The conversation as it was before one of its messages."""
        return self.turns[: max(0, index)]

    def before_reply(self) -> list[Message]:
        """The conversation without the replies at its end."""
        turns = self.turns
        while turns and turns[-1]["role"] in ("assistant", "tool"):
            turns.pop()
        return turns

    def sent(self, run: Run) -> None:
        """Take what a run was given as said. The next message stays; whoever sent it clears it."""
        with self._lock:
            thread = self._threads[self._current]
            thread.turns, thread.run = list(run.input.get(self._name) or []), run
            thread.last_run = run
            self._undone = None

    def rejoin(self, run: Run) -> None:
        """Have the reply of a run, to what was said last in the conversation in view, belong to
        it."""
        with self._lock:
            thread = self._threads[self._current]
            thread.run = thread.last_run = run

    def fill(self, found: list[Message]) -> None:
        """Go on from these messages; one of the user's at their end is still to be sent."""
        unsent = found[-1:] if found and found[-1]["role"] == "user" else []
        with self._lock:
            thread = self._threads[self._current]
            thread.turns, thread.run = list(found[: len(found) - len(unsent)]), None
            thread.last_run = None
        self.value = unsent[0]["content"] if unsent else ""

    # Conversations by their names

    @property
    def current(self) -> str:
        """The id of the conversation in view."""
        return self._current

    def names(self) -> list[dict[str, str]]:
        """The ids and names of the conversations, the latest first; of those that nothing was said
        in, the one in view."""
        with self._lock:
            return [
                {"id": id, "name": each.title}
                for id, each in reversed(self._threads.items())
                if each.now() or each.name or id == self._current
            ]

    def begin(self) -> None:
        """Begin a new conversation."""
        with self._lock:
            self._current = uuid.uuid4().hex[:8]
            self._undone = None
            said = {id: each for id, each in self._threads.items() if each.now() or each.name}
            for id in list(said)[: max(0, len(said) - _MOST_KEPT)]:
                del said[id]
            self._threads = {**said, self._current: _Thread()}
            self.fill(self._start)

    def choose(self, id: str) -> None:
        """Go on with another conversation."""
        with self._lock:
            if id in self._threads:
                self._current = id

    def rename(self, id: str, name: str) -> None:
        with self._lock:
            if id in self._threads:
                self._threads[id].name = name.strip()[:_NAME_LENGTH]

    def remove(self, id: str) -> None:
        """Forget a conversation."""
        with self._lock:
            removed = self._threads.pop(id, None)
            if id == self._current:
                if self._threads:
                    self._current = next(reversed(self._threads))
                else:
                    self.begin()
            if removed is not None and removed.now():
                self._undone = (id, removed)

    @property
    def last_run(self) -> Run | None:
        """The run that was the last to reply in the conversation in view."""
        with self._lock:
            return self._threads[self._current].last_run

    @property
    def undoable(self) -> bool:
        """Whether `undo` has something to bring back."""
        return self._undone is not None

    def as_it_is(self) -> tuple[str, _Thread]:
        """The conversation in view, to come back to: see `undo_to`."""
        with self._lock:
            turns, thread = self.turns, self._threads[self._current]
            return self._current, _Thread(turns, None, thread.name, thread.last_run)

    def undo_to(self, before: tuple[str, _Thread]) -> None:
        """Have `undo` bring a conversation back as it was."""
        self._undone = before

    def undo(self) -> None:
        """Bring back the conversation that was removed, or as it was before a message was said in
        other words; it is in view then."""
        with self._lock:
            if self._undone is not None:
                id, thread = self._undone
                self._threads[id], self._current, self._undone = thread, id, None

    def kept(self) -> dict[str, Any]:
        """All that was said, as plain data: see `restore`."""
        with self._lock:
            return {
                "current": self._current,
                "conversations": [
                    {"id": id, "name": each.name, "turns": turns}
                    for id, each in self._threads.items()
                    if (turns := each.now())
                ],
            }

    def restore(self, kept: Any) -> None:
        """Bring back what `kept` gave. It comes from a browser: what is no conversation is left
        out."""
        given = kept.get("conversations") if isinstance(kept, Mapping) else None
        found: dict[str, _Thread] = {}
        length = 0
        for each in reversed((given if isinstance(given, list) else [])[-_MOST_KEPT:]):
            try:
                id, name, turns = str(each["id"])[:32], str(each["name"]), messages(each["turns"])
            except (ConversionError, KeyError, TypeError):
                continue
            length += sum(len(text(turn)) for turn in turns)
            if length > _LONGEST_KEPT:
                break
            found[id] = _Thread(turns, None, name[:_NAME_LENGTH])
        with self._lock:
            self._threads = {**dict(reversed(found.items())), **self._threads}
            self.choose(str(kept.get("current")) if found else self._current)


def with_reply(turns: list[Message], reply: str, thought: str = "") -> list[Message]:
    """A conversation with a reply, which goes on from its last message where that is the
    assistant's. What was thought before it stands beside it, not in it."""
    thoughts: dict[str, Any] = {"reasoning_content": thought} if thought else {}
    if turns and turns[-1]["role"] == "assistant":
        whole = turns[-1]["content"] + reply
        return [*turns[:-1], {**thoughts, **turns[-1], "content": whole}]  # type: ignore[typeddict-item]
    return [*turns, {"role": "assistant", "content": reply, **thoughts}]  # type: ignore[typeddict-item]


def with_replies(turns: list[Message], run: Run) -> list[Message]:
    """A conversation with what the last job of a run has said so far, unless it failed; of several
    texts the first. Before it are the calls of tools that it made, and what came of them."""
    if run.state is State.FAILED:
        return turns
    called = _called(run)
    if called:  # a reply that had begun is in them
        is_begun = turns and turns[-1]["role"] == "assistant"
        turns = [*(turns[:-1] if is_begun else turns), *called]
    index = reply_index(run.finish_reasons)
    text = "" if index is None else list(run.streams.values())[index]
    return with_reply(turns, text, thought_of(run)) if text else turns


def thought_of(run: Run) -> str:
    """What the last job of a run thought before its reply."""
    index = reply_index(run.finish_reasons)
    return list(run.reasoning_streams.values())[index] if index is not None else ""


def thought_tokens(run: Run) -> int:
    """How many tokens it thought before it replied."""
    index = reply_index(run.finish_reasons)
    return list(run.reasoning_tokens.values())[index] if index is not None else 0


def _called(run: Run) -> list[Message]:
    """The messages of a run with calls of tools, and those that answer them. Each call is answered:
    what nobody has called is said to be so."""
    found: list[Message] = []
    for each in messages(run.added_messages) if run.added_messages else []:
        if each.get("tool_calls") or each["role"] == "tool":
            found.append(each)
    answered = {each["tool_call_id"] for each in found if each["role"] == "tool"}
    for call in (call for each in found for call in each.get("tool_calls", [])):
        if call["id"] not in answered:
            found.append(
                {
                    "role": "tool",
                    "content": NOT_CALLED,
                    "tool_call_id": call["id"],
                    "name": call["function"]["name"],
                }
            )
    return found


def reply_index(reasons: Mapping[tuple[Any, ...], str | None]) -> int | None:
    """Which of a run's texts, each with the reason why it ended, is the reply: the first of its
    last job that does not end with calls of tools."""
    last_job = list(reasons)[-1][0] if reasons else None
    return next(
        (
            index
            for index, (key, reason) in enumerate(reasons.items())
            if key[0] == last_job and reason != "tool_calls"
        ),
        None,
    )


def turns_html(turns: list[Message], thought_tokens: int = 0) -> str:
    """The conversation as HTML that is safe to show. ``thought_tokens`` are those of the thought
    before its last message; 0 where nobody knows."""
    if not turns:
        return ""
    shown = shown_turns(turns)
    html = "".join(
        f'<section class="modelcompose-turn" data-role="{escape(turn["role"])}">'
        f"<h4>{escape(localized(turn['role'].capitalize()))}</h4>"
        f"{calls_html(turn.get('calls', ()))}"
        f"{content_html(turn, thought_tokens if number == len(shown) else 0)}</section>"
        for number, turn in enumerate(shown, start=1)
    )
    name = localized("Conversation")
    return f'<div class="modelcompose-turns" role="log" aria-label="{name}">{html}</div>'


def content_html(turn: Mapping[str, Any], tokens: int = 0) -> str:
    """A reply as markdown, with what was thought before it, in so many tokens if that is known;
    what people write as they wrote it."""
    if turn["role"] == "assistant":
        thought = thought_html(turn.get("reasoning_content", ""), tokens)
        return f'{thought}<div class="jp-RenderedHTMLCommon">{markdown(turn["content"])}</div>'
    return f'<div class="modelcompose-said" dir="auto">{escape(turn["content"])}</div>'
