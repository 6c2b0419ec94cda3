"""``run``: a workflow from a terminal, here or on a host that is up."""

from __future__ import annotations

import os
import sys
import time
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ..terminal import TerminalLine, for_terminal, for_thoughts
from ..translation import localized
from .group import document_path, file_option, main, say, workflow_and_file
from .inputs import input_option, inputs_of
from .output_file import writable
from .output_file import write as write_file

if TYPE_CHECKING:
    from ..callable import Workflow

_STOP_SECONDS = 2.0


@main.command()
@click.argument("workflow", required=False)
@file_option
@input_option
@click.option("--stream", is_flag=True, help="Print the text as it comes instead of the result.")
@click.option("-o", "--output", type=click.Path(dir_okay=False), help="Write the result there.")
@click.option("--auto-resume", is_flag=True, help="Go on as it is wherever the workflow asks.")
@click.option("--local", is_flag=True, help="Run it in this process, whatever else is up.")
def run(
    workflow: str | None,
    file: str | None,
    inputs: tuple[str, ...],
    stream: bool,
    output: str | None,
    auto_resume: bool,
    local: bool,
) -> None:
    """Run a workflow and print its result: text as it is, anything else as JSON.

    A host of yours that serves the document runs it, where there is one ('model-compose up'): its
    models are in memory already. Else this process does. What the workflow asks is asked here;
    Ctrl-C stops it.
    """
    began = time.time()
    with TerminalLine() if sys.stderr.isatty() else nullcontext() as line:
        if line is not None:
            line.show("Starting")  # what is imported now takes a while the first time
        from ..callable import load
        from ..host import local_host

        workflow, file = workflow_and_file(workflow, file)
        flow = load(document_path(file), workflow, host=local_host() if local else None)
        values = inputs_of(inputs)
        target = writable(output)
        host = flow.host
        if line is not None and host is not local_host():
            line.show("")
            say(f"on {host}")
        try:
            _run(flow, values, line, began, stream=stream, target=target, auto_resume=auto_resume)
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
    auto_resume: bool,
) -> None:
    from ..asking import Prompter, go_on, refuse
    from ..progress import as_text, status_line
    from ..run_follower import follow, stopped

    current = flow.submit(values)
    write = for_terminal(sys.stdout) if stream else None
    is_terminal = sys.stdin.isatty() and sys.stderr.isatty()
    asks = Prompter(say, _entered) if is_terminal else refuse
    note = say if line is None else None  # a log has lines
    try:
        follow(
            current, line=line, write=write, think=for_thoughts(sys.stderr), note=note,
            ask=go_on if auto_resume else asks, stop_seconds=_STOP_SECONDS, since=began,
        )  # fmt: skip
    except (KeyboardInterrupt, OSError):
        say(f"\n{stopped(current)}")
        raise
    if target is not None:
        write_file(target, as_text(current.output) + "\n")
    elif not stream:
        # JSON is to be copied: a line's end in one of its texts would break it.
        write = for_terminal(sys.stdout) if isinstance(current.output, str) else sys.stdout.write
        write(as_text(current.output) + "\n")
    for warning in current.warnings:
        say(f"warning: {warning}")
    if line is not None:
        click.echo(f"[{localized(status_line(current))}]", err=True)


def _entered(prompt: str) -> str:
    """The line that is entered after a prompt; standard output has the result alone."""
    click.echo(localized(prompt), nl=False, err=True)
    return input()
