"""What goes over the wire to OpenAI's clients: the bodies that they send, and what they get.

Names, statuses and shapes are OpenAI's. What cannot be done as asked is refused, by its name.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, Self

from pydantic import ConfigDict, Field, ModelWrapValidatorHandler, ValidationError, model_validator

from ..document import GenerationParameters, explain
from ..document.parameters import MAX_SEED
from ..document.types import ROLES, Message, show
from ..errors import ComposeError, UsageError, did_you_mean
from .wire import Answer, Body, without_paths

_MAX_CHOICES = 256
_MAX_STOPS = 16

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
    "chat_template_kwargs": "chat_template_kwargs",
}
"""Our names of the parameters by OpenAI's."""

INPUTS = frozenset(("prompt", "messages", *_NAMES.values()))
"""The inputs that a request's run may have."""

# What is not offered here, each with the values that ask for nothing.
_NOT_OFFERED: dict[str, tuple[Any, ...]] = {
    "audio": (None,),
    "best_of": (None, 1),
    "frequency_penalty": (None, 0),
    "function_call": (None, "none"),
    "functions": (None, []),
    "logit_bias": (None, {}),
    "logprobs": (None, False),
    "modalities": (None, ["text"]),
    "moderation": (None,),
    "parallel_tool_calls": (None, True, False),
    "prediction": (None,),
    "presence_penalty": (None, 0),
    "response_format": (None, {"type": "text"}),
    "suffix": (None, ""),
    "tool_choice": (None, "none"),
    "tools": (None, []),
    "top_logprobs": (None, 0),
    "verbosity": (None,),
    "web_search_options": (None,),
}
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
# What a message may carry that the clients read from an earlier answer and send back.
_EMPTY_IN_MESSAGES = ("annotations", "audio", "function_call", "refusal", "tool_calls")


class Refused(UsageError):
    """A request that cannot be met as it is. ``param`` names what is wrong with it, if one does."""

    def __init__(
        self,
        message: str,
        *,
        param: str | None = None,
        hint: str | None = None,
        code: str = "invalid_request",
    ) -> None:
        super().__init__(message, hint=hint, code=code)
        self.param = param


class StreamOptions(Body):
    """How to stream."""

    include_usage: bool | None = Field(None, description="Count tokens in a last chunk.")
    include_obfuscation: bool | None = Field(None, description="Nothing is padded here.")


class Asked(Body):
    """What both kinds of completion have in common."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    model: str = Field(description="Which model; see /v1/models.")
    max_tokens: int | None = Field(
        None, description="Tokens at most. If unset, until the model stops."
    )
    temperature: float | None = Field(None, description="0.7 if unset; 0 takes the likeliest.")
    top_p: float | None = Field(None, description="0.9 if unset.")
    top_k: int | None = Field(None, description="50 if unset; 0 is all.")
    min_p: float | None = None
    repetition_penalty: float | None = None
    n: int | None = Field(None, description="How many choices for a prompt.")
    stop: str | list[str] | None = Field(None, description="End before the first of these.")
    seed: int | None = Field(None, description="The same seed gives the same choices.")
    stream: bool | None = Field(None, description="Answer with server-sent events.")
    stream_options: StreamOptions | None = None

    @model_validator(mode="wrap")
    @classmethod
    def _checked(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        """Say which parameter is wrong, in the words of a caller that knows OpenAI's."""
        given = _offered(data, cls.model_fields) if isinstance(data, dict) else data
        try:
            return handler(given)
        except ValidationError as error:
            raise _wrong(error, {}) from None

    @property
    def wants_usage(self) -> bool:
        return bool(self.stream_options and self.stream_options.include_usage)

    @property
    def choices(self) -> int:
        """How many for each prompt."""
        return self.n or 1

    def parameters(self) -> dict[str, Any]:
        """The generation parameters that were given, by our names.

        Raises:
            Refused: one is out of its range.
        """
        written = {_NAMES[key]: key for key in _NAMES if getattr(self, key, None) is not None}
        given = {ours: getattr(self, key) for ours, key in written.items()}
        if "stop_sequences" in given:
            given["stop_sequences"] = self._stops()
        given = {name: value for name, value in given.items() if value != []}
        try:
            GenerationParameters.model_validate(given, context={"rendered": True})
        except ValidationError as error:
            raise _wrong(error, written) from None
        if self.choices > 1 and self.temperature == 0:
            raise Refused(
                f"'n' is {self.n}, and temperature 0 gives the same text each time", param="n"
            )
        return given

    def _stops(self) -> list[str]:
        stops = [self.stop] if isinstance(self.stop, str) else self.stop or []
        if len(stops) > _MAX_STOPS:
            raise Refused(f"'stop' has more than {_MAX_STOPS} sequences", param="stop")
        return [stop for stop in stops if stop]

    def check_seed(self) -> int | None:
        if self.seed is not None and not 0 <= self.seed <= MAX_SEED:
            raise Refused(f"'seed' must be from 0 to {MAX_SEED}", param="seed")
        return self.seed


class CompletionRequest(Asked):
    """A text to go on with."""

    prompt: str | list[str] = Field(description="The text, or several.")
    echo: bool | None = Field(None, description="Whether the text begins with the prompt.")

    def prompts(self) -> list[str]:
        prompts = [self.prompt] if isinstance(self.prompt, str) else self.prompt
        if not prompts:
            raise Refused("'prompt' is empty: there is no text in it", param="prompt")
        if len(prompts) * self.choices > _MAX_CHOICES:
            raise Refused(
                f"{len(prompts)} prompts with {self.choices} choices each are too much at once",
                param="prompt",
                hint=f"{_MAX_CHOICES} choices are the most.",
            )
        return prompts


