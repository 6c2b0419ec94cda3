"""The machine that measures: what it is, and how fast it reads memory."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Callable
from functools import partial
from importlib import metadata
from pathlib import Path
from typing import Any

_FLAGS = ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16", "amx_int8", "asimd", "bf16")
_BUFFER_BYTES = 512 * 2**20
_GPU_BUFFER_BYTES = 4 * 2**30
_GPU_SHARE = 8  # of the memory that is free: one in so many bytes
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
        told["gpu_memory_gib"] = round(torch.cuda.mem_get_info()[1] / 2**30, 1)
        told["driver"] = _driver()
        told["cuda"] = torch.version.cuda
    return told


def load_average() -> float:
    """How many processes wanted to run in the last minute."""
    return os.getloadavg()[0]


def bandwidth(device: str, threads: int) -> float:
    """Bytes a second of the quickest of `bandwidths`."""
    return max(bandwidths(device, threads).values())


def bandwidths(device: str, threads: int) -> dict[str, float]:
    """Bytes a second of a buffer larger than the caches.

    ``read`` is a sum over float32; on a CPU at each number of threads up to ``threads``, the best
    of all. A GPU also has ``copy``, of which bytes that are read and written count.
    """
    return _of_gpu() if device == "cuda" else {"read": _of_cpu(threads)}


def _of_cpu(threads: int) -> float:
    import torch

    buffer = torch.ones(_BUFFER_BYTES // 4)
    before = torch.get_num_threads()
    try:
        best = float("inf")
        for count in range(1, threads + 1):
            torch.set_num_threads(count)
            best = min(best, *(_seconds(buffer.sum) for _ in range(_READS)))
    finally:
        torch.set_num_threads(before)
    return _BUFFER_BYTES / best


def _of_gpu() -> dict[str, float]:
    import torch

    free, _ = torch.cuda.mem_get_info()
    size = min(_GPU_BUFFER_BYTES, free // _GPU_SHARE)
    source = torch.ones(size // 4, device="cuda")
    target = torch.empty_like(source)
    read, copy = (
        min(_gpu_seconds(function) for _ in range(_READS))
        for function in (source.sum, partial(target.copy_, source))
    )
    del source, target
    torch.cuda.empty_cache()
    return {"read": size / read, "copy": 2 * size / copy}


def _seconds(function: Callable[[], Any]) -> float:
    started = time.perf_counter()
    function()
    return time.perf_counter() - started


def _gpu_seconds(function: Callable[[], Any]) -> float:
    """By the clock of the device; what it takes to launch does not count."""
    import torch

    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    function()
    ended.record()
    ended.synchronize()
    return float(began.elapsed_time(ended)) / 1000


def _driver() -> str | None:
    command = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=30)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(done.stdout.split()), None)


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
