"""From the Hub to a model's files: what is fetched, what is sent, and what goes on where it was."""

from __future__ import annotations

import errno
import json
import threading
from pathlib import Path

import pytest
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.models import LoadProgress, ModelCache, ModelSpec
from modelcompose_jupyter.models.spec import AdapterSpec
from modelcompose_jupyter.models.weights import hub

from ..conftest import ask, done, eventually
from .conftest import REPO, WEIGHTS, FolderOf, cache_root, failure, loading, refused


def test_only_what_is_needed_is_downloaded_weights_last(
    repo: HubStandIn, cache: ModelCache
) -> None:
    seen: list[LoadProgress] = []
    with done(cache.acquire(ModelSpec(REPO), seen.append)) as lease:
        assert ask(lease, max_output_length=3).usage["generated"] == 3
        assert len(lease.info.revision) == 40
    fetched = repo.fetched()
    assert set(fetched) == {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS
    }  # fmt: skip
    assert fetched[-1] == WEIGHTS
    downloads = [p for p in seen if p.phase == "download"]
    assert downloads[-1].done == downloads[-1].total
    assert [p.done for p in downloads] == sorted(p.done for p in downloads)


def test_the_second_use_needs_no_network(repo: HubStandIn, cache: ModelCache) -> None:
    for revision in (None, "v1"):
        done(cache.acquire(ModelSpec(REPO, revision=revision))).release()
    cache.unload()
    repo.stop()
    count = len(repo.requests)
    for revision in (None, "main", "v1"):
        with done(cache.acquire(ModelSpec(REPO, revision=revision))) as lease:
            assert ask(lease, max_output_length=2).usage["generated"] == 2
    assert [info.id for info in cache.list()] == ["SmolLM3-3B"]  # one commit, one model
    assert len(repo.requests) == count
    done(cache.acquire(ModelSpec(REPO, local_files_only=True))).release()


def test_a_cut_transfer_goes_on_where_it_was(repo: HubStandIn, cache: ModelCache) -> None:
    repo.cuts[WEIGHTS] = [50_000, 20_000]
    done(cache.acquire(ModelSpec(REPO))).release()
    assert repo.ranges(WEIGHTS) == [None, "bytes=50000-", "bytes=70000-"]


def test_a_broken_download_goes_on_the_next_time(repo: HubStandIn, cache: ModelCache) -> None:
    repo.cuts[WEIGHTS] = [50_000, 0, 0, 0]
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "download_failed"
    assert "Run again to resume" in (error.hint or "")
    repo.requests.clear()
    done(cache.acquire(ModelSpec(REPO))).release()
    assert repo.ranges(WEIGHTS) == ["bytes=50000-"]
    assert repo.fetched() == [WEIGHTS]


def test_a_server_that_fails_for_a_while(repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[f"/{WEIGHTS}"] = [500, 503]
    done(cache.acquire(ModelSpec(REPO))).release()


def test_a_download_that_nobody_waits_for_stops(repo: HubStandIn, cache: ModelCache) -> None:
    gate = repo.gates[WEIGHTS] = threading.Event()
    futures = [cache.acquire(ModelSpec(REPO)) for _ in range(2)]
    partial_of(repo)
    futures[0].cancel()
    assert [info.state for info in cache.list()] == ["loading"]
    futures[1].cancel()
    eventually(lambda: cache.list() == [])
    gate.set()
    eventually(lambda: not loading())
    repo.requests.clear()
    done(cache.acquire(ModelSpec(REPO))).release()
    (start,) = repo.ranges(WEIGHTS)
    assert start is not None and int(start.split("=")[1][:-1]) >= 1000


def test_who_leaves_and_comes_back_goes_on_with_the_same_download(
    repo: HubStandIn, cache: ModelCache
) -> None:
    gate = repo.gates[WEIGHTS] = threading.Event()
    first = cache.acquire(ModelSpec(REPO))
    assert repo.began.wait(30)
    first.cancel()
    again = cache.acquire(ModelSpec(REPO))
    gate.set()
    done(again).release()
    assert repo.ranges(WEIGHTS) == [None]


def test_one_waiter_may_leave(repo: HubStandIn, cache: ModelCache) -> None:
    gate = repo.gates[WEIGHTS] = threading.Event()
    leaves, stays = (cache.acquire(ModelSpec(REPO)) for _ in range(2))
    assert repo.began.wait(30)
    assert leaves.cancel()
    gate.set()
    assert done(stays).info.leases == 1
    assert repo.fetched().count(WEIGHTS) == 1


def test_a_token_is_sent_and_never_shown(standin: HubStandIn, cache: ModelCache,
                                         folder_of: FolderOf) -> None:  # fmt: skip
    standin.add("me/private", folder_of("llama"), private=True)
    spec = ModelSpec("me/private", token="hf_secret")
    assert "hf_secret" not in repr(spec)
    done(cache.acquire(spec)).release()
    to_hub = {r.authorization for r in standin.requests if not r.path.startswith("/cdn")}
    to_cdn = {r.authorization for r in standin.requests if r.path.startswith("/cdn")}
    assert (to_hub, to_cdn) == ({"Bearer hf_secret"}, {None})


def test_a_file_that_arrives_damaged(repo: HubStandIn, cache: ModelCache) -> None:
    repo.gates[WEIGHTS] = threading.Event()
    future = cache.acquire(ModelSpec(REPO))
    partial = partial_of(repo)
    future.cancel()
    eventually(lambda: cache.list() == [])
    repo.gates[WEIGHTS].set()
    eventually(lambda: not loading())
    partial.write_bytes(b"\0" * 1000)
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "corrupt_model"
    assert not partial.exists()
    done(cache.acquire(ModelSpec(REPO))).release()


def partial_of(repo: HubStandIn) -> Path:
    """The file of the transfer that waits at the gate, when it has its first bytes."""
    pattern = "models--*/blobs/*.incomplete"
    assert repo.began.wait(30)
    eventually(lambda: any(path.stat().st_size for path in cache_root().glob(pattern)))
    return next(cache_root().glob(pattern))


def test_a_damaged_file_of_the_cache_can_be_fetched_anew(
    repo: HubStandIn, cache: ModelCache
) -> None:
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    (link,) = cache_root().glob(f"models--*/snapshots/*/{WEIGHTS}")
    with link.open("r+b") as file:
        file.truncate(1000)
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "corrupt_model"
    assert str(link.resolve()) in error.message
    link.resolve().unlink()
    done(cache.acquire(ModelSpec(REPO))).release()


def test_offline_mode(repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert failure(cache, ModelSpec(REPO)).code == "not_cached"
    assert repo.requests == []


def test_a_full_disk_is_seen_before_the_download(repo: HubStandIn, cache: ModelCache) -> None:
    repo.sizes[WEIGHTS] = 2**60
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "disk_full"
    assert "are needed" in error.message
    assert WEIGHTS not in repo.fetched()


def test_a_disk_that_fills_up(
    repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub._Transfer, "_receive", full)
    assert failure(cache, ModelSpec(REPO)).code == "disk_full"


@pytest.mark.parametrize("status", [401, 403, 404, 410, 451, 501])
def test_a_refusal_is_not_asked_for_again(status: int, repo: HubStandIn, cache: ModelCache) -> None:
    error = refused(repo, cache, weights=[status])
    assert f"({status})" in error.message
    assert len([r for r in repo.requests if r.path.endswith(WEIGHTS)]) == 1


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_asked_for_again(status: int, repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[f"/{WEIGHTS}"] = [status, Answer(status, {"Retry-After": "1"})]
    repo.statuses["/config.json"] = [status]
    done(cache.acquire(ModelSpec(REPO))).release()


def test_a_long_wait_is_said_and_not_made(repo: HubStandIn, cache: ModelCache) -> None:
    for name in ("config", "weights"):
        error = refused(repo, cache, **{name: [Answer(429, {"Retry-After": "7200"})]})
        assert (error.code, "in 7200 s" in (error.hint or "")) == ("download_failed", True)


def test_a_part_that_the_server_does_not_know_begins_anew(
    repo: HubStandIn, cache: ModelCache
) -> None:
    repo.cuts[WEIGHTS] = [50_000, 0, 0, 0]
    failure(cache, ModelSpec(REPO))
    odd = Answer(206, {"Content-Range": "bytes 7-9/10"}, b"abc")
    repo.statuses[f"/cdn/{REPO}/{WEIGHTS}"] = [416]
    done(cache.acquire(ModelSpec(REPO))).release()
    assert repo.ranges(WEIGHTS)[-2:] == ["bytes=50000-", None]
    cache.unload()
    for path in cache_root().glob(f"models--*/snapshots/*/{WEIGHTS}"):
        path.resolve().unlink()
    repo.cuts[WEIGHTS] = [40_000]
    repo.statuses[f"/cdn/{REPO}/{WEIGHTS}"] = []
    repo.gates.clear()
    repo.cuts[WEIGHTS] = [40_000, 0, 0, 0]
    failure(cache, ModelSpec(REPO))
    repo.statuses[f"/cdn/{REPO}/{WEIGHTS}"] = [odd]
    done(cache.acquire(ModelSpec(REPO))).release()


@pytest.mark.parametrize("token", [" hf_x ", "hf_x\n", "\thf_x\r\n", "hf_x\u00a0"])
def test_blanks_around_a_token_are_not_sent(
    token: str, standin: HubStandIn, cache: ModelCache, folder_of: FolderOf
) -> None:
    standin.add("me/private", folder_of("llama"), private=True)
    done(cache.acquire(ModelSpec("me/private", token=token))).release()
    assert standin.requests[0].authorization == "Bearer hf_x"


@pytest.mark.parametrize("token", ["", " ", "\n"])
def test_an_empty_token_is_none(
    token: str, repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    done(cache.acquire(ModelSpec(REPO, token=token))).release()
    assert {r.authorization for r in repo.requests} == {None}
    assert ModelSpec(REPO, token=token).token is None


@pytest.mark.parametrize(
    ("token", "what"),
    [("hf_a b", "a space"), ("hf_a\nb", "a line break"), ("hf_\uff41", "ASCII"), ("hf_é", "ASCII"),
     ("hf_\u200b", "ASCII"), ("hf_\x00a", "control"), ("hf_\x7f", "control")],
)  # fmt: skip
@pytest.mark.parametrize("place", ["model", "environment", "adapter", "draft"])
def test_a_token_that_cannot_be_sent(
    token: str,
    what: str,
    place: str,
    repo: HubStandIn,
    cache: ModelCache,
    folder_of: FolderOf,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("peft")
    base = str(folder_of("llama"))
    if place == "environment":
        if "\0" in token or "\n" in token:  # cannot stand there, and the client takes it out
            return
        monkeypatch.setenv("HF_TOKEN", token)
        token = ""
    spec = {
        "adapter": ModelSpec(base, adapters=(AdapterSpec(ModelSpec(REPO, token=token)),)),
        "draft": ModelSpec(base, token=token, draft_model=REPO),
    }.get(place, ModelSpec(REPO, token=token))
    error = failure(cache, spec)
    assert (error.code, what in error.message) == ("invalid_token", True), error
    assert "hf_" not in error.message
    assert repo.requests == []


def test_a_cached_model_needs_no_token_that_can_be_sent(
    repo: HubStandIn, cache: ModelCache
) -> None:
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    done(cache.acquire(ModelSpec(REPO, token="hf_\u200b"))).release()


def test_a_mirror_that_does_not_say_what_is_in_its_files(
    repo: HubStandIn, cache: ModelCache, folder_of: FolderOf
) -> None:
    siblings = [{"rfilename": path.name} for path in folder_of("smollm3").iterdir()]
    commit = repo.add(REPO, folder_of("smollm3"))
    listing = {"id": REPO, "sha": commit, "siblings": siblings}
    repo.statuses[f"/api/models/{REPO}"] = [Answer(200, body=json.dumps(listing).encode())]
    done(cache.acquire(ModelSpec(REPO))).release()


@pytest.mark.parametrize("name", ["../../evil.json", "/evil.json", "..\\evil.json", "a//b", 5])
def test_a_listing_that_leads_out_of_the_cache(
    name: object, repo: HubStandIn, cache: ModelCache
) -> None:
    listing = {"id": REPO, "sha": "0" * 40, "siblings": [{"rfilename": name}]}
    error = refused(repo, cache, info=[Answer(200, body=json.dumps(listing).encode())])
    assert (error.code, "as the Hub does" in error.message) == ("download_failed", True)
    assert not cache_root().exists() or not any(cache_root().iterdir())


def test_an_index_that_lists_nothing(repo: HubStandIn, cache: ModelCache) -> None:
    for content in (b"[]", b"{}", b'{"weight_map": []}', b'{"weight_map": {"a": 1, "b": "c"}}'):
        repo.add("me/odd", None, {"config.json": b"{}", f"{WEIGHTS}.index.json": content})
        assert failure(cache, ModelSpec("me/odd")).code == "corrupt_model"
