"""The command, and what its subcommands share."""

from __future__ import annotations

import gettext
import io
import os
import re
import sys
from inspect import cleandoc
from pathlib import Path
from typing import Any, TextIO

import click

from .._version import __version__
from ..errors import (
    ComposeError,
    DocumentError,
    ExpressionError,
    InputError,
    UsageError,
    one_line,
)
from ..translation import ENGLISH, LOCALES, environment_language, localized

_DEFAULT_FILES = ("model-compose.yml", "model-compose.yaml")
_DOCUMENTS = (".yml", ".yaml", ".json")
_STEERING = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f]")
_BAD_USE = (DocumentError, ExpressionError, InputError, UsageError)

file_option = click.option(
    "-f", "--file", type=click.Path(), help="The document; model-compose.yml or .yaml if omitted."
)


document_argument = click.argument("document", required=False, type=click.Path())


class Terminal:
    """A terminal that no text steers: models, documents and other programs have a part in what is
    written, and control characters move its cursor, set its title or fill its clipboard.

    Lines, tabs and returns stay, which progress is written with. What is no terminal gets all.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream

    def write(self, text: str) -> int:
        self._stream.write(_STEERING.sub("\N{REPLACEMENT CHARACTER}", text))
        return len(text)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


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
                if stream.isatty():
                    setattr(sys, name, Terminal(stream))
        _speak(self)
        return super().main(*args, **kwargs)

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except ComposeError as error:
            click.echo("\n".join(error.lines(environment_language())), err=True)
            ctx.exit(2 if isinstance(error, _BAD_USE) else 1)
        except KeyboardInterrupt:
            ctx.exit(130)
        except BrokenPipeError:
            # Whoever read standard output has gone: nothing is left to say, nor to flush at exit.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            ctx.exit(1)
        except OSError as error:
            say(f"cannot go on: {one_line(error)}")
            ctx.exit(1)


def _speak(group: click.Group) -> None:
    """Have click and its commands speak the language of the terminal."""
    if environment_language() == ENGLISH:
        return
    gettext.bindtextdomain("click", LOCALES)
    gettext.textdomain("click")
    for command in (group, *group.commands.values()):
        command.help = command.help and localized(cleandoc(command.help))
        for parameter in command.params:
            if isinstance(parameter, click.Option) and parameter.help:
                parameter.help = localized(parameter.help)


def say(text: str) -> None:
    """Say something on standard error, in the language of the terminal."""
    click.echo(localized(text), err=True)


@click.group(cls=_Group, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__)
def main() -> None:
    """Run local text-generation workflows that are described in YAML."""


def document_path(file: str | None, named: str | None = None) -> Path:
    """The path of the document that is meant: by -f, or by an argument in its place.

    Raises:
        UsageError: none is named, and there is none of the usual name; or two are.
    """
    if file is not None and named is not None:
        raise UsageError(f"two documents are named: {file} and {named}", hint="Name one.")
    if (given := file or named) is not None:
        return Path(given)
    for name in _DEFAULT_FILES:
        if Path(name).is_file():
            return Path(name)
    raise UsageError(
        f"there is no {_DEFAULT_FILES[0]} or {_DEFAULT_FILES[1]} in {Path.cwd()}",
        hint="Name the document with -f FILE.",
    )


def workflow_and_file(workflow: str | None, file: str | None) -> tuple[str | None, str | None]:
    """A workflow's id and a document's name, of which an argument may be either."""
    if file is None and workflow is not None and workflow.endswith(_DOCUMENTS):
        return None, workflow
    return workflow, file
