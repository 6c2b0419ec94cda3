"""The cache on disk, which other clients and other users have and write to as well."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from standins.hub import HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import hub
from modelcompose_jupyter.models.weights.installed import installed

from ..conftest import ask, done, without_privileges
from .conftest import POINTER, REPO, WEIGHTS, FolderOf, Spoil, cache_root, failure


def tree(root: Path) -> set[tuple[str, int]]:
    """All that is in a folder, and when it was changed."""
    return {(str(path), path.lstat().st_mtime_ns) for path in (root, *root.rglob("*"))}


@pytest.fixture
def read_only(repo: HubStandIn, cache: ModelCache) -> Iterator[Path]:
    """A cache that has a model and that nobody may write to."""
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    repo.requests.clear()
    root = cache_root()
    folders = [root, *(path for path in root.rglob("*") if path.is_dir())]
    for folder in folders:
        folder.chmod(0o555)
    with without_privileges():
        yield root
    for folder in folders:
        folder.chmod(0o755)


def test_a_read_only_cache_serves_what_it_has(
    read_only: Path, repo: HubStandIn, cache: ModelCache
) -> None:
    before = tree(read_only)
    (snapshot,) = read_only.glob("models--*/snapshots/*")
    for revision in (None, "main", snapshot.name, "v1"):
        with done(cache.acquire(ModelSpec(REPO, revision=revision))) as lease:
            assert ask(lease, max_output_length=2).usage["generated"] == 2
            assert lease.info.revision == snapshot.name
    assert tree(read_only) == before
    assert [r.path for r in repo.requests] == [f"/api/models/{REPO}/revision/v1"]


def test_a_read_only_cache_says_what_it_cannot_take(
    read_only: Path, repo: HubStandIn, cache: ModelCache, folder_of: FolderOf
) -> None:
    repo.add("me/other", folder_of("llama"))
    error = failure(cache, ModelSpec("me/other"))
    assert error.code == "cache_unusable"
    assert f"the cache {read_only} cannot be written (permission denied" in error.message
    assert "HF_HOME or cache_dir" in (error.hint or "")


def test_a_cache_that_may_not_be_read(read_only: Path, repo: HubStandIn, cache: ModelCache) -> None:
    (refs,) = read_only.glob("models--*/refs")
    refs.chmod(0o000)
    error = failure(cache, ModelSpec(REPO))
    refs.chmod(0o755)
    assert (error.code, "cannot be read (permission denied" in error.message) == (
        "cache_unusable", True,
    )  # fmt: skip


def _a_file(path: Path) -> None:
    path.write_text("")


def _below_a_file(path: Path) -> None:
    path.parent.rmdir()
    path.parent.write_text("")


def _a_circle(path: Path) -> None:
    path.symlink_to(path)


def _into_nowhere(path: Path) -> None:
    path.symlink_to(path.parent / "not" / "there")


def _a_long_name(path: Path) -> None:
    """Nothing: the name alone is too long."""


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (_a_file, "not a folder"),
        (_below_a_file, "not a folder"),
        (_a_circle, "circle"),
        (_into_nowhere, ""),
        (_a_long_name, "too long"),
    ],
)
def test_a_cache_that_is_no_folder(
    make: Spoil,
    words: str,
    repo: HubStandIn,
    cache: ModelCache,
    tmp_path: Path,
) -> None:
    (tmp_path / "place").mkdir()
    path = tmp_path / "place" / ("n" * 300 if make is _a_long_name else "cache")
    make(path)
    error = failure(cache, ModelSpec(REPO, cache_dir=str(path)))
    assert (error.code, words in error.message) == ("cache_unusable", True), error
    assert "HF_HOME or cache_dir" in (error.hint or "")


def test_the_home_of_nobody(repo: HubStandIn, cache: ModelCache) -> None:
    error = failure(cache, ModelSpec(REPO, cache_dir="~no-such-user/cache"))
    assert error.code == "cache_unusable"


def test_caches_of_other_clients(repo: HubStandIn, cache: ModelCache, tmp_path: Path) -> None:
    """A note with a line end, copies in place of links, a content that was lost."""
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    repo.requests.clear()
    (reference,) = cache_root().glob("models--*/refs/main")
    reference.write_text(reference.read_text() + "\n")
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    copied = tmp_path / "copied"
    shutil.copytree(cache_root(), copied)  # follows links
    shutil.rmtree(next(copied.glob("models--*/blobs")))
    done(cache.acquire(ModelSpec(REPO, cache_dir=str(copied)))).release()
    assert repo.requests == []
    cache.unload()
    (link,) = cache_root().glob(f"models--*/snapshots/*/{WEIGHTS}")
    link.resolve().unlink()
    done(cache.acquire(ModelSpec(REPO))).release()
    assert repo.fetched() == [WEIGHTS]
    assert link.is_symlink()


def test_the_clients_own_download_is_taken_and_it_takes_ours(
    repo: HubStandIn, cache: ModelCache
) -> None:
    from huggingface_hub import hf_hub_download, scan_cache_dir

    done(cache.acquire(ModelSpec(REPO))).release()
    repo.requests.clear()
    path = Path(hf_hub_download(REPO, WEIGHTS, cache_dir=cache_root()))
    assert path.resolve().name == hashlib.sha256(path.read_bytes()).hexdigest()
    assert repo.fetched() == []
    (found,) = scan_cache_dir(cache_root()).repos
    assert found.repo_id == REPO
    assert not scan_cache_dir(cache_root()).warnings
    assert [each.source for each in installed() if each.revision] == [REPO]


def test_without_links(
    repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_DISABLE_SYMLINKS", True, raising=False)
    done(cache.acquire(ModelSpec(REPO))).release()
    (path,) = cache_root().glob(f"models--*/snapshots/*/{WEIGHTS}")
    assert not path.is_symlink()
    assert not (path.parents[2] / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()).exists()


def test_a_pointer_in_the_cache_can_be_fetched_anew(repo: HubStandIn, cache: ModelCache) -> None:
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    for name in (WEIGHTS, "tokenizer.json"):
        (link,) = cache_root().glob(f"models--*/snapshots/*/{name}")
        content = link.resolve()
        content.write_text(POINTER)
        error = failure(cache, ModelSpec(REPO))
        assert (error.code, str(content) in error.message) == ("corrupt_model", True)
        assert "fetch it anew" in (error.hint or "")
        content.unlink()
        done(cache.acquire(ModelSpec(REPO))).release()
        cache.unload()


COMMIT = "0" * 40
OTHER = 12345
AS_ROOT = pytest.mark.skipif(
    not hasattr(os, "geteuid") or os.geteuid() != 0, reason="giving links to others takes root"
)


def _file(snapshot: Path) -> Path:
    return snapshot / "config.json"


def _blob(snapshot: Path) -> Path:
    return _file(snapshot).resolve()


def _blobs(snapshot: Path) -> Path:
    return snapshot.parents[1] / "blobs"


def _snapshot(snapshot: Path) -> Path:
    return snapshot


def _snapshots(snapshot: Path) -> Path:
    return snapshot.parent


def fetch() -> Path:
    return hub.Download(ModelSpec(REPO), lambda _: None).fetch()


@AS_ROOT
@pytest.mark.parametrize("of", [_file, _blob, _blobs, _snapshot, _snapshots])
def test_links_of_others_do_not_lead_out_of_the_cache(
    of: Callable[[Path], Path], repo: HubStandIn, root: Path, tmp_path: Path
) -> None:
    fetch()
    (snapshot,) = (root / "snapshots").iterdir()
    moved = of(snapshot)
    elsewhere = tmp_path / "elsewhere" / "blobs" / "x"
    elsewhere.parent.mkdir(parents=True)
    if moved.is_symlink():
        elsewhere.write_bytes(moved.read_bytes())
        moved.unlink()
    else:
        for path in filter(Path.is_symlink, list(moved.rglob("*"))):  # they are relative
            target = path.resolve()
            path.unlink()
            path.symlink_to(target)
        moved.rename(elsewhere)
    moved.symlink_to(elsewhere)
    fetch()  # a link of one's own may lead to another disk
    os.lchown(moved, OTHER, OTHER)
    for path in elsewhere.rglob("config.json"):  # what is there leads back into the cache
        data = path.read_bytes()
        path.unlink()
        path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        fetch()
    error = caught.value
    assert (error.code, str(moved) in error.message) == ("cache_unusable", True)


def test_what_arrives_is_not_written_through_links(
    repo: HubStandIn, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text("mine")
    fetch()
    blobs = [path for path in (root / "blobs").iterdir() if not path.name.startswith(".")]
    for number, blob in enumerate(blobs):
        blob.unlink()
        partial = blob.with_suffix(".modelcompose.incomplete")
        if number % 2:
            partial.symlink_to(other)
        else:
            partial.hardlink_to(other)
    (root / "refs" / f"main.{os.getpid()}.tmp").symlink_to(other)
    (root / "refs" / "main").write_text(COMMIT)
    fetch()
    assert other.read_text() == "mine"


@pytest.mark.parametrize(
    "content", ["../../../etc", "/etc", "..", "", "\0", COMMIT + "/..", COMMIT * 1_000_000]
)
def test_references_are_commits(content: str, repo: HubStandIn, root: Path) -> None:
    fetch()
    before = len(repo.requests)
    (root / "refs" / "main").write_text(content)
    fetch()
    assert len(repo.requests) == before + 1  # it is looked up anew, and everything is there
