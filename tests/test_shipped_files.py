"""Files that ship with the package agree with the code that they come from."""

from __future__ import annotations

import json
from importlib import resources
from pathlib import Path

from safetensors import safe_open

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


def test_the_bundled_model_is_stored_as_all_say_that_it_is() -> None:
    folder = Path(str(resources.files(modelcompose_jupyter))) / "bundled" / "storyteller"
    with safe_open(folder / "model.safetensors", framework="pt") as file:
        kinds = {str(file.get_tensor(name).dtype) for name in file.keys()}  # noqa: SIM118
    assert kinds == {"torch.bfloat16"}
    assert json.loads((folder / "config.json").read_text())["dtype"] == "bfloat16"
    assert "Weights in bfloat16" in (folder / "README.md").read_text(encoding="utf-8")
    export = (ROOT / "training" / "export.py").read_text(encoding="utf-8")
    assert 'choices=("float16", "bfloat16", "float32"), default="bfloat16"' in export


def test_ci_runs_what_the_readme_says() -> None:
    assert "make test" in (ROOT / ".ci" / "run").read_text()
    assert "make test" in (ROOT / "README.md").read_text()
