"""``model-compose`` and ``jupyter compose``: everything from a terminal.

Standard output holds the result alone; everything else goes to standard error. The exit status is
0, 1 where a run failed, 2 for bad use, a bad document or a bad input, 130 after Ctrl-C.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
from collections.abc import Sized
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from . import __version__
from .errors import ComposeError, DocumentError, ExpressionError, InputError, UsageError

if TYPE_CHECKING:
    from .callable import Workflow
    from .workflow import Run

_DEFAULT_FILES = ("model-compose.yml", "model-compose.yaml")
_STOP_SECONDS = 2.0
_BAD_USE = (DocumentError, ExpressionError, InputError, UsageError)

file_option = click.option(
    "-f", "--file", type=click.Path(), help="The document; model-compose.yml or .yaml if omitted."
)


class _Group(click.Group):
    """Turns our errors into a message and an exit status."""

    def main(self, *args: Any, **kwargs: Any) -> Any:
        for name in ("stdin", "stdout", "stderr"):
            stream = getattr(sys, name)
            if stream is None:  # closed by whoever started us
                mode = "r" if name == "stdin" else "w"
                setattr(sys, name, Path(os.devnull).open(mode))  # noqa: SIM115 - kept open
            elif name != "stdin" and isinstance(stream, io.TextIOWrapper):
                stream.reconfigure(errors="backslashreplace")
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ComposeError as error:
            click.echo(str(error), err=True)
            ctx.exit(2 if isinstance(error, _BAD_USE) else 1)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            # Whoever read standard output has gone: nothing is left to say, nor to flush at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)
        except OSError as error:
            click.echo(f"cannot go on: {error}", err=True)
            ctx.exit(1)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Run local text-generation workflows that are described in YAML."""


@main.command()
@file_option
def validate(file: str | None) -> None:
    """Check a document and say all that is wrong with it."""
    from .document import load_document

    path = _document_path(file)
    document = load_document(path)
    for warning in document.warnings:
        click.echo(f"warning: {warning}", err=True)
    click.echo(
        f"{path} is valid: {_count(document.components, 'component')}, "
        f"{_count(document.workflows, 'workflow')}",
        err=True,
    )


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
def run(
    workflow: str | None,
    file: str | None,
    inputs: tuple[str, ...],
    stream: bool,
    output: str | None,
) -> None:
    """Run a workflow and print its result: text as it is, anything else as JSON."""
    from .callable import load
    from .host import local_host

    flow = load(_document_path(file), workflow)
    values = _inputs(inputs)
    target = _writable(output)
    try:
        _run(flow, values, stream=stream, target=target)
    except KeyboardInterrupt:
        if not local_host().close(_STOP_SECONDS):
            # A load that is deep in a library cannot be stopped; the process can.
            sys.stderr.flush()
            os._exit(130)
        raise


def _run(flow: Workflow, values: dict[str, Any], *, stream: bool, target: Path | None) -> None:
    from .progress import as_text, status_line

    current = flow.submit(values)
    shows_progress = sys.stderr.isatty()
    try:
        _follow(current, stream=stream, progress=shows_progress)
    except BaseException:
        current.cancel()
        current.wait(_STOP_SECONDS)
        tokens = current.usage.get("generated", 0)
        click.echo(f"\nstopped after {tokens} tokens", err=True)
        raise
    if current.error is not None:
        raise current.error
    if target is not None:
        _write(target, as_text(current.output) + "\n")
    elif not stream:
        click.echo(as_text(current.output))
    for warning in current.warnings:
        click.echo(f"warning: {warning}", err=True)
    if shows_progress:
        click.echo(f"[{status_line(current)}]", err=True)


def _follow(current: Run, *, stream: bool, progress: bool) -> None:
    from .progress import ProgressMeter, TerminalLine

    line = TerminalLine() if progress else None
    meter = ProgressMeter()
    streamed = False
    for piece in current.follow():
        if line is not None:
            line.show("" if isinstance(piece, str) else meter.loading(piece))
        if stream and isinstance(piece, str):
            streamed = True
            sys.stdout.write(piece)
            sys.stdout.flush()
    if line is not None:
        line.show("")
    if streamed:
        click.echo()


@main.command()
@click.argument("workflow", required=False)
@file_option
@click.option("--document", is_flag=True, help="Print the JSON Schema of documents, for editors.")
def schema(workflow: str | None, file: str | None, document: bool) -> None:
    """Print a workflow's inputs and outputs as JSON."""
    from .callable import load
    from .document import json_schema
    from .progress import as_text

    described = json_schema() if document else load(_document_path(file), workflow).describe()
    click.echo(as_text(described))


@main.command()
def models() -> None:
    """List the models on this computer: those of the package, and those downloaded."""
    from .models import installed
    from .progress import as_text
    from .units import size

    found = installed()
    if not sys.stdout.isatty():
        click.echo(as_text([vars(model) for model in found]))
        return
    width = max((len(model.source) for model in found), default=0)
    for model in found:
        click.echo(f"{model.source.ljust(width)}  {size(model.size_bytes)}")


def _document_path(file: str | None) -> Path:
    if file is not None:
        return Path(file)
    for name in _DEFAULT_FILES:
        if Path(name).is_file():
            return Path(name)
    raise UsageError(
        f"there is no {' or '.join(_DEFAULT_FILES)} in {Path.cwd()}",
        hint="Name the document with -f FILE.",
    )


def _inputs(given: tuple[str, ...]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for text in given:
        if text == "-":
            values |= _json_object(sys.stdin.read(), "standard input")
        elif text.lstrip().startswith("{"):
            values |= _json_object(text, "--input")
        else:
            values |= _pair(text)
    return values


def _json_object(text: str, name: str) -> dict[str, Any]:
    value = _json(text, name)
    if not isinstance(value, dict):
        raise UsageError(f"{name} must be a JSON object", hint='For example {"prompt": "…"}.')
    return value


def _json(text: str, name: str) -> Any:
    try:
        return json.loads(text)
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


def _count(things: Sized, noun: str) -> str:
    return f"{len(things)} {noun}{'' if len(things) == 1 else 's'}"


if __name__ == "__main__":
    main()
