"""Compiling the kernels for this machine's processor, and finding them again.

What is loaded runs as this user. So it is loaded only from where nobody else can have put it: files
and folders of this user's that nobody else may write, below folders that only root may change.
Elsewhere, the kernels are compiled for this process alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import sys
import tempfile
import threading
from pathlib import Path

from ....redaction import get_logger

_FLAGS = (
    "-O3", "-march=native", "-fno-math-errno", "-fno-trapping-math",
    "-fopenmp", "-fPIC", "-shared", "-std=gnu11",
)  # fmt: skip
_SECONDS = 120
_FOR_OTHERS = stat.S_IWGRP | stat.S_IWOTH

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


def compile_ahead() -> None:
    """Begin to compile the kernels on a thread of its own, while weights are read."""
    threading.Thread(target=kernels, name="modelcompose-kernels", daemon=True).start()


@functools.cache
def _load() -> Kernels | None:
    compiler = shutil.which(os.environ.get("CC") or "cc")
    name = f"kernels-{_key(sorted(Path(__file__).parent.glob('*.[ch]')))}.so"
    try:
        folder = _folder()
        built = None if folder is None else folder / name
        if built is not None and _is_private(built):
            return _checked(ctypes.CDLL(str(built)))
        if compiler is None:
            log.info("no C compiler: steps run on torch alone")
            return None
        if built is None:
            return _for_this_process(compiler, name)
        _compile(compiler, built)
        return _checked(ctypes.CDLL(str(built)))
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        log.warning("the kernels cannot be compiled, steps run on torch alone: %s", error)
        return None


def _folder() -> Path | None:
    """Where kernels are kept; None where others could change what is there."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        folder = cache.resolve() / "modelcompose"
        _make(folder)
        if folder.lstat().st_uid == os.getuid():
            folder.chmod(0o700, follow_symlinks=False)
    except (OSError, NotImplementedError, RuntimeError) as error:
        log.info("kernels are not kept in %s: %s", cache, error)
        return None
    if not _is_private(folder) or not _is_guarded(folder):
        log.info("kernels are not kept in %s: others may write there", folder)
        return None
    return folder


def _make(folder: Path) -> None:
    """A folder and those above it, for this user alone whatever the umask is."""
    if not folder.parent.exists():
        _make(folder.parent)
    folder.mkdir(mode=0o700, exist_ok=True)


def _is_private(path: Path) -> bool:
    """Whether a file or folder is there, no link, this user's, and nobody else may write it."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return False
    return (
        not stat.S_ISLNK(found.st_mode)
        and found.st_uid == os.getuid()
        and not found.st_mode & _FOR_OTHERS
    )


def _is_guarded(folder: Path) -> bool:
    """Whether nobody but this user and root can put another folder in the place of this one.

    Of the path without links: in folders that others may write, the sticky bit keeps them from it.
    """
    for parent in folder.parents:
        found = parent.lstat()
        open_to_others = found.st_mode & _FOR_OTHERS and not found.st_mode & stat.S_ISVTX
        if found.st_uid not in (0, os.getuid()) or open_to_others:
            return False
    return True


def _for_this_process(compiler: str, name: str) -> Kernels | None:
    """The kernels from a folder that goes again; they stay in memory."""
    with tempfile.TemporaryDirectory(prefix="modelcompose-") as made:  # of mode 0700
        folder = Path(made).resolve()
        if not _is_guarded(folder):
            log.warning("others may write to %s: steps run on torch alone", folder.parent)
            return None
        _compile(compiler, folder / name)
        return _checked(ctypes.CDLL(str(folder / name)))


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
        made.chmod(0o700)
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
