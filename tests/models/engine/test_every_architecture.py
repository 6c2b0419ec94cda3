"""Of every causal language model of transformers: whether it runs together with others.

`docs/architectures.md` has what comes of it. A load asks nobody but its own check.
"""

from __future__ import annotations

import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from standins import causal_models, tiny_models

from modelcompose_jupyter.models.engine.runner import Unsupported
from modelcompose_jupyter.models.engine.torch_runner import torch_runner

_PAGE = Path(__file__).parents[3] / "docs" / "architectures.md"
_TOGETHER = "together"
_KINDS_OF_REASONS = {
    "it keeps (a state|something else)": "a state",
    "its scores (in steps are off|depend on who else)": "other scores",
    "a check of its steps failed": "fails",
}


def outcome(kind: str) -> str:
    """The row of the table in which a model type belongs.

    Raises:
        CannotBeMade: there is no tiny model of it.
    """
    loaded: Any = SimpleNamespace(model=tiny_models.make(kind), device="cpu", cache_budget=None)
    try:
        torch_runner(loaded)
    except Unsupported as reason:
        found = [row for begin, row in _KINDS_OF_REASONS.items() if re.match(begin, str(reason))]
        return found[0] if found else str(reason)
    return _TOGETHER


def _rows() -> dict[str, set[str]]:
    """Model types of the table, by row."""
    lines = [line.split("|") for line in _PAGE.read_text("utf-8").splitlines() if "|" in line]
    rows = {line[1].strip(): line[2] for line in lines[2:]}
    return {name: set(re.findall(r"`(\w[\w-]*)`", kinds)) for name, kinds in rows.items()}


def test_the_table_has_every_model_type_once() -> None:
    named = [kind for kinds in _rows().values() for kind in kinds]
    assert sorted(named) == causal_models.kinds()


@pytest.mark.slow
@pytest.mark.parametrize("kind", causal_models.kinds())
def test_an_architecture_is_where_its_check_puts_it(
    kind: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")
    rows = _rows()
    if kind in rows["not tried"]:
        pytest.skip("there is no tiny model of it")
    assert kind in rows[outcome(kind)]
