"""Calling a component: its templates rendered, its model asked, its texts handed on.

There is one kind of component, a model that generates text: from a prompt, or as a reply to the
messages of a chat.
"""

from __future__ import annotations

import asyncio
import copy
import time
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar
from weakref import WeakValueDictionary

from pydantic import ValidationError

from ..document import (
    Action,
    Component,
    Document,
    GenerationParameters,
    ModelComponent,
    Template,
    explain,
    render,
)
from ..document import types as values
from ..document.references import references
from ..document.schema import ModelSettings, ModelSource, PeftAdapter
from ..document.tool_definitions import name_of
from ..document.types import Message
from ..errors import ComposeError, ExpressionError, InputError, Where, shortened
from ..models import (
    Beginning,
    Extension,
    Generation,
    GenerationResult,
    Lease,
    LoadProgress,
    ModelCache,
    Prompt,
)
from ..models.constraints.compiler import CompiledGrammar
from ..models.spec import AdapterSpec, ModelSpec
from ..models.tokenization.tool_calls import CallSyntax
from ..models.weights.source import bundled, is_folder
from ..seeds import MAX_SEED
from ..tools import FunctionTool
from .bounded_gather import bounded_gather
from .concurrency_limiter import ConcurrencyLimiter, QueueProgress
from .extension import EarlierRun, EarlierTexts, prompt_digest
from .formatted import outputs, tool_outputs
from .options import RunOptions
from .reply_calls import ReplyCalls
from .run import Run
from .scoring import score, scoring_parameters, several_prompts
from .token_room import FULL, MOST_FOR_GUESTS, TokenRoom, ToldTokens
from .tool_loop import MAX_TOOL_ROUNDS, ToolLoop, defined

GIVE_UP_SECONDS = 5.0
"""How long a call that is stopped waits for the token in flight. A model's thread may be in what
cannot be stopped: a step that takes minutes, a tokenizer that does not return."""

T = TypeVar("T")

_NOT_THERE = ("model_not_found", "access_denied", "no_network", "not_cached")


class Allowance:
    """How many texts a run may still generate; None is any number."""

    def __init__(self, most: int | None) -> None:
        self._most = most
        self._taken = 0

    def check(self, count: int, where: Where | None) -> None:
        """Raise InputError, with the place that asks for them, where so many are too many."""
        if self._most is not None and self._taken + count > self._most:
            raise InputError(
                f"the run asks for more than {self._most:,} generations, the host's limit",
                hint="Repeat less, give fewer prompts, or split the run into several.",
                code="too_many_generations",
                where=where,
            )

    def take(self, count: int, where: Where | None) -> None:
        """`check` and count them as taken."""
        self.check(count, where)
        self._taken += count


@dataclass
class ComponentCall:
    """One call of a job's model, and what it produced.

    ``job`` is what its streams say that they are of. ``group`` is who asks: groups take turns at a
    model. ``repeat`` is its place among the job's repeats, or None. ``seed`` is that of the job's
    first generation where the document gives none. ``queue_progress`` says how many requests are
    ahead, ``allowance`` how many texts it may have, ``options`` what else is asked for, ``earlier``
    what there is already, ``told`` how many tokens may be told, ``functions`` the tools that may be
    called here. ``generations`` holds a mapping with ``stream``, ``result`` and ``prompt`` for each
    prompt, in the order in which they ended; the last is its digest, or None where a longer text
    may begin otherwise.
    """

    document: Document
    job: str
    component: ModelComponent
    action: Action
    input: Any
    repeat: int | None
    run: Run
    group: Hashable
    seed: int
    queue_progress: QueueProgress
    allowance: Allowance
    options: RunOptions
    earlier: EarlierRun
    told: ToldTokens
    functions: Mapping[str, FunctionTool] = field(default_factory=dict)
    load_seconds: float = 0.0
    generations: list[dict[str, Any]] = field(default_factory=list)

    def render(self, template: Template, extra: Mapping[str, Any] | None = None) -> Any:
        return render_in(self.run, self.document, template, {"input": self.input, **(extra or {})})


