"""Compiling the kernels for this machine's processor, and finding them again."""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ...redaction import get_logger

_FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math",
    "-fopenmp", "-fPIC", "-shared", "-std=gnu11",
)  # fmt: skip
_SECONDS = 120

Kernels = ctypes.CDLL
"""The compiled functions; a call lets other threads run Python meanwhile."""

log = get_logger(__name__)
_compiling = threading.Lock()  # who asks meanwhile waits, and does not compile as well


def kernels() -> Kernels | None:
    """The kernels, compiled if they are not yet; None where that cannot be.

    ``MODELCOMPOSE_NATIVE=0`` in the environment does without.
    """
    if os.environ.get("MODELCOMPOSE_NATIVE") == "0" or sys.platform != "linux":
        return None
    with _compiling:
        return _load()


@functools.cache
def _load() -> Kernels | None:
    compiler = shutil.which(os.environ.get("CC") or "cc")
    sources = sorted(Path(__file__).parent.glob("*.[ch]"))
    try:
        built = _folder() / f"kernels-{_key(sources)}.so"
        if not built.is_file():
            if compiler is None:
                log.info("no C compiler: steps run on torch alone")
                return None
            _compile(compiler, built)
        return _checked(ctypes.CDLL(str(built)))
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        log.warning("the kernels cannot be compiled, steps run on torch alone: %s", error)
        return None


def _folder() -> Path:
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(cache) / "modelcompose"
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def _key(sources: list[Path]) -> str:
    """Another one for other sources, flags, and processors: a home can be that of many machines."""
    key = hashlib.sha256(repr((_FLAGS, platform.machine(), _processor())).encode())
    for source in sources:
        key.update(source.read_bytes())
    return key.hexdigest()[:16]


def _processor() -> str:
    """What the processor can do."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next((line for line in lines if line.startswith(("flags", "Features"))), "")


def _compile(compiler: str, to: Path) -> None:
    source = Path(__file__).parent / "kernels.c"
    with tempfile.TemporaryDirectory(dir=to.parent) as folder:
        made = Path(folder) / to.name
        subprocess.run(
            [compiler, *_FLAGS, str(source), "-o", str(made), "-lm"],
            check=True,
            capture_output=True,
            timeout=_SECONDS,
        )
        made.replace(to)  # whole or not at all, also where two compile at once


def _checked(library: Kernels) -> Kernels:
    """With the types of its functions, which also shows that they are there."""
    pointer, number, count = ctypes.c_void_p, ctypes.c_int64, ctypes.c_int
    for kind in ("float32", "bfloat16"):
        getattr(library, f"pack_{kind}").argtypes = [pointer, number, number, pointer, count]
        getattr(library, f"pack_{kind}").restype = None
        getattr(library, f"linear_{kind}").argtypes = [
            pointer, pointer, number, pointer, count, pointer, count,
        ]  # fmt: skip
        getattr(library, f"linear_{kind}").restype = None
        getattr(library, f"step_{kind}").argtypes = [
            pointer, pointer, number, pointer, number, pointer, count,
        ]  # fmt: skip
        getattr(library, f"step_{kind}").restype = count
    return library
