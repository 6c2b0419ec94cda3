"""What several replicas say, as one host says it; what workers on a cluster share."""

from __future__ import annotations

import pytest

from modelcompose_jupyter.mapping.on_ray import share_of_cores
from modelcompose_jupyter.models import MemoryUse
from modelcompose_jupyter.ray.totals import total_memory


def test_what_is_free_of_a_node_is_counted_once() -> None:
    uses = [
        ("one", MemoryUse(1, 2, 3, 100)),
        ("one", MemoryUse(10, 20, 30, 90)),
        ("two", MemoryUse(100, None, 300, 50)),
    ]
    assert total_memory(uses) == MemoryUse(111, None, 333, 140)
    assert total_memory([]) == MemoryUse(0, 0, 0, 0)


@pytest.mark.parametrize(
    ("free", "workers", "share"),
    [
        ([4.0, 4.0, 4.0], 3, 4),
        ([4.0, 3.0, 2.0], 2, 3),  # replicas have the others
        ([4.0, 0.0, 0.0], 3, 1),
        ([16.0], 3, 5),
        ([0.0, 0.5], 2, 1),
        ([], 1, 1),
    ],
)
def test_workers_share_the_cores_that_are_free(free: list[float], workers: int, share: int) -> None:
    assert share_of_cores(free, workers) == share