def render_in(run: Run, document: Document, template: Template, sources: Mapping[str, Any]) -> Any:
    """The value of a document's template in a run, whose own sources are there too."""
    with locating(document, template.path):
        return render(template, {**own_sources(run, document), **sources})


def own_sources(run: Run, document: Document) -> dict[str, Any]:
    """The sources that all templates of a run have."""
    return {"env": document.environment, "context": {"run_id": run.id, "task_id": run.id}}


def count_progress(run: Run, job: str, phase: str) -> Callable[[int, int], None]:
    """What adds a ``progress`` event each time one of several calls has ended."""

    def report(done: int, total: int) -> None:
        if total > 1:
            data = {"phase": phase, "job": job, "done": done, "total": total}
            run.add("progress", {**data, "unit": f"{phase}s"})

    return report


class ComponentCaller:
    """Calls components on the models that a host holds.

    Attributes:
        guests_room: for what is told of the tokens of guests' runs.
    """

    def __init__(self, models: ModelCache) -> None:
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
            raise several_prompts(f"it asks {len(prompts)} at once", where=_where(call))
        has_format = "format" in action.parameters or "format" in call.options
        # Checking a format that a stranger wrote takes a while, and others wait for this loop.
        parameters = await asyncio.to_thread(_parameters, call) if has_format else _parameters(call)
        sequences = parameters.num_return_sequences or 1
        call.allowance.take(len(prompts) * sequences, _where(call))
        # By place, not by time: the same run again gives each prompt the same seed.
        first_seed = call.seed + (call.repeat or 0) * _seeds_of_repeat(parameters, len(prompts))
        limiter = self.limiter(call.document, call.component)
        # Texts that there are already are told before anything that takes time.
        begun = {
            number: _Stream(call, number, prompt, sequences, earlier)
            for number, prompt in enumerate(prompts)
            if (earlier := _earlier(call, number, prompt, parameters)) is not None
        }
        spec = _spec(call.document, call.component, call.render)
        with await self._acquire(call, spec) as lease:
            format = None if action.gives_text else parameters.format
            # A call's own format has no place in the document.
            format_at = None if "format" in call.options else _where_of(call, "format")

            async def generate(number: int) -> Sequence[Any]:
                asked = parameters
                if asked.seed is None and "score" not in call.options:
                    seed = (first_seed + number) % (MAX_SEED + 1)
                    asked = asked.model_copy(update={"seed": seed})
                prompt = prompts[number]
                if asked.tools and isinstance(prompt, list) and "score" not in call.options:
                    return await converse(prompt, asked)
                stream = begun.get(number) or _Stream(call, number, prompt, sequences)
                result = await _generate(lease, prompt, asked, stream, call, limiter)
                return outputs(result, format, format_at)

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
                    call.allowance.take(sequences, _where(call))
                    earlier = _earlier(call, round, messages, asked)
                    stream = _Stream(call, round, messages, sequences, earlier)
                stream = stream or _Stream(call, round, messages, sequences)
                result = await _generate(lease, messages, asked, stream, call, limiter)
                if _lacks_call(result, asked, stream) and not action.gives_text:
                    raise _cut_call(result, call)
                return result

            on_ended = count_progress(call.run, call.job, "prompt")
            values = await bounded_gather(len(prompts), generate, on_ended)
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

    async def _acquire(self, call: ComponentCall, spec: ModelSpec) -> Lease:
        started = time.monotonic()

        last: LoadProgress | None = None

        def tell(progress: LoadProgress) -> None:
            given = {key: value for key, value in vars(progress).items() if value is not None}
            call.run.add("progress", {**given, "total": progress.total, "job": call.job})

        def report(progress: LoadProgress) -> None:
            nonlocal last
            last = progress
            if progress.phase != "load" or not progress.is_end:  # the model is tried after that
                tell(progress)

        future = self._models.acquire(spec, report)
        try:
            lease = await asyncio.wrap_future(future)
        except asyncio.CancelledError:
            # The lease may have arrived in the same moment; nobody would give it back.
            if not future.cancel() and future.exception() is None:
                future.result().release()
            raise
        except ComposeError as failure:
            error = copy.copy(failure)  # the failure is that of all who waited for the model
            if error.code in _NOT_THERE:
                error.hint = _meant(spec.source, call.document.source.folder) or error.hint
            where = call.document.where(call.component.model["source"].path)
            raise error.at(where) from None
        if last is not None:  # whatever it waited for, it is over
            done = last.total or max(1, last.done)
            tell(replace(last, done=done, total=done))
        call.load_seconds = time.monotonic() - started
        return lease


