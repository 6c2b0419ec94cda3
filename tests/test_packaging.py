"""The wheel brings the JupyterLab extension, the sdist all of it, and neither needs Node.js."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
from pathlib import Path
from zipfile import ZipFile

import pytest

import modelcompose_jupyter

ROOT = Path(__file__).parent.parent
LEFT_OUT = shutil.ignore_patterns(
    ".*_cache", ".git", ".venv", "build", "dist", "lib", "node_modules", "*.safetensors"
)
SHARE = "share/jupyter/labextensions/modelcompose-jupyter"


def copy(tree: Path, to: Path) -> Path:
    return Path(shutil.copytree(tree, to, ignore=LEFT_OUT))


def build(
    tree: Path, target: str, *, node: str = "", wanted: str = "", kernels: str = "skip"
) -> subprocess.CompletedProcess[str]:
    """Build a tree's wheel or sdist where `node --version` says ``node``."""
    (tree / "bin").mkdir(exist_ok=True)
    (tree / "bin" / "node").write_text(f"#!/bin/sh\necho {node}\n")
    (tree / "bin" / "node").chmod(0o755)
    path = os.pathsep.join([str(tree / "bin"), os.environ["PATH"]])
    return subprocess.run(
        [sys.executable, "-m", "hatchling", "build", "--target", target, "--directory", "out"],
        cwd=tree,
        env={
            **os.environ,
            "PATH": path,
            "MODELCOMPOSE_LABEXTENSION": wanted,
            "MODELCOMPOSE_KERNELS": kernels,
        },
        capture_output=True,
        text=True,
    )


def in_wheel(tree: Path) -> dict[str, bytes]:
    """The files of the wheel that was built, as they will be installed."""
    [wheel] = (tree / "out").glob("*.whl")
    with ZipFile(wheel) as files:
        return {
            name.partition(".data/data/")[2] or name: files.read(name) for name in files.namelist()
        }


