"""Many visitors of a document's page at once: what each costs, and whether all get their text.

    python benchmarks/visitors.py --visitors 20 --tokens 100

Once with a host for all, as `model-compose up` has it, and once with the page alone, where each
visitor's kernel loads the model itself. Visitors are pages in a headless Chromium (the environment
variable CHROMIUM may name its executable), each with cookies and connections of its own. They open
the page at once; when all can use it they enter their prompts and run at once; and in the end all
leave in the middle of another run. Texts are compared with those of a process that ran each prompt
alone.

Chromium shares the machine with what is measured, and takes most of the processor's time: see what
a page costs the server and the browser before you read how long it took. Its pages are asked for
less motion, since drawing 20 placeholders that breathe would take as much again.

USS is the memory that a process shares with no other. PSS adds its share of what several use, such
as libraries, so that a sum of it counts each page once, and only where the system tells it.

The exit status is 1 where a text is missing or wrong, or a kernel or a run is left.
"""

from __future__ import annotations

import asyncio
import contextlib
import math
import multiprocessing
import os
import re
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import psutil
from playwright.async_api import Browser, Error, Page, async_playwright

from modelcompose_jupyter import LocalHost, Workflow
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.server.api_client import ask
from modelcompose_jupyter.server.server_info import ServerInfo, read

DOCUMENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  seed: ${input.seed as integer}
  min_output_length: ${input.tokens as integer}
  max_output_length: ${input.tokens as integer}
workflow:
  title: Tell a story
  repeat_count: ${input.count as integer | 1}
"""
_WHO = ("fox", "owl", "robot", "baker", "mouse")
_ENDLESS = 500  # repeats, which nobody waits for
_SECONDS = 180.0  # bounds each wait; 20 loads of a model at once take their time
_END_SECONDS = 60.0
_LOOK_SECONDS = 0.05
_SHOWN_LINES = 30
_ENDED = ("completed", "failed", "cancelled")
_MIB = 2**20

_USABLE = """() => {
    const buttons = [...document.querySelectorAll('.modelcompose-controls button')];
    const run = buttons.find(each => each.textContent === 'Run Workflow');
    return run && !run.disabled && run.offsetParent && !document.getElementById('mc-loading');
}"""
_OVER = """() => {
    const run = document.querySelector('.modelcompose-run');
    return ['completed', 'failed', 'cancelled'].includes(run.dataset.state)
        || run.querySelector('[role=alert]').textContent;
}"""
_GOES_ON = """() =>
    ['queued', 'running'].includes(document.querySelector('.modelcompose-run').dataset.state)"""
_SHOWN = """() => {
    const run = document.querySelector('.modelcompose-run');
    const text = run.querySelector('.modelcompose-text > div')?.textContent ?? null;
    return [text, run.querySelector('[role=alert]').textContent];
}"""


def prompt_of(number: int) -> str:
    """The prompt of a visitor, which no other has; the number is its seed as well."""
    return f"Once upon a time {number + 2} children and a {_WHO[number % len(_WHO)]}"


def solo_texts(count: int, tokens: int) -> list[str]:
    """What each visitor's prompt gives when nothing else runs."""
    flow = Workflow(load_document(DOCUMENT), host=LocalHost())
    return [
        flow(prompt=prompt_of(number), seed=number, tokens=tokens)[0] for number in range(count)
    ]


async def until(condition: Callable[[], bool], seconds: float = _END_SECONDS) -> float:
    """Wait until a condition holds, with a bound; returns the seconds that it took."""
    started = time.perf_counter()
    while not await asyncio.to_thread(condition) and time.perf_counter() - started < seconds:
        await asyncio.sleep(_LOOK_SECONDS)
    return time.perf_counter() - started


# What is visited


@dataclass(frozen=True)
class Memory:
    """What the processes of a service hold, in MiB: USS by part, and the PSS of all."""

    host: float
    voila: float
    kernels: list[float]
    proportional: float

    @property
    def all(self) -> float:
        return self.host + self.voila + sum(self.kernels)


@dataclass(frozen=True)
class Service:
    """A page that is served: its address, Voila, and the host with its supervisor if it has one."""

    url: str
    voila: psutil.Process
    host: list[psutil.Process]
    server_info: ServerInfo | None

    def kernels(self) -> list[psutil.Process]:
        return self.voila.children()

    def memory(self) -> Memory:
        kernels = self.kernels()
        parts = [*self.host, self.voila, *kernels]
        found = {each: each.memory_full_info() for each in parts}
        uss = {each: info.uss / _MIB for each, info in found.items()}
        return Memory(
            host=sum(uss[each] for each in self.host),
            voila=uss[self.voila],
            kernels=[uss[each] for each in kernels],
            proportional=sum(getattr(info, "pss", math.nan) for info in found.values()) / _MIB,
        )

    def processor_seconds(self) -> float:
        """What Voila, the kernels and the host have taken so far."""
        return sum(map(_processor_seconds, [*self.host, self.voila, *self.kernels()]))

    def runs_in_flight(self) -> int | None:
        """How many runs the host has that have not ended; None where there is no host to ask."""
        if self.server_info is None:
            return None
        tasks = ask(self.server_info, "GET", "/tasks")
        return sum(each["status"] not in _ENDED for each in tasks)


