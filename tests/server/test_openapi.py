"""The OpenAPI document is right: nothing that it allows, or forbids, makes the server fail."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any

import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
from hypothesis.errors import Unsatisfiable
from schemathesis import GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.openapi import ALL_ROUTES, openapi_document
from modelcompose_jupyter.server.server import Server, ServerSettings

from .conftest import MANY, Client

CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_schema_conformance,
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server for all examples; what ends it, or needs a network, is left out below."""
    before = os.environ.get("JUPYTER_RUNTIME_DIR")
    os.environ["JUPYTER_RUNTIME_DIR"] = str(tmp_path_factory.mktemp("runtime"))
    host = LocalHost(ScriptedModels())  # type: ignore[arg-type]
    host.limit(max_runs=1000)
    catalog = Catalog.of(load_document(MANY))
    server = Server(host, lambda: catalog, settings=ServerSettings(port=0)).start()
    yield server
    server.close()
    host.close()
    if before is not None:
        os.environ["JUPYTER_RUNTIME_DIR"] = before


@pytest.fixture(scope="module")
def api(server: Server) -> Any:
    """The API as its own document tells it."""
    with Client(server) as client:
        document = client.get("/openapi.json").json()
    return schemathesis.openapi.from_dict(document)


@pytest.mark.parametrize("examples", [3, pytest.param(12, marks=pytest.mark.slow)])
def test_no_request_makes_it_fail(server: Server, api: Any, examples: int) -> None:
    """For each operation: requests that its schema allows, and some that it does not."""
    headers = {"Authorization": f"Bearer {server.access.owner_token}"}
    tried = 0
    for result in api.get_all_operations():
        operation = result.ok()
        if operation.path.endswith("/shutdown"):
            continue
        tried += 1
        for mode in GenerationMode:
            cases = operation.as_strategy(generation_mode=mode)

            @settings(max_examples=examples, deadline=None, suppress_health_check=list(HealthCheck))
            @given(case=cases)
            def holds(case: schemathesis.Case) -> None:
                case.call_and_validate(
                    base_url=server.origin, headers=headers, checks=CHECKS, timeout=60
                )

            with contextlib.suppress(Unsatisfiable):  # nothing to get wrong
                holds()
    assert tried == len(ALL_ROUTES) - 1


def test_every_route_is_documented() -> None:
    document = openapi_document(ALL_ROUTES, ServerSettings())
    told = {
        (method.upper(), path) for path, methods in document["paths"].items() for method in methods
    }

    expected = {(r.method, r.path if r.root else f"/api{r.path}") for r in ALL_ROUTES}
    assert told == expected
    assert all(
        operation["summary"]
        for methods in document["paths"].values()
        for operation in methods.values()
    )
