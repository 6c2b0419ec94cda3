"""``score``: how likely a workflow's model holds given texts, in a terminal."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

import click

from ..errors import ComposeError, UsageError, one_line
from ..text_encoding import EncodingError, decode, without_mark
from ..translation import environment_language
from .group import document_path, file_option, main, workflow_and_file
from .inputs import input_option, inputs_of
from .output_file import writable
from .output_file import write as write_file

_STOP_SECONDS = 2.0


@main.command()
@click.argument("texts", nargs=-1)
@file_option
@input_option
@click.option("-w", "--workflow", help="Which of the document's workflows.")
@click.option(
    "--texts",
    "texts_file",
    metavar="FILE",
    help="More texts, one on each line; in a .jsonl file also rows with a 'text' and inputs of "
    "their own. - is standard input.",
)
@click.option("--tokens", is_flag=True, help="With the tokens, and the log-probability of each.")
@click.option(
    "--save-to",
    type=click.Path(dir_okay=False),
    help="A .jsonl or .parquet file that keeps each score as it comes; go on from it.",
)
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the result there.")
@click.option("--local", is_flag=True, help="Score in this process, whatever else is up.")
def score(
    texts: tuple[str, ...],
    file: str | None,
    inputs: tuple[str, ...],
    workflow: str | None,
    texts_file: str | None,
    tokens: bool,
    save_to: str | None,
    output: str | None,
    local: bool,
) -> None:
    """Print how likely the model holds TEXTS behind the workflow's prompt, as JSON: their natural
    log-probability, number of tokens, and perplexity. Nothing is generated.

        model-compose score -i prompt="Once upon" " a time" " the table"
    """
    rows = [*texts, *([] if texts_file is None else _rows(texts_file))]
    if not rows:
        raise UsageError("there is no text to score", hint="Give texts, or --texts FILE.")
    from ..callable import load
    from ..host import local_host
    from ..mapping.scores import Score

    name, file = workflow_and_file(workflow, file)
    flow = load(document_path(file), name, host=local_host() if local else None)
    values = inputs_of(inputs)
    target = writable(output)
    shows = sys.stderr.isatty() and len(rows) > 1
    try:
        scores = flow.score(rows, values, save_to=save_to, progress=shows)
    except KeyboardInterrupt:
        if not flow.host.close(_STOP_SECONDS):
            sys.stderr.flush()
            os._exit(130)  # a load that is deep in a library cannot be stopped; the process can
        raise
    found = [_plain(each, tokens=tokens) for each in scores]
    one = len(found) == 1 and texts_file is None
    text = json.dumps(found[0] if one else found, ensure_ascii=False, indent=2) + "\n"
    if target is not None:
        write_file(target, text)
    else:
        sys.stdout.write(text)
    failed = [each for each in scores if not isinstance(each, Score)]
    for each in failed:
        click.echo("\n".join(each.lines(environment_language())), err=True)
    if failed:
        sys.exit(1)


def _plain(score: Any, *, tokens: bool) -> dict[str, Any]:
    if isinstance(score, ComposeError):
        return {"error": score.message}
    told = [
        {"token": each.token, "id": each.id, "logprob": each.logprob, "rank": each.rank}
        for each in score.tokens
    ]
    return {
        "text": score.text,
        "logprob": score.logprob,
        "perplexity": score.perplexity,
        "tokens": told if tokens else len(told),
    }


def _rows(name: str) -> list[Any]:
    """Texts, or rows, of a file."""
    try:
        raw = sys.stdin.buffer.read() if name == "-" else Path(name).read_bytes()
        lines = without_mark(decode(raw)).splitlines()
    except EncodingError as error:
        raise UsageError(f"{name} cannot be read: {error}", hint=error.hint) from None
    except OSError as error:
        raise UsageError(f"{name} cannot be read: {one_line(error)}") from None
    if not name.endswith(".jsonl"):
        return [line for line in lines if line]
    return [_row(name, number, line) for number, line in enumerate(lines, 1) if line.strip()]


def _row(name: str, number: int, line: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"line {number} of {name} is not JSON: {one_line(error)}") from None
