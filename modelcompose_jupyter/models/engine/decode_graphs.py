"""Decode steps that are recorded once for a shape, and then replayed with one call.

A small model's step takes as long to launch, operation by operation, as to compute. On a CPU it
also holds Python's lock between its operations, so that a cell which computes slows it down. A step
that gives each row of some slabs one token always does the same: it is a function of tokens,
positions, and the slabs' memory. On a CPU it is traced, for all capacities. On a GPU it becomes a
CUDA graph, which belongs to the memory with which it was recorded.
"""

from __future__ import annotations

import warnings
from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import torch
from torch.overrides import TorchFunctionMode

from . import layers
from .torch_slab import Rows, TorchSlab

Pass = Callable[[torch.Tensor, torch.Tensor, list[Rows]], torch.Tensor]
"""From tokens [1, rows], positions [rows] and the rows' memory to scores [rows, vocabulary]."""

_SEEN = 32
"""How often a shape must come before it is recorded, which takes as long as a dozen steps."""
_MOST = 32
"""Most recordings that are kept; those that were not replayed for longest go."""


class Recorder(Protocol):
    """How steps are recorded on a kind of device."""

    def key(self, slabs: Sequence[TorchSlab]) -> tuple[int, ...]:
        """The same for steps that one recording serves."""

    def record(
        self, function: Pass, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]
    ) -> Pass:
        """A replay, which does what the function does."""


class DecodeGraphs:
    """The recorded steps of a model."""

    def __init__(self, function: Pass, recorder: Recorder) -> None:
        self._function = function
        self._recorder = recorder
        self._seen: dict[tuple[int, ...], int] = {}
        self._checked: set[tuple[Any, ...]] = set()
        self._recorded: OrderedDict[tuple[int, ...], Pass | None] = OrderedDict()

    def forward(self, tokens: Sequence[int], slabs: Sequence[TorchSlab]) -> torch.Tensor | None:
        """Scores of each used row of the slabs, [rows, vocabulary].

        None where the step is not recorded, or where a recording gave other bits than the step.
        """
        key = self._recorder.key(slabs)
        if key not in self._recorded and not self._is_due(key):
            return None
        given, positions, used = _inputs(tokens, slabs)
        rows: list[Rows] = list(slabs)
        if key not in self._recorded:
            self._keep(key, self._record(given, positions, rows))
        replay = self._recorded[key]
        if replay is None:
            return None
        self._recorded.move_to_end(key)
        scores = replay(given, positions, rows)
        check = key, *(slab.capacity for slab in slabs)
        if check not in self._checked:
            if not torch.equal(scores, self._function(given, positions, rows)):
                self._recorded[key] = None  # the texts of this shape stay as they are
                return None
            self._checked.add(check)
        return scores if len(used) == len(positions) else scores[used]

    def _is_due(self, key: tuple[int, ...]) -> bool:
        if len(self._seen) > 8 * _MOST:
            self._seen.clear()
        self._seen[key] = self._seen.get(key, 0) + 1
        return self._seen[key] > _SEEN

    def _record(
        self, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]
    ) -> Pass | None:
        try:
            with _WithoutReading():
                self._function(tokens, positions, rows)
            return self._recorder.record(self._function, tokens, positions, rows)
        except Exception:  # some operation cannot be, or this torch cannot: steps go on as they are
            return None

    def _keep(self, key: tuple[int, ...], replay: Pass | None) -> None:
        self._recorded[key] = replay
        while len(self._recorded) > _MOST:
            self._recorded.popitem(last=False)


class _WithoutReading(TorchFunctionMode):
    """Refuses to turn tensors into Python's values: what a pass does would depend on them.

    A model of experts may compute those alone that were chosen now; a recording would have these
    in any step.
    """

    _READS = frozenset(
        {
            *("item", "tolist", "numpy", "nonzero", "unique", "masked_select", "argwhere"),
            *("__bool__", "__int__", "__float__", "__index__", "__contains__"),
        }
    )

    def __torch_function__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        if getattr(function, "__name__", "") in self._READS:
            raise RuntimeError(f"the step reads values: {function.__name__}")
        return function(*args, **(kwargs or {}))


