"""The parameters of generation: their names, types and ranges, for documents and for requests."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, Field, WithJsonSchema, model_validator
from pydantic_core import PydanticCustomError

from ..errors import listed
from ..seeds import MAX_SEED
from . import tool_definitions, types
from .fields import (
    SWITCH,
    Boolean,
    FilledText,
    Integer,
    Names,
    Number,
    OneOrMore,
    Strict,
    TemplateOr,
    converting,
)
from .format import Format

MAX_STOPS = 64
"""OpenAI's interface takes 4, people's lists reach a dozen. All are looked for after each token."""
MAX_STOP_LENGTH = 256
"""Characters of a stop sequence; they are ends of turns and headings."""
MAX_LOGPROBS = 20
"""Alternatives of a token, as in OpenAI's interface."""
MAX_VARIABLES = 1_000
"""Values in ``chat_template_kwargs``, those in lists and mappings included; switches are a few."""
MAX_VARIABLES_LENGTH = 100_000
"""Characters in ``chat_template_kwargs``; descriptions of many tools have some 10,000."""
MAX_VARIABLES_DEPTH = 20
"""Of lists and mappings in ``chat_template_kwargs``; JSON schemas of tools reach about ten."""


def _early_stopping(value: Any) -> Any:
    if value == "never":
        return value
    try:
        return types.boolean(value)
    except types.ConversionError:
        raise PydanticCustomError("conversion", "expected true, false or never") from None


def _thinking(value: Any) -> Any:
    if value == "auto":
        return value
    try:
        return types.boolean(value)
    except types.ConversionError:
        raise PydanticCustomError("conversion", "expected true, false or auto") from None


THINKING_SWITCHES = ("enable_thinking", "thinking")
"""What chat templates call the variable that says whether the model thinks."""

# What the library that renders templates takes for itself.
_TAKEN = frozenset(
    (
        "messages", "conversation", "tools", "documents", "chat_template", "tokenize",
        "add_generation_prompt", "continue_final_message", "sanitize_control_tokens", "padding",
        "truncation", "max_length", "return_tensors", "return_dict",
        "return_assistant_tokens_mask", "tokenizer_kwargs", "self",
    )
)  # fmt: skip


def _template_variables(value: Any) -> Any:
    if not isinstance(value, dict):
        raise types.ConversionError(
            f"it is a mapping of variables, such as {{enable_thinking: false}}, and not"
            f" {types.show(value)}"
        )
    for name in value:
        if not isinstance(name, str) or not name.isidentifier():
            raise types.ConversionError(f"{types.show(name)} is no name of a template's variable")
        if name in _TAKEN:
            raise types.ConversionError(f"'{name}' is not a variable that can be set")
    _check_size(value)
    return value


def _check_size(variables: dict[str, Any]) -> None:
    """Raise a ConversionError for variables that are more than a template has switches."""
    count = length = 0
    left: list[tuple[Any, int]] = [(variables, 1)]
    while left:
        value, depth = left.pop()
        count += 1
        length += len(value) if isinstance(value, str) else 0
        if isinstance(value, dict | list):
            within = value.values() if isinstance(value, dict) else value
            length += sum(len(key) for key in value if isinstance(key, str))
            left += [(each, depth + 1) for each in within] if len(value) <= MAX_VARIABLES else []
            count += len(value) if len(value) > MAX_VARIABLES else 0
        for many, most, what in (
            (count, MAX_VARIABLES, "values"),
            (length, MAX_VARIABLES_LENGTH, "characters"),
            (depth, MAX_VARIABLES_DEPTH, "levels"),
        ):
            if many > most:
                raise types.ConversionError(f"it has more than {most} {what}")


def _few_stops(value: Any) -> Any:
    if isinstance(value, list) and len(value) > MAX_STOPS:
        raise types.ConversionError(
            f"there are {len(value)} of them, and at most {MAX_STOPS} are taken"
        )
    return value


StopSequence = Annotated[FilledText, Field(max_length=MAX_STOP_LENGTH)]
StopSequences = Annotated[
    list[StopSequence],
    Field(min_length=1, max_length=MAX_STOPS),
    OneOrMore(),
    converting(_few_stops),
]


TemplateVariables = Annotated[dict[str, Any], converting(_template_variables)]

_DESCRIBED = {"type": "object", "required": ["function"]}
Tools = Annotated[
    list[Any],
    converting(tool_definitions.tools),
    WithJsonSchema({"type": "array", "items": {"anyOf": [{"type": "string"}, _DESCRIBED]}}),
    OneOrMore(),
]
ToolChoice = Annotated[str, converting(tool_definitions.tool_choice)]