def _meant(source: str, folder: Path) -> str | None:
    """What a name that the Hub does not have may be meant for."""
    if is_folder(source) or ".." in Path(source).parts:
        return None  # a path already; what else there is, is nobody's business
    path = folder / source
    if path.is_dir() or path.is_file():
        kind = "folder" if path.is_dir() else "file"
        return f"There is a {kind} of that name; for it, write ./{source}"
    return f"Write bundled:{source} for the model that ships." if source in bundled() else None


def _earlier(
    call: ComponentCall, number: int, prompt: Prompt, parameters: GenerationParameters
) -> EarlierTexts | None:
    """The texts that the longer ones of a prompt begin with, if there are any."""
    earlier = call.earlier.of((call.job, call.repeat or 0, number), prompt)
    if earlier is None or len(earlier.texts) != (parameters.num_return_sequences or 1):
        return None
    return earlier if _goes_on(parameters) else None


def _goes_on(parameters: GenerationParameters) -> bool:
    """Whether a longer text begins as a shorter one: a beam search may choose another."""
    return (parameters.num_beams or 1) == 1


def _in_common(one: str, other: str) -> int:
    """How many characters two texts begin with together."""
    pairs = enumerate(zip(one, other, strict=False))
    return next((place for place, (a, b) in pairs if a != b), min(len(one), len(other)))


