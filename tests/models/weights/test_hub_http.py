"""A hub that answers what no hub should: its answers are read within bounds."""

from __future__ import annotations

import gzip
import json
import threading
from pathlib import Path
from typing import Any

import pytest
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import file_bounds, hub_http

from ..conftest import done, eventually, peak
from .conftest import REPO, failure, loading

MIB = 1 << 20


def listing(*siblings: Any) -> bytes:
    return json.dumps({"id": REPO, "sha": "0" * 40, "siblings": siblings}).encode()


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
def test_listings_that_are_none(body: bytes, repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[REPO] = [Answer(200, body=body)]
    assert "sends no listing of files" in failure(cache, ModelSpec(REPO)).message


def test_a_packed_listing_is_not_unpacked(repo: HubStandIn, cache: ModelCache) -> None:
    packed = gzip.compress(bytes(100 * MIB))
    for status in (200, 404):
        repo.statuses[REPO] = [Answer(status, {"Content-Encoding": "gzip"}, packed)]
        assert peak(lambda: failure(cache, ModelSpec(REPO))) < 50 * MIB


ENDLESS = b" " * MIB


@pytest.mark.parametrize("status", [200, 404, 500])
def test_an_answer_without_end_is_not_read_for_ever(
    status: int, repo: HubStandIn, cache: ModelCache
) -> None:
    repo.statuses[REPO] = [Answer(status, endless=ENDLESS)]
    assert peak(lambda: failure(cache, ModelSpec(REPO))) < 3 * hub_http.LISTING.size


def test_what_a_redirect_says_is_not_read(repo: HubStandIn, cache: ModelCache) -> None:
    place = f"{repo.url}/api/models/{REPO}?blobs=true"
    repo.statuses[REPO] = [Answer(302, {"Location": place}, endless=ENDLESS)]
    done(cache.acquire(ModelSpec(REPO))).release()


@pytest.mark.parametrize("name", ["config.json", "model.safetensors"])
def test_a_file_without_end_is_not_kept(
    name: str, repo: HubStandIn, cache: ModelCache, root: Path
) -> None:
    repo.statuses[f"/{name}"] = [Answer(200, endless=ENDLESS)]
    error = failure(cache, ModelSpec(REPO))
    assert f"something of another length in place of {name}" in error.message
    assert not any(root.glob(f"snapshots/*/{name}"))
    assert all(path.stat().st_size < MIB for path in root.rglob("*"))


def test_a_file_that_is_longer_than_any_is_not_fetched(repo: HubStandIn, cache: ModelCache) -> None:
    repo.sizes["config.json"] = file_bounds.SETTINGS.size + 1
    error = failure(cache, ModelSpec(REPO))
    assert (error.code, "config.json is not read" in error.message) == ("corrupt_model", True)
    assert "config.json" not in repo.fetched()
    repo.sizes = {"model.safetensors": 10**15}
    assert failure(cache, ModelSpec(REPO)).code == "disk_full"


def test_a_mirror_that_says_no_sizes_is_bounded_too(repo: HubStandIn, cache: ModelCache) -> None:
    names = ("config.json", "model.safetensors", "tokenizer.json")
    commit = repo.add(REPO, extra={"config.json": b" " * (file_bounds.SETTINGS.size + 12 * MIB)})
    siblings = [{"rfilename": name} for name in names]
    body = json.dumps({"id": REPO, "sha": commit, "siblings": siblings}).encode()
    repo.statuses[f"/api/models/{REPO}"] = [Answer(200, body=body)]
    error = failure(cache, ModelSpec(REPO))
    assert (error.code, "config.json is not read" in error.message) == ("corrupt_model", True)


def test_a_listing_that_comes_slowly_can_be_given_up(repo: HubStandIn, cache: ModelCache) -> None:
    began = threading.Event()
    repo.statuses[REPO] = [Answer(200, endless=b" ")]
    future = cache.acquire(ModelSpec(REPO), lambda progress: began.set())
    assert began.wait(60)
    assert future.cancel()
    eventually(lambda: not loading())


def test_redirects_lead_to_the_web_alone(repo: HubStandIn, cache: ModelCache, root: Path) -> None:
    repo.statuses["/config.json"] = [Answer(302, {"Location": "file:///etc/passwd"})]
    error = failure(cache, ModelSpec(REPO))
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
            error = failure(cache, ModelSpec(REPO))
        assert "redirects to an address of this computer or its network" in error.message
        assert len(proxy.requests) == 1
