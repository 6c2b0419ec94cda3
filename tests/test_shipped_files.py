"""Files that ship with the package agree with the code that they come from."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

import modelcompose_jupyter
from modelcompose_jupyter.document import json_schema

ROOT = Path(__file__).parent.parent


def test_the_json_schema_is_that_of_the_models() -> None:
    shipped = resources.files(modelcompose_jupyter) / "document" / "schema.json"
    assert json.loads(shipped.read_text(encoding="utf-8")) == json_schema(), (
        "write it anew: model-compose schema --document > modelcompose_jupyter/document/schema.json"
    )


def test_the_bundled_model_fits_into_ten_megabytes() -> None:
    folder = Path(str(resources.files(modelcompose_jupyter))) / "bundled" / "storyteller"
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 10_000_000
    assert {"model.safetensors", "tokenizer.json", "generation_config.json", "README.md"} <= {
        path.name for path in folder.iterdir()
    }


def test_ci_runs_what_the_readme_says() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
