"""The Korean pages: their commands are run, and the guide's documents, messages and figures hold.

The guide goes through the user's example. Its models come from a stand-in for the Hub, under their
real names, with tiny random weights of their real architectures.
"""

from __future__ import annotations

import json
import math
import re
import shutil
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from seed import blocks as seed
from standins import tiny_models
from standins.hub import HubStandIn
from standins.pages import ROOT, blocks, page

from modelcompose_jupyter import DocumentError, load
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.host import local_host
from modelcompose_jupyter.models import memory

GUIDE = page("docs/ko/text-generation.md")
MODEL = "HuggingFaceTB/SmolLM3-3B"
SECONDS = 120
KINDS = {
    MODEL: "smollm3",
    "HuggingFaceTB/SmolLM2-1.7B": "llama",
    "microsoft/DialoGPT-small": "gpt2",
    "microsoft/DialoGPT-large": "gpt2",
    "EleutherAI/gpt-neo-1.3B": "gpt_neo",
    "EleutherAI/gpt-neo-2.7B": "gpt_neo",
    "Salesforce/codegen-350M-mono": "codegen",
    "facebook/blenderbot-400M-distill": "blenderbot",
    "kakaocorp/kanana-1.5-2.1b-instruct-2505": "llama",
    "naver-hyperclovax/HyperCLOVAX-SEED-Text-Instruct-1.5B": "llama",
    "LGAI-EXAONE/EXAONE-4.0-1.2B": "exaone4",
}
MISSING = "HuggingFaceTB/SmolLM3-1.7B"

[[DOCUMENT]] = [each for each in blocks(GUIDE, "yaml") if each[0].startswith("controller:")]
[[BATCH]] = [
    each for each in blocks(GUIDE, "yaml") if "jobs:" in each[0] and "component:\n" in each[0]
]


@pytest.fixture(scope="module")
def hub(tmp_path_factory: pytest.TempPathFactory) -> Iterator[HubStandIn]:
    """A Hub that has the models of the guide."""
    folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS.values()}
    for kind, folder in folders.items():
        tiny_models.save(folder, kind)
    with HubStandIn() as hub:
        for name, kind in KINDS.items():
            hub.add(name, folders[kind])
        yield hub


@pytest.fixture
def cache(hub: HubStandIn, tmp_path: Path) -> Iterator[Path]:
    """An empty cache, which this process fills from that Hub."""
    folder = tmp_path / "hf" / "hub"
    with hub.client(folder):
        yield folder
        local_host().unload()


# Commands

# A shell in which services take ports that are free and stay in the background.
SHELL = r"""
model-compose() {
  if [ "$1" = up ]; then set -- "$@" -d --port=0 --webui-port=0; fi
  "$PYTHON" -m modelcompose_jupyter.cli "$@" | tee -a "$SAID"
}
curl() {
  local api=$(sed -n 's/^API *//p' "$SAID")
  command curl -sS "${@/http:\/\/localhost:8080\/api/$api}"
}
"""
# What sets a computer up is not done by a test; that there is such a thing is.
INSTALLING = re.compile(r"(make|pip|source|python3 -m venv) .*")


def commands(text: str) -> list[tuple[str, str | None]]:
    """The blocks of commands of a page, each with what it prints where the page shows that."""
    printed = dict(blocks(text, "bash", "text"))
    return [
        (block, printed.get(block))
        for (block,) in blocks(text, "bash")
        if not all(map(INSTALLING.fullmatch, block.splitlines()))
    ]


@pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed")
@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("README.ko.md", 2),
        ("docs/ko/index.md", 1),
        ("docs/ko/serving.md", 4),
        ("docs/ko/text-generation.md", 8),
    ],
)
def test_the_commands_of_a_page_run(name: str, count: int, hub: HubStandIn, tmp_path: Path) -> None:
    """One after the other, in one folder, as a reader types them."""
    notebooks, example = tmp_path / "notebooks", tmp_path / "text-generation"
    notebooks.mkdir()
    shutil.copy(ROOT / "notebooks" / "model-compose.yml", notebooks)
    example.mkdir()
    (example / "model-compose.yml").write_text(DOCUMENT, "utf-8")
    (example / "batch.yml").write_text(BATCH, "utf-8")
    environment = {
        **hub.environment(tmp_path / "hf"),
        "LC_ALL": "C.UTF-8",
        "PYTHON": sys.executable,
        "SAID": str(tmp_path / "said"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
    }
    place = tmp_path if "cd " in page(name) else notebooks

    def run(script: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["bash", "-e", "-o", "pipefail", "-c", f"{SHELL}\n{script}\npwd > {tmp_path}/place"],
            cwd=place, env=environment, capture_output=True, text=True, timeout=SECONDS,
        )  # fmt: skip

    found = commands(page(name))
    try:
        for block, wanted in found:
            done = run(block)
            if wanted is not None:
                assert done.stdout + done.stderr == f"{wanted}\n"
            else:
                assert done.returncode == 0, (block, done.stderr)
                place = Path((tmp_path / "place").read_text().strip())
            if "curl" in block or " run " in block.partition("\n")[0]:
                assert "A fox" in done.stdout or "Once upon a time" in done.stdout or wanted, block
    finally:
        run("model-compose down --all")
    assert len(found) == count


def test_what_installs_is_there() -> None:
    pages = (page("README.ko.md"), page("docs/ko/index.md"), GUIDE)
    lines = "\n".join(block for text in pages for (block,) in blocks(text, "bash"))
    targets = re.findall(r"^(\w+):", page("Makefile"), re.M)
    made = set(re.findall(r"^make (\w+)", lines, re.M))
    assert made == {"demo", "test"}
    assert made <= set(targets)
    assert set(re.findall(r"^pip .*", lines, re.M)) == {"pip install -c constraints.txt ."}
    assert (ROOT / "constraints.txt").exists()


# The guide's documents


def test_the_guide_has_the_example_as_it_stands() -> None:
    example = page("tests/seed/flat.yml")
    assert f"{DOCUMENT}\n" == "".join(re.findall(r"^(?!#).*\n", example, re.M))
    written = [f"{block}\n" for (block,) in blocks(GUIDE, "yaml")]
    theirs = [value for name, value in vars(seed).items() if name.startswith("SEED_")]
    assert len(theirs) == 6
    assert all(block in written for block in theirs)


VALUES: dict[str, Any] = {
    "prompt": "A fox",
    "instruction": "A fox",
    "topic": "A fox",
    "batch_size": 2,
    "prompts": ["A fox", "An owl"],
}
WHOLE = [each for (each,) in blocks(GUIDE, "yaml") if "component:\n" in each]


@pytest.mark.parametrize(
    "document", [each for each in WHOLE if f"{each}\n" != seed.SEED_OTHER_MODEL]
)
def test_every_document_of_the_guide_runs(document: str, cache: Path) -> None:
    workflow = load(document)
    if "chat-completion" in document:  # tiny models have no templates of chats
        assert workflow.inputs
        return
    given = {name: VALUES[name] for name, each in workflow.inputs.items() if each.required}
    given |= {"topic": "A fox"} if "topic" in workflow.inputs else {}
    run = workflow.run(given)
    assert run.state == "completed", run.error
    assert "A fox" in json.dumps(run.output)


def test_the_parameters_of_the_guide_are_used(cache: Path) -> None:
    parameters = "".join(f"  {line}" for line in seed.SEED_PARAMETERS.splitlines(keepends=True))
    run = load(f"{WHOLE[-2].rstrip()}\n{parameters}").run({"topic": "A fox"})
    used = {"temperature": 0.7, "top_p": 0.9, "top_k": 50, "repetition_penalty": 1.1}
    assert run.parameters.items() >= {**used, "do_sample": True}.items()
    assert run.parameters["max_output_length"] < tiny_models.CONTEXT


def test_the_guide_has_what_its_document_takes_and_gives() -> None:
    workflow = load(DOCUMENT)
    assert f"\n{workflow.diagram.text}\n" in GUIDE
    assert [str(each) for each in workflow.inputs.values()] == ["prompt: text (required)"]
    assert [each.name for each in workflow.outputs] == ["generated"]


# Its models

ROWS = re.findall(r"^\| `([\w.-]+/[\w.-]+)` \| (.+?) \|", GUIDE, re.M)
DRIVERS = {"C 커널": "native", "transformers": "huggingface"}


def test_the_guide_tells_of_all_models_of_the_example() -> None:
    known = {*KINDS, MISSING}
    assert {name for name, _ in ROWS} | {MODEL, "EleutherAI/gpt-neo-1.3B"} == known


@pytest.mark.parametrize(("name", "driver"), ROWS)
def test_a_model_runs_as_the_guide_says(name: str, driver: str, cache: Path) -> None:
    document = DOCUMENT.replace(MODEL, name).replace("32768", "8")
    run = load(document).run(prompt="A fox")
    if name == MISSING:
        assert driver == "**없는 모델**"
        assert run.error is not None and run.error.code == "model_not_found"
        return
    assert run.state == "completed", run.error
    used = run.record["generations"][0]["model"]["driver"]
    assert used == DRIVERS.get(driver, "native")  # where the column names the architecture
    assert run.text.startswith("A fox") == (used == "native")


# Its messages and figures


def shape() -> tuple[Any, dict[str, tuple[int, ...]]]:
    """The settings of SmolLM3-3B, which are transformers' own, and the shapes of its weights."""
    import torch
    from transformers import SmolLM3Config, SmolLM3ForCausalLM

    config = SmolLM3Config(architectures=["SmolLM3ForCausalLM"], dtype="bfloat16")
    with torch.device("meta"):
        model = SmolLM3ForCausalLM(config)
    return config, {name: tuple(each.shape) for name, each in model.named_parameters()}


def header(shapes: dict[str, tuple[int, ...]]) -> tuple[bytes, int]:
    """The beginning of a safetensors file in bfloat16, and the size of the whole file."""
    tensors, end = {}, 0
    for name, each in shapes.items():
        begin, end = end, end + 2 * math.prod(each)
        tensors[name] = {"dtype": "BF16", "shape": each, "data_offsets": [begin, end]}
    written = json.dumps(tensors).encode()
    written += b" " * (-len(written) % 8)
    return struct.pack("<Q", len(written)) + written, 8 + len(written) + end


def message(document: str) -> str:
    """What is said of a run of a document, of the Hub's own address."""
    path = Path("model-compose.yml")
    path.write_text(document, "utf-8")
    error = load(path).run(prompt="A fox").error
    return re.sub(r"http://127\.0\.0\.1:\d+", "https://huggingface.co", str(error))


def test_the_messages_of_the_guide_are_what_is_said(
    hub: HubStandIn, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    config, shapes = shape()
    begins, size = header(shapes)
    folder = tmp_path / "real"
    config.save_pretrained(folder)
    tiny_models.tokenizer().save_pretrained(folder)
    with HubStandIn() as real, real.client(tmp_path / "hub"):
        real.add(MODEL, folder, {"model.safetensors": begins})
        real.sizes["model.safetensors"] = size
        with monkeypatch.context() as changed:
            changed.setattr(memory, "available", lambda _: 4_000_000_000)
            said = [message(DOCUMENT)]
        said.append(message(DOCUMENT.replace(MODEL, MISSING)))
    with hub.client(tmp_path / "empty"), monkeypatch.context() as changed:
        changed.setattr(constants, "HF_HUB_OFFLINE", True)
        changed.setenv("HF_HUB_OFFLINE", "1")
        said.append(message(DOCUMENT))
    with pytest.raises(DocumentError) as caught:
        load_document(seed.SEED_OTHER_MODEL, name="model-compose.yml", environ={})
    said.append(str(caught.value))
    shown = [text for (text,) in blocks(GUIDE, "text")]
    printed = [text for _, text in commands(GUIDE) if text is not None]
    assert sorted(shown) == sorted(said + printed)


def test_the_figures_that_the_guide_computes_are_right() -> None:
    config, shapes = shape()
    weights = sum(map(math.prod, shapes.values()))
    assert GUIDE.count(f"{weights:,}개") == 2
    assert f"× 2바이트 | {weights * 2 / 1e9:.1f} GB |" in GUIDE
    layers, heads = config.num_hidden_layers, config.num_key_value_heads
    head = config.hidden_size // config.num_attention_heads
    keys = layers * 2 * heads * head * 2
    counted = f"{layers}층 × 키·값 2 × 헤드 {heads}개 × {head}차원 × 2바이트"
    assert f"| {counted} | {keys / 1e3:.0f} KB |" in GUIDE
    assert f"| {keys / 1e3:.0f} KB × 32,768 | {keys * 32768 / 1e9:.1f} GB |" in GUIDE
    assert "32,768은 모델의 한계가 아니라 transformers의 `SmolLM3Config`" in GUIDE
    assert config.max_position_embeddings == 32768
