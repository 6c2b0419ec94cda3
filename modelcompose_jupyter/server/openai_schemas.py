"""What goes over the wire to OpenAI's clients: the bodies that they send, and what they get.

Names, statuses and shapes are OpenAI's. What cannot be done as asked is refused, by its name.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Container, Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    ConfigDict,
    Field,
    ModelWrapValidatorHandler,
    PlainValidator,
    ValidationError,
    model_validator,
)

from ..document import GenerationParameters
from ..document.parameters import MAX_LOGPROBS
from ..document.types import ConversionError, Message, MessageReader, show
from ..errors import did_you_mean
from ..seeds import MAX_SEED
from .openai_errors import InvalidRequestError, invalid_request
from .openai_formats import (
    FORMATS,
    GuidedChoice,
    GuidedGrammar,
    GuidedJson,
    GuidedRegex,
    ResponseFormat,
    StructuredOutputs,
    wrong_format,
)
from .openai_tools import ToolChoice, Tools, chosen, described, with_own_ids
from .schemas import Answer, Body

_MAX_CHOICES = 256
_MAX_STOPS = 16
_MAX_TOKEN_ID = 2**31 - 1

_NAMES = {
    "max_tokens": "max_output_length",
    "max_completion_tokens": "max_output_length",
    "n": "num_return_sequences",
    "stop": "stop_sequences",
    "temperature": "temperature",
    "top_p": "top_p",
    "top_k": "top_k",
    "min_p": "min_p",
    "repetition_penalty": "repetition_penalty",
    "echo": "include_prompt",
    "enable_thinking": "enable_thinking",
    "thinking_budget": "thinking_budget",
    "chat_template_kwargs": "chat_template_kwargs",
    "parallel_tool_calls": "parallel_tool_calls",
    **dict.fromkeys(FORMATS, "format"),
}
"""Our names of the parameters by OpenAI's."""

INPUTS = frozenset(
    (
        "prompt", "messages", "logprobs", "prompt_logprobs", "tools", "tool_choice",
        *_NAMES.values(),
    )
)  # fmt: skip
"""The inputs that a request's run may have."""

# What is not offered, or not by both, each with the values that ask for nothing.
_NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 0, 1),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "guided_decoding_backend": (None,),
    "guided_whitespace_pattern": (None,),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "suffix": (None, ""),
    "tool_choice": (None, "none", "auto"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "verbosity": (None,),
    "web_search_options": (None,),
}
_OF_TOOLS = ("parallel_tool_calls", "tool_choice", "tools")  # which chats take
_INSTEAD = {"functions": "Write 'tools'.", "function_call": "Write 'tool_choice'."}
# What changes nothing about the answer, so that it is taken and needs nothing to be done.
_HARMLESS = {
    "metadata",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "store",
    "user",
}


def _whole(value: Any) -> Any:
    """A number as JSON has it: 16.0 is an integer, too."""
    return int(value) if isinstance(value, float) and value.is_integer() else value


WHOLE = BeforeValidator(_whole)
MaxTokens = Annotated[int, Field(ge=0), WHOLE]
Alternatives = Annotated[int, Field(ge=0, le=MAX_LOGPROBS), WHOLE]


class StreamOptions(Body):
    """How to stream."""

    include_usage: bool | None = Field(None, description="Count tokens in a last chunk.")
    include_obfuscation: bool | None = Field(None, description="Nothing is padded here.")