class GenerationParameters(Strict):
    """What one request asks of the generation. A parameter that is None was not given.

    Lengths count tokens. Names follow model-compose where it has them, transformers elsewhere.
    """

    do_sample: Annotated[Boolean, TemplateOr()] | None = Field(
        None, description="Draw tokens at random (true) or take the most likely one (false)."
    )
    temperature: Annotated[Number, Field(ge=0), TemplateOr()] | None = Field(
        None, description="How random the draw is; 0 takes the most likely token. 0.7 if unset."
    )
    top_k: Annotated[Integer, Field(ge=0), TemplateOr()] | None = Field(
        None, description="Draw among so many most likely tokens; 0 is all. 50 if unset."
    )
    top_p: Annotated[Number, Field(ge=0, le=1), TemplateOr()] | None = Field(
        None,
        description="Draw among the likeliest tokens that reach this share; 0 takes the most "
        "likely token. 0.9 if unset.",
    )
    min_p: Annotated[Number, Field(ge=0, le=1), TemplateOr()] | None = Field(
        None, description="Drop tokens less likely than this share of the likeliest one."
    )
    # Scores are multiplied and divided by it, and must stay finite in the models' precision.
    repetition_penalty: Annotated[Number, Field(ge=0.001, le=1000), TemplateOr()] | None = Field(
        None, description="Above 1 makes tokens that occurred before less likely."
    )
    num_beams: Annotated[Integer, Field(ge=1, le=256), TemplateOr()] | None = Field(
        None, description="Search so many continuations side by side; 1 is no beam search."
    )
    # The exponent of a length.
    length_penalty: Annotated[Number, Field(ge=-100, le=100), TemplateOr()] | None = Field(
        None, description="With beams: above 0 favours longer texts, below 0 shorter ones."
    )
    early_stopping: (
        Annotated[bool | Literal["never"], BeforeValidator(_early_stopping), SWITCH, TemplateOr()]
        | None
    ) = Field(None, description="With beams: stop when enough of them have ended.")
    num_return_sequences: Annotated[Integer, Field(ge=1, le=256), TemplateOr()] | None = Field(
        None, description="How many texts for a prompt; above 1 the output is a list."
    )
    min_output_length: Annotated[Integer, Field(ge=1), TemplateOr()] | None = Field(
        None, description="Generate at least so many tokens."
    )
    max_output_length: Annotated[Integer, Field(ge=0), TemplateOr()] | None = Field(
        None,
        description="Generate at most so many tokens; 0 is none. "
        "If unset, until the model stops or its context ends.",
    )
    max_input_length: Annotated[Integer, Field(ge=1), TemplateOr()] | None = Field(
        None, description="Keep at most so many tokens of the prompt."
    )
    stop_sequences: Annotated[StopSequences, TemplateOr()] | None = Field(
        None, description="End before the first of these texts; it is not part of the result."
    )
    seed: Annotated[Integer, Field(ge=0, le=MAX_SEED), TemplateOr()] | None = Field(
        None, description="The same seed gives the same text. If unset, one is drawn and reported."
    )
    include_prompt: Annotated[Boolean, TemplateOr()] | None = Field(
        None, description="Whether the text begins with the prompt. true if unset."
    )

    format: Annotated[Format, TemplateOr()] | None = Field(
        None,
        description="What the text must be: JSON of a schema, one of some choices, a regex.",
        examples=["json"],
    )

    tools: Annotated[Tools, TemplateOr(), Names("function")] | None = Field(
        None,
        description="What a chat's model may call: Python functions by their names, or tools that "
        "are described as for OpenAI's interface.",
    )
    tool_choice: Annotated[ToolChoice, TemplateOr()] | None = Field(
        None,
        description="Whether it calls: auto if unset, none, required, or the name of a tool.",
        examples=list(tool_definitions.CHOICES),
    )
    parallel_tool_calls: Annotated[Boolean, TemplateOr()] | None = Field(
        None, description="Whether a reply may call several tools. true if unset."
    )
    max_tool_rounds: Annotated[Integer, Field(ge=0, le=100), TemplateOr()] | None = Field(
        None,
        description="How often it may call functions before it has to answer. 8 if unset.",
    )
    tool_timeout: Annotated[Number, Field(gt=0, le=86_400), TemplateOr()] | None = Field(
        None, description="Seconds after which a function's result is not waited for. 60 if unset."
    )

    logprobs: Annotated[Integer, Field(ge=0, le=MAX_LOGPROBS), TemplateOr()] | None = Field(
        None,
        description="Tell the log-probability of each generated token, and so many of the "
        "likeliest ones in its place.",
    )
    prompt_logprobs: Annotated[Integer, Field(ge=0, le=MAX_LOGPROBS), TemplateOr()] | None = Field(
        None, description="The same of the prompt's tokens, which are all read again for it."
    )

    thinking: (
        Annotated[bool | Literal["auto"], BeforeValidator(_thinking), SWITCH, TemplateOr()] | None
    ) = Field(
        None,
        description="Whether a chat's model thinks before it replies; auto leaves it to the model.",
    )
    thinking_budget: Annotated[Integer, Field(ge=0), TemplateOr()] | None = Field(
        None, description="End a thought after so many tokens; 0 is at once."
    )
    enable_thinking: Annotated[Boolean, TemplateOr()] | None = Field(
        None, description="The same as thinking, by the name that most templates have for it."
    )
    chat_template_kwargs: Annotated[TemplateVariables, TemplateOr()] | None = Field(
        None, description="Further variables of a chat's template, by name."
    )

    @model_validator(mode="after")
    def _values_agree(self) -> GenerationParameters:
        variables: Any = self.chat_template_kwargs  # or a template of them
        named = set(THINKING_SWITCHES) & set(variables if isinstance(variables, dict) else ())
        if named and (self.enable_thinking, self.thinking) != (None, None):
            raise PydanticCustomError(
                "together",
                "'{key}' stands in 'chat_template_kwargs' and beside it",
                {"key": min(named)},
            )
        if self.enable_thinking is not None and self.thinking is not None:
            raise PydanticCustomError(
                "together",
                "'enable_thinking' is another name of 'thinking', which stands beside it",
                {"key": "enable_thinking"},
            )
        if self.format is not None:
            self._fits_format()
        if self.thinking_budget is not None and isinstance(self.num_beams, int):
            self._fits_budget(self.num_beams)
        self._check_tools()
        shortest, longest = self.min_output_length, self.max_output_length
        if isinstance(shortest, int) and isinstance(longest, int) and shortest > longest:
            raise PydanticCustomError(
                "together",
                "min_output_length {shortest} is above max_output_length {longest}",
                {"key": "min_output_length", "shortest": shortest, "longest": longest},
            )
        return self

    def _fits_budget(self, num_beams: int) -> None:
        if num_beams > 1:
            raise PydanticCustomError(
                "together",
                "a beam search cannot hold to 'thinking_budget': leave out one of them",
                {"key": "num_beams"},
            )

    def _fits_format(self) -> None:
        if self.include_prompt is True:
            raise PydanticCustomError(
                "together",
                "with 'format' the text has no prompt before it, and 'include_prompt' is true",
                {"key": "include_prompt"},
            )
        if isinstance(self.num_beams, int) and self.num_beams > 1:
            raise PydanticCustomError(
                "together",
                "a beam search cannot hold to 'format': leave out one of them",
                {"key": "num_beams"},
            )

    def _check_tools(self) -> None:
        tools, choice, beams = self.tools, self.tool_choice, self.num_beams
        if not isinstance(tools, list):
            return
        if isinstance(beams, int) and beams > 1:
            raise PydanticCustomError(
                "together",
                "a beam search cannot hold to calls of 'tools': leave out one of them",
                {"key": "num_beams"},
            )
        names = [tool_definitions.name_of(each) for each in tools]
        is_known = choice is None or choice in (*tool_definitions.CHOICES, *names)
        if not is_known and "${" not in str(choice):
            raise PydanticCustomError(
                "together",
                "'tool_choice' names '{choice}', and 'tools' has {names}",
                {"key": "tool_choice", "choice": choice, "names": listed(names) or "none"},
            )

    @property
    def wants_thinking(self) -> bool | None:
        """Whether the model is to think; None leaves it to the model and its template."""
        asked = self.enable_thinking if self.thinking is None else self.thinking
        return asked if isinstance(asked, bool) else None

    def given(self) -> dict[str, Any]:
        """The parameters that were given, by name."""
        values = ((name, getattr(self, name)) for name in PARAMETER_NAMES)
        return {
            name: value.plain() if isinstance(value, Format) else value
            for name, value in values
            if value is not None
        }


PARAMETER_NAMES = tuple(GenerationParameters.model_fields)

SLIDER_RANGES: dict[str, tuple[float, float, float]] = {
    "temperature": (0, 2, 0.05),
    "top_k": (0, 200, 1),
    "top_p": (0, 1, 0.01),
    "min_p": (0, 1, 0.01),
    "repetition_penalty": (0.5, 2, 0.05),
    "length_penalty": (-2, 2, 0.1),
}
"""The minimum, maximum and step of the values that people try, for forms; others are allowed."""