class ChatRequest(Asked):
    """A conversation to reply to."""

    messages: list[dict[str, Any]] = Field(
        description="Each with role (system, developer, user or assistant) and content."
    )
    max_completion_tokens: int | None = Field(None, description="The same as max_tokens.")
    enable_thinking: bool | None = Field(
        None, description="Whether the model thinks before it replies, where it has a switch."
    )
    reasoning_effort: Literal["none", "minimal", "low", "medium", "high", "xhigh"] | None = Field(
        None, description="For templates that read it; none is enable_thinking: false."
    )
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="Variables of the model's chat template, by name."
    )

    def parameters(self) -> dict[str, Any]:
        given = super().parameters()
        variables = dict(self.chat_template_kwargs or {})
        if self.reasoning_effort == "none" and "enable_thinking" not in {**given, **variables}:
            given["enable_thinking"] = False
        elif self.reasoning_effort is not None:
            given["chat_template_kwargs"] = {"reasoning_effort": self.reasoning_effort, **variables}
        return given

    def conversation(self) -> list[Message]:
        if not self.messages:
            raise Refused("'messages' is empty", param="messages")
        return [_message(each, f"messages[{at}]") for at, each in enumerate(self.messages)]


def _offered(data: dict[str, Any], known: Mapping[str, Any]) -> dict[str, Any]:
    """A body without what asks for nothing.

    Raises:
        Refused: it asks for something that is not offered.
    """
    for key, value in data.items():
        if key in known or key in _HARMLESS:
            continue
        if key not in _NOT_OFFERED:
            hint = did_you_mean(key, known) or "Leave it out."
            raise Refused(f"there is no parameter '{key}'", param=key, hint=hint)
        if not _is_one_of(value, _NOT_OFFERED[key]):
            raise Refused(
                f"'{key}' is not offered here, and its value {show(value)} asks for it",
                param=key,
                hint="Leave it out.",
            )
    prompt = data.get("prompt")
    if isinstance(prompt, list) and any(isinstance(each, int | list) for each in prompt):
        raise Refused(
            "prompts of tokens are not taken", param="prompt", hint="Send text, or a list of texts."
        )
    return {key: value for key, value in data.items() if key in known}


def _is_one_of(value: Any, known: tuple[Any, ...]) -> bool:
    """Whether a value is among these; False and 0 are different ones."""
    return any(
        value == each and isinstance(value, bool) == isinstance(each, bool) for each in known
    )


def _wrong(error: ValidationError, written: Mapping[str, str]) -> Refused:
    """The first finding of a validation; ``written`` has the caller's name for each of ours."""
    details = error.errors()[0]
    name = str(next(iter(details["loc"]), details.get("ctx", {}).get("key", "")))
    param = written.get(name, name)
    if details["type"] == "missing":
        return Refused(f"'{param}' is missing", param=param)
    text, hint = explain(param, {**details})
    return Refused(text, param=param, hint=hint)


def _message(given: Mapping[str, Any], param: str) -> Message:
    for key in given.keys() - {"role", "content", "name"}:
        if key not in _EMPTY_IN_MESSAGES:
            raise Refused(f"a message has no '{key}'", param=f"{param}.{key}")
        if given[key]:
            raise Refused(f"'{key}' of a message is not offered here", param=f"{param}.{key}")
    role = "system" if given.get("role") == "developer" else given.get("role")
    if role not in ROLES:
        what = "a message lacks its role" if role is None else f"there is no role {show(role)} here"
        roles = ", ".join([*ROLES, "developer"])
        raise Refused(what, param=f"{param}.role", hint=f"Roles are {roles}.")
    return {"role": role, "content": _content(given.get("content"), f"{param}.content")}


def _content(given: Any, param: str) -> str:
    """The text of a message, which may come in parts."""
    if isinstance(given, str):
        return given
    if not isinstance(given, list) or not given:
        raise Refused("the content of a message must be text", param=param)
    texts = []
    for part in given:
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get("text") if kind == "text" else None
        if not isinstance(text, str):
            raise Refused(
                f"a part of type {show(kind)} is not taken" if kind else "a part is no text",
                param=param,
                hint="Models here read text alone.",
            )
        texts.append(text)
    return "".join(texts)


_CODES = {
    "busy": "rate_limit_exceeded",
    "unauthorized": "invalid_api_key",
    "unknown_model": "model_not_found",
    "internal": "internal_error",
}


def error_body(error: ComposeError, status: int, public: bool) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    text = error.message if error.hint is None else f"{error.message}. {error.hint}"
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": without_paths(text) if public else text,
            "type": "rate_limit_error" if status == 429 else kind,
            "param": getattr(error, "param", None),
            "code": _CODES.get(error.code, error.code),
        }
    }


class OpenAIErrorDetails(Answer):
    """What went wrong."""

    message: str
    type: str
    param: str | None = None
    code: str | None = None


class OpenAIFailure(Answer):
    """The answer to a request that could not be met, in OpenAI's form."""

    error: OpenAIErrorDetails


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


class Completion(Answer):
    """Texts, or with ``messages`` in place of them the replies of a chat."""

    id: str
    object: str
    created: int
    model: str
    choices: list[dict[str, Any]]
    usage: Usage