class _Stream:
    """The events of one prompt's texts. Announced before any comes, so that they are in order.

    What an earlier run had of them is told at once, and not again while it comes true.
    """

    def __init__(
        self,
        call: ComponentCall,
        number: int,
        prompt: Prompt,
        sequences: int,
        earlier: EarlierTexts | None = None,
    ) -> None:
        self._run = call.run
        self._told = call.told
        self.key = (call.job, call.repeat or 0, number)
        self.drafts = earlier.tokens if earlier is not None else ()
        texts = earlier.texts if earlier is not None else [""] * sequences
        self._texts = [_Growing(text) for text in texts]
        thoughts = earlier.reasoning if earlier is not None else [("", 0)] * sequences
        self._thoughts = [_Growing(text) for text, _ in thoughts]
        self._given_up = False
        self.calls: ReplyCalls | None = None
        for sequence, text in enumerate(texts):
            self._add(sequence, 0, text)
        for sequence, (thought, count) in enumerate(thoughts):
            if thought:
                self._add_reasoning(sequence, 0, thought, count)
        self.beginning = self._begin(call, prompt, sequences)

    def _begin(self, call: ComponentCall, prompt: Prompt, sequences: int) -> Beginning:
        """What the texts begin with whatever the model chooses; what is known of it is told."""
        of_prompt = (None, prompt_digest(prompt))
        given = {
            tuple(each["stream"]): each
            for each in call.options.get("begins_with") or ()
            if each.get("prompt") in of_prompt
        }
        streams = [(*self.key, sequence) for sequence in range(sequences)]
        tokens = [given[each]["tokens"] if each in given else () for each in streams]
        known = [call.earlier.tokens.get(each, ()) if each in given else () for each in streams]
        for sequence, told in enumerate(known):
            if told:
                start = call.earlier.starts[streams[sequence]]
                self.put_tokens(sequence, "text", 0, told, start)
        return Beginning(tokens if any(tokens) else (), list(map(len, known)))

    def take(self, sequence: int, offset: int, text: str) -> None:
        """What has come of a reply: text, and calls of tools. On any thread."""
        (self.put if self.calls is None else self.calls.put)(sequence, offset, text)

    def put(self, sequence: int, offset: int, text: str) -> None:
        """What has come of a text. On any thread."""
        if self._given_up:
            return
        if (fresh := self._texts[sequence].put(offset, text)) is not None:
            self._add(sequence, *fresh)

    def put_reasoning(self, sequence: int, offset: int, text: str, tokens: int) -> None:
        """What has come of the thoughts before a text, which have so many tokens. On any thread."""
        if self._given_up:
            return
        if (fresh := self._thoughts[sequence].put(offset, text)) is not None:
            self._add_reasoning(sequence, *fresh, tokens)

    @property
    def is_first(self) -> bool:
        """Whether it is that of the job's first prompt: one is enough to tell of."""
        return self.key[1:] == (0, 0)

    def put_tokens(
        self,
        sequence: int,
        part: str,
        offset: int,
        tokens: Sequence[Mapping[str, Any]],
        start: int,
    ) -> None:
        """What has come of a text's tokens, or of its prompt's. On any thread."""
        if not self._given_up and self._told.may_tell(tokens):
            stream = [*self.key, sequence]
            data = {"stream": stream, "part": part, "offset": offset, "tokens": list(tokens)}
            self._run.add("tokens", {**data, "start": start})

    def read(self, done: int, total: int) -> None:
        """So much of the prompt is read. On the engine's thread."""
        data = {"phase": "prefill", "job": self.key[0], "done": done, "total": total}
        self._run.add("progress", {**data, "unit": "tokens"})

    def give_up(self) -> None:
        """End the texts as they are; what comes later is dropped."""
        self._given_up = True
        for sequence, text in enumerate(self._texts):
            self._add(sequence, text.length, "", finish_reason="cancelled")

    def finish(self, result: GenerationResult) -> GenerationResult:
        """End the texts; the result, with the calls out of its texts."""
        result = result if self.calls is None else self.calls.settled(result)
        for sequence, reason in enumerate(result.finish_reasons):
            # One that was stopped keeps what was told of it, though it has not all come true yet.
            is_whole = reason != "cancelled"
            if is_whole and sequence < len(result.reasoning):
                self._end_reasoning(
                    sequence, len(result.reasoning[sequence]), result.reasoning_tokens[sequence]
                )
            end = len(result.texts[sequence]) if is_whole else self._texts[sequence].length
            self._add(sequence, end, "", finish_reason=reason)
        return result

    def _end_reasoning(self, sequence: int, length: int, tokens: int) -> None:
        if length or self._thoughts[sequence].length:
            self._add_reasoning(sequence, length, "", tokens)

    def _add(self, sequence: int, offset: int, text: str, **end: Any) -> None:
        stream = (*self.key, sequence)
        self._run.add("text", {"stream": stream, "offset": offset, "text": text, **end})

    def _add_reasoning(self, sequence: int, offset: int, text: str, tokens: int) -> None:
        stream = (*self.key, sequence)
        data = {"stream": stream, "offset": offset, "text": text, "tokens": tokens}
        self._run.add("reasoning", data)


class _Growing:
    """A text that comes, of which an earlier run may have had some.

    Attributes:
        length: characters that are told.
    """

    def __init__(self, earlier: str) -> None:
        self.length = len(earlier)
        self._earlier = earlier

    def put(self, offset: int, text: str) -> tuple[int, str] | None:
        """Take what has come; returns what is to be told of it, and where, if anything is."""
        told = self._earlier[offset : offset + len(text)]
        if told:
            same = _in_common(told, text)
            offset, text = offset + same, text[same:]
            if not text:
                return None
            self._earlier = ""  # it is longer, or another
        self.length = offset + len(text)
        return offset, text


