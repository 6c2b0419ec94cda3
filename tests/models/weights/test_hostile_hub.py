"""A hub that answers what no hub should, and a cache that somebody else writes to as well."""

from __future__ import annotations

import gzip
import json
import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import file_bounds, hub_http
from modelcompose_jupyter.models.weights import hub as hub_module

from ..conftest import done, eventually, peak

FolderOf = Callable[[str], Path]
REPO = "me/model"
COMMIT = "0" * 40
MIB = 1 << 20
OTHER = 12345


@pytest.fixture
def hub(tmp_path: Path, folder_of: FolderOf) -> Iterator[HubStandIn]:
    with HubStandIn() as standin, standin.client(tmp_path / "cache"):
        standin.add(REPO, folder_of("llama"))
        yield standin


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tmp_path / "cache" / "models--me--model"


def failure(cache: ModelCache) -> ModelError:
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(ModelSpec(REPO)))
    return caught.value


def listing(*siblings: Any) -> bytes:
    return json.dumps({"id": REPO, "sha": COMMIT, "siblings": siblings}).encode()


BAD_LISTINGS = {
    "deep": b"[" * 100_000,
    "digits": b'{"id": ' + b"9" * 5000 + b"}",
    "values": b'{"a": [' + b"[]," * hub_http.LISTING.values + b"[]]}",
    "a size below zero": listing({"rfilename": "config.json", "size": -5}),
    "a size that is a truth value": listing({"rfilename": "config.json", "size": True}),
    "a list": b"[[]]",
    "siblings of texts": listing("a", "b"),
}


@pytest.mark.parametrize("body", BAD_LISTINGS.values(), ids=BAD_LISTINGS)
def test_listings_that_are_none(body: bytes, hub: HubStandIn, cache: ModelCache) -> None:
    hub.statuses[REPO] = [Answer(200, body=body)]
    assert "sends no listing of files" in failure(cache).message


def test_a_packed_listing_is_not_unpacked(hub: HubStandIn, cache: ModelCache) -> None:
    packed = gzip.compress(bytes(100 * MIB))
    for status in (200, 404):
        hub.statuses[REPO] = [Answer(status, {"Content-Encoding": "gzip"}, packed)]
        assert peak(lambda: failure(cache)) < 50 * MIB


ENDLESS = b" " * MIB


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_without_end_is_not_read_for_ever(
    status: int, hub: HubStandIn, cache: ModelCache
) -> None:
    hub.statuses[REPO] = [Answer(status, endless=ENDLESS)]
    assert peak(lambda: failure(cache)) < 3 * hub_http.LISTING.size


def test_what_a_redirect_says_is_not_read(hub: HubStandIn, cache: ModelCache) -> None:
    place = f"{hub.url}/api/models/{REPO}?blobs=true"
    hub.statuses[REPO] = [Answer(302, {"Location": place}, endless=ENDLESS)]
    done(cache.acquire(ModelSpec(REPO))).release()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_without_end_is_not_kept(
    name: str, hub: HubStandIn, cache: ModelCache, root: Path
) -> None:
    hub.statuses[f"/{name}"] = [Answer(200, endless=ENDLESS)]
    assert f"something of another length in place of {name}" in failure(cache).message
    assert not any(root.glob(f"snapshots/*/{name}"))
    assert all(path.stat().st_size < MIB for path in root.rglob("*"))


def test_a_file_that_is_longer_than_any_is_not_fetched(hub: HubStandIn, cache: ModelCache) -> None:
    hub.sizes["config.json"] = file_bounds.SETTINGS.size + 1
    error = failure(cache)
    assert (error.code, "config.json is not read" in error.message) == ("corrupt_model", True)
    assert "config.json" not in hub.fetched()
    hub.sizes = {"model.safetensors": 10**15}
    assert failure(cache).code == "disk_full"


def test_a_mirror_that_says_no_sizes_is_bounded_too(hub: HubStandIn, cache: ModelCache) -> None:
    names = ("config.json", "model.safetensors", "tokenizer.json")
    commit = hub.add(REPO, extra={"config.json": b" " * (file_bounds.SETTINGS.size + 12 * MIB)})
    siblings = [{"rfilename": name} for name in names]
    body = json.dumps({"id": REPO, "sha": commit, "siblings": siblings}).encode()
    hub.statuses[f"/api/models/{REPO}"] = [Answer(200, body=body)]
    error = failure(cache)
    assert (error.code, "config.json is not read" in error.message) == ("corrupt_model", True)


def test_a_listing_that_comes_slowly_can_be_given_up(hub: HubStandIn, cache: ModelCache) -> None:
    began = threading.Event()
    hub.statuses[REPO] = [Answer(200, endless=b" ")]
    future = cache.acquire(ModelSpec(REPO), lambda progress: began.set())
    assert began.wait(60)
    assert future.cancel()
    eventually(lambda: not any(each.name == "model model" for each in threading.enumerate()))


def test_redirects_lead_to_the_web_alone(hub: HubStandIn, cache: ModelCache, root: Path) -> None:
    hub.statuses["/config.json"] = [Answer(302, {"Location": "file:///etc/passwd"})]
    error = failure(cache)
    assert (error.code, "no address on the web" in error.message) == ("no_network", True)
    assert not any(root.glob("snapshots/*/config.json"))


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "a.localhost", "127.1", "2130706433", "0x7f.1", "[::1]", "10.0.0.5",
     "192.168.1.1", "169.254.169.254", "[fe80::1]", "[::ffff:127.0.0.1]", "0.0.0.0", "LOCALHOST."],
)  # fmt: skip
def test_a_server_elsewhere_leads_to_nothing_of_this_network(
    host: str, tmp_path: Path, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HubStandIn() as proxy:  # it answers for the one elsewhere
        monkeypatch.setenv("HTTP_PROXY", proxy.url)
        proxy.statuses[REPO] = [Answer(302, {"Location": f"http://{host}/x"})]
        with proxy.client(tmp_path / "cache", "http://hub.invalid"):
            error = failure(cache)
        assert "redirects to an address of this computer or its network" in error.message
        assert len(proxy.requests) == 1


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
    return hub_module.fetch(ModelSpec(REPO), lambda _: None)


@AS_ROOT
@pytest.mark.parametrize("of", [_file, _blob, _blobs, _snapshot, _snapshots])
def test_links_of_others_do_not_lead_out_of_the_cache(
    of: Callable[[Path], Path], hub: HubStandIn, root: Path, tmp_path: Path
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
    hub: HubStandIn, root: Path, tmp_path: Path
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
def test_references_are_commits(content: str, hub: HubStandIn, root: Path) -> None:
    fetch()
    before = len(hub.requests)
    (root / "refs" / "main").write_text(content)
    fetch()
    assert len(hub.requests) == before + 1  # it is looked up anew, and everything is there