class BaseCompletionRequest(Body):
    """What both kinds of completion have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field(description="Which model; see /v1/models.")
    max_tokens: MaxTokens | None = Field(
        None, description="Tokens at most; 0 is none. If unset, until the model stops."
    )
    temperature: Annotated[float, Field(ge=0, le=2)] | None = Field(
        None, description="0.7 if unset; 0 takes the likeliest."
    )
    top_p: Annotated[float, Field(ge=0, le=1)] | None = Field(
        None, description="0.9 if unset; 0 takes the likeliest."
    )
    top_k: Annotated[int, WHOLE] | None = Field(None, description="50 if unset; 0 is all.")
    min_p: float | None = None
    repetition_penalty: float | None = None
    n: Annotated[int, Field(ge=1, le=128), WHOLE] | None = Field(
        None, description="How many choices for a prompt."
    )
    stop: str | Annotated[list[str], Field(fail_fast=True)] | None = Field(
        None, description="End before the first of these."
    )
    seed: Annotated[int, Field(ge=-(2**63), le=2**63 - 1), WHOLE] | None = Field(
        None,
        description="The same seed gives the same choices. To negative ones 2**63 is added: "
        "elsewhere here seeds are from 0 to 2**63 - 1.",
    )
    response_format: ResponseFormat = None
    structured_outputs: StructuredOutputs = None
    guided_json: GuidedJson = None
    guided_regex: GuidedRegex = None
    guided_choice: GuidedChoice = None
    guided_grammar: GuidedGrammar = None
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    stream_options: StreamOptions | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Say which parameter is wrong, in the words of a caller that knows OpenAI's."""
        given = _supported(data, cls.model_fields) if isinstance(data, dict) else data
        try:
            return handler(given)
        except ValidationError as error:
            raise invalid_request(error, {}, cls) from None

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    @abstractmethod
    def wants_logprobs(self) -> bool:
        """Whether log-probabilities are told."""

    @property
    def may_call(self) -> bool:
        """Whether what comes may be calls of tools."""
        return False

    @property
    def choices(self) -> int:
        """How many for each prompt."""
        return self.n or 1

    @property
    def asks_for_format(self) -> str | None:
        """The name of the parameter that says what the text must be, if one does.

        Raises:
            InvalidRequestError: several do.
        """
        given = [name for name in FORMATS if getattr(self, name) is not None]
        if len(given) > 1:
            raise InvalidRequestError(
                f"'{given[0]}' and '{given[1]}' both say what the text must be",
                param=given[1],
                hint="Leave out one of them.",
            )
        return next(iter(given), None)

    def parameters(self) -> dict[str, Any]:
        """The generation parameters that were given, by our names. Where one is a format, checking
        it takes time.

        Raises:
            InvalidRequestError: one is out of its range.
        """
        _ = self.asks_for_format
        written = {_NAMES[key]: key for key in _NAMES if getattr(self, key, None) is not None}
        given = {ours: getattr(self, key) for ours, key in written.items()} | self._tools()
        if "stop_sequences" in given:
            given["stop_sequences"] = self._stops()
        given = {name: value for name, value in given.items() if value not in (None, [])}
        try:
            GenerationParameters.model_validate(given, context={"rendered": True})
        except ValidationError as error:
            if (format := self.asks_for_format) and error.errors()[0]["loc"][:1] == ("format",):
                raise wrong_format(error, format) from None
            raise invalid_request(error, written) from None
        for name in ("temperature", "top_p"):
            if self.choices > 1 and getattr(self, name) == 0:
                raise InvalidRequestError(
                    f"'n' is {self.n}, and {name} 0 gives the same text each time", param="n"
                )
        return given

    def _tools(self) -> dict[str, Any]:
        """The tools that may be called, and which must be."""
        return {}

    def _stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > _MAX_STOPS:
            raise InvalidRequestError(f"'stop' has more than {_MAX_STOPS} sequences", param="stop")
        return [stop for stop in stops if stop]

    def own_seed(self) -> int | None:
        """The seed as one of ours."""
        return None if self.seed is None else self.seed % (MAX_SEED + 1)


def _prompts(value: Any) -> list[str] | list[list[int]]:
    """The prompts that a value says: one or several, as texts or as the ids of their tokens.

    Raises:
        InvalidRequestError: it says something else.
    """
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        raise _wrong("prompt", "a text, a list of ids of tokens, or a list of such", value)
    if any(isinstance(each, str) for each in value):
        for at, each in enumerate(value):
            if not isinstance(each, str):
                raise _wrong(f"prompt[{at}]", "a text, as others are", each)
        return value
    if value and not any(isinstance(each, list) for each in value):
        return [_token_ids(value, "prompt")]
    return [_token_ids(each, f"prompt[{at}]") for at, each in enumerate(value)]


