"""``map``: a workflow for each row of files, however many there are."""

from __future__ import annotations

import os
import re
import sys
import time
from typing import TYPE_CHECKING, Any

import click

from ..errors import UsageError
from ..formatting import duration
from .group import document_path, file_option, main, say, workflow_and_file
from .inputs import inputs_of

if TYPE_CHECKING:
    from ..callable import Workflow
    from ..mapping.on_ray import OnRay
    from ..mapping.row_files import RowFiles
    from ..mapping.saved_rows import SavedRows
    from ..mapping.saving import SaveTo

_STOP_SECONDS = 2.0
_FAILURES_SHOWN = 3
# An input for all rows; anything else is a file. A file with such a name is written as ./a=b.csv.
_SHARED = re.compile(r"\s*\{|[^./\\]*=")


@main.command("map")
@click.argument("workflow", required=False)
@file_option
@click.option(
    "-i",
    "--input",
    "given",
    multiple=True,
    metavar="INPUT",
    help="A .parquet, .jsonl or .csv file of rows, a folder or a pattern of them; or an input for "
    "all rows: key=text, key:=json or a JSON object. May be repeated.",
)
@click.option(
    "--save-to", required=True, metavar="FOLDER", help="Where results go, in files of many rows."
)
@click.option(
    "--column",
    "columns",
    multiple=True,
    metavar="INPUT=COLUMN",
    help="The column that an input is read from, where it is called otherwise. May be repeated.",
)
@click.option("--limit", type=click.IntRange(min=1), help="The first rows alone, so many.")
@click.option("--seed", type=click.IntRange(min=0), help="Of the first row; drawn if omitted.")
@click.option(
    "--format", "kind", type=click.Choice(["parquet", "jsonl"]), help="Of the files of results."
)
@click.option("--overwrite", is_flag=True, help="Begin again, without the results that are there.")
@click.option("--retry-failed", is_flag=True, help="Do rows again that have failed.")
@click.option("--local", is_flag=True, help="Run in this process, whatever else is up.")
@click.option(
    "--ray",
    "address",
    is_flag=False,
    flag_value="",
    metavar="[ADDRESS]",
    help="Run on a Ray cluster: that of HOST:PORT or 'auto', or one that is started here.",
)
@click.option("--workers", type=click.IntRange(min=1), help="On Ray, each with its own models.")
@click.option("--cpus", type=click.FloatRange(min=0), help="CPUs of each worker.")
@click.option("--gpus", type=click.FloatRange(min=0), help="GPUs of each worker.")
def map_(
    workflow: str | None,
    file: str | None,
    given: tuple[str, ...],
    save_to: str,
    columns: tuple[str, ...],
    limit: int | None,
    seed: int | None,
    kind: Any,
    overwrite: bool,
    retry_failed: bool,
    local: bool,
    address: str | None,
    workers: int | None,
    cpus: float | None,
    gpus: float | None,
) -> None:
    """Run a workflow for each row of files, and save the results to a folder.

    The same command goes on where it was stopped, also by a crash: no row is lost or done twice.
    A row that fails has its error in its place, and ends no others; then the exit status is 1.

        model-compose map -f story.yml --input rows.parquet --save-to out/
    """
    from ..callable import load
    from ..host import local_host
    from ..mapping.on_ray import OnRay
    from ..mapping.row_files import row_files
    from ..mapping.saving import SaveTo

    if address is None and (workers, cpus, gpus) != (None, None, None):
        raise UsageError("workers are on a Ray cluster", hint="Add --ray.")
    on = None if address is None else OnRay(address or None, workers, cpus, gpus)
    shared = [each for each in given if _SHARED.match(each)]
    paths = [each for each in given if each not in shared]
    if not paths:
        raise UsageError("there are no rows", hint="Name their file: --input rows.parquet")
    name, file = workflow_and_file(workflow, file)
    flow = load(document_path(file), name, host=local_host() if local else None)
    values = inputs_of(tuple(shared))
    rows = row_files(paths, dict(map(_column, columns)), limit=limit)
    target = SaveTo(save_to, kind, overwrite=overwrite, retry_failed=retry_failed)
    _map(flow, rows, values if seed is None else _seeded(flow, values, seed), target, on)


def _map(
    flow: Workflow, rows: RowFiles, values: dict[str, Any], save_to: SaveTo, on: OnRay | None
) -> None:
    began = time.monotonic()
    shows = sys.stderr.isatty()
    try:
        saved = flow.map(rows, save_to=save_to, on=on, progress=shows, **values)
    except KeyboardInterrupt:
        say("stopped; the same command goes on from here")
        if not flow.host.close(_STOP_SECONDS):
            sys.stderr.flush()
            os._exit(130)  # a load that is deep in a library cannot be stopped; the process can
        raise
    _tell(saved, time.monotonic() - began)


def _tell(saved: SavedRows, seconds: float) -> None:
    failed = saved.failed
    told = [repr(saved), *([f"{failed:,} failed"] if failed else []), duration(seconds)]
    for index, error in saved.failures(_FAILURES_SHOWN):
        say(f"row {index}: {error.message}")
    say(" · ".join(told))
    if failed:
        sys.exit(1)


def _column(text: str) -> tuple[str, str]:
    """What a column is called, by its own name."""
    name, equals, column = text.partition("=")
    if not equals or not name or not column:
        raise UsageError(f"'{text}' names no column", hint="Write --column prompt=text.")
    return column, name


def _seeded(flow: Workflow, values: dict[str, Any], seed: int) -> dict[str, Any]:
    if "seed" in flow.inputs:
        raise UsageError("'seed' is an input of the workflow", hint=f"Write --input seed:={seed}.")
    return {**values, "seed": seed}
