"""Many rows on a Ray cluster: Ray Data hands the numbers of blocks to a pool of workers.

A worker reads the rows of a block from their files, runs them on a host of its own, and writes the
block into the `JobFolder`. So rows go through neither the driver nor Ray's object store, and a
block's file follows from its number alone: one that is done twice is the same. What is there is not
done again, whoever was killed.

Ray Data gives a block to another worker whenever the one that had it died, for ever. So attempts
are counted, by an actor beside the driver: a block at which workers die again and again is lost,
and the others go on.
"""

from __future__ import annotations

import contextlib
import json
import logging
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict
from typing import Any

import ray
import ray.data
from ray._private.state import available_resources_per_node  # nothing public says it
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from ..errors import ComposeError, InputError, one_line
from ..host import LocalHost
from ..host_selection import run_on
from ..mapping.blocks import BlockRunner
from ..mapping.on_ray import OnRay, share_of_cores
from ..mapping.row_stream import RowProgress
from ..redaction import get_logger
from .cluster import cluster

_TOGETHER = (2, 1)
"""Blocks of a worker at a time, so that the last rows of one do not keep it waiting; then, of those
that were lost, since they may have been lost with another."""

_ATTEMPTS = 4
"""How often a block is tried before it is lost: each time the worker that had it died."""

_MOST_LOST = 16
"""Blocks that may be lost before any is done: no worker seems to be able to do one."""

_log = get_logger(__name__)

MakeHost = Callable[[], LocalHost]


def map_on_ray(
    runner: BlockRunner,
    on: OnRay,
    *,
    retry_failed: bool = False,
    progress: bool = True,
    make_host: MakeHost = LocalHost,
) -> None:
    """Do all blocks that are not there.

    Args:
        runner: does them, in workers.
        retry_failed: whether rows that have failed are done again.
        progress: whether to show a bar.
        make_host: makes the host of a worker, there.

    Raises:
        ComposeError: there is no cluster (``no_cluster``), or it fails (``cluster_failed``),
            workers died at some rows, each time that these were tried (``workers_died``), or
            results cannot be written.
        InputError: the files of rows are not as they were, or no node has what a worker needs.
    """
    lacking = runner.lacking(retry_failed=retry_failed)
    count = len(runner.files)
    left = sum(len(runner.folder.rows_of(block, count)) for block in lacking)
    bar = RowProgress(runner.workflow.title, count, count - left, shown=progress)
    with contextlib.closing(bar):
        if not lacking:
            return
        with _quiet(), _connection(on.address):
            for together in _TOGETHER:
                done = set()
                for result in _done(runner, on, lacking, make_host, together):
                    bar.add(result["rows"], result["failed"], result["tokens"])
                    done.add(result["block"])
                lacking = {block: again for block, again in lacking.items() if block not in done}
                if not lacking:
                    return
                if not done:
                    break
            raise _died(runner, min(lacking))


