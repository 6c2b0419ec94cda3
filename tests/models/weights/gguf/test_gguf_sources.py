"""Where GGUF files come from: the Hub, its cache, this disk; whole or in parts."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from standins import gguf_files
from standins.hub import HubStandIn

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.models import LoadProgress, ModelCache, ModelSpec
from modelcompose_jupyter.models.spec import AdapterSpec
from modelcompose_jupyter.models.weights import installed

from ...conftest import ask, done
from ..conftest import cache_root, failure

REPO = "owner/tiny-GGUF"
FolderOf = Callable[[str], Path]


@pytest.fixture
def hub(standin: HubStandIn, file: Path) -> HubStandIn:
    """The Hub with a repository of one model in several precisions."""
    extra = {
        "tiny-Q8_0.gguf": file.read_bytes(), "more/tiny-F32.gguf": file.read_bytes(),
        "tiny-Q4_0.gguf": b"x" * 100_000, "mmproj-F16.gguf": b"x", "README.md": b"# tiny",
        "config.json": b"{}",
    }  # fmt: skip
    standin.add(REPO, None, extra, revisions={"v1"})
    return standin


@pytest.mark.parametrize("name", ["tiny-Q8_0.gguf", "more/tiny-F32.gguf"])
def test_a_file_of_a_repository_is_fetched_alone_and_used_from_the_cache(
    hub: HubStandIn, cache: ModelCache, name: str
) -> None:
    seen: list[LoadProgress] = []
    with done(cache.acquire(ModelSpec(f"{REPO}/{name}"), seen.append)) as lease:
        assert ask(lease, max_output_length=3).usage["generated"] == 3
        assert lease.info.source == f"{REPO}/{name}"
        assert len(lease.info.revision) == 40
        assert lease.info.mapped_bytes > lease.info.memory_bytes / 2
    assert hub.fetched() == [name]
    assert {each.model for each in seen} == {f"{REPO}/{name}"}
    files = [path for path in cache_root().rglob("*") if path.is_file() and not path.is_symlink()]
    assert sum(path.stat().st_size > 50_000 for path in files) == 1
    cache.unload()
    hub.stop()
    with done(cache.acquire(ModelSpec(f"{REPO}/{name}", local_files_only=True))) as lease:
        assert ask(lease, max_output_length=3).usage["generated"] == 3
    (found,) = [each for each in installed.installed() if each.revision]
    assert found.source == f"{REPO}/{name}"
    assert found.size_bytes == max(path.stat().st_size for path in files)
    assert installed.suggested("owner") == [f"{REPO}/{name}"]


def test_a_model_in_parts_is_fetched_whole_by_the_name_of_any(
    standin: HubStandIn, folder_of: FolderOf, cache: ModelCache, tmp_path: Path
) -> None:
    folder = folder_of("llama")
    (tmp_path / "parts").mkdir()
    first = gguf_files.save(tmp_path / "parts" / "tiny.gguf", folder, parts=9)
    names = sorted(path.name for path in first.parent.iterdir())
    assert len(names) == 3
    standin.add(REPO, first.parent, {"other.gguf": b"x"})
    whole = gguf_files.save(tmp_path / "whole.gguf", folder)
    texts = []
    for source in (f"{REPO}/{names[1]}", str(first), str(first.with_name(names[2])), str(whole)):
        with done(cache.acquire(ModelSpec(source))) as lease:
            texts += ask(lease, max_output_length=20).texts
    assert len(set(texts)) == 1
    assert standin.fetched() == names
    first.with_name(names[1]).unlink()
    error = failure(cache, ModelSpec(str(first)))
    assert error.message.endswith(f"{names[1]} is missing")
    shutil.copy(first, first.with_name(names[1]))
    assert "not part 2 of 3" in failure(cache, ModelSpec(str(first))).message
    lone = first.with_name("renamed.gguf")
    shutil.copy(first, lone)
    assert "one of 3 parts" in failure(cache, ModelSpec(str(lone))).message


def test_a_document_names_a_file_beside_it(file: Path) -> None:
    texts = []
    host = LocalHost()
    for model in ("./tiny.gguf", "{path: ., file: tiny.gguf}", "{path: tiny.gguf}"):
        text = (
            f"component: {{type: model, task: text-generation, model: {model}, text: A fox,"
            " seed: 3, max_output_length: 12}"
        )
        run = host.submit(load_document(text, folder=file.parent))
        run.wait(60)
        texts.append(run.text)
        assert [each.source for each in host.models()] == [str(file)]
    host.close()
    assert texts[0]
    assert len(set(texts)) == 1


def test_which_files_there_are_is_said_with_the_line_to_write(
    hub: HubStandIn, cache: ModelCache, file: Path
) -> None:
    there = "There is: more/tiny-F32.gguf, tiny-Q4_0.gguf, tiny-Q8_0.gguf."
    error = failure(cache, ModelSpec(REPO))
    assert error.message == (
        f"the repository {REPO} has only GGUF files, and which of them is the model is not said"
    )
    assert error.hint == f"Write model: {REPO}/more/tiny-F32.gguf, say. {there}"
    error = failure(cache, ModelSpec(f"{REPO}/tiny-Q8.gguf"))
    assert error.message == f"the repository {REPO} has no file tiny-Q8.gguf"
    assert (error.code, "tiny-Q8_0.gguf" in error.hint) == ("model_not_found", True)
    error = failure(cache, ModelSpec(f"{REPO}/../../x.gguf"))
    assert error.code == "model_not_found"
    error = failure(cache, ModelSpec(str(file.parent)))
    assert f"{file.parent}/tiny.gguf" in error.hint
    error = failure(cache, ModelSpec(str(file.with_name("no.gguf"))))
    assert (error.code, "does not exist" in error.message) == ("model_not_found", True)
    error = failure(cache, ModelSpec("owner/none/x.gguf", local_files_only=True))
    assert "owner/none/x.gguf is not completely in the local cache" in error.message


def test_what_gguf_does_not_have_is_said(cache: ModelCache, file: Path, tmp_path: Path) -> None:
    for options in (
        {"driver": "huggingface"}, {"device": "cuda"},
        {"draft_model": "bundled:storyteller"},
        {"adapters": (AdapterSpec(ModelSpec("./adapter")),)},
    ):  # fmt: skip
        error = failure(cache, ModelSpec(str(file), **options))
        assert error.code == "driver_unavailable"
        assert "is in GGUF, which runs in C on the processor alone" in error.message
    error = failure(cache, ModelSpec("bundled:storyteller", draft_model=str(file)))
    assert "a draft model runs on torch" in error.message
    adapter = AdapterSpec(ModelSpec(str(file)))
    error = failure(cache, ModelSpec("bundled:storyteller", adapters=(adapter,)))
    assert "is a GGUF file; an adapter is a folder" in error.message
    with (
        done(cache.acquire(ModelSpec(str(file)))) as lease,
        pytest.raises(Exception, match="a beam search is done by transformers"),
    ):
        ask(lease, num_beams=2, max_output_length=3)


def test_a_file_that_changes_is_loaded_anew(
    cache: ModelCache, file: Path, folder_of: FolderOf
) -> None:
    with done(cache.acquire(ModelSpec(str(file)))) as lease:
        before = ask(lease, max_output_length=20).texts
    file.unlink()
    gguf_files.save(file, folder_of("qwen2"))
    with done(cache.acquire(ModelSpec(str(file)))) as lease:
        assert lease.info.class_name == "Qwen2ForCausalLM"
        assert ask(lease, max_output_length=20).texts != before


def test_files_here_are_suggested(file: Path) -> None:
    (file.parent / "mmproj-tiny.gguf").touch()
    for number in (1, 2):
        (file.parent / f"large-{number:05}-of-00002.gguf").touch()
    typed = f"{file.parent}/"
    assert installed.suggested(typed) == [f"{typed}large-00001-of-00002.gguf", f"{typed}tiny.gguf"]


def test_without_kernels_it_says_so(
    cache: ModelCache, file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MODELCOMPOSE_NATIVE", "0")
    error = failure(cache, ModelSpec(str(file)))
    assert error.message.endswith("in C on the processor alone: MODELCOMPOSE_NATIVE is 0")


def test_a_pointer_of_git_lfs_is_named(cache: ModelCache, file: Path) -> None:
    file.write_text("version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n")
    assert "is a Git LFS pointer" in failure(cache, ModelSpec(str(file))).message