async def _generate(
    lease: Lease,
    prompt: Prompt,
    parameters: GenerationParameters,
    stream: _Stream,
    call: ComponentCall,
    limiter: ConcurrencyLimiter,
) -> GenerationResult:
    """What comes of a prompt.

    Stopped within a token when the call is cancelled, and in any case in `GIVE_UP_SECONDS`.
    """
    made = time.monotonic()
    if parameters.tool_choice == "none" or "score" in call.options:
        parameters = parameters.model_copy(update={"tools": None, "tool_choice": None})
    grammar = await _grammar(lease, prompt, parameters, stream, call)
    with call.queue_progress.position() as on_queued:
        async with limiter.turn(on_queued, call.group):
            waited = time.monotonic() - made
            generation = lease.generate(
                prompt,
                parameters,
                stream.take,
                on_queued,
                owner=(call.group, call.run.id),
                extension=Extension(call.options.get("extended_by") or 0, stream.drafts),
                beginning=stream.beginning,
                scored=call.options.get("score"),
                grammar=grammar,
                chat_template=call.component.chat_template,
                on_read=stream.read if stream.is_first else None,
                on_tokens=stream.put_tokens,
                on_reasoning=stream.put_reasoning,
            )
            ended = asyncio.wrap_future(generation.future)
            try:
                await asyncio.shield(ended)
            except ComposeError as error:
                where = _where_of(call, "format")
                if where is not None and error.code.startswith("format_"):
                    error.at(where)
                raise
            except asyncio.CancelledError:
                generation.cancel()
                await asyncio.wait((ended,), timeout=GIVE_UP_SECONDS)
                if not ended.done():
                    stream.give_up()
                    ended.cancel()  # nobody waits: the loop may be closed before the model answers
                elif not ended.cancelled():
                    ended.exception()  # which is of no interest any more
                raise
            finally:
                digest = prompt_digest(prompt) if _goes_on(parameters) else None
                result = _keep(generation, stream, call, waited, digest)
    assert result is not None
    return result


async def _grammar(
    lease: Lease,
    prompt: Prompt,
    parameters: GenerationParameters,
    stream: _Stream,
    call: ComponentCall,
) -> CompiledGrammar | None:
    """What the texts for a prompt must be; of calls of tools the stream takes them apart."""
    text = None if parameters.format is None else parameters.format.llguidance
    syntax: CallSyntax | None = None
    owner = (call.group, call.run.id)
    if parameters.tools and isinstance(prompt, list):
        syntax = await _shared(lease.call_syntax(call.component.chat_template, owner))
        text = syntax.grammar(
            parameters.tools,
            parameters.tool_choice or "auto",
            parallel=parameters.parallel_tool_calls is not False,
            text=text,
        )
        sequences = parameters.num_return_sequences or 1
        seen = f"{prompt_digest(prompt)} {parameters.seed}"
        stream.calls = ReplyCalls(syntax, call.run, stream.key, sequences, seen, stream.put)
    if text is None:
        return None
    grammar = await _shared(lease.compile(text, owner))
    return grammar if syntax is None else grammar.showing(syntax.special)


async def _shared(future: Future[T]) -> T:
    """What others may wait for, too: its error is raised as one of this call's own."""
    ended = asyncio.wrap_future(future)
    await asyncio.wait((ended,))
    if (error := ended.exception()) is not None:
        raise copy.copy(error)
    return ended.result()


def _keep(
    generation: Generation,
    stream: _Stream,
    call: ComponentCall,
    waited: float,
    digest: str | None,
) -> GenerationResult | None:
    """Note what a generation came to, if it came to anything, after the seconds at the limiter."""
    future = generation.future
    if not future.done() or future.exception() is not None:
        return None
    result = future.result()
    since_made = {key: result.timings[key] + waited for key in ("queue", "first_token", "total")}
    result = stream.finish(replace(result, timings=result.timings | since_made))
    call.generations.append({"stream": stream.key, "result": result, "prompt": digest})
    return result


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
        raise InputError("there is no prompt: the list is empty", where=_where(call))
    return [_prompt(each, call) for each in value], True


def _messages(value: Any, call: ComponentCall) -> list[Message]:
    try:
        return values.messages(value)
    except values.ConversionError as error:
        message, hint = str(error), error.hint
        if _is_of_environment(call.action.text):
            message, hint = "these are no messages", None
        raise InputError(message, hint=hint, where=_where(call)) from None


def _prompt(value: Any, call: ComponentCall) -> str:
    if value is None:
        raise InputError(
            "there is no prompt: its value is null",
            hint="Give the input that it is made of, or a default: ${input.prompt | …}.",
            where=_where(call),
        )
    return values.text(value)