def _connection(address: str | None) -> contextlib.AbstractContextManager[None]:
    """A cluster; the one that this process is connected to, where no other is named."""
    if address is None and ray.is_initialized():
        return contextlib.nullcontext()
    return cluster(address)


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Have Ray Data say nothing beside the bar but what goes wrong."""
    context, log = ray.data.DataContext.get_current(), logging.getLogger("ray.data")
    shown, level = context.enable_progress_bars, log.level
    context.enable_progress_bars = False
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        context.enable_progress_bars = shown
        log.setLevel(level)


def _done(
    runner: BlockRunner,
    on: OnRay,
    blocks: Mapping[int, bool],
    make_host: MakeHost,
    together: int,
) -> Iterator[dict[str, Any]]:
    """Give blocks to workers, and tell of each that is done; others are lost."""
    pool, resources = _pool(on, math.ceil(len(blocks) / together))
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    attempts = ray.remote(_Attempts).options(num_cpus=0, scheduling_strategy=here).remote(_ATTEMPTS)
    todo = [{"block": block, "again": again} for block, again in blocks.items()]
    # A task for each, or the workers would have unequal shares of the last ones.
    dataset = ray.data.from_items(todo, override_num_blocks=len(todo)).map_batches(
        _Worker,
        batch_size=1,
        fn_constructor_args=(runner, make_host, attempts),
        compute=ray.data.ActorPoolStrategy(
            **pool,
            max_tasks_in_flight_per_actor=together,
            max_concurrent_calls_per_actor=together,
            enable_true_multi_threading=True,
        ),
        **resources,
    )
    lost, has_done = 0, False
    try:
        for result in dataset.iter_rows():
            if result["error"]:
                raise ComposeError.from_dict(json.loads(result["error"]))
            if not result["is_lost"]:
                has_done = True
                yield result
            elif not has_done and (lost := lost + 1) >= _MOST_LOST:
                return
    except RayError as error:
        raise ComposeError(
            f"the Ray cluster failed: {one_line(error)}",
            hint="What is done is saved; run it again to go on.",
            code="cluster_failed",
        ) from None
    finally:
        with contextlib.suppress(RayError):
            ray.kill(attempts)


def _pool(on: OnRay, most_busy: int) -> tuple[dict[str, int], dict[str, float]]:
    """How many workers there are, no more than have something to do, and what each has."""
    nodes = [each["Resources"] for each in ray.nodes() if each["Alive"]]
    all_gpus = sum(each.get("GPU", 0.0) for each in nodes)
    gpus = on.gpus if on.gpus is not None else float(all_gpus > 0)
    asked = on.range_of_workers or (int(all_gpus / gpus) if gpus else len(nodes),) * 2
    least, most = (max(1, min(each, most_busy)) for each in asked)
    free = [each.get("CPU", 0.0) for each in available_resources_per_node().values()]
    cpus = on.cpus if on.cpus is not None else share_of_cores(free, least)
    if not any(each.get("CPU", 0.0) >= cpus and each.get("GPU", 0.0) >= gpus for each in nodes):
        raise InputError(
            f"no node of the cluster has {cpus:g} CPUs and {gpus:g} GPUs, which a worker needs",
            hint="Have workers with less, or add a node.",
        )
    if not any(each >= cpus for each in free):
        _log.warning("no node has %g CPUs free: workers begin when one has", cpus)
    return {"min_size": least, "max_size": most}, {"num_cpus": cpus, "num_gpus": gpus}


def _died(runner: BlockRunner, block: int) -> ComposeError:
    rows = runner.folder.rows_of(block, len(runner.files))
    return ComposeError(
        f"the workers died at rows {rows.start} to {rows.stop - 1}, each time that they were tried",
        hint="Their memory may be too small: have less of them, or larger ones. What is done is "
        "saved; run it again to go on.",
        code="workers_died",
    )


class _Attempts:
    """Counts how often each block was begun, which it may be so many times."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._begun: Counter[int] = Counter()

    def begin(self, block: int) -> bool:
        """Whether it may be begun once more."""
        self._begun[block] += 1
        return self._begun[block] <= self._most


class _Worker:
    """An actor of the pool, with a host of its own. Several threads call it."""

    def __init__(self, runner: BlockRunner, make_host: MakeHost, attempts: Any) -> None:
        self._runner = runner
        self._attempts = attempts
        run_on(runner.workflow.document, make_host())

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        block, again = int(batch["block"][0]), bool(batch["again"][0])
        told: dict[str, Any] = {"rows": 0, "failed": 0, "tokens": 0, "error": "", "is_lost": False}
        try:
            if ray.get(self._attempts.begin.remote(block)):
                told |= asdict(self._runner.run(block, again=again))
            else:
                told["is_lost"] = True
        except ComposeError as error:  # of which the driver is to hear
            told["error"] = json.dumps(error.to_dict())
        return {name: [value] for name, value in {"block": block, **told}.items()}
