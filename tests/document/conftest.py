"""What the tests of the language share: short documents, and what is wrong with them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from modelcompose_jupyter.document import Document, load_document
from modelcompose_jupyter.errors import DocumentError, Problem

HEAD = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
"""


@pytest.fixture
def component() -> Callable[..., Document]:
    """Loads a document with one component that has these lines in it."""

    def load(lines: str, *, environ: Mapping[str, str] | None = None) -> Document:
        indented = "".join(f"  {line}\n" for line in lines.splitlines())
        return load_document(HEAD + indented, environ=environ or {})

    return load


@pytest.fixture
def problems() -> Callable[..., list[Problem]]:
    """All that is wrong with a document."""

    def find(source: Any, *, environ: Mapping[str, str] | None = None) -> list[Problem]:
        with pytest.raises(DocumentError) as caught:
            load_document(source, environ=environ or {})
        return caught.value.problems

    return find


@pytest.fixture
def wrong_lines(problems: Callable[..., list[Problem]]) -> Callable[..., list[str]]:
    """What is wrong with a component that has these lines, each as ``LINE:COLUMN message``.

    Lines and columns are those within the lines given.
    """

    def find(lines: str, *, environ: Mapping[str, str] | None = None) -> list[str]:
        text = HEAD + "".join(f"  {line}\n" for line in lines.splitlines())
        found = problems(text, environ=environ)
        return [f"{p.where.line - 4}:{p.where.column - 2} {p.message}" for p in found]

    return find
