"""The field of an input that is a conversation: the next message, and what was said before."""

from __future__ import annotations

import threading
from html import escape

import ipywidgets

from ..document.types import Message
from ..errors import InputError
from ..workflow import Run, State
from .outputs import markdown
from .update_thread import update_thread


class Conversation(ipywidgets.Textarea):
    """An area for the next message, which remembers what was said before.

    Its ``value`` is the text of the next message, which the kernel's threads write. What was said
    is kept here, and looked up when somebody asks; the update thread alone writes the widget
    with it.

    Args:
        name: of the input.
        start: the messages that a new conversation begins with.

    Attributes:
        history: a widget that shows the conversation so far.
    """

    def __init__(self, name: str, start: list[Message]) -> None:
        self._lock = threading.Lock()
        self._name = name
        self._start = start
        self._turns: list[Message] = []
        self._run: Run | None = None
        self.history = ipywidgets.HTML()
        self.history.add_class("modelcompose-history")
        super().__init__(placeholder="The next message", continuous_update=False)
        self.clear()

    @property
    def turns(self) -> list[Message]:
        """The conversation so far.

        The reply of the run that it was sent to belongs to it when the run has ended, also when it
        was stopped. A run that failed has none: its message can be sent again.
        """
        return self._now()[0]

    def _now(self) -> tuple[list[Message], Run | None]:
        """The conversation so far, and the run that may still reply to it."""
        with self._lock:
            run = self._run
            if run is not None and run.done and (reply := _reply(run)):
                self._turns = [*self._turns, _assistant(reply)]
                self._run = None
            return list(self._turns), self._run

    def fill(self, messages: list[Message]) -> None:
        """Go on from these messages; one of the user's at their end is still to be sent."""
        unsent = messages[-1:] if messages and messages[-1]["role"] == "user" else []
        self._show(messages[: len(messages) - len(unsent)])
        self.value = unsent[0]["content"] if unsent else ""

    def clear(self) -> None:
        """Begin a new conversation."""
        self.fill(self._start)

    def entered(self) -> list[Message]:
        """The conversation with the next message at its end, if there is one.

        It breaks off a reply that goes on. A message that got no reply, since its run failed, gives
        way to the next one.
        """
        turns, run = self._now()
        if not self.value.strip():
            return turns
        if turns and turns[-1]["role"] == "user":
            reply = _reply(run)
            turns = [*turns, _assistant(reply)] if reply else turns[:-1]
        return [*turns, {"role": "user", "content": self.value}]

    def asked(self) -> list[Message]:
        """The messages for a run.

        Raises:
            InputError: the user has not said anything that is still to be answered.
        """
        messages = self.entered()
        if not messages or messages[-1]["role"] != "user":
            raise InputError(f"there is no message to send: '{self._name}' is empty")
        return messages

    def sent(self, run: Run) -> None:
        """Show what a run was given as said. The next message stays; whoever sent it clears it."""
        self._show(run.input.get(self._name) or [], run)

    def _show(self, turns: list[Message], run: Run | None = None) -> None:
        with self._lock:
            self._turns, self._run = list(turns), run
        update_thread.soon(self.update)

    def update(self) -> None:
        """Show the conversation as it is now. On the update thread."""
        if self.history.comm is not None:
            self.history.value = turns_html(self.turns)


def _assistant(content: str) -> Message:
    return {"role": "assistant", "content": content}


def _reply(run: Run | None) -> str:
    """What the last job of a run has said so far, unless it failed; of several texts the first."""
    streams = run.streams if run is not None and run.state is not State.FAILED else {}
    last_job = next(reversed(streams))[0] if streams else None
    return next((text for key, text in streams.items() if key[0] == last_job), "")


def turns_html(turns: list[Message]) -> str:
    """The conversation as HTML that is safe to show."""
    if not turns:
        return ""
    shown = "".join(
        f'<section class="modelcompose-turn" data-role="{escape(turn["role"])}">'
        f"<h4>{escape(turn['role'].capitalize())}</h4>{_content(turn)}</section>"
        for turn in turns
    )
    # The box keeps to its end by itself, being turned upside down around the turns.
    return (
        '<div class="modelcompose-turns" role="log" aria-label="Conversation" tabindex="0">'
        f"<div>{shown}</div></div>"
    )


def _content(turn: Message) -> str:
    """A reply as markdown; what people write as they wrote it."""
    if turn["role"] == "assistant":
        return f'<div class="jp-RenderedHTMLCommon">{markdown(turn["content"])}</div>'
    return f'<div class="modelcompose-said">{escape(turn["content"])}</div>'