def _inputs(
    tokens: Sequence[int], slabs: Sequence[TorchSlab]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Tokens [1, rows] and positions [rows] of all rows, and which of these are used.

    Free rows get position 0, where whoever takes such a row writes first.
    """
    given: list[int] = []
    positions: list[int] = []
    used: list[int] = []
    for slab in slabs:
        count, free = len(slab.slots), slab.rows - len(slab.slots)
        start = len(used)
        used += range(len(given), len(given) + count)
        given += [*tokens[start : start + count], *[0] * free]
        positions += [*(slot.length for slot in slab.slots), *[0] * free]
    device = slabs[0].layout.device
    return (
        torch.tensor([given], device=device),
        torch.tensor(positions, device=device),
        torch.tensor(used, device=device),
    )


def recorder_for(model: Any, device: torch.device) -> Recorder | None:
    """What records a model's steps on a device; None where nothing does."""
    if device.type == "cuda":
        return CudaGraphs()
    return Tracer(model) if device.type == "cpu" else None


class Tracer:
    """Traces a step on a CPU, for any slabs with as many rows."""

    def __init__(self, model: Any) -> None:
        # Packed weights cannot be constants of a trace.
        self._products = layers.products(model)
        self._weights = [product.packed for product in self._products]

    def key(self, slabs: Sequence[TorchSlab]) -> tuple[int, ...]:
        return tuple(slab.rows for slab in slabs)

    def record(
        self, function: Pass, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]
    ) -> Pass:
        sizes = [each.rows for each in rows]
        width = len(rows[0].tensors())

        def step(tokens: torch.Tensor, positions: torch.Tensor, *rest: Any) -> torch.Tensor:
            theirs = [
                Rows.of(rest[number * width : (number + 1) * width], size)
                for number, size in enumerate(sizes)
            ]
            with layers.packed_as(self._products, rest[len(sizes) * width :]):
                return function(tokens, positions, theirs)

        def inputs(rows: list[Rows]) -> list[Any]:
            return [*(tensor for each in rows for tensor in each.tensors()), *self._weights]

        with warnings.catch_warnings(), torch.jit.optimized_execution(False):
            warnings.simplefilter("ignore")  # what depends on the number of rows stays as it is
            traced: Any = torch.jit.trace(
                step, (tokens, positions, *inputs(rows)), check_trace=False
            )

        def replay(tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]) -> torch.Tensor:
            with torch.jit.optimized_execution(False):
                scores: torch.Tensor = traced(tokens, positions, *inputs(rows))
            return scores

        return replay


class CudaGraphs:
    """Records CUDA graphs, all in one pool of memory."""

    def __init__(self) -> None:
        self._pool = torch.cuda.graph_pool_handle()

    def key(self, slabs: Sequence[TorchSlab]) -> tuple[int, ...]:
        # Slabs come and go, and another one at the same address serves as well.
        return tuple(
            number for slab in slabs for number in (slab.data.data_ptr(), slab.rows, slab.capacity)
        )

    def record(
        self, function: Pass, tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]
    ) -> Pass:
        own_tokens, own_positions = tokens.clone(), positions.clone()
        own_rows = [Rows.of(each.tensors(), each.rows) for each in rows]
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            function(own_tokens, own_positions, own_rows)  # makes what is made at the first call
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            scores = function(own_tokens, own_positions, own_rows)
        # The graph reads the columns, too: they stay, and those of another slab are the same.
        made = scores, [each.columns for each in own_rows]

        def replay(tokens: torch.Tensor, positions: torch.Tensor, rows: list[Rows]) -> torch.Tensor:
            own_tokens.copy_(tokens)
            own_positions.copy_(positions)
            graph.replay()
            return made[0]

        return replay
