"""Rows by the million through a folder of blocks, while what does them is killed at random moments.

    python benchmarks/rows.py                               # 20,000 rows in this process, scripted
    python benchmarks/rows.py --ray --rows 1000000 --kills 8
    python benchmarks/rows.py --ray --rows 20000 --bundled --kills 4

A process maps the rows of a Parquet file; this one kills it, or one of its workers, with SIGKILL
after random times, and starts it again until all is done. Then every row must be there once, with
the text that its input and its place give. The bundled model writes ``--tokens`` tokens for each
row; else a script answers, so that all else is measured: a run, its events, the files. It prints
rows a second, what driver and workers held, and the load of the machine at the beginning and the
end.
"""

from __future__ import annotations

import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import click
import psutil

from modelcompose_jupyter import LocalHost, Run, load
from modelcompose_jupyter.document import Document
from modelcompose_jupyter.host import validate_run

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: TOKENS
"""
WORKER_NAME = "MapWorker"


class ScriptedHost(LocalHost):
    """Runs that have ended at once, with a digest of the prompt and the seed as their text."""

    def submit(
        self, document: Document, workflow: str | None = None, input: Any = None, **options: Any
    ) -> Run:
        chosen, values, asked = validate_run(document, workflow, input, options)
        seed = asked["seed"]
        run = Run(chosen.id, values, lambda: None, document=document.hash)
        run.add("result", {"output": {"generated": scripted(values["prompt"], seed)}})
        record = {"run": run.id, "workflow": chosen.id, "document": document.hash, "seed": seed}
        usage = {"prompt": 1, "reused": 0, "generated": 1}
        run.add("state", {"state": "completed", "summary": {"usage": usage, "record": record}})
        return run


def scripted(prompt: str, seed: int | None) -> str:
    return hashlib.sha256(f"{prompt} {seed}".encode()).hexdigest()[:24]


def job(folder: Path, tokens: int, workers: int | None, *, bundled: bool, on_ray: bool) -> None:
    """What is killed: the map of all rows."""
    from modelcompose_jupyter.mapping.elsewhere import RowsElsewhere
    from modelcompose_jupyter.mapping.on_ray import OnRay

    host = None if bundled else ScriptedHost()
    flow = load(DOCUMENT.replace("TOKENS", str(tokens)), host=host)
    rows, out = folder / "rows.parquet", folder / "out"
    if not on_ray:
        flow.map(rows, save_to=out, progress=True, seed=0)
        return
    from modelcompose_jupyter.ray.rows import map_on_ray

    elsewhere = RowsElsewhere(flow, rows, {}, out, 0)
    with elsewhere.opened() as runner:
        make_host = LocalHost if bundled else ScriptedHost
        map_on_ray(runner, OnRay(workers=workers), make_host=make_host)


def write_rows(path: Path, count: int) -> None:
    import pyarrow
    import pyarrow.parquet

    schema = pyarrow.schema([("prompt", pyarrow.string())])
    with pyarrow.parquet.ParquetWriter(path, schema) as writer:
        for first in range(0, count, 100_000):
            numbers = range(first, min(first + 100_000, count))
            writer.write_table(pyarrow.table({"prompt": [f"Story {n}" for n in numbers]}))


class Watch:
    """What a process and those below it hold, at its most: of the driver, of each worker."""

    def __init__(self, process: psutil.Process) -> None:
        self.driver: list[int] = []
        self.workers: list[int] = []
        self._process = process
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._look, daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _look(self) -> None:
        while not self._stop.wait(2):
            try:
                self.driver.append(self._process.memory_info().rss)
                self.workers += [each.memory_info().rss for each in workers_of(self._process)]
            except psutil.Error:
                continue


def workers_of(process: psutil.Process) -> list[psutil.Process]:
    found = []
    for each in process.children(recursive=True):
        try:
            if WORKER_NAME in " ".join(each.cmdline()):
                found.append(each)
        except psutil.Error:
            continue
    return found


def kill_tree(process: psutil.Process) -> None:
    """Kill a process, and what it has started, which is in sessions of its own."""
    children = process.children(recursive=True)
    for each in [process, *children]:
        try:
            each.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(children, timeout=30)


def checked(folder: Path, count: int, *, bundled: bool) -> int:
    """How many rows are there, each once and with the text that it must have."""
    import pyarrow.parquet

    from modelcompose_jupyter.seeds import seed_of_row

    expected = 0
    for path in sorted((folder / "out").glob("part-*.parquet")):
        table = pyarrow.parquet.read_table(path, columns=["index", "generated", "error"])
        for row in table.to_pylist():
            index = row["index"]
            if index != expected or row["error"] is not None:
                raise SystemExit(f"row {expected} is missing, wrong or there twice: {row}")
            if not bundled and row["generated"] != scripted(
                f"Story {index}", seed_of_row(0, index)
            ):
                raise SystemExit(f"row {index} has another text: {row}")
            expected += 1
    if expected != count:
        raise SystemExit(f"there are {expected:,} rows of {count:,}")
    return expected


@click.command(help=__doc__)
@click.option("--rows", default=20_000, show_default=True)
@click.option("--kills", default=3, show_default=True, help="Of the driver or, on Ray, a worker.")
@click.option("--ray", "on_ray", is_flag=True)
@click.option("--workers", type=int, help="On Ray.")
@click.option("--bundled", is_flag=True, help="On the bundled model; else a script answers.")
@click.option("--tokens", default=8, show_default=True)
@click.option("--every", default=15.0, show_default=True, help="Mean seconds between kills.")
@click.option("--folder", type=click.Path(path_type=Path), help="Kept; a temporary one if omitted.")
@click.option("--seed", default=0, show_default=True, help="Of the moments of the kills.")
@click.option("--job", "is_job", is_flag=True, hidden=True)
def main(
    rows: int,
    kills: int,
    on_ray: bool,
    workers: int | None,
    bundled: bool,
    tokens: int,
    every: float,
    folder: Path | None,
    seed: int,
    is_job: bool,
) -> None:
    if is_job:
        assert folder is not None
        job(folder, tokens, workers, bundled=bundled, on_ray=on_ray)
        return
    with tempfile.TemporaryDirectory() as temporary:
        measure(folder or Path(temporary), rows, kills, every, random.Random(seed), bundled, on_ray)


def measure(
    folder: Path,
    rows: int,
    kills: int,
    every: float,
    chance: random.Random,
    bundled: bool,
    on_ray: bool,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    write_rows(folder / "rows.parquet", rows)
    load_before, began = os.getloadavg()[0], time.monotonic()
    # The last of two options counts.
    command = [sys.executable, __file__, *sys.argv[1:], "--job", "--folder", str(folder)]
    driver, worker, killed = [0], [0], {"driver": 0, "worker": 0}
    while True:
        process = subprocess.Popen(command)
        watched = psutil.Process(process.pid)
        watch = Watch(watched)
        while process.poll() is None:
            seconds = chance.expovariate(1 / every) if sum(killed.values()) < kills else None
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                found = workers_of(watched)
                if found and killed["worker"] <= killed["driver"]:  # in turns, where there is one
                    os.kill(chance.choice(found).pid, signal.SIGKILL)
                    killed["worker"] += 1
                else:
                    kill_tree(watched)
                    killed["driver"] += 1
                    process.wait()
        watch.close()
        driver += watch.driver
        worker += watch.workers
        if process.returncode == 0:
            break
        if process.returncode != -signal.SIGKILL:
            raise SystemExit(f"the map ended with {process.returncode}")
    seconds = time.monotonic() - began
    there = checked(folder, rows, bundled=bundled)
    click.echo(
        f"\n{there:,} rows, each there once; {killed['driver']} kills of the driver, "
        f"{killed['worker']} of workers; {seconds:.0f} s, {there / seconds:.0f} rows/s in all; "
        f"most memory: driver {max(driver) >> 20} MiB, a worker {max(worker) >> 20} MiB; "
        f"load {load_before:.1f} before, {os.getloadavg()[0]:.1f} after"
    )


if __name__ == "__main__":
    main()