def _token_ids(value: Any, param: str) -> list[int]:
    if not isinstance(value, list):
        raise _wrong(param, "a list of ids of tokens", value)
    ids = [_whole(each) for each in value]
    for at, each in enumerate(ids):
        if type(each) is not int or not 0 <= each <= _MAX_TOKEN_ID:
            raise _wrong(f"{param}[{at}]", "the id of a token", each)
    return ids


def _wrong(param: str, wanted: str, value: Any) -> InvalidRequestError:
    return InvalidRequestError(f"'{param}' must be {wanted}, and it is {show(value)}", param=param)


class CompletionRequest(BaseCompletionRequest):
    """A text to go on with."""

    prompt: Annotated[
        list[str] | list[list[int]],
        PlainValidator(
            _prompts, json_schema_input_type=str | list[int] | list[str] | list[list[int]]
        ),
    ] = Field(description="The text, or the ids of its tokens; or several of these.")
    echo: bool | None = Field(None, description="Whether the text begins with the prompt.")
    logprobs: Alternatives | None = Field(
        None,
        description="Tell log-probabilities, of the prompt's tokens too if it is echoed, and so "
        "many of the likeliest tokens in each place.",
    )

    @property
    def wants_logprobs(self) -> bool:
        return self.logprobs is not None

    def parameters(self) -> dict[str, Any]:
        if self.echo and (format := self.asks_for_format) is not None:
            raise InvalidRequestError(
                f"with '{format}' the text has no prompt before it, and 'echo' is true",
                param="echo",
                hint="Leave out 'echo'.",
            )
        given = super().parameters()
        if self.logprobs is None:
            return given
        if not self.echo:
            return {**given, "logprobs": self.logprobs}
        if self.stream and self.choices > 1:
            raise InvalidRequestError(
                f"'n' is {self.n}, and a stream with echo and logprobs has one choice for a prompt",
                param="n",
            )
        return {**given, "logprobs": self.logprobs, "prompt_logprobs": self.logprobs}

    @property
    def is_of_tokens(self) -> bool:
        """Whether prompts are lists of tokens."""
        return not isinstance(self.prompt[0], str)

    def prompts(self) -> list[str] | list[list[int]]:
        if not self.prompt:
            raise InvalidRequestError("'prompt' is empty: there is no text in it", param="prompt")
        if len(self.prompt) * self.choices > _MAX_CHOICES:
            raise InvalidRequestError(
                f"{len(self.prompt)} prompts with {self.choices} choices each are too much at once",
                param="prompt",
                hint=f"{_MAX_CHOICES} choices are the most.",
            )
        return self.prompt


