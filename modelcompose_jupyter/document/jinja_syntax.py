"""The syntax of chat templates, which are Jinja: whether a text is one that can be read."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

from jinja2 import Environment, TemplateSyntaxError, nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser

MOST_SOURCE = 128 << 10
"""Characters of a chat template; the longest that there are have about 30,000."""


class Generation(Extension):
    """``{% generation %}``: what the assistant says, which only those who train ask for."""

    tags = {"generation"}  # noqa: RUF012 - as jinja has it

    def parse(self, parser: Parser) -> nodes.Node:
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_said"), [], [], body).set_lineno(line)

    def _said(self, caller: Callable[[], str]) -> str:
        return caller()


EXTENSIONS = (Generation, LoopControlExtension)
"""What chat templates may have beside Jinja's own."""


@lru_cache(maxsize=16)
def flaw(source: str) -> str | None:
    """Why a text is no chat template; None where it is one. Nothing of it is run."""
    if len(source) > MOST_SOURCE:
        return f"it has {len(source):,} characters, and {MOST_SOURCE:,} are the limit"
    try:
        Environment(extensions=EXTENSIONS).parse(source)
    except TemplateSyntaxError as error:
        return f"{error.message} (line {error.lineno})"
    except (RecursionError, MemoryError):
        return "it is nested too deeply"
    return None
