"""Scores of many texts: `Workflow.score`. A text that is scored is a row, with its inputs."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from os import PathLike
from typing import Any

from ..document import Input, Signature
from ..errors import ComposeError, InputError
from ..table import Table, data_frame, one_line_each
from ..token_html import token_html
from ..workflow import Run, Runnable, RunOptions, Token
from .row_stream import RowStream

_ROWS_SHOWN = 20
_TEXT_LENGTH = 120


@dataclass(frozen=True)
class Score:
    """How likely a model holds a text behind its prompt.

    Attributes:
        text: the text, as its tokens write it.
        logprob: the sum of the tokens' natural log-probabilities.
        perplexity: the exponential of minus their mean; None for a text without tokens.
        tokens: each token with its own log-probability and rank, and alternatives if any were
            asked for.
    """

    text: str
    logprob: float
    perplexity: float | None
    tokens: Sequence[Token] = field(repr=False)

    @classmethod
    def of(cls, output: Mapping[str, Any]) -> Score:
        """The score that a run gives as its output."""
        tokens = tuple(map(Token.of, output["tokens"]))
        return cls(output["text"], output["logprob"], output["perplexity"], tokens)

    def _repr_html_(self) -> str:
        return Scores([self])._repr_html_() + token_html(self.tokens)


class Scores(list[Any]):
    """Scores in the order of the texts, or a ComposeError for one that has none."""

    def to_frame(self) -> Any:
        """A DataFrame of pandas: text, logprob, tokens (how many), perplexity, error.

        Raises:
            UsageError: pandas is not installed.
        """
        return data_frame([_record(each) for each in self], columns=_COLUMNS)

    def _repr_html_(self) -> str:
        shown = self[:_ROWS_SHOWN]
        records = [_record(each) for each in shown]
        texts = one_line_each([each["text"] for each in records], _TEXT_LENGTH)
        rows = [
            [text, *(_number(each[name]) for name in _COLUMNS[1:-1]), each["error"] or ""]
            for text, each in zip(texts, records, strict=True)
        ]
        note = f"the first {len(shown)} of {len(self)} texts" if len(shown) < len(self) else ""
        failed = any(each["error"] for each in records)
        headers, width = list(_COLUMNS), len(_COLUMNS) - (not failed)
        table = Table(headers[:width], [row[:width] for row in rows], "No texts.", note)
        return table._repr_html_()


_COLUMNS = ("text", "logprob", "tokens", "perplexity", "error")


def _record(score: Score | ComposeError | None) -> dict[str, Any]:
    if isinstance(score, Score):
        values: list[Any] = [score.text, score.logprob, len(score.tokens), score.perplexity, None]
    else:
        values = [None] * 4 + [None if score is None else score.message]
    return dict(zip(_COLUMNS, values, strict=True))


def _number(value: float | None) -> str:
    if value is None:
        return ""
    return str(value) if isinstance(value, int) else f"{value:.3f}"


class Scorer:
    """A workflow whose rows have a text to be scored: the input that `Workflow.map` sees.

    Args:
        column: what the text is called among a row's inputs.
    """

    def __init__(self, workflow: Runnable, column: str, alternatives: int) -> None:
        self._workflow = workflow
        self._column = column
        self._alternatives = alternatives
        self.document = workflow.document
        own = workflow.signature
        if any(each.name == column for each in own.inputs):
            raise InputError(
                f"'{column}' is an input of the workflow, and cannot be the text to score, too",
                hint='Call it otherwise: score(rows, column="continuation").',
            )
        text = Input(column, required=True)
        self.signature: Signature = replace(own, inputs=(*own.inputs, text))

    @property
    def id(self) -> str:
        return f"{self._workflow.id}#score"

    @property
    def title(self) -> str | None:
        return self._workflow.title

    def capacity(self) -> int:
        return self._workflow.capacity()

    def start(self, values: Any, **options: Any) -> Run:
        """Start to score a row."""
        given = dict(self.signature.validate(values))
        asked: RunOptions = {"score": given.pop(self._column), "logprobs": self._alternatives}
        return self._workflow.start(given, **{**options, **asked})


def score_all(
    workflow: Runnable,
    texts: Any,
    shared: Mapping[str, Any],
    *,
    column: str,
    alternatives: int,
    save_to: str | PathLike[str] | None,
    progress: bool,
) -> Any:
    """`Workflow.score`."""
    scorer = Scorer(workflow, column, alternatives)
    is_one = isinstance(texts, str)
    rows = [texts] if is_one else texts
    stream = RowStream(scorer, rows, shared, save_to, progress and not is_one)
    outputs = stream.collect([])
    scores = Scores(
        each if isinstance(each, ComposeError | None) else Score.of(each) for each in outputs
    )
    if is_one:
        if isinstance(scores[0], ComposeError):
            raise scores[0]
        return scores[0]
    if isinstance(outputs, list):
        return scores
    if (polars := sys.modules.get("polars")) and isinstance(outputs, polars.Series):
        return polars.DataFrame([_record(each) for each in scores], infer_schema_length=None)
    return scores.to_frame().set_index(outputs.index)