def _processor_seconds(process: psutil.Process, name: str = "") -> float:
    """What a process has taken whose name contains this; one that has ended took nothing."""
    with contextlib.suppress(psutil.Error):
        times = process.cpu_times()
        return float(times.user + times.system) if name in process.name() else 0.0
    return 0.0


def chromium_seconds() -> float:
    """What the processes of the browser have taken that are there now."""
    started = psutil.Process().children(recursive=True)
    return sum(_processor_seconds(each, "chrom") for each in started)


@contextlib.asynccontextmanager
async def serving(command: Sequence[str]) -> AsyncIterator[Service]:
    """What a command of the package serves, in a folder of its own and by nobody else found."""
    with tempfile.TemporaryDirectory(prefix="visitors-") as name:
        folder = Path(name)
        (folder / "model-compose.yml").write_text(DOCUMENT, encoding="utf-8")
        clean = {key: value for key, value in os.environ.items() if "MODELCOMPOSE" not in key}
        environment = {
            **clean,
            "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
            "IPYTHONDIR": str(folder / "ipython"),
        }
        log = folder / "log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
            )
        try:
            await until(lambda: bool(_address(log)) or process.poll() is not None, _SECONDS)
            url = _address(log)
            if url is None:
                raise SystemExit(f"{command} does not serve: {log.read_text()}")
            yield _service(url, psutil.Process(process.pid), folder / "runtime")
        finally:
            with ending(psutil.Process(process.pid)):
                process.terminate()
            process.wait()
            _tell_log(" ".join(command), log.read_text())


def _address(log: Path) -> str | None:
    """Where the page is, once both commands say so in their ways."""
    found = re.search(r"^page:? +(http\S+?)/?$", log.read_text(), re.I | re.M)
    return found and f"{found[1]}/"


def _tell_log(command: str, log: str) -> None:
    """What else was said, which is nothing where all is well."""
    lines = [each for each in log.splitlines() if each and not re.match("api|page", each, re.I)]
    if lines:
        more = [f"… and {len(lines) - _SHOWN_LINES} lines more"][: len(lines) > _SHOWN_LINES]
        click.echo("\n".join([f"{command} said:", *lines[:_SHOWN_LINES], *more]), err=True)


def _service(url: str, process: psutil.Process, runtime: Path) -> Service:
    server_infos = [read(each) for each in runtime.glob("modelcompose-*.json")]
    if not server_infos:
        return Service(url, process, [], None)
    (server_info,) = server_infos
    assert server_info is not None
    host = psutil.Process(server_info.pid)
    (voila,) = {*process.children()} - {host}
    return Service(url, voila, [process, host], server_info)


@contextlib.contextmanager
def ending(process: psutil.Process) -> Iterator[None]:
    """Wait for a process and all that it has started, and kill what stays."""
    family: list[psutil.Process] = []
    with contextlib.suppress(psutil.Error):
        family = [process, *process.children(recursive=True)]
    yield
    _, alive = psutil.wait_procs(family, timeout=_END_SECONDS)
    for each in alive:
        click.echo(f"had to be killed: {each}", err=True)
        with contextlib.suppress(psutil.Error):
            each.kill()


# Who visits


@dataclass
class Visitor:
    """A page that somebody uses. Times in seconds, None where it did not come so far."""

    number: int
    page: Page
    usable: float | None = None
    told: float | None = None
    text: str | None = None
    failure: str | None = None

    async def open(self, url: str, tokens: int) -> None:
        """Open the page, its less interesting inputs filled in by the address."""
        started = time.perf_counter()
        query = urlencode({"seed": self.number, "tokens": tokens})
        answer = await self.page.goto(f"{url}?{query}", wait_until="commit")
        if answer is None or not answer.ok:
            raise Error(f"the page answers {answer.status if answer else 'nothing'}")
        await self.page.wait_for_function(_USABLE, polling=_LOOK_SECONDS * 1000)
        self.usable = time.perf_counter() - started

    async def run(self) -> None:
        """Enter the prompt, run, and read the text when the run is over."""
        started = time.perf_counter()
        await self._start(prompt_of(self.number))
        await self.page.wait_for_function(_OVER, polling=_LOOK_SECONDS * 1000)
        self.told = time.perf_counter() - started
        self.text, alert = await self.page.evaluate(_SHOWN)
        self.failure = alert or None

    async def begin_endless(self) -> None:
        """Run what takes very long, and wait until the page says that it goes on or waits."""
        await self.page.get_by_role("spinbutton", name="count").fill(str(_ENDLESS))
        await self._start(f"Dear friend number {self.number}")
        await self.page.wait_for_function(_GOES_ON, polling=_LOOK_SECONDS * 1000)

    async def _start(self, prompt: str) -> None:
        await self.page.get_by_label("prompt *").fill(prompt)
        await self.page.get_by_role("button", name="Run Workflow").click()


