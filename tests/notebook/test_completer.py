"""Completion as a frontend asks a kernel for it. The cursor is marked ``▮``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from standins.kernel import Kernel, KernelIn, kernel

from modelcompose_jupyter.language_service import LONGEST
from modelcompose_jupyter.models.weights.installed import suggested

COMPONENT = """\
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text} ${input.place | "a wood"}
"""


def make_model(folder: Path, *, without: str = "") -> None:
    """A folder with the files of a model, or all but one of them."""
    folder.mkdir(parents=True)
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        if name != without:
            (folder / name).write_text("{}")


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cache of the Hub with a whole model, and with others that are not."""
    cache = tmp_path_factory.mktemp("cache")
    make_model(cache / "models--HuggingFaceTB--SmolLM3-3B" / "snapshots" / "1234")
    make_model(cache / "models--half--done" / "snapshots" / "1", without="model.safetensors")
    make_model(cache / "datasets--some--data" / "snapshots" / "1")
    make_model(cache / "models--bad--index" / "snapshots" / "1", without="model.safetensors")
    index = cache / "models--bad--index" / "snapshots" / "1" / "model.safetensors.index.json"
    index.write_text("no JSON")
    (cache / "models--no--snapshots").mkdir()
    return cache


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("notebook")
    make_model(folder / "own")
    make_model(folder / "more" / "deep")
    (folder / "story.yml").write_text(COMPONENT, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def shell(folder: Path, cache: Path) -> Iterator[Kernel]:
    with kernel(folder, HF_HUB_CACHE=str(cache)) as started:
        assert started.run("%load_ext modelcompose_jupyter").status == "ok"
        assert started.run(f"%%compose story --no-panel\n{COMPONENT}").status == "ok"
        yield started


def matches(shell: Kernel, marked: str) -> list[str]:
    before, _, after = marked.partition("▮")
    reply = shell.complete(before + after, len(before))
    assert reply["status"] == "ok"
    found: list[str] = reply["matches"]
    return found


def chosen(shell: Kernel, marked: str) -> str:
    """The cell after the one match was chosen, with the cursor behind it."""
    before, _, after = marked.partition("▮")
    code = before + after
    reply = shell.complete(code, len(before))
    (match,) = reply["matches"]
    return code[: reply["cursor_start"]] + match + "▮" + code[reply["cursor_end"] :]


HEAD = "%%compose story\n# 옛날 옛적에\ncomponent:\n  "
STORY = f"{HEAD}text: ${{input.prompt}}\n  stop_sequences: "


@pytest.mark.parametrize(
    ("marked", "result"),
    [
        (f"{HEAD}temper▮\n", f"{HEAD}temperature: ▮\n"),
        (f"{HEAD}mod▮: a\n", f"{HEAD}model▮: a\n"),
        (f"{HEAD}model: bundled:st▮", f"{HEAD}model: bundled:storyteller▮"),
        (f"{STORY}${{input.pro▮}}\n", f"{STORY}${{input.prompt▮}}\n"),
        (f"{STORY}[${{in▮", f"{STORY}[${{input▮"),
        ("%%compose\r\ncomponent:\r\n  ta▮\r\n", "%%compose\r\ncomponent:\r\n  task: ▮\r\n"),
        ("\n\n%%compose\ncomponent:\n  ta▮", "\n\n%%compose\ncomponent:\n  task: ▮"),
        (f"%%compose story --ru▮\n{COMPONENT}", f"%%compose story --run▮\n{COMPONENT}"),
        (f"%%compose 이야기 pro▮\n{COMPONENT}", f"%%compose 이야기 prompt=▮\n{COMPONENT}"),
        ("x = 1\n%compose unl▮\ny = 2", "x = 1\n%compose unload▮\ny = 2"),
        ("%compose run st▮", "%compose run story▮"),
        ("%compose run story pr▮", "%compose run story prompt=▮"),
    ],
)
def test_what_is_chosen_replaces_what_was_typed(shell: Kernel, marked: str, result: str) -> None:
    assert chosen(shell, marked) == result


@pytest.mark.parametrize(
    ("marked", "offered"),
    [
        (f"%%compose story ▮\n{COMPONENT}", ["prompt=", "place=", "--run", "--no-panel"]),
        (f"%%compose story --run prompt='a b' ▮\n{COMPONENT}", ["place=", "--no-panel"]),
        (
            f"%%compose story ▮\n{COMPONENT}  nosuch: [",
            ["prompt=", "place=", "--run", "--no-panel"],
        ),
        ("%%compose story ▮", ["--run", "--no-panel"]),
        ("%compose run story prompt=a ▮", ["place="]),
        ("%compose schema ▮", ["story"]),
        ("%compose validate st▮", ["story.yml"]),
        ("%compose validate ./st▮", ["./story.yml"]),
        ("%compose run story.▮", ["story.yml"]),
        ("%compose run story ▮", ["prompt=", "place="]),
        ("%compose models ▮", []),
        ("%compose nosuch ▮", []),
        ("%%compose prin▮", []),
        ("  %compose mo▮", ["models"]),
    ],
)
def test_lines_of_magics(shell: Kernel, marked: str, offered: list[str]) -> None:
    assert matches(shell, marked) == offered


def test_the_verbs_are_those_of_the_help(shell: Kernel) -> None:
    help_ = shell.run("%compose help").stdout
    verbs = {line.split()[1] for line in help_.splitlines() if line.startswith("%compose ")}
    assert set(matches(shell, "%compose ▮")) == verbs


@pytest.mark.parametrize(
    ("typed", "offered"),
    [
        ("", ["bundled:storyteller", "HuggingFaceTB/SmolLM3-3B", "./own"]),
        ("hug", ["HuggingFaceTB/SmolLM3-3B"]),
        ("smol", ["HuggingFaceTB/SmolLM3-3B"]),
        ("./", ["./more/", "./own"]),
        ("./more/", ["./more/deep"]),
        ("./o", ["./own"]),
        ("half", []),
        ("/no/such/folder/", []),
    ],
)
def test_models_that_are_here(shell: Kernel, typed: str, offered: list[str]) -> None:
    assert matches(shell, f"%%compose\ncomponent:\n  model: {typed}▮") == offered


def test_functions_that_are_here(shell: Kernel) -> None:
    written = "def judge(text): ...\ndef _own(text): ...\nasync def ask(text): ...\n"
    assert shell.run(f"{written}from json import loads\nhero = 'a fox'").status == "ok"
    offered = ["judge", "ask", "loads"]
    document = "%%compose\ncomponent:\n  type: function\n  function: ▮"
    assert matches(shell, document) == offered
    chat = "%%compose\ncomponent:\n  task: chat-completion\n  tools: [judge, ▮]"
    assert matches(shell, chat) == offered


@pytest.mark.parametrize("line", ["name: prin▮", "name: %ti▮", "name: './▮'"])
def test_nobody_else_has_a_say_in_a_document(shell: Kernel, line: str) -> None:
    assert matches(shell, f"x = 1\n{line}") != []
    assert matches(shell, f"%%compose\n{line}") == []


def test_nothing_is_offered_in_what_is_too_long(shell: Kernel) -> None:
    before = "%%compose x\n" + "# a\n" * (LONGEST // 4)
    for typed, offered in (("contr", ["controller:"]), ("# 1234567\ncontr", [])):
        code = before[: len(before) - 8] + typed
        found = shell.complete(code, len(code))["matches"]
        assert found == offered
    line = "%%compose x pro"
    assert shell.complete(f"{line}\n{COMPONENT}", len(line))["matches"] == ["prompt="]
    assert shell.complete(f"{line}\n{'#' * LONGEST}\n{COMPONENT}", len(line))["matches"] == []


def test_other_cells_are_not_ours(shell: Kernel) -> None:
    assert "print" in matches(shell, "prin▮")
    assert matches(shell, "component:\n  temper▮") == []
    assert matches(shell, "%%time\ncomponent:\n  temper▮") == []
    assert "rerun" not in matches(shell, "x = '%compose r▮'")
    assert matches(shell, "%%comp▮") == ["%%compose"]
    assert "%%compose" in matches(shell, "%comp▮")


def test_python_behind_a_colon_is_completed_as_such(shell: Kernel) -> None:
    shell.run("a_number_of_mine = 3")
    assert "a_number_of_mine" in matches(shell, f"%%compose story n:=a_number▮\n{COMPONENT}")
    assert matches(shell, f"%%compose story prompt='pla▮\n{COMPONENT}") == []


def test_completing_imports_neither_torch_nor_more_of_the_hubs_client(shell: Kernel) -> None:
    matches(shell, "%%compose\ncomponent:\n  model: ▮")
    heavy = "('torch', 'transformers', 'huggingface_hub.hf_api')"
    assert shell.value(f"[m for m in {heavy} if m in __import__('sys').modules]") == "[]"


def test_loading_twice_and_unloading(folder: Path, kernel_in: KernelIn) -> None:
    count = "len(get_ipython().Completer.custom_matchers)"
    fresh = kernel_in(folder)
    for magic in ("load_ext", "reload_ext", "load_ext"):
        fresh.run(f"%{magic} modelcompose_jupyter")
    fresh.run("import modelcompose_jupyter as m; m.load_ipython_extension(get_ipython())")
    assert fresh.value(count) == "1"
    assert matches(fresh, "%%compose\ncomponent:\n  temper▮") == ["temperature: "]
    fresh.run("%unload_ext modelcompose_jupyter")
    assert fresh.value(count) == "0"
    assert matches(fresh, "%%compose\ncomponent:\n  temper▮") == []
    assert "`%compose` not found" in fresh.run("%compose list").stderr
    fresh.run("%load_ext modelcompose_jupyter")
    assert matches(fresh, "%compose unl▮") == ["unload"]


def test_runs_and_models_in_memory(folder: Path, kernel_in: KernelIn) -> None:
    fresh = kernel_in(folder)
    fresh.run("%load_ext modelcompose_jupyter")
    assert matches(fresh, "%compose rerun ▮") == []
    ran = fresh.run(f"%%compose told --run prompt=Once\n{COMPONENT}  max_output_length: 2\n")
    assert ran.status == "ok"
    assert repr(matches(fresh, "%compose rerun ▮")) == fresh.value("[told.last_run.id]")
    assert repr(matches(fresh, "%compose unload ▮")) == fresh.value(
        "[each.id for each in told.host.models()]"
    )


def test_a_cache_that_is_not_there(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    from huggingface_hub import constants

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "nosuch"))
    assert suggested("") == ["bundled:storyteller"]
    monkeypatch.setenv("HOME", str(tmp_path / "nosuch"))
    assert suggested("\x00") == suggested("~/") == suggested("~no.such.user/") == []
