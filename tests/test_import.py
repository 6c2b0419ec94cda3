"""Importing the package and loading the extension cost next to nothing."""

from __future__ import annotations

import subprocess
import sys

import pytest

HEAVY = ["torch", "transformers", "huggingface_hub", "ipywidgets", "pydantic", "yaml"]


def loaded_after(code: str) -> str:
    script = f"{code}; import sys; print([m for m in {HEAVY} if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(
    "code",
    [
        "import modelcompose_jupyter",
        "from IPython.core.interactiveshell import InteractiveShell as S; "
        "S.instance().run_line_magic('load_ext', 'modelcompose_jupyter')",
    ],
)
def test_nothing_heavy_is_imported(code: str) -> None:
    assert loaded_after(code) == "[]"


def test_declaring_and_checking_need_no_torch() -> None:
    code = (
        "import modelcompose_jupyter as m; "
        "m.load({'component': {'type': 'model', 'task': 'text-generation', "
        "'model': 'x', 'text': 'hi'}})"
    )
    assert loaded_after(code) == "['pydantic', 'yaml']"


def test_every_public_name_is_there() -> None:
    import modelcompose_jupyter

    assert all(getattr(modelcompose_jupyter, name) for name in modelcompose_jupyter.__all__)
    with pytest.raises(AttributeError, match="no attribute 'nothing'"):
        _ = modelcompose_jupyter.nothing