async def at_once(visitors: Sequence[Visitor], what: Callable[[Visitor], Any]) -> None:
    """All do something; who cannot says why, and does nothing more but leave."""

    async def one(visitor: Visitor, does: Coroutine[Any, Any, None]) -> None:
        try:
            await does
        except Error as error:
            visitor.failure = visitor.failure or error.message

    await asyncio.gather(*(one(each, what(each)) for each in visitors if not each.failure))


async def leave(visitors: Sequence[Visitor]) -> None:
    """All leave at once, as people do: the page is told that it is left."""
    pages = (each.page.goto("about:blank") for each in visitors)
    await asyncio.gather(*pages, return_exceptions=True)  # of one that cannot the kernel is left


@contextlib.asynccontextmanager
async def visiting(browser: Browser, count: int) -> AsyncIterator[list[Visitor]]:
    contexts = [await browser.new_context(reduced_motion="reduce") for _ in range(count)]
    visitors = [Visitor(each, await context.new_page()) for each, context in enumerate(contexts)]
    for each in visitors:
        each.page.set_default_timeout(_SECONDS * 1000)
    yield visitors
    for context in contexts:
        await context.close()


# What it comes to


@dataclass
class Result:
    """How it went one way. Times in seconds, memory in MiB."""

    alone: float  # until the page of somebody who is alone can be used
    server: float  # seconds of the processor for each page until all can be used
    browser: float
    base: Memory  # when the first visitor has come and gone
    full: Memory  # when all have their texts
    visitors: list[Visitor]
    right: int
    runs_before: int | None = None  # while all of them run
    runs_after: int | None = None  # when all have left
    freed: float = math.nan  # from when they leave until no run goes on
    gone: float = math.nan  # and until no kernel is there
    kernels_left: int = 0
    load: float = field(default_factory=lambda: os.getloadavg()[0])

    def usable(self) -> list[float]:
        return [each.usable for each in self.visitors if each.usable is not None]

    def told(self) -> list[float]:
        return [each.told for each in self.visitors if each.told is not None]

    def share(self, part: str) -> float:
        """By how much a part that all use has grown for each of them."""
        grown = float(getattr(self.full, part) - getattr(self.base, part))
        return grown / len(self.visitors)

    @property
    def is_right(self) -> bool:
        is_over = self.kernels_left == 0 and not self.runs_after
        return self.right == len(self.visitors) and is_over


async def measure(browser: Browser, command: Sequence[str], solo: list[str], tokens: int) -> Result:
    async with serving(command) as service:
        async with visiting(browser, 1) as first:  # what is done once is not a visitor's
            await at_once(first, lambda each: each.open(service.url, tokens))
            await at_once(first, lambda each: each.run())
            await leave(first)
            if first[0].failure:
                raise SystemExit(f"the first visitor: {first[0].failure}")
            await until(lambda: not service.kernels())
        base = service.memory()
        async with visiting(browser, len(solo)) as visitors:
            before = service.processor_seconds(), chromium_seconds()
            await at_once(visitors, lambda each: each.open(service.url, tokens))
            after = service.processor_seconds(), chromium_seconds()
            await at_once(visitors, lambda each: each.run())
            result = Result(
                alone=first[0].usable or math.nan,
                server=(after[0] - before[0]) / len(solo),
                browser=(after[1] - before[1]) / len(solo),
                base=base,
                full=service.memory(),
                visitors=visitors,
                right=sum(each.text == solo[each.number] for each in visitors),
            )
            await at_once(visitors, lambda each: each.begin_endless())
            result.runs_before = service.runs_in_flight()
            _, result.freed, result.gone = await asyncio.gather(
                leave(visitors),
                until(lambda: not service.runs_in_flight()),
                until(lambda: not service.kernels()),
            )
            result.runs_after = service.runs_in_flight()
            result.kernels_left = len(service.kernels())
        return result


