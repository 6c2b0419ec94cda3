"""Kernels on other versions of ipykernel than the installed one, in the same environment.

A version is installed once, without the packages that the environment has already, into a folder
of its own; a kernel finds it there before the environment's own. So kernels of every version see
the same torch, and the program that starts them stays the same.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from importlib.metadata import PackageNotFoundError, distributions, version
from pathlib import Path

from packaging.requirements import Requirement

INSTALLED = version("ipykernel")

# Kernelspecs are in its `kernels` folder, which is where Jupyter looks in each folder of
# JUPYTER_PATH; the versions themselves are beside it.
FOLDER = Path(sys.prefix) / "ipykernels"

_WRITE_KERNELSPEC = """
import sys
from ipykernel.kernelspec import write_kernel_spec

write_kernel_spec(sys.argv[1], {"display_name": sys.argv[2], "env": {"PYTHONPATH": sys.argv[3]}})
"""


def kernelspec(wanted: str) -> str:
    """The name of the kernelspec for a version, which is installed if it is not there yet.

    Jupyter finds it where ``FOLDER`` is in JUPYTER_PATH. Raises RuntimeError with pip's own words
    when the version cannot be installed.
    """
    if wanted == INSTALLED:
        return "python3"
    name = f"ipykernel-{wanted}"
    spec = FOLDER / "kernels" / name
    if not spec.exists():
        spec.parent.mkdir(parents=True, exist_ok=True)
        packages = FOLDER / wanted
        if not packages.exists():
            _install(wanted, packages)
        _write_kernelspec(wanted, packages, spec)
    return name


def _install(wanted: str, packages: Path) -> None:
    """Install a version, and what it requires and the environment lacks, or nothing at all."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as parent:
        target = Path(parent) / wanted
        missing = [f"ipykernel=={wanted}"]
        while missing:
            options = ("--quiet", "--no-deps", "--target", str(target))
            _python("-m", "pip", "install", *options, *missing)
            missing = [str(requirement) for requirement in _missing(target)]
        target.rename(packages)


def _missing(packages: Path) -> Iterator[Requirement]:
    """What the packages of a folder require and neither it nor the environment has."""
    for distribution in distributions(path=[str(packages)]):
        for requirement in map(Requirement, distribution.requires or ()):
            needed = requirement.marker is None or requirement.marker.evaluate({"extra": ""})
            if needed and not _has(packages, requirement):
                yield requirement


def _has(packages: Path, requirement: Requirement) -> bool:
    beside = next(iter(distributions(name=requirement.name, path=[str(packages)])), None)
    try:
        found = beside.version if beside else version(requirement.name)
    except PackageNotFoundError:
        return False
    return requirement.specifier.contains(found, prereleases=True)


def _write_kernelspec(wanted: str, packages: Path, spec: Path) -> None:
    """Let the version itself say how it is started and what it can do."""
    with tempfile.TemporaryDirectory(dir=FOLDER) as parent:
        written = Path(parent) / spec.name
        arguments = (str(written), f"ipykernel {wanted}", str(packages))
        _python("-c", _WRITE_KERNELSPEC, *arguments, environment={"PYTHONPATH": str(packages)})
        written.rename(spec)


def _python(*arguments: str, environment: Mapping[str, str] | None = None) -> None:
    """Run this environment's Python; what it says is told only if it fails."""
    done = subprocess.run(
        [sys.executable, *arguments],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(arguments)}\n{done.stdout}{done.stderr}")
