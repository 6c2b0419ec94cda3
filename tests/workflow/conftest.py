"""A host with scripted models."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from standins.scripted import ScriptedModels

from modelcompose_jupyter import LocalHost


@pytest.fixture
def models() -> ScriptedModels:
    return ScriptedModels()


@pytest.fixture
def host(models: ScriptedModels) -> Iterator[LocalHost]:
    host = LocalHost(models)  # type: ignore[arg-type]
    yield host
    host.close()
