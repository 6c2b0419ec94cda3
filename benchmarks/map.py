"""How much faster `.map()` is than a loop of single calls, on the bundled model.

    python benchmarks/map.py --rows 100 --tokens 32 --rounds 7

Both do the same work: the same prompts and seeds, and as many tokens each. Rounds are interleaved
and take turns in who begins, so that what else the machine does falls on both. A ratio of 2 means
that map takes half the time.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable

import click

from modelcompose_jupyter import Workflow, load

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  seed: 7
  min_output_length: ${input.tokens as integer}
  max_output_length: ${input.tokens as integer}
"""


def seconds(work: Callable[[], object]) -> float:
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def measure(
    story: Workflow, prompts: list[str], tokens: int, rounds: int
) -> dict[str, list[float]]:
    """Seconds of each way in each round."""
    ways = {
        "loop": lambda: [story(prompt=prompt, tokens=tokens) for prompt in prompts],
        "map": lambda: story.map(prompts, tokens=tokens, progress=False),
    }
    if ways["loop"]() != ways["map"]():  # which also loads the model
        raise SystemExit("the two ways gave different texts")
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(rounds):
        for name in sorted(ways, reverse=number % 2 == 1):
            taken[name].append(seconds(ways[name]))
    return taken


@click.command(help=__doc__)
@click.option("--rows", default=100, show_default=True)
@click.option("--tokens", default=32, show_default=True, help="Generated for each row.")
@click.option("--rounds", default=7, show_default=True)
def main(rows: int, tokens: int, rounds: int) -> None:
    prompts = [f"Story {number}: once upon a time" for number in range(rows)]
    taken = measure(load(DOCUMENT), prompts, tokens, rounds)
    for name, times in taken.items():
        click.echo(f"{name:5} {statistics.median(times):7.2f} s for {rows} rows of {tokens} tokens")
    ratios = [loop / mapped for loop, mapped in zip(taken["loop"], taken["map"], strict=True)]
    click.echo(
        f"ratio {statistics.median(ratios):.2f} (from {min(ratios):.2f} to {max(ratios):.2f} "
        f"in {rounds} rounds)"
    )


if __name__ == "__main__":
    main()
