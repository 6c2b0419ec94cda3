"""How fast a for-each goes through a list, beside `.map()` over the same rows; the bundled model.

    python benchmarks/jobs.py --items 1000 --tokens 20 --rounds 5

Both do the same work in one process: the same prompts, and as many tokens each. Rounds are
interleaved and take turns in who begins. Above 1 a ratio says that the for-each is faster. Memory
is what the process has resident from the first hundred items to the last, of a run before all
others; the model's own cache of texts is small, and full by then. What it grows by is what a run
keeps of each item: its text, and what takes part in the record.
"""

from __future__ import annotations

import gc
import statistics
import time
from collections.abc import Callable

import click
import psutil

from modelcompose_jupyter import Run, Workflow, load

COMPONENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  cache_budget: 8MB
  text: ${input.prompt as text}
  min_output_length: ${input.tokens as integer}
  max_output_length: ${input.tokens as integer}
"""
EACH = (
    COMPONENT
    + """\
workflow:
  job:
    type: for-each
    input: ${input.prompts}
    do: {input: {prompt: "${item}", tokens: "${input.tokens}"}}
"""
)
WARM_ITEMS = 100
"""Items after which memory is looked at first: by then all that is made once is there."""


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(items: int, tokens: int, rounds: int) -> dict[str, list[float]]:
    """Seconds of each way in each round; a round before these loads the model."""
    each, mapped = load(EACH), load(COMPONENT + "workflow: {input: '${input}'}")
    prompts = [f"Story {number}: once upon a time" for number in range(items)]
    ways: dict[str, Callable[[], list[str]]] = {
        "for-each": lambda: each(prompts=prompts, tokens=tokens),
        "map": lambda: mapped.map(prompts, tokens=tokens, progress=False),
    }
    for name, way in ways.items():
        if not all(text.startswith(prompts[n]) for n, text in enumerate(way())):
            raise SystemExit(f"'{name}' gave texts of other prompts")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=number % 2 == 1):
            taken[name].append(seconds(ways[name]))
    return taken


def grown(each: Workflow, items: int, tokens: int) -> tuple[float, float]:
    """Megabytes that the process has after the first items, and by how many kilobytes an item it
    has grown when the last is done."""
    process, warm = psutil.Process(), min(WARM_ITEMS, items // 2)
    prompts = [f"Story {number}: once upon a time" for number in range(items)]
    gc.collect()
    run = each.start({"prompts": prompts, "tokens": tokens})

    def ended(count: int) -> Callable[[], bool]:
        return lambda: run.done or _done(run) >= count

    run.wait_for(ended(warm))
    first = process.memory_info().rss
    run.wait_for(ended(items))
    last = process.memory_info().rss
    run.result()
    return first / 2**20, (last - first) / 2**10 / (items - warm)


def _done(run: Run) -> int:
    return sum(job.get("done", 0) for job in run.jobs.values())


@click.command(help=__doc__)
@click.option("--items", default=1000, show_default=True)
@click.option("--tokens", default=20, show_default=True, help="Generated for each item.")
@click.option("--rounds", default=5, show_default=True)
def main(items: int, tokens: int, rounds: int) -> None:
    first, kilobytes = grown(load(EACH), items, tokens)  # before memory is there to be used again
    taken = measure(items, tokens, rounds)
    for name, times in taken.items():
        rate = items / statistics.median(times)
        spread = f"from {items / max(times):.0f} to {items / min(times):.0f}"
        click.echo(f"{name:8} {rate:6.0f} items of {tokens} tokens a second ({spread})")
    ratios = [one / other for one, other in zip(taken["map"], taken["for-each"], strict=True)]
    click.echo(
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f} "
        f"in {rounds} rounds)"
    )
    click.echo(f"memory {first:.0f} MB, and {kilobytes:.1f} kB for each further item")


if __name__ == "__main__":
    main()