class ChatRequest(BaseCompletionRequest):
    """A conversation to reply to."""

    messages: list[dict[str, Any]] = Field(
        fail_fast=True,
        description="Each with role (system, developer, user, assistant or tool) and content.",
    )
    max_completion_tokens: MaxTokens | None = Field(None, description="The same as max_tokens.")
    logprobs: bool | None = Field(None, description="Tell log-probabilities of the reply's tokens.")
    top_logprobs: Alternatives | None = Field(
        None, description="How many of the likeliest tokens are told in each place."
    )
    enable_thinking: bool | None = Field(
        None, description="Whether the model thinks before it replies."
    )
    thinking_budget: Annotated[int, Field(ge=0), WHOLE] | None = Field(
        None, description="End a thought after so many tokens; 0 is at once."
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="For templates that read it; none is enable_thinking: false."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the model's chat template, by name."
    )
    continue_final_message: bool | None = Field(
        None, description="Whether the last message is the assistant's, which is continued anyway."
    )
    add_generation_prompt: bool | None = Field(
        None, description="Whether the reply is a message of its own: the last is not one."
    )
    tools: Tools = ()
    tool_choice: ToolChoice = None
    parallel_tool_calls: bool | None = Field(
        None, description="Whether a reply may call several tools; true if unset."
    )

    @property
    def wants_logprobs(self) -> bool:
        return bool(self.logprobs)

    @property
    def may_call(self) -> bool:
        return bool(self.tools) and self.tool_choice != "none"

    def parameters(self) -> dict[str, Any]:
        given = super().parameters()
        if self.logprobs:
            given["logprobs"] = self.top_logprobs or 0
        elif self.top_logprobs:
            raise InvalidRequestError(
                "'top_logprobs' has no effect without 'logprobs'",
                param="top_logprobs",
                hint="Set 'logprobs' to true.",
            )
        variables = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort == "none" and "enable_thinking" not in {**given, **variables}:
            given["enable_thinking"] = False
        elif self.reasoning_effort is not None:
            given["chat_template_kwargs"] = {"reasoning_effort": self.reasoning_effort, **variables}
        return given

    def _tools(self) -> dict[str, Any]:
        tools, choice = chosen(described(self.tools), self.tool_choice)
        return {"tools": tools, "tool_choice": choice} if tools else {}

    def conversation(self) -> list[Message]:
        if not self.messages:
            raise InvalidRequestError("'messages' is empty", param="messages")
        reader = MessageReader()
        found = [_message(reader, each, f"messages[{at}]") for at, each in enumerate(self.messages)]
        is_continued = found[-1]["role"] == "assistant"
        self._check_end("continue_final_message", self.continue_final_message, is_continued)
        self._check_end("add_generation_prompt", self.add_generation_prompt, not is_continued)
        return found

    @staticmethod
    def _check_end(param: str, asked: bool | None, is_so: bool) -> None:
        if asked not in (None, is_so):
            raise InvalidRequestError(
                f"'{param}' is {show(asked)}, and the last message says otherwise",
                param=param,
                hint="A last message of the assistant's is continued, and any other replied to.",
            )


def _supported(data: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what asks for nothing.

    Raises:
        InvalidRequestError: it asks for something that is not offered.
    """
    asked = {key: value for key, value in data.items() if not _asks_for_nothing(key, value, known)}
    for key in asked:
        if key in known:
            continue
        if key not in _NOT_OFFERED:
            hint = did_you_mean(key, known) or "Leave it out."
            raise InvalidRequestError(f"there is no parameter '{key}'", param=key, hint=hint)
        raise InvalidRequestError(
            f"'{key}' is not offered here, and its value {show(asked[key])} asks for it",
            param=key,
            hint=_INSTEAD.get(key, "Leave it out."),
        )
    return asked


def _asks_for_nothing(key: str, value: Any, known: Container[str]) -> bool:
    values = () if key in _OF_TOOLS and key in known else _NOT_OFFERED.get(key, ())
    # False and 0 are different values.
    nothing = [(each, isinstance(each, bool)) for each in values]
    return key in _HARMLESS or (value, isinstance(value, bool)) in nothing


def _message(reader: MessageReader, given: Mapping[str, Any], param: str) -> Message:
    if not isinstance(given.get("content"), str | list | None):
        raise InvalidRequestError(f"{param}: the content must be text", param=f"{param}.content")
    try:
        return reader.read(with_own_ids(given))
    except ConversionError as error:
        param_of = param if error.key is None else f"{param}.{error.key}"
        raise InvalidRequestError(f"{param}: {error}", param=param_of, hint=error.hint) from None


class Model(Answer):
    """A model that can be spoken to."""

    id: str
    object: str = "model"
    created: int
    owned_by: str


class ModelList(Answer):
    """The models of the components served, whether they are in memory or not."""

    object: str = "list"
    data: list[Model]


class Usage(Answer):
    """Tokens of a request."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]
    completion_tokens_details: dict[str, int]


class Completion(Answer):
    """Texts, or with ``messages`` in place of them the replies of a chat."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage
