"""What a release says of itself agrees with itself."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import yaml

import modelcompose_jupyter

ROOT = Path(__file__).parent.parent
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
RECIPE = yaml.safe_load((ROOT / "conda" / "recipe.yaml").read_text("utf-8"))


def test_all_tell_of_the_same_version() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text("utf-8"))
    newest = re.search(r"^## (\S+)", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)
    assert newest is not None
    extension = json.loads((ROOT / "labextension" / "package.json").read_text("utf-8"))
    told = {extension["version"], citation["version"], RECIPE["context"]["version"], newest[1]}
    assert told == {modelcompose_jupyter.__version__}


def test_conda_has_the_dependencies_that_pip_has() -> None:
    names = {"pytorch": "torch"}
    needed = [each.split() for each in RECIPE["requirements"]["run"]]
    conda = {names.get(name, name): bound for name, bound in needed}
    assert conda.pop("python") == PROJECT["requires-python"]
    assert conda == dict(
        re.fullmatch(r"([\w.-]+)(\S+)", each).groups()
        for each in PROJECT["dependencies"]  # type: ignore[union-attr]
    )


def test_what_is_public_is_typed() -> None:
    """And nothing of it is hidden: every name is there, and has a docstring."""
    folder = Path(modelcompose_jupyter.__file__).parent
    assert (folder / "py.typed").exists()
    for name in modelcompose_jupyter.__all__:
        value = getattr(modelcompose_jupyter, name)
        assert name == "__version__" or value.__doc__, name
