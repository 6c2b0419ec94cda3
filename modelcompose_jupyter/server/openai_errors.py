"""Errors of requests as OpenAI's clients expect them: statuses, codes, and the parameter meant."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ValidationError

from ..document import explain
from ..document.types import show
from ..errors import ComposeError, UsageError
from ..path_redaction import without_folders
from .http import status_of
from .schemas import Answer


class InvalidRequestError(UsageError):
    """A request that cannot be met as it is. ``param`` names what is wrong with it, if one does."""

    code = "invalid_request"

    def __init__(self, message: str, *, param: str | None = None, **details: Any) -> None:
        super().__init__(message, **details)
        self.param = param


def invalid_request(
    error: ValidationError, written: Mapping[str, str], model: type[BaseModel] | None = None
) -> InvalidRequestError:
    """The first finding of a validation. ``written`` has the caller's name for each of ours; of a
    ``model`` both ends of a range are told."""
    details = error.errors()[0]
    name = str(next(iter(details["loc"]), details.get("ctx", {}).get("key", "")))
    param = written.get(name, name)
    if details["type"] == "missing":
        return InvalidRequestError(f"'{param}' is missing", param=param)
    text, hint = explain(param, {**details})
    if details["type"] in ("greater_than_equal", "less_than_equal") and model is not None:
        low, high = _range(model, name)
        if high is not None:
            text = f"'{param}' must be from {low} to {high}, and it is {show(details['input'])}"
    return InvalidRequestError(text, param=param, hint=hint)


def _range(model: type[BaseModel], name: str) -> tuple[Any, Any]:
    """The ends of a number's range, as the schema of its model has them; None where it has none."""
    schema = model.model_json_schema()["properties"][name]
    kinds = schema.get("anyOf", [schema])
    ends = {end: kind[end] for kind in kinds for end in ("minimum", "maximum") if end in kind}
    return ends.get("minimum"), ends.get("maximum")


_CODES = {
    "busy": "rate_limit_exceeded",
    "unauthorized": "invalid_api_key",
    "unknown_model": "model_not_found",
    "internal": "internal_error",
}


def error_body(error: ComposeError, is_guest: bool) -> dict[str, Any]:
    """An error as OpenAI's clients expect it."""
    text = error.message if error.hint is None else f"{error.message}. {error.hint}"
    status = status_of(error)
    kind = "invalid_request_error" if status < 500 else "server_error"
    return {
        "error": {
            "message": without_folders(text) if is_guest else text,
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
