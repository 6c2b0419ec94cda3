"""``run``: a workflow from a terminal, here or on a host that is up."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..terminal import TerminalLine, for_terminal
from ..text_encoding import EncodingError, decode, without_mark
from .group import document_path, file_option, main, workflow_and_file

if TYPE_CHECKING:
    from ..callable import Workflow

_STOP_SECONDS = 2.0


@main.command()
@click.argument("workflow", required=False)
@file_option
@click.option(
    "-i",
    "--input",
    "inputs",
    multiple=True,
    metavar="INPUT",
    help="A JSON object, key=text, key:=json, or - for a JSON object on standard input. "
    "May be repeated; later ones win.",
)
@click.option("--stream", is_flag=True, help="Print the text as it comes instead of the result.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the result there.")
@click.option("--local", is_flag=True, help="Run it in this process, whatever else is up.")
def run(
    workflow: str | None,
    file: str | None,
    inputs: tuple[str, ...],
    stream: bool,
    output: str | None,
    local: bool,
) -> None:
    """Run a workflow and print its result: text as it is, anything else as JSON.

    A host of yours that serves the document runs it, where there is one ('model-compose up'): its
    models are in memory already. Else this process does.
    """
    began = time.time()
    with TerminalLine() if sys.stderr.isatty() else nullcontext() as line:
        if line is not None:
            line.show("Starting")  # what is imported now takes a while the first time
        from ..callable import load
        from ..host import LocalHost, local_host

        workflow, file = workflow_and_file(workflow, file)
        flow = load(document_path(file), workflow, host=local_host() if local else None)
        values = _inputs(inputs)
        target = _writable(output)
        host = flow.host
        if line is not None and not isinstance(host, LocalHost):
            line.show("")
            click.echo(f"on {host}", err=True)
        try:
            _run(flow, values, line, began, stream=stream, target=target)
        except KeyboardInterrupt:
            if not host.close(_STOP_SECONDS):
                # A load that is deep in a library cannot be stopped; the process can.
                sys.stderr.flush()
                os._exit(130)
            raise


def _run(
    flow: Workflow,
    values: dict[str, Any],
    line: TerminalLine | None,
    began: float,
    *,
    stream: bool,
    target: Path | None,
) -> None:
    from ..progress import as_text, status_line
    from ..run_follower import follow, tokens_so_far

    current = flow.submit(values)
    write = for_terminal(sys.stdout) if stream else None
    try:
        follow(current, line=line, write=write, stop_seconds=_STOP_SECONDS, since=began)
    except (KeyboardInterrupt, OSError):
        click.echo(f"\nstopped{tokens_so_far(current)}", err=True)
        raise
    if target is not None:
        _write(target, as_text(current.output) + "\n")
    elif not stream:
        # JSON is to be copied: a line's end in one of its texts would break it.
        write = for_terminal(sys.stdout) if isinstance(current.output, str) else sys.stdout.write
        write(as_text(current.output) + "\n")
    for warning in current.warnings:
        click.echo(f"warning: {warning}", err=True)
    if line is not None:
        click.echo(f"[{status_line(current)}]", err=True)


def _inputs(given: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        if text == "-":
            values |= _json_object(_standard_input(), "standard input")
        elif without_mark(text).lstrip().startswith("{"):
            values |= _json_object(text, "--input")
        else:
            values |= _pair(text)
    return values


def _standard_input() -> str:
    try:
        return decode(sys.stdin.buffer.read())
    except EncodingError as error:
        raise UsageError(f"standard input cannot be read: {error}", hint=error.hint) from None


def _json_object(text: str, name: str) -> dict[str, Any]:
    value = _json(text, name)
    if not isinstance(value, dict):
        raise UsageError(f"{name} must be a JSON object", hint='For example {"prompt": "…"}.')
    return value


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(without_mark(text))
    except json.JSONDecodeError as error:
        raise UsageError(
            f"{name} is not JSON: {error.msg} (line {error.lineno}, column {error.colno})",
            hint="Keys and texts stand in double quotes; or write --input key=text.",
        ) from None
    except (ValueError, RecursionError) as error:
        what = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise UsageError(f"{name} cannot be read: {what}") from None


def _pair(text: str) -> dict[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name or name == ":":
        raise UsageError(
            f"'{text}' is no input", hint="Write key=text, key:=json or a JSON object."
        )
    if name.endswith(":"):
        return {name[:-1]: _json(value, f"the value of '{name[:-1]}'")}
    return {name: value}


def _writable(output: str | None) -> Path | None:
    """The path to write to; wrong ones are found before a run that may take long."""
    if output is None:
        return None
    path = Path(output)
    if _is_replaced(path):  # through links, but not to what a pipe is called
        path = path.resolve()
    try:
        if _is_replaced(path):
            _beside(path).touch(exist_ok=False)
            _beside(path).unlink()
        elif not os.access(path, os.W_OK):
            raise PermissionError("permission denied")
    except OSError as error:
        reason = error.strerror or str(error)
        raise UsageError(f"{path} cannot be written: {reason.lower()}") from None
    return path


def _is_replaced(path: Path) -> bool:
    """Whether a new file takes the place of what is there: not of a pipe or a device."""
    return path.is_file() or not path.exists()


def _beside(path: Path) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.tmp")


def _write(path: Path, text: str) -> None:
    """Write a file whole or not at all; a pipe or a device as it comes."""
    if not _is_replaced(path):
        path.write_text(text, encoding="utf-8")
        return
    fresh = _beside(path)
    try:
        fresh.write_text(text, encoding="utf-8")
        if path.exists():
            shutil.copymode(path, fresh)
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
