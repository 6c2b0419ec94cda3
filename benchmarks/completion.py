"""How long completion takes: the first request, then hundreds over a large document.

    .venv/bin/python benchmarks/completion.py

Each request goes through IPython's completer, as a kernel's do. Times are milliseconds of the
processor, so that what else the computer does has no part in them.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from typing import Any

from IPython.core.completer import provisionalcompleter
from IPython.core.interactiveshell import InteractiveShell

_HEAD = """\
controller: {type: http-server, port: 8080, webui: {port: 8081}}
components:
"""
_COMPONENT = """\
  - id: teller-{n}
    type: model
    task: text-generation
    model: bundled:storyteller
    params:
      temperature: ${{input.temperature_{n} as number | 0.7}}
    actions:
      - id: begin-{n}
        text: |
          ### Instruction:
          Tell of ${{input.hero_{n} as text | a fox}} and ${{input.place | "a wood"}}.
        max_output_length: 60
"""
_JOB = """\
    - id: job-{n}
      component: teller-{n}
      action: begin-{n}
      input:
        hero_{n}: ${{input.hero_{n} | Kim}}
      output: {{told: "${{output}}"}}
"""


def document(count: int) -> str:
    """A document of so many components and jobs."""
    components = "".join(_COMPONENT.format(n=n) for n in range(count))
    jobs = "".join(_JOB.format(n=n) for n in range(count))
    return f"{_HEAD}{components}workflow:\n  jobs:\n{jobs}"


def measure(shell: Any, cell: str, cursor: int) -> float:
    """Milliseconds of one request."""
    start = time.process_time()
    with provisionalcompleter():
        list(shell.Completer.completions(cell, cursor))
    return (time.process_time() - start) * 1000


def report(name: str, times: list[float]) -> None:
    times = sorted(times)
    rank = {"median": statistics.median(times), "99 %": times[len(times) * 99 // 100]}
    figures = ", ".join(f"{each} {value:.2f}" for each, value in rank.items())
    print(f"  {name}: {figures}, worst {times[-1]:.2f} ms")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--components", type=int, nargs="+", default=[1, 20, 60])
    parser.add_argument("--requests", type=int, default=500)
    options = parser.parse_args()
    shell = InteractiveShell.instance()
    shell.run_line_magic("load_ext", "modelcompose_jupyter")
    model = "%%compose\ncomponent:\n  model: "
    print(f"first, with its imports: {measure(shell, model, model.index('component')):.1f} ms")
    print(f"first for a model:       {measure(shell, model, len(model)):.1f} ms")
    for count in options.components:
        line = "%%compose story "
        cell = f"{line}\n{document(count)}"
        print(f"{len(cell):,} characters, {cell.count(chr(10)):,} lines")
        cursors = random.Random(0).choices(range(len(line) + 1, len(cell)), k=options.requests)
        report("anywhere in it", [measure(shell, cell, cursor) for cursor in cursors])
        report("at its end", [measure(shell, cell[:cursor], cursor) for cursor in cursors])
        report("on its first line", [measure(shell, cell, len(line)) for _ in cursors])


if __name__ == "__main__":
    main()
