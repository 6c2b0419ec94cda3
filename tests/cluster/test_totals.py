"""What several replicas say, as one host says it."""

from __future__ import annotations

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
