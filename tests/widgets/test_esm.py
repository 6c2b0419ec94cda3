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
SCRIPT = WIDGETS / "run_view.js"
MODULES = sorted(WIDGETS.glob("*.js"))
DECLARED = re.compile(
    r"^(?:export )?(?:default )?(?:async )?(?:class|function\*?|const|let|var) ([\w$]+)",
    re.MULTILINE,
)


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


def test_the_widgets_script_is_all_of_its_modules() -> None:
    script = joined(SCRIPT)
    assert not re.search(r'^(import|export)\b.*"\./', script, re.MULTILINE), "it has no folder"
    assert script.count("export ") == script.count("export default") == 1
    assert declared(script) == sum(
        (declared(each.read_text("utf-8")) for each in MODULES), Counter()
    )


def test_names_at_the_top_of_modules_are_unique() -> None:
    found = declared(joined(SCRIPT))
    assert len(found) > 50
    assert [name for name, count in found.items() if count > 1] == []


def test_the_widgets_script_is_a_module(tmp_path: Path) -> None:
    node = shutil.which("node")
    if node is None:
        pytest.skip("no Node.js")
    script = tmp_path / "widget.mjs"
    script.write_text(joined(SCRIPT), encoding="utf-8")
    subprocess.run([node, "--check", script], check=True)