WAYS = {
    "one host": ("modelcompose_jupyter.cli", "up", "--port=0", "--webui-port=0"),
    "model in each": ("modelcompose_jupyter.dashboard", "model-compose.yml", "--port=0"),
}


async def measure_all(count: int, tokens: int) -> dict[str, Result]:
    # In a process that has ended before memory is looked at: it maps the same files.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        solo = pool.submit(solo_texts, count, tokens).result()
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(
            executable_path=chromium(), args=["--no-sandbox", "--disable-gpu"]
        )
        return {way: await measure(browser, command, solo, tokens) for way, command in WAYS.items()}


def chromium() -> str:
    names = (os.environ.get("CHROMIUM"), "chromium", "chromium-browser", "google-chrome")
    for name in filter(None, names):
        if executable := shutil.which(name):
            return executable
    raise SystemExit("no Chromium: install it, or name its executable in CHROMIUM")


def tell(results: dict[str, Result]) -> None:
    """The table: medians and worst of both ways, and the second by the first."""
    one, each = results.values()

    def row(name: str, of: Callable[[Result], list[float]], digits: int = 1) -> None:
        cells, medians = [], []
        for values in map(of, (one, each)):
            medians.append(_median(values))
            worst = f"{max(values):.{digits}f}" if len(values) > 1 else ""
            cells.append(f"{_number(medians[-1], digits):>9} {worst:>8}")
        ratio = medians[1] / medians[0] if min(medians) > 0 else math.nan
        click.echo(f"{name:38}{'   '.join(cells)} {_number(ratio, 2):>8}")

    def fact(name: str, of: Callable[[Result], str]) -> None:
        click.echo(f"{name:38}{of(one):>18}   {of(each):>18}")

    fact("", lambda result: next(way for way, known in results.items() if known is result))
    click.echo(f"{'':38}{'median':>9} {'worst':>8}   {'median':>9} {'worst':>8} {'ratio':>8}")
    row("page usable, alone, s", lambda result: [result.alone])
    row("page usable, all at once, s", Result.usable)
    row("of it on a processor: server, s", lambda result: [result.server], 2)
    row("of it on a processor: Chromium, s", lambda result: [result.browser], 2)
    row("text whole, all at once, s", Result.told)
    row("a visitor's kernel, USS MiB", lambda result: result.full.kernels)
    row("Voila grows for each, USS MiB", lambda result: [result.share("voila")], 2)
    row("host grows for each, USS MiB", lambda result: [result.share("host")], 2)
    row("each visitor in all, MiB", lambda result: [_visitor(result)])
    row("before they come: host, USS MiB", lambda result: [result.base.host])
    row("before they come: Voila, USS MiB", lambda result: [result.base.voila])
    row("with all of them, all, USS MiB", lambda result: [result.full.all])
    row("with all of them, all, PSS MiB", lambda result: [result.full.proportional])
    fact("texts as alone", lambda result: f"{result.right} of {len(result.visitors)}")
    fact("runs when all leave, and after", lambda result: _runs(result))
    row("until the runs had ended, s", lambda result: [_freed(result)])
    row("until the kernels had ended, s", lambda result: [result.gone])
    fact("kernels left", lambda result: str(result.kernels_left))
    fact("load when all have their texts", lambda result: f"{result.load:.1f}")


def _visitor(result: Result) -> float:
    """What one more visitor takes: a kernel, and what the others grow by."""
    return _median(result.full.kernels) + result.share("voila") + result.share("host")


def _median(values: list[float]) -> float:
    return statistics.median(values) if values else math.nan


def _freed(result: Result) -> float:
    return math.nan if result.runs_before is None else result.freed


def _runs(result: Result) -> str:
    return "-" if result.runs_before is None else f"{result.runs_before}, {result.runs_after}"


def _number(value: float, digits: int) -> str:
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


@click.command(help=__doc__)
@click.option("--visitors", "count", default=20, show_default=True, type=click.IntRange(min=1))
@click.option("--tokens", default=100, show_default=True, help="Of each text.")
def main(count: int, tokens: int) -> None:
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started ends, too
    click.echo(
        f"{count} visitors, {tokens} tokens each; {os.cpu_count()} processors, "
        f"load {os.getloadavg()[0]:.1f}, {psutil.virtual_memory().available / 2**30:.0f} GiB free"
    )
    results = asyncio.run(measure_all(count, tokens))
    tell(results)
    for way, result in results.items():
        for each in result.visitors:
            if each.failure:
                click.echo(f"{way}, visitor {each.number}: {each.failure}", err=True)
    if not all(each.is_right for each in results.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
