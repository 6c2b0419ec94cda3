"""How long a new process takes to its first text, on both drivers and with llama.cpp in turn.

    .venv/bin/python benchmarks/cold.py
    .venv/bin/python benchmarks/cold.py --shape smollm3-3b --drivers native,llama.cpp --rounds 3

`command` is `model-compose run`, from start to end. `notebook` is a kernel that has just started:
from `%load_ext` to the end of a cell with `--run`. `load` is a Python process: seconds from its
start until the model is loaded, and until its fourth token; what it holds then, of that what is
not in mapped files, which is what a second process adds, and what it held at most.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import click
from jupyter_client.manager import start_new_kernel
from peers import processes, weights

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: {model}
  driver: {driver}
  text: Once upon a time
  params: {{max_output_length: 4, seed: 1}}
"""
LOAD = """
import json, sys, threading, time
started = time.perf_counter()
import psutil
from modelcompose_jupyter.document.parameters import GenerationParameters
from modelcompose_jupyter.models import ModelCache, ModelSpec
process, most = psutil.Process(), [0]
def watch():
    while True:
        most[0] = max(most[0], process.memory_info().rss)
        time.sleep(0.01)
threading.Thread(target=watch, daemon=True).start()
with ModelCache().acquire(ModelSpec(sys.argv[1], driver=sys.argv[2])).result() as lease:
    loaded = time.perf_counter()
    asked = GenerationParameters(max_output_length=4, min_output_length=4, seed=1)
    lease.generate("abc abd", asked).future.result()
    ended = time.perf_counter()
    memory = process.memory_info()
    print(json.dumps({
        "load, s": loaded - started, "load to the 4th token, s": ended - started,
        "weights, MB": lease.info.memory_bytes / 1e6, "resident, MB": memory.rss / 1e6,
        "not in files, MB": (memory.rss - memory.shared) / 1e6,
        "resident at most, MB": max(most[0], memory.rss) / 1e6,
    }))
"""


def document(model: str, driver: str) -> str:
    return DOCUMENT.format(model=model, driver=driver)


def command(model: str, driver: str, folder: Path) -> dict[str, float]:
    """One `model-compose run`."""
    path = folder / f"{driver}.yml"
    path.write_text(document(model, driver))
    started = time.perf_counter()
    line = [sys.executable, "-m", "modelcompose_jupyter.cli", "run", "-f", str(path)]
    subprocess.run(line, check=True, capture_output=True)
    return {"command, s": time.perf_counter() - started}


def notebook(model: str, driver: str) -> dict[str, float]:
    """A cell with ``--run`` in a kernel that has just started."""
    manager, client = start_new_kernel()
    try:
        started = time.perf_counter()
        cells = ["%load_ext modelcompose_jupyter", "%%compose --run\n" + document(model, driver)]
        for cell in cells:
            reply = client.execute_interactive(cell, output_hook=lambda _: None, timeout=600)
            if reply["content"]["status"] != "ok":
                raise RuntimeError(reply["content"]["evalue"])
        return {"notebook, s": time.perf_counter() - started}
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def load(model: str, driver: str) -> dict[str, float]:
    """A process that loads a model and generates four tokens."""
    return figures_of([sys.executable, "-c", LOAD, model, driver], {})


def load_by_llama_cpp(model: str, precision: str, work: Path) -> dict[str, float]:
    """The same in llama.cpp, whose file is made first."""
    python = processes.environment(processes.PEERS["llama.cpp"], work / "venvs")
    script = Path(__file__).parent / "peers" / "llama_cpp" / "load.py"
    file = work / "peers" / f"llama_cpp-{Path(model).name}" / "model.gguf"
    line = [str(python), str(script), model, precision, str(file), str(os.cpu_count())]
    return figures_of(line, {**os.environ, "PYTHONPATH": str(Path(__file__).parent)})


def figures_of(line: list[str], variables: dict[str, str]) -> dict[str, float]:
    """What a process prints."""
    done = subprocess.run(line, check=True, capture_output=True, text=True, env=variables or None)
    figures: dict[str, float] = json.loads(done.stdout)
    return figures


@click.command()
@click.option("--shape", type=click.Choice(weights.SHAPES), default=weights.BUNDLED)
@click.option("--precision", type=click.Choice(["float32", "bfloat16"]), default="bfloat16")
@click.option(
    "--drivers", default="native,huggingface", help="In turn, in each round; llama.cpp may be one."
)
@click.option("--rounds", default=5)
@click.option(
    "--folder", type=Path, default=Path(tempfile.gettempdir()) / "modelcompose-benchmark",
    help="Of models.",
)  # fmt: skip
def main(shape: str, precision: str, drivers: str, rounds: int, folder: Path) -> None:
    """Medians, least and most of all rounds."""
    is_bundled = shape == weights.BUNDLED
    stored = str(weights.folder_of(shape, precision, folder))
    model = f"bundled:{shape}" if is_bundled else stored
    found: dict[str, dict[str, list[float]]] = defaultdict(lambda: defaultdict(list))
    with tempfile.TemporaryDirectory() as made:
        for _ in range(rounds):
            for driver in drivers.split(","):
                if driver == "llama.cpp":
                    figures = load_by_llama_cpp(stored, precision, folder)
                else:
                    figures = load(model, driver)
                if is_bundled and driver != "llama.cpp":
                    figures |= command(model, driver, Path(made)) | notebook(model, driver)
                for name, figure in figures.items():
                    found[name][driver].append(figure)
    for name, by_driver in found.items():
        print(name)
        for driver, values in by_driver.items():
            middle = statistics.median(values)
            print(f"  {driver:<12} {middle:9.2f}   {min(values):.2f} to {max(values):.2f}")


if __name__ == "__main__":
    main()
