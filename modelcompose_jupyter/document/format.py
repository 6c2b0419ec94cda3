"""What a text must be: JSON of a schema, one of some choices, or what a grammar allows."""

from __future__ import annotations

import json
import warnings
from collections.abc import Mapping
from functools import cached_property
from typing import Annotated, Any, Literal, get_args

from pydantic import Field, ValidationInfo, field_validator, model_validator
from pydantic_core import PydanticCustomError

from . import grammars, types
from .fields import Boolean, FilledText, OneOrMore, Strict, TemplateOr

MAX_CHOICES = 10_000

Kind = Literal["json_schema", "json", "regex", "choices", "grammar"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Choices = Annotated[list[FilledText], Field(min_length=1, max_length=MAX_CHOICES), OneOrMore()]

with warnings.catch_warnings():
    warnings.simplefilter("ignore", UserWarning)  # `json` is a deprecated method of pydantic's

    class Format(Strict):
        """What a text must be. It has exactly one of these keys."""

        json_schema: Annotated[Any, Field(description="JSON of this schema.")] = None
        json: Annotated[Boolean, TemplateOr()] | None = Field(  # type: ignore[assignment]
            None, description="true: JSON, whatever its form."
        )
        regex: Annotated[FilledText, TemplateOr()] | None = Field(
            None, description="What this regular expression matches whole."
        )
        choices: Annotated[Choices, TemplateOr()] | None = Field(
            None, description="One of these texts."
        )
        grammar: Annotated[FilledText, TemplateOr()] | None = Field(
            None, description="What this grammar in Lark's notation allows, from its rule 'start'."
        )

        @field_validator("json")
        @classmethod
        def _only_true(cls, value: Any) -> Any:
            if value is False:
                raise PydanticCustomError("conversion", "'json' is true or left out")
            return value

        @model_validator(mode="after")
        def _is_one(self, info: ValidationInfo) -> Format:
            given = self.plain()
            if len(given) != 1:
                raise PydanticCustomError(
                    "conversion",
                    "a format has one of {keys}, and this one has {count}",
                    {"keys": ", ".join(Format.model_fields), "count": str(len(given))},
                )
            if not has_template(given) or (info.context or {}).get("rendered"):
                try:
                    _ = self.llguidance
                except types.ConversionError as error:
                    raise PydanticCustomError(
                        "conversion", "{reason}", {"reason": str(error)}
                    ) from None
            return self

        def plain(self) -> dict[str, Any]:
            """It as it is written, without what is not given."""
            values = ((name, getattr(self, name)) for name in Format.model_fields)
            return {name: value for name, value in values if value is not None}

        @property
        def kind(self) -> Kind:
            """Which key it has."""
            (kind,) = (kind for kind in KINDS if getattr(self, kind) is not None)
            return kind

        @property
        def is_json(self) -> bool:
            """Whether its texts are JSON, and what comes of one is its value."""
            return self.kind in ("json_schema", "json")

        @cached_property
        def llguidance(self) -> str:
            """Its grammar, as the llguidance library takes it.

            Raises:
                ConversionError: it has none; only where it holds templates that were not rendered.
            """
            value = self.plain()[self.kind]
            if self.kind == "json":
                return grammars.of_schema({"type": ["object", "array"]})
            of = {
                "json_schema": grammars.of_schema,
                "regex": grammars.of_regex,
                "choices": grammars.of_choices,
                "grammar": grammars.of_grammar,
            }[self.kind]
            return of(value)

        def value(self, text: str) -> Any:
            """What a text of this format says: the value of JSON, else the text.

            Raises:
                ValueError: it is no JSON, as where it was cut.
            """
            return json.loads(text) if self.is_json else text


def has_template(value: Any) -> bool:
    """Whether a text within a value holds an expression."""
    rest = [value]
    while rest:
        each = rest.pop()
        if isinstance(each, str) and "${" in each:
            return True
        if isinstance(each, Mapping):
            rest += [*each, *each.values()]
        elif isinstance(each, list | tuple):
            rest += each
    return False
