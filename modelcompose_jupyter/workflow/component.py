"""Calling a component's model: its templates rendered, it asked, its texts handed on.

There is one kind of model, one that generates text: from a prompt, or as a reply to the messages of
a chat.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any
from weakref import WeakValueDictionary

from pydantic import ValidationError

from ..document import Component, Document, GenerationParameters
from ..document import types as values
from ..document.tool_definitions import name_of
from ..document.types import Message
from ..errors import ComposeError, InputError
from ..models import GenerationResult, Prompt
from ..seeds import MAX_SEED
from ..tools import FunctionTool
from .bounded_gather import bounded_gather
from .component_call import ComponentCall, count_progress, invalid, is_of_environment
from .concurrency_limiter import ConcurrencyLimiter
from .extension import EarlierTexts
from .formatted import outputs, tool_outputs
from .model_access import ModelAccess, goes_on
from .scoring import score, scoring_parameters, several_prompts
from .text_stream import TextStream
from .token_room import FULL, MOST_FOR_GUESTS, TokenRoom
from .tool_loop import MAX_TOOL_ROUNDS, ToolLoop, defined


class ComponentCaller:
    """Calls components on the models that a host holds.

    Attributes:
        guests_room: for what is told of the tokens of guests' runs.
    """

    def __init__(self, models: ModelAccess) -> None:
        self.guests_room = TokenRoom(MOST_FOR_GUESTS)
        self._models = models
        self._limiters: WeakValueDictionary[Any, ConcurrencyLimiter] = WeakValueDictionary()

    async def call(self, call: ComponentCall) -> Any:
        """The component's output: a text, or a list where several were asked for."""
        try:
            return await self._output(call)
        finally:
            call.told.end()

    async def _output(self, call: ComponentCall) -> Any:
        action = call.action
        prompts, are_listed = _prompts(call)
        if "score" in call.options and are_listed:
            raise several_prompts(f"it asks {len(prompts)} at once", where=call.where)
        has_format = "format" in action.parameters or "format" in call.options
        # Checking a format that a stranger wrote takes a while, and others wait for this loop.
        parameters = await asyncio.to_thread(_parameters, call) if has_format else _parameters(call)
        sequences = parameters.num_return_sequences or 1
        call.allowance.take(len(prompts) * sequences, call.where)
        # By place, not by time: the same run again gives each prompt the same seed.
        first_seed = call.seed + (call.repeat or 0) * _seeds_of_repeat(parameters, len(prompts))
        limiter = self.limiter(call.document, call.component)
        # Texts that there are already are told before anything that takes time.
        begun = {
            number: TextStream(call, number, prompt, sequences, earlier)
            for number, prompt in enumerate(prompts)
            if (earlier := _earlier(call, number, prompt, parameters)) is not None
        }
        async with self._models.open(call) as model:
            format = None if action.gives_text else parameters.format
            # A call's own format has no place in the document.
            format_at = None if "format" in call.options else call.where_of("format")

            async def generate(number: int) -> Sequence[Any]:
                asked = parameters
                if asked.seed is None and "score" not in call.options:
                    seed = (first_seed + number) % (MAX_SEED + 1)
                    asked = asked.model_copy(update={"seed": seed})
                prompt = prompts[number]
                if asked.tools and isinstance(prompt, list) and "score" not in call.options:
                    return await converse(prompt, asked)
                stream = begun.get(number) or TextStream(call, number, prompt, sequences)
                result = await generated(prompt, asked, stream)
                return outputs(result, format, format_at)

            async def generated(
                prompt: Prompt, asked: GenerationParameters, stream: TextStream
            ) -> GenerationResult:
                if asked.tool_choice == "none" or "score" in call.options:
                    asked = asked.model_copy(update={"tools": None, "tool_choice": None})
                return await model.generate(prompt, asked, stream, limiter)

            async def converse(
                messages: list[Message], asked: GenerationParameters
            ) -> Sequence[Any]:
                loop = ToolLoop(
                    call.run, (call.job, call.repeat or 0), _functions(call, asked), asked, reply
                )
                result = await loop.answer(messages)
                return tool_outputs(result, format, format_at)

            async def reply(
                round: int, messages: list[Message], asked: GenerationParameters
            ) -> GenerationResult:
                stream = begun.get(round)
                if round > 0:
                    call.allowance.take(sequences, call.where)
                    earlier = _earlier(call, round, messages, asked)
                    stream = TextStream(call, round, messages, sequences, earlier)
                stream = stream or TextStream(call, round, messages, sequences)
                result = await generated(messages, asked, stream)
                if _lacks_call(result, asked, stream) and not action.gives_text:
                    raise _cut_call(result, call)
                return result

            on_ended = count_progress(call.run, call.job, "prompt")
            values = await bounded_gather(len(prompts), generate, on_ended, call.width)
        if "score" in call.options:
            if call.told.is_full:
                raise ComposeError(FULL, hint="Try again when others have ended.", code="busy")
            return score(call.run.tokens[0])
        given = [list(each) if sequences > 1 else each[0] for each in values]
        output = given if are_listed else given[0]
        if action.output is None:
            return output
        results = dict.fromkeys(("output", "result", "response"), output)
        return call.render(action.output, results)

    def limiter(self, document: Document, component: Component) -> ConcurrencyLimiter:
        """What lets the requests of a component through, in whichever runs they are."""
        if not component.max_concurrent_count:
            return ConcurrencyLimiter(0)
        key = (document.hash, component.path)
        return self._limiters.setdefault(key, ConcurrencyLimiter(component.max_concurrent_count))


