"""The machine that measures: what it is, and how fast it reads memory."""

from __future__ import annotations

import os
import platform
import time
from importlib import metadata
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16")
_BUFFER_BYTES = 512 * 2**20
_READS = 4


def describe(device: str) -> dict[str, Any]:
    """Processor, memory and versions; nothing that names the machine."""
    import psutil
    import torch

    info = _cpu_info()
    flags = set(info.get("flags", info.get("Features", "")).split())
    told = {
        "processor": info.get("model name", platform.processor() or platform.machine()),
        "cores": psutil.cpu_count(logical=False),
        "logical_cores": psutil.cpu_count(),
        "flags": [flag for flag in _FLAGS if flag in flags],
        "last_level_cache": _cache_size(),
        "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: metadata.version(name) for name in ("torch", "transformers")},
    }
    if device == "cuda":
        told["gpu"] = torch.cuda.get_device_name()
    return told


def load_average() -> float:
    """How many processes wanted to run in the last minute."""
    return os.getloadavg()[0]


def bandwidth(device: str, threads: int) -> float:
    """Bytes a second that a sum over float32 reads, from a buffer larger than the caches.

    On a CPU at each number of threads up to ``threads``, the best of all.
    """
    import torch

    buffer = torch.ones(_BUFFER_BYTES // 4, device=device)
    before = torch.get_num_threads()
    try:
        best = float("inf")
        for count in range(1, threads + 1) if device == "cpu" else (before,):
            torch.set_num_threads(count)
            best = min(best, *(_seconds(buffer, device) for _ in range(_READS)))
    finally:
        torch.set_num_threads(before)
    return _BUFFER_BYTES / best


def _seconds(buffer: Any, device: str) -> float:
    import torch

    started = time.perf_counter()
    buffer.sum()
    if device == "cuda":
        torch.cuda.synchronize()
    return time.perf_counter() - started


def _cpu_info() -> dict[str, str]:
    file = Path("/proc/cpuinfo")
    if not file.exists():
        return {}
    first = file.read_text("utf-8").split("\n\n")[0]
    pairs = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in pairs}


def _cache_size() -> str | None:
    sizes = sorted(Path("/sys/devices/system/cpu/cpu0/cache").glob("index*/size"))
    return sizes[-1].read_text("utf-8").strip() if sizes else None