def in_repository(folder: str = ".") -> set[str]:
    """The files of the working tree that git does not ignore, but for those that `copy` leaves."""
    command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", folder]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"this is no repository: {done.stderr.strip()}")
    names = [name for name in done.stdout.split("\0") if name and (ROOT / name).exists()]
    return {name for name in names if not name.endswith(".safetensors")}


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The working tree, with its wheel and its sdist, from an extension that was built before."""
    tree = copy(ROOT, tmp_path_factory.mktemp("packaging") / "tree")
    for target in ("sdist", "wheel"):
        done = build(tree, target)
        assert done.returncode == 0, done.stderr
    if f"{SHARE}/package.json" not in in_wheel(tree):
        if os.environ.get("MODELCOMPOSE_LABEXTENSION") == "required":
            pytest.fail(done.stderr)
        pytest.skip("the JupyterLab extension is not built: `make test` does it where Node.js is")
    return tree


@pytest.fixture
def bare(tmp_path: Path) -> Path:
    """The working tree without what is built."""
    tree = copy(ROOT, tmp_path / "tree")
    shutil.rmtree(tree / "modelcompose_jupyter" / "labextension", ignore_errors=True)
    return tree


def test_the_wheel_has_the_extension_once(tree: Path) -> None:
    files = in_wheel(tree)
    manifest = json.loads(files[f"{SHARE}/package.json"])
    assert f"{SHARE}/{manifest['jupyterlab']['_build']['load']}" in files
    assert any(name.startswith(f"{SHARE}/schemas/modelcompose-jupyter/") for name in files)
    assert json.loads(files[f"{SHARE}/install.json"])["packageName"] == "modelcompose-jupyter"
    assert not any(name.startswith("modelcompose_jupyter/labextension") for name in files)
    assert not any(name.endswith((".ts", ".sha256", ".map")) for name in files)


def test_what_is_built_from_the_sdist_is_the_same_and_needs_no_node(
    tree: Path, tmp_path: Path
) -> None:
    [sdist] = (tree / "out").glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        files.extractall(tmp_path, filter="data")
    [unpacked] = tmp_path.iterdir()
    assert (unpacked / "labextension" / "src" / "index.ts").is_file()
    done = build(unpacked, "wheel", wanted="required")
    assert done.returncode == 0, done.stderr
    assert in_wheel(unpacked) == in_wheel(tree)


def test_the_sdist_has_what_the_repository_has(tree: Path) -> None:
    """And so all that whoever packages it builds and tests with; beside the extension, built."""
    [sdist] = (tree / "out").glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        found = {name.partition("/")[2] for name in files.getnames()}
    assert in_repository() - found == set()
    of_tests = {"bin/node", "PKG-INFO"}
    assert {
        name
        for name in found - in_repository() - of_tests
        if not name.startswith("modelcompose_jupyter/labextension/")
    } == set()


def test_the_wheel_has_all_of_the_package(tree: Path) -> None:
    """Types, catalogs, kernels' sources, the model's files, scripts of widgets among it."""
    package = {name for name in in_repository("modelcompose_jupyter") if not name.endswith(".po")}
    found = {name for name in in_wheel(tree) if name.startswith("modelcompose_jupyter/")}
    assert {"py.typed", "document/schema.json", "models/native/kernels.c"} <= {
        name.partition("/")[2] for name in package
    }
    assert found == package


@pytest.mark.parametrize(("node", "said"), [("", "found: None"), ("v18.19.0", "found: v18.19.0")])
def test_without_node_all_else_is_installed(bare: Path, node: str, said: str) -> None:
    done = build(bare, "wheel", node=node)
    assert done.returncode == 0, done.stderr
    assert "The JupyterLab extension is left out" in done.stderr
    assert said in done.stderr and "MODELCOMPOSE_LABEXTENSION=required" in done.stderr
    files = in_wheel(bare)
    assert "modelcompose_jupyter/__init__.py" in files
    assert not any(name.startswith(SHARE) for name in files)


def test_a_release_without_the_extension_is_an_error(bare: Path) -> None:
    done = build(bare, "wheel", wanted="required")
    assert done.returncode != 0
    assert "Node.js" in done.stderr
    assert not list(bare.glob("out/*.whl"))


def test_an_extension_older_than_its_sources_is_not_shipped(tree: Path, tmp_path: Path) -> None:
    older = copy(tree, tmp_path / "tree")
    shutil.rmtree(older / "out")
    with (older / "labextension" / "src" / "index.ts").open("a") as source:
        source.write("// changed\n")
    for target in ("wheel", "sdist"):
        assert build(older, target).returncode == 0
    assert not any(name.startswith(SHARE) for name in in_wheel(older))
    [sdist] = (older / "out").glob("*.tar.gz")
    with tarfile.open(sdist) as files:
        assert not any("modelcompose_jupyter/labextension" in name for name in files.getnames())


def test_there_is_one_version_and_one_name() -> None:
    manifest = json.loads((ROOT / "labextension" / "package.json").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert manifest["version"] == modelcompose_jupyter.__version__
    assert manifest["name"] == project["name"]
    [where] = modelcompose_jupyter._jupyter_labextension_paths()
    built = Path(modelcompose_jupyter.__file__).parent / where["src"]
    assert built == (ROOT / "labextension" / manifest["jupyterlab"]["outputDir"]).resolve()
    assert where["dest"] == manifest["name"]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("cc") is None, reason="there is no C compiler")
def test_the_wheel_has_kernels_that_need_no_compiler(bare: Path, tmp_path: Path) -> None:
    """For each kind of processors, and so it is for one system; without any it is for all."""
    assert build(bare, "wheel", wanted="skip").returncode == 0
    [wheel] = (bare / "out").glob("*.whl")
    assert wheel.name.endswith("-py3-none-any.whl")
    wheel.unlink()
    done = build(bare, "wheel", wanted="skip", kernels="required")
    assert done.returncode == 0, done.stderr
    [wheel] = (bare / "out").glob("*.whl")
    assert f"_{platform.machine()}.whl" in wheel.name
    glibc = re.search(r"-py3-none-manylinux_(\d+)_(\d+)_", wheel.name)
    assert glibc and (2, 17) <= tuple(map(int, glibc.groups())) <= (
        *map(int, platform.libc_ver()[1].split(".")),
    )
    with ZipFile(wheel) as files:
        files.extractall(tmp_path / "site")
    code = (
        "from modelcompose_jupyter.models.native import build; library = build.kernels();"
        "print(library and library._name)"
    )
    env = {**os.environ, "PYTHONPATH": str(tmp_path / "site"), "CC": "/nowhere/cc",
           "XDG_CACHE_HOME": str(tmp_path / "cache")}  # fmt: skip
    found = subprocess.run(
        [sys.executable, "-c", code], env=env, cwd=tmp_path, capture_output=True, text=True
    )
    assert f"{tmp_path}/site/modelcompose_jupyter/models/native/prebuilt/kernels-" in found.stdout