def _where(call: ComponentCall) -> Any:
    return call.document.where(call.action.text.path)


def _where_of(call: ComponentCall, parameter: str) -> Where | None:
    """Where the document says a generation parameter, if it does."""
    template = call.action.parameters.get(parameter)
    return None if template is None else call.document.where(template.path)


def _lacks_call(result: GenerationResult, asked: GenerationParameters, stream: _Stream) -> bool:
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
        where=_where_of(call, "tools"),
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


def written_spec(document: Document, component: ModelComponent) -> ModelSpec | None:
    """The model of a component, where the document and the environment say it; None where an input
    does, or where it is wrong."""

    def rendered(template: Template) -> Any:
        return render(template, {"env": document.environment})

    try:
        return _spec(document, component, rendered)
    except (ComposeError, ExpressionError):
        return None


def _spec(
    document: Document, component: ModelComponent, rendered: Callable[[Template], Any]
) -> ModelSpec:
    given = {key: rendered(template) for key, template in component.model.items()}
    source = given.pop("source")
    if not isinstance(source, str) or not source:
        raise InputError(
            "no model is named: its value is " + ("empty" if source == "" else values.show(source)),
            where=document.where(component.model["source"].path),
        )
    try:
        settings = ModelSettings.model_validate(given, context={"rendered": True})
    except ValidationError as error:
        key = str(error.errors()[0]["loc"][0])
        raise invalid(error, key, component.model[key], document) from None
    folder = document.source.folder
    given = settings.model_dump(exclude_none=True, exclude={"peft_adapters"})
    for key in ("quantization", "cache_quantization"):
        if given.get(key) == "none":
            del given[key]
    if draft := given.pop("draft_model", None):
        given["draft_model"] = _absolute(draft, folder)
    adapters = tuple(_adapter(each, settings, folder) for each in settings.peft_adapters or ())
    return ModelSpec(source=_absolute(source, folder), adapters=adapters, **given)


def _adapter(written: PeftAdapter, settings: ModelSettings, folder: Path) -> AdapterSpec:
    """An adapter, fetched as its model is where it does not say otherwise."""
    mapping = written.model if isinstance(written.model, ModelSource) else ModelSource()
    source = mapping.given[0] if isinstance(written.model, ModelSource) else written.model
    local = mapping.local_files_only
    model = ModelSpec(
        source=_absolute(source, folder),
        revision=written.revision or mapping.revision,
        token=written.token or mapping.token or settings.token,
        cache_dir=mapping.cache_dir or settings.cache_dir,
        local_files_only=bool(settings.local_files_only if local is None else local),
    )
    weight = 1.0 if written.weight is None else written.weight
    return AdapterSpec(model, weight, written.name)


def _absolute(source: str, folder: Path) -> str:
    """A model's folder that is written relative to the document's."""
    if source in (".", "..") or source.startswith(("./", "../", ".\\", "..\\")):
        return str((folder / source).resolve())
    return source


def invalid(
    error: ValidationError, name: str, template: Template, document: Document
) -> InputError:
    """The error for a rendered value that a key cannot have.

    A value that the environment had a part in is not shown: it may be a secret.
    """
    details = error.errors()[0]
    inner = details["loc"][1:] if isinstance(next(iter(details["loc"][1:]), None), str) else ()
    message, hint = explain(Where("", inner).keys or name, details)
    if _is_of_environment(template) or name == "token":
        message, hint = f"'{name}' cannot be what {shortened(str(template))} gives", None
    place = details.get("ctx", {})
    path = (*template.path, *inner, *place.get("path", ()))
    where = document.where(path, key=place.get("at_key", False))
    return InputError(message, hint=hint, where=where)


def _is_of_environment(template: Template) -> bool:
    """Whether the environment has a part in a template's value."""
    return any(each.expression.source == "env" for each in references(template))


@contextmanager
def locating(document: Document, path: Any) -> Iterator[None]:
    """Turn an expression's error into one of the run, with its place in the document."""
    try:
        yield
    except ExpressionError as error:
        where = document.where(path, within=error.expression)
        raise InputError(error.message, hint=error.hint, where=where, code=error.code) from None
