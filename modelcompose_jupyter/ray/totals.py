"""What several replicas say, as one host says it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import Any

from ..models import MemoryUse, ModelInfo

_COUNTED = ("memory_bytes", "mapped_bytes", "leases", "running", "queued", "generated")


def total_models(models: Iterable[ModelInfo]) -> list[ModelInfo]:
    """The models in the memory of replicas; what several have of one is added up."""
    found: dict[str, ModelInfo] = {}
    for info in models:
        found[info.id] = _together(found[info.id], info) if info.id in found else info
    return list(found.values())


def _together(first: ModelInfo, second: ModelInfo) -> ModelInfo:
    """A model that two replicas have."""
    told = first if first.state == "ready" else second
    values = {each.name: getattr(told, each.name) for each in fields(ModelInfo)}
    for name in _COUNTED:
        values[name] = (getattr(first, name) or 0) + (getattr(second, name) or 0)
    values["last_used"] = max(first.last_used, second.last_used)
    return ModelInfo(**values)


def total_memory(uses: Sequence[tuple[str, MemoryUse]]) -> MemoryUse:
    """What replicas hold, each with the node where it is. What is free of a node is so once,
    however many replicas see it."""

    def total(name: str) -> Any:
        values = [getattr(use, name) for _, use in uses]
        return None if None in values else sum(values)

    free: dict[str, int] = {}
    for node, use in uses:
        free[node] = min(use.available, free.get(node, use.available))
    return MemoryUse(
        private=total("private"),
        proportional=total("proportional"),
        resident=total("resident"),
        available=sum(free.values()),
        devices=[device for _, use in uses for device in use.devices],
    )
