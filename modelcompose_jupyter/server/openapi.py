"""The API whole: all of its routes, and as an OpenAPI document made of them and their models."""

from __future__ import annotations

import re
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any

from pydantic import BaseModel, TypeAdapter

from .._version import __version__
from .http import ApiRequest, ApiResponse, Route
from .openai import OPENAI_ROUTES
from .routes import ROUTES
from .schemas import Failure
from .state import ServerSettings

_REFERENCES = "#/components/schemas/{model}"


def openapi_document(routes: Iterable[Route], settings: ServerSettings) -> dict[str, Any]:
    """The OpenAPI 3.1 document of a server."""
    schemas: dict[str, Any] = {}
    paths: dict[str, Any] = {}
    for route in routes:
        path = route.full_path(settings)
        paths.setdefault(path, {})[route.method.lower()] = _operation(route, schemas)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "modelcompose-jupyter",
            "version": __version__,
            "description": "Runs the workflows of model-compose documents on local models.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def _operation(route: Route, schemas: dict[str, Any]) -> dict[str, Any]:
    names = re.findall(r"{(\w+)}", route.path)
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}}
        for name in names
    ] + [
        {"name": name, "in": "query", "description": about, "schema": {"type": "string"}}
        for name, about in route.query.items()
    ]
    refused: dict[int, Any] = {403: Failure} if route.open else {401: Failure, 403: Failure}
    answers = {**refused, **route.answers}
    operation: dict[str, Any] = {
        "operationId": route.endpoint.__name__,
        "summary": route.summary,
        "responses": {
            str(status): _response(status, answers[status], schemas) for status in sorted(answers)
        },
        # Where no token is set, guests need none.
        "security": [] if route.open else [{"token": []}] if route.owner else [{"token": []}, {}],
    }
    if parameters:
        operation["parameters"] = parameters
    if route.body is not None:
        schema = _schema(route.body, schemas)
        kinds = ["application/json"]
        if route.forms:
            kinds += ["application/x-www-form-urlencoded", "multipart/form-data"]
        content = {kind: {"schema": schema} for kind in kinds}
        operation["requestBody"] = {"required": True, "content": content}
    return operation


def _response(status: int, model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    described: dict[str, Any] = {"description": HTTPStatus(status).phrase}
    if isinstance(model, str):  # another kind of content
        return {**described, "content": {model: {"schema": {"type": "string"}}}}
    if model is None:
        return described
    return {**described, "content": {"application/json": {"schema": _schema(model, schemas)}}}


def _schema(model: Any, schemas: dict[str, Any]) -> dict[str, Any]:
    """A model's schema; models in it go into ``schemas``."""
    is_model = isinstance(model, type) and issubclass(model, BaseModel)
    schema = TypeAdapter(model).json_schema(ref_template=_REFERENCES)
    schemas.update(schema.pop("$defs", {}))
    if not is_model:
        return schema
    schemas[model.__name__] = schema
    return {"$ref": _REFERENCES.format(model=model.__name__)}


async def openapi(request: ApiRequest) -> ApiResponse:
    return ApiResponse(openapi_document(ALL_ROUTES, request.state.settings))


ALL_ROUTES = [
    *ROUTES,
    Route("GET", "/openapi.json", openapi, "This API as OpenAPI", answers={200: dict[str, Any]}),
    *OPENAI_ROUTES,
]
