"""The processors that kernels are compiled for ahead, as wheels bring them.

Also read by hatch_build.py, which has no package yet: it imports nothing of ours.
"""

from __future__ import annotations

import platform
from collections.abc import Collection
from dataclasses import dataclass

FLAGS = (
    "-O3", "-fno-math-errno", "-fno-trapping-math", "-fopenmp-simd", "-pthread", "-fPIC",
    "-shared", "-std=gnu11",
)  # fmt: skip
"""For the compiler, gcc or clang, whatever the processor is."""


@dataclass(frozen=True)
class Variant:
    """A kind of processors.

    Attributes:
        machine: as `platform.machine` calls it.
        flags: for the compiler.
        needs: what a processor must be able to do, as /proc/cpuinfo calls it.
    """

    name: str
    machine: str
    flags: tuple[str, ...]
    needs: frozenset[str] = frozenset()

    @property
    def file(self) -> str:
        """The name of its library."""
        return f"kernels-{self.name}.so"


_V2 = frozenset({"sse4_2", "ssse3", "popcnt", "cx16"})
_V3 = _V2 | {"avx2", "fma", "bmi1", "bmi2", "movbe", "f16c", "abm"}
_V4 = _V3 | {"avx512f", "avx512bw", "avx512cd", "avx512dq", "avx512vl"}

VARIANTS = (
    Variant(
        "x86-64-v4-bf16",
        "x86_64",
        ("-march=x86-64-v4", "-mavx512bf16", "-mavx512vnni"),
        _V4 | {"avx512_bf16", "avx512_vnni"},
    ),
    Variant(
        "x86-64-v4-vnni", "x86_64", ("-march=x86-64-v4", "-mavx512vnni"), _V4 | {"avx512_vnni"}
    ),
    Variant("x86-64-v4", "x86_64", ("-march=x86-64-v4",), _V4),
    Variant("x86-64-v3-vnni", "x86_64", ("-march=x86-64-v3", "-mavxvnni"), _V3 | {"avx_vnni"}),
    Variant("x86-64-v3", "x86_64", ("-march=x86-64-v3",), _V3),
    Variant("x86-64-v2", "x86_64", ("-march=x86-64-v2",), _V2),
    Variant("armv8-a", "aarch64", ("-march=armv8-a",)),
)
"""The best of each machine first."""


def suitable(abilities: Collection[str], machine: str | None = None) -> list[Variant]:
    """Those that run on a processor, the best first."""
    machine = machine or platform.machine()
    return [each for each in VARIANTS if each.machine == machine and each.needs <= {*abilities}]
