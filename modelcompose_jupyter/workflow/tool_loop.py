"""A chat whose model calls Python functions: reply, calls, what came of them, and so on, until a
reply calls nothing.

Functions run in this process, each on a thread of its own, one after the other. Where one of those
that a reply calls is not here, all its calls are left to whoever asked.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..document import GenerationParameters
from ..document.tool_definitions import Definition, name_of
from ..document.types import Message, ToolCall
from ..errors import InputError
from ..models import GenerationResult
from ..seeds import MAX_SEED
from ..tools import FunctionCall, FunctionTool, error_text, result_text
from .reply_calls import tell
from .run import Run

MAX_TOOL_ROUNDS = 8
"""Replies with calls before one must answer, where ``max_tool_rounds`` is not given."""
TOOL_TIMEOUT = 60.0
"""Seconds for a function, where ``tool_timeout`` is not given."""

Reply = Callable[[int, list[Message], GenerationParameters], Awaitable[GenerationResult]]
"""``await reply(round, messages, parameters)``: what the model replies."""


@dataclass
class ToolLoop:
    """A chat of a run.

    Attributes:
        run: that is told of it.
        chat: whose it is: job and repeat.
        functions: those that may be called here, by their names.
        parameters: of its replies; ``seed`` is that of the first, from which the others count.
    """

    run: Run
    chat: tuple[str, int]
    functions: Mapping[str, FunctionTool]
    parameters: GenerationParameters
    reply: Reply

    async def answer(self, messages: list[Message]) -> GenerationResult:
        """The last reply: the first that calls nothing, or whose calls are left to who asked.

        Raises:
            InputError: several replies are asked for, and functions are called for one alone.
        """
        if self.functions and (self.parameters.num_return_sequences or 1) > 1:
            raise InputError(
                "functions are called for one reply, and num_return_sequences asks for several",
                hint="Leave out num_return_sequences, or repeat the job: repeat_count.",
            )
        messages, begun = list(messages), ""
        if messages[-1]["role"] == "assistant":  # the reply goes on from it
            begun = messages[-1]["content"]
        self._tell(messages[:-1] if begun else messages, begins=True)
        for round in itertools.count():
            result = await self.reply(round, messages, self._asked(round))
            calls = result.tool_calls[0] if result.tool_calls else []
            thought = result.reasoning[0] if result.reasoning else ""
            said = _said(begun + result.texts[0], thought, calls)
            self._tell([said])
            if "tool_calls" not in result.finish_reasons:
                return result
            if not self._are_here(calls):
                self._leave(round, result)
                return result
            messages = [*(messages[:-1] if begun else messages), said]
            begun = ""
            for call in calls:
                answer = await self._called(call, (*self.chat, round, 0))
                messages.append(answer)
                self._tell([answer])
        raise AssertionError

    def _asked(self, round: int) -> GenerationParameters:
        """The parameters of a reply. A call that is required is so once: then the model decides."""
        asked = self.parameters
        changed: dict[str, Any] = {}
        if asked.seed is not None:
            changed["seed"] = (asked.seed + round) % (MAX_SEED + 1)
        most = MAX_TOOL_ROUNDS if asked.max_tool_rounds is None else asked.max_tool_rounds
        if self.functions and round >= most:
            changed["tool_choice"] = "none"
        elif round > 0 and asked.tool_choice not in (None, "none"):
            changed["tool_choice"] = "auto"
        return asked.model_copy(update=changed)

    def _are_here(self, calls: Sequence[ToolCall]) -> bool:
        """Whether all that is called can be called here; what nobody knows is told to the model."""
        elsewhere = {name_of(each) for each in self.parameters.tools or ()} - set(self.functions)
        return bool(self.functions) and not any(
            call["function"]["name"] in elsewhere for call in calls
        )

    def _leave(self, round: int, result: GenerationResult) -> None:
        for sequence, calls in enumerate(result.tool_calls):
            for call in calls:
                tell(self.run, (*self.chat, round, sequence), call, "returned")

    async def _called(self, call: ToolCall, stream: tuple[Any, ...]) -> Message:
        """Call a function; the message that says what came of it."""
        name, started = call["function"]["name"], time.monotonic()
        tell(self.run, stream, call, "running")
        try:
            state, text = await self._outcome(call)
        except asyncio.CancelledError:
            tell(self.run, stream, call, "cancelled", seconds=time.monotonic() - started)
            raise
        told = {"result": text} if state == "completed" else {"error": text}
        tell(self.run, stream, call, state, seconds=time.monotonic() - started, **told)
        content = text if state == "completed" else f"error: {text}"
        return {"role": "tool", "content": content, "tool_call_id": call["id"], "name": name}

    async def _outcome(self, call: ToolCall) -> tuple[str, str]:
        """The state in which a call ends, and its result or what went wrong."""
        tool = self.functions.get(call["function"]["name"])
        if tool is None:
            return "failed", f"there is no tool '{call['function']['name']}'"
        seconds = self.parameters.tool_timeout or TOOL_TIMEOUT
        running = FunctionCall(tool, call["function"]["arguments"], result_text)
        ended = asyncio.wrap_future(running.future)
        try:
            await asyncio.wait((ended,), timeout=seconds)
        finally:
            if not running.future.done():
                running.give_up()
        if not ended.done():
            ended.cancel()
            return "failed", f"it has not ended in {seconds:g} s, and is not waited for"
        outcome = ended.result()
        if outcome.error is not None:
            return "failed", error_text(outcome.error)
        return "completed", outcome.value

    def _tell(self, messages: Sequence[Message], begins: bool = False) -> None:
        job, repeat = self.chat
        plain = [_in_openais_shape(each) for each in messages]
        data = {"job": job, "repeat": repeat, "messages": plain, "begins": begins}
        self.run.add("messages", data)


def defined(
    tools: Sequence[str | Definition], known: Mapping[str, Definition]
) -> tuple[list[Definition], str | None]:
    """What describes tools, and the first that nothing describes."""
    missing = next((each for each in tools if isinstance(each, str) and each not in known), None)
    found = [known.get(each) if isinstance(each, str) else each for each in tools]
    return [each for each in found if each is not None], missing


def called(calls: Sequence[ToolCall]) -> list[dict[str, Any]]:
    """Calls as what a chat gives, where they are left to who asked."""
    return [{"id": each["id"], **each["function"]} for each in calls]


def _said(text: str, thought: str, calls: Sequence[ToolCall]) -> Message:
    said: Message = {"role": "assistant", "content": text}
    if thought:
        said["reasoning_content"] = thought
    if calls:
        said["tool_calls"] = list(calls)
    return said


def _in_openais_shape(message: Message) -> dict[str, Any]:
    """A message whose calls have their arguments as JSON."""
    said: dict[str, Any] = dict(message)
    if "tool_calls" in message:
        said["tool_calls"] = [_with_json(call) for call in message["tool_calls"]]
    if message["role"] == "tool":
        said.pop("name", None)
    return said


def _with_json(call: ToolCall) -> dict[str, Any]:
    function = call["function"]
    arguments = json.dumps(function["arguments"], ensure_ascii=False)
    return {**call, "function": {"name": function["name"], "arguments": arguments}}
