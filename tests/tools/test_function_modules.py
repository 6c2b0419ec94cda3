"""Modules beside documents: found there, anew when they have changed, and nobody else's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from modelcompose_jupyter import InputError, LocalHost, load
from modelcompose_jupyter.tools.function_modules import function_beside

DOCUMENT = "component: {type: function, function: 'steps:tidy'}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "steps.py").write_text("def tidy(text: str) -> str:\n    return text.strip()\n")
    (tmp_path / "flow.yml").write_text(DOCUMENT)
    return tmp_path


def test_a_function_of_the_module_beside_the_document(folder: Path) -> None:
    host = LocalHost()
    before = list(sys.path)
    flow = load(folder / "flow.yml", host=host)
    assert flow(text=" a ") == "a"
    assert sys.path == before and "steps" not in sys.modules
    (folder / "steps.py").write_text("def tidy(text: str) -> str:\n    return text.upper()\n")
    assert flow(text=" a ") == " A "
    host.close()


def test_it_is_imported_once_while_it_stays_as_it_is(folder: Path) -> None:
    (folder / "steps.py").write_text(
        "seen = []\ndef tidy():\n    seen.append(1)\n    return seen\n"
    )
    assert function_beside(folder, "steps:tidy")() == [1]
    assert function_beside(folder, "steps:tidy")() == [1, 1]
    assert function_beside(folder, "steps:seen.append") is not None
    assert not list(folder.glob("__pycache__"))


def test_modules_of_a_folder_import_each_other_and_follow_each_other(folder: Path) -> None:
    (folder / "steps.py").write_text("from .words import MARK\ndef tidy(x): return x + MARK\n")
    (folder / "words.py").write_text("MARK = '!'\n")
    assert function_beside(folder, "steps:tidy")("a") == "a!"
    (folder / "words.py").write_text("MARK = '?'\n")
    assert function_beside(folder, "steps:tidy")("a") == "a?"


def test_packages_and_folders_are_modules_too(folder: Path) -> None:
    (folder / "pack").mkdir()
    (folder / "pack" / "__init__.py").write_text("from .inner import tidy\n")
    (folder / "pack" / "inner.py").write_text("class A:\n  @staticmethod\n  def b(): return 2\n"
                                              "def tidy(): return 1\n")  # fmt: skip
    assert function_beside(folder, "pack:tidy")() == 1
    assert function_beside(folder, "pack.inner:A.b")() == 2


def test_folders_do_not_share_modules(
    folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    (other / "steps.py").write_text("def tidy(text): return 'other'\n")
    assert function_beside(other, "steps:tidy")("a") == "other"
    assert function_beside(folder, "steps:tidy")("a") == "a"


@pytest.mark.parametrize(
    ("name", "code", "message", "hint"),
    [
        (
            "step:tidy",
            None,
            "there is no module 'step' beside",
            "Did you mean 'steps'?",
        ),
        ("xyz:tidy", None, "there is no module 'xyz'", "It is the file xyz.py in its folder."),
        ("steps:tidi", None, "the module 'steps' has no 'tidi'", "Did you mean 'tidy'?"),
        ("steps:tidy", "1 +", "'steps' cannot be imported: SyntaxError: invalid syntax", ""),
        ("steps:tidy", "import words_", "ModuleNotFoundError: No module", "from .words_ import …"),
        ("steps:tidy", "raise SystemExit(2)", "cannot be imported: SystemExit: 2", ""),
        ("steps:tidy", "1 / 0", "cannot be imported: ZeroDivisionError: division by zero", ""),
    ],
)
def test_what_is_wrong_is_said_with_its_place(
    folder: Path, name: str, code: str | None, message: str, hint: str
) -> None:
    if code is not None:
        (folder / "steps.py").write_text(f"\n{code}\n")
    (folder / "flow.yml").write_text(DOCUMENT.replace("steps:tidy", name))
    with pytest.raises(InputError) as wrong:
        load(folder / "flow.yml")
    assert message in wrong.value.message and hint in (wrong.value.hint or "")
    assert wrong.value.where is not None and wrong.value.where.line == 1
    if code is not None:
        assert f'File "{folder / "steps.py"}", line 2' in (wrong.value.traceback or "")
    (folder / "steps.py").write_text("def tidy(text): return text\n")
    assert function_beside(folder, "steps:tidy")("a") == "a"