def _earlier(
    call: ComponentCall, number: int, prompt: Prompt, parameters: GenerationParameters
) -> EarlierTexts | None:
    """The texts that the longer ones of a prompt begin with, if there are any."""
    earlier = call.earlier.of((call.job, call.repeat or 0, number), prompt)
    if earlier is None or len(earlier.texts) != (parameters.num_return_sequences or 1):
        return None
    return earlier if goes_on(parameters) else None


def _prompts(call: ComponentCall) -> tuple[list[Prompt], bool]:
    """What the model is asked, and whether a list of prompts was given: then so is the output."""
    action = call.action
    value = call.render(action.text)
    if action.takes_tokens:
        return [tuple(each) for each in value], True
    if action.is_chat:
        return [_messages(value, call)], False
    if not isinstance(value, list):
        return [_prompt(value, call)], False
    if not value:
        raise InputError("there is no prompt: the list is empty", where=call.where)
    return [_prompt(each, call) for each in value], True


def _messages(value: Any, call: ComponentCall) -> list[Message]:
    try:
        return values.messages(value)
    except values.ConversionError as error:
        message, hint = str(error), error.hint
        if is_of_environment(call.action.text):
            message, hint = "these are no messages", None
        raise InputError(message, hint=hint, where=call.where) from None


def _prompt(value: Any, call: ComponentCall) -> str:
    if value is None:
        raise InputError(
            "there is no prompt: its value is null",
            hint="Give the input that it is made of, or a default: ${input.prompt | …}.",
            where=call.where,
        )
    return values.text(value)


def _lacks_call(result: GenerationResult, asked: GenerationParameters, stream: TextStream) -> bool:
    """Whether a limit has cut a call, or what was to be one."""
    is_due = asked.tool_choice not in (None, "auto", "none") and "length" in result.finish_reasons
    return stream.calls is not None and (stream.calls.is_cut or is_due)


def _cut_call(result: GenerationResult, call: ComponentCall) -> ComposeError:
    tokens = result.parameters["max_output_length"]
    return ComposeError(
        f"the call of a tool was cut after {tokens} tokens, before it was whole",
        hint="Raise max_output_length, or bound what may be long: maxLength and maxItems in the"
        " tool's parameters.",
        code="tool_call_cut",
        where=call.where_of("tools"),
    )


def _seeds_of_repeat(parameters: GenerationParameters, prompts: int) -> int:
    """How many generations a repeat may have, each with a seed of its own."""
    if not parameters.tools:
        return prompts
    most = parameters.max_tool_rounds
    return 1 + (MAX_TOOL_ROUNDS if most is None else most)


def _functions(call: ComponentCall, parameters: GenerationParameters) -> dict[str, FunctionTool]:
    """The tools that are functions of this process."""
    names = map(name_of, parameters.tools or ())
    return {name: call.functions[name] for name in names if name in call.functions}


def _parameters(call: ComponentCall) -> GenerationParameters:
    action, count = call.action, call.options.get("logprobs")
    given = {name: call.render(template) for name, template in action.parameters.items()}
    if count is not None and given.get("logprobs") is None:
        given["logprobs"] = count
    if (format := call.options.get("format")) is not None:
        given["format"] = format
    try:
        asked = GenerationParameters.model_validate(given, context={"rendered": True})
        asked = _with_tools(asked, call)
        return scoring_parameters(asked) if "score" in call.options else asked
    except ValidationError as error:
        details = error.errors()[0]
        name = str(next(iter(details["loc"]), details.get("ctx", {}).get("key")))
        raise invalid(error, name, action.parameters[name], call.document) from None


def _with_tools(asked: GenerationParameters, call: ComponentCall) -> GenerationParameters:
    """Parameters with the descriptions of the tools that they name."""
    if asked.tools is None:
        return asked
    tools, missing = defined(asked.tools, call.document.tools)
    if missing is not None:
        raise call.document.missing_tool(missing, call.action.parameters["tools"].path)
    return asked.model_copy(update={"tools": tools})
