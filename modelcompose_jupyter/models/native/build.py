"""The kernels for this machine's processor: those of the wheel, or compiled here and kept.

Where the `disk_cache` has no place for them, they are compiled for this process alone.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import os
import platform
import shutil
import struct
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path

from ...redaction import get_logger
from .. import disk_cache
from .numbers import KINDS
from .variants import FLAGS, suitable

_FLAGS = (*FLAGS, "-march=native")
_PREBUILT = Path(__file__).parent / "prebuilt"
"""What the wheel has brought."""
_SECONDS = 300
_ELF = struct.Struct("<40xQ10xHH2x")
"""Of a library's header: where its sections are, which stand at its end, how wide, and how many."""

OnCompile = Callable[[], None]

Kernels = ctypes.CDLL
"""The compiled functions; a call lets other threads run Python meanwhile."""

log = get_logger(__name__)
_compiling = threading.Lock()  # who asks meanwhile waits, and does not compile as well
_on_compile: OnCompile | None = None  # of who has the lock


def kernels(on_compile: OnCompile | None = None) -> Kernels | None:
    """The kernels, compiled where none are there yet; None where that cannot be.

    ``MODELCOMPOSE_NATIVE=0`` in the environment does without. ``on_compile`` is called where it
    takes as long as a compiler does: once on a computer, and for all who ask meanwhile.
    """
    global _on_compile
    if os.environ.get("MODELCOMPOSE_NATIVE") == "0" or sys.platform != "linux":
        return None
    if on_compile is not None and _compiling.locked():
        on_compile()
    with _compiling:
        _on_compile = on_compile
        return _load()


def why_none() -> str:
    """Why there are no kernels, where there are none."""
    if os.environ.get("MODELCOMPOSE_NATIVE") == "0":
        return "MODELCOMPOSE_NATIVE is 0"
    if sys.platform != "linux":
        return "kernels are for Linux"
    if shutil.which(os.environ.get("CC") or "cc") is None:
        return "there is no C compiler for kernels, as gcc"
    return "the kernels cannot be compiled"


@functools.cache
def _load() -> Kernels | None:
    return _prebuilt() or _compiled()


def _prebuilt() -> Kernels | None:
    """Those of the wheel, of the best variant that this processor runs."""
    for variant in suitable(_processor().split()):
        if (path := _PREBUILT / variant.file).is_file():
            try:
                return _checked(ctypes.CDLL(str(path)))
            except (OSError, AttributeError) as error:  # of another libc, say
                log.info("the kernels of the wheel cannot be used: %s", error)
    return None


def _compiled() -> Kernels | None:
    compiler = shutil.which(os.environ.get("CC") or "cc")
    name = f"kernels-{_key(sorted(Path(__file__).parent.glob('*.[ch]')))}.so"
    try:
        folder = disk_cache.folder()
        built = None if folder is None else folder / name
        if built is not None and disk_cache.is_private(built) and _is_whole(built):
            return _checked(ctypes.CDLL(str(built)))
        if compiler is None:
            log.info("no C compiler: models run on torch")
            return None
        if built is None:
            return _for_this_process(compiler, name)
        _compile(compiler, built)
        return _checked(ctypes.CDLL(str(built)))
    except subprocess.CalledProcessError as error:
        said = (error.stderr or b"").decode(errors="replace").strip() or "nothing"
        log.warning("the kernels cannot be compiled, models run on torch; cc says: %s", said)
    except (OSError, subprocess.SubprocessError, AttributeError) as error:
        log.warning("the kernels cannot be compiled, models run on torch: %s", error)
    return None


def _is_whole(library: Path) -> bool:
    """Whether a file has all that its header says; one without would end the process."""
    with library.open("rb") as file:
        header = file.read(_ELF.size)
        size = os.fstat(file.fileno()).st_size
    if len(header) < _ELF.size or not header.startswith(b"\x7fELF"):
        return False
    sections, width, count = _ELF.unpack(header)
    return bool(sections + width * count <= size)


def _for_this_process(compiler: str, name: str) -> Kernels | None:
    """The kernels from a folder that goes again; they stay in memory."""
    with tempfile.TemporaryDirectory(prefix="modelcompose-") as made:  # of mode 0700
        folder = Path(made).resolve()
        if not disk_cache.is_guarded(folder):
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
    if _on_compile is not None:
        _on_compile()
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
    types: dict[str, tuple[object, Sequence[object]]] = {
        "pool_make": (pointer, []),
        "pool_end": (None, [pointer]),
        "code_weights": (
            None,
            [pointer, count, pointer, number, number, number, number, pointer],
        ),
    }
    for kind in KINDS:
        types[f"convert_{kind}"] = (None, [pointer, count, pointer, number, number, pointer])
    for step in (*KINDS, "codes"):
        types |= {
            f"linear_{step}": (
                count,
                [pointer, count, pointer, pointer, number, pointer, number, count],
            ),
            f"step_{step}": (
                count,
                [pointer, count, pointer, pointer, number, pointer, number, pointer],
            ),
        }
    for name, (result, arguments) in types.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library
