"""Scripts of widgets: modules that are joined into one, which browsers take."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from modelcompose_jupyter.widgets import esm
from modelcompose_jupyter.widgets.esm import joined

WIDGETS = Path(esm.__file__).parent
SCRIPTS = [WIDGETS / "run_view.js", WIDGETS / "grid_view.js"]
MODULES = sorted(WIDGETS.glob("*.js"))
DECLARED = re.compile(
    r"^(?:export )?(?:default )?(?:async )?(?:class|function\*?|const|let|var) ([\w$]+)",
    re.MULTILINE,
)
each_script = pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)


def declared(text: str) -> Counter[str]:
    return Counter(DECLARED.findall(text))


def test_a_script_has_each_module_once_and_those_first_that_are_needed(tmp_path: Path) -> None:
    for name, text in {
        "a.js": 'import { b } from "./b.js";\nimport { c } from "./c.js";\nexport default b + c;\n',
        "b.js": 'import { c } from "./c.js";\nimport d from "d";\nexport const b = c;\n',
        "c.js": "// c\nexport function c() {}\n",
    }.items():
        (tmp_path / name).write_text(text)
    assert joined(tmp_path / "a.js").split("\n\n") == [
        "// c\nfunction c() {}",
        'import d from "d";\nconst b = c;',
        "export default b + c;\n",
    ]


def test_modules_may_need_each_other(tmp_path: Path) -> None:
    (tmp_path / "a.js").write_text('import { b } from "./b.js";\nexport const a = 1;\n')
    (tmp_path / "b.js").write_text('import { a } from "./a.js";\nexport const b = () => a;\n')
    assert joined(tmp_path / "a.js") == "const b = () => a;\n\nconst a = 1;\n"


@each_script
def test_a_widgets_script_is_one_module(script: Path) -> None:
    text = joined(script)
    assert not re.search(r'^(import|export)\b.*"\./', text, re.MULTILINE), "it has no folder"
    assert text.count("export ") == text.count("export default") == 1


@each_script
def test_names_at_the_top_of_modules_are_unique(script: Path) -> None:
    found = declared(joined(script))
    assert len(found) > 10
    assert [name for name, count in found.items() if count > 1] == []


def test_each_module_is_in_a_widgets_script() -> None:
    scripts = [declared(joined(script)) for script in SCRIPTS]
    for module in MODULES:
        assert any(declared(module.read_text("utf-8")) <= script for script in scripts), module


@each_script
def test_a_widgets_script_is_one_for_browsers(script: Path, tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    copy = tmp_path / "widget.mjs"
    copy.write_text(joined(script), encoding="utf-8")
    subprocess.run([node, "--check", copy], check=True)
