"""From the Hub, a folder or the package to a model, and what is said when that cannot be."""

from __future__ import annotations

import errno
import hashlib
import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme
from standins import tiny_models
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec, Progress
from modelcompose_jupyter.models.spec import AdapterSpec
from modelcompose_jupyter.models.weights import hub, hub_errors
from modelcompose_jupyter.models.weights.installed import installed

from ..conftest import ask, done, eventually, without_privileges

REPO = "HuggingFaceTB/SmolLM3-3B"
WEIGHTS = "model.safetensors"
FolderOf = Callable[[str], Path]


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setattr(hub, "RETRY_WAITS", (0.0, 0.0))
    with HubStandIn() as standin, standin.client(tmp_path / "cache"):
        yield standin


@pytest.fixture
def repo(standin: HubStandIn, folder_of: FolderOf) -> HubStandIn:
    extra = {
        "README.md": b"# a model",
        "model.fp16.safetensors": b"x" * 5000,
        "pytorch_model.bin": b"x" * 5000,
        "tf_model.h5": b"x" * 5000,
        "modeling_own.py": b"print('must not run')",
        "training_args.bin": b"x",
        "trainer_state.json": b"{}",
    }
    standin.add(REPO, folder_of("smollm3"), extra, revisions={"v1"})
    return standin


def failure(cache: ModelCache, spec: ModelSpec) -> ModelError:
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(spec))
    assert caught.value.__context__ is None
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_only_what_is_needed_is_downloaded_weights_last(
    repo: HubStandIn, cache: ModelCache
) -> None:
    seen: list[Progress] = []
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


def test_shards(standin: HubStandIn, cache: ModelCache, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m", shards="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    standin.add("me/sharded", folder)
    with done(cache.acquire(ModelSpec("me/sharded"))) as lease:
        remote = ask(lease, do_sample=False, max_output_length=8)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, do_sample=False, max_output_length=8).texts == remote.texts
    (folder / sorted(p.name for p in folder.glob("*.safetensors"))[1]).unlink()
    assert failure(cache, ModelSpec(str(folder))).code == "incomplete_model"


def test_pickled_weights_where_there_are_no_others(
    standin: HubStandIn, cache: ModelCache, tmp_path: Path
) -> None:
    import torch

    folder = tiny_models.save(tmp_path / "m")
    torch.save(tiny_models.make().state_dict(), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    standin.add("me/pickled", folder)
    with done(cache.acquire(ModelSpec("me/pickled"))) as lease:
        assert ask(lease, max_output_length=2).usage["generated"] == 2


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_run_no_code(cache: ModelCache, tmp_path: Path) -> None:
    import pickle

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    folder = tiny_models.save(tmp_path / "m")
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    assert failure(cache, ModelSpec(str(folder))).code == "load_failed"
    assert not (tmp_path / "ran").exists()


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


def cache_root() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def loading() -> bool:
    return any(thread.name == "model SmolLM3-3B" for thread in threading.enumerate())


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


def test_hub_errors(repo: HubStandIn, cache: ModelCache, folder_of: FolderOf) -> None:
    repo.add("me/gated", folder_of("llama"), gated=True)
    repo.add("me/private", folder_of("llama"), private=True)
    repo.add("me/empty", None, {"config.json": b"{}"})
    expected = {
        ModelSpec("me/nothing"): ("model_not_found", "me/nothing"),
        ModelSpec("me/private"): ("model_not_found", "private"),
        ModelSpec("me/gated"): ("access_denied", "gated"),
        ModelSpec(REPO, revision="v9"): ("model_not_found", "v9"),
        ModelSpec(REPO, revision="x" * 300): ("model_not_found", "has no revision"),
        ModelSpec("me/empty"): ("incomplete_model", "no weights"),
        ModelSpec("not a name"): ("model_not_found", "not a name"),
        ModelSpec("a/b/c"): ("model_not_found", "a/b/c"),
        ModelSpec(REPO, local_files_only=True): ("not_cached", REPO),
    }
    for spec, (code, words) in expected.items():
        error = failure(cache, spec)
        assert (error.code, words in error.message) == (code, True), error


def test_refused_token(repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[REPO] = [403]
    assert failure(cache, ModelSpec(REPO)).code == "access_denied"


def test_a_server_error(repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[REPO] = [500]
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "download_failed"
    assert "500" in error.message


def test_no_network(repo: HubStandIn, cache: ModelCache) -> None:
    repo.stop()
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "no_network"
    assert repo.url in error.message
    assert "cache" in error.message


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


def test_another_process_uses_the_stand_in_and_prints_nothing(
    repo: HubStandIn, tmp_path: Path
) -> None:
    code = f"""
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.document.parameters import GenerationParameters
cache = ModelCache()
lease = cache.acquire(ModelSpec({REPO!r})).result(60)
asked = GenerationParameters(num_beams=2, max_output_length=5, seed=1)
print(len(lease.generate("fox", asked).future.result(60).texts))
cache.close()
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=repo.environment(tmp_path / "home") | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (output.stdout, output.stderr) == ("1\n", "")


def test_the_users_own_bars_and_logs_stay(cache: ModelCache, folder_of: FolderOf) -> None:
    import logging

    from transformers.utils.logging import tqdm

    from modelcompose_jupyter.models.weights.library_logging import SilentBar

    done(cache.acquire(ModelSpec(str(folder_of("llama"))))).release()
    assert not isinstance(tqdm([1], disable=True), SilentBar)
    record = logging.LogRecord("transformers", logging.WARNING, "", 0, "hello", None, None)
    assert all(handler.filter(record) for handler in logging.getLogger("transformers").handlers)


SECRET = "hf_secret"


def refused(repo: HubStandIn, cache: ModelCache, **answers: list[int | Answer]) -> ModelError:
    """The error of a repository whose listing (``info``) or weights are answered so."""
    endings = {"info": REPO, "weights": f"/{WEIGHTS}", "config": "/config.json"}
    repo.statuses = {endings[name]: list(given) for name, given in answers.items()}
    error = failure(cache, ModelSpec(REPO, token=SECRET))
    assert SECRET not in str(error)
    return error


@pytest.mark.parametrize(
    ("answer", "code", "words", "hint"),
    [
        (400, "download_failed", "does not understand", "HF_ENDPOINT"),
        (401, "access_denied", "asks for a login (401)", "HF_TOKEN"),
        (Answer.page(401), "access_denied", "asks for a login (401, with a web page)", "browser"),
        (403, "access_denied", "refuses access (403)", "HF_TOKEN"),
        (Answer.page(403), "access_denied", "(403, with a web page)", "proxy or firewall"),
        (404, "model_not_found", "does not have it (404)", "unset HF_ENDPOINT"),
        (Answer.page(404), "model_not_found", "(404, with a web page)", "unset HF_ENDPOINT"),
        (407, "access_denied", "login to the proxy (407)", "HTTPS_PROXY"),
        (408, "download_failed", "(408)", "Run again in a while"),
        (410, "model_not_found", "taken away (410)", "name"),
        (429, "download_failed", "too many requests (429)", "HF_TOKEN"),
        (Answer(429, {"Retry-After": "3600"}), "download_failed", "(429)", "in 3600 s"),
        (Answer(503, {"Retry-After": "Wed, 01 Jan 2020 00:00:00 GMT"}), "download_failed", "(503)",
         "in a while"),
        (Answer(503, {"Retry-After": "soon"}), "download_failed", "(503)", "in a while"),
        (451, "access_denied", "for legal reasons (451)", "another model"),
        (500, "download_failed", "(500)", "Run again"),
        (502, "download_failed", "(502)", "Run again"),
        (504, "download_failed", "in time (504)", "Run again"),
        (511, "access_denied", "login to the network (511)", "browser"),
        (599, "download_failed", "(599)", "HF_ENDPOINT"),
        (Answer.page(), "download_failed", "does not answer as the Hub", "browser"),
        (Answer(200, body=b"[]"), "download_failed", "does not answer as the Hub", "HF_ENDPOINT"),
        (Answer(200, body=b"{}"), "download_failed", "does not answer as the Hub", "HF_ENDPOINT"),
        (Answer(200, body=b'{"id": "a/b", "sha": "../../x", "siblings": []}'), "download_failed",
         "does not answer as the Hub", "HF_ENDPOINT"),
        (Answer(200, body=b'{"id": "a/b", "sha": "' + b"0" * 40 + b'", "siblings": [{"x": 1}]}'),
         "download_failed", "does not answer as the Hub", "HF_ENDPOINT"),
        (Answer(204), "download_failed", "does not answer as the Hub", "HF_ENDPOINT"),
        (Answer(302, {"Location": "ftp://u:pw@elsewhere/x"}), "no_network", "redirects", "network"),
        (Answer(302, {"Location": "http://["}), "no_network", "", "network"),
    ],
)  # fmt: skip
def test_what_a_mirror_or_a_proxy_answers(
    answer: int | Answer,
    code: str,
    words: str,
    hint: str,
    repo: HubStandIn,
    cache: ModelCache,
) -> None:
    error = refused(repo, cache, info=[answer])
    assert (error.code, words in error.message, hint in (error.hint or "")) == (code, True, True), (
        error
    )
    assert repo.url in error.message
    assert len([r for r in repo.requests if r.path.endswith(REPO)]) == 1


def test_redirects_in_a_circle(repo: HubStandIn, cache: ModelCache) -> None:
    again = Answer(302, {"Location": f"{repo.url}/api/models/{REPO}"})
    error = refused(repo, cache, info=[again] * 40)
    assert (error.code, "in a circle" in error.message) == ("no_network", True)


def test_a_login_page_on_another_host_is_named_without_its_query(
    repo: HubStandIn, cache: ModelCache
) -> None:
    port = repo.url.rpartition(":")[2]
    portal = f"http://user:pw@localhost:{port}/portal?ticket=abc"
    repo.statuses["/portal"] = [Answer.page(403)]
    repo.statuses[REPO] = [Answer(302, {"Location": portal})]
    error = failure(cache, ModelSpec(REPO))
    assert f"http://localhost:{port} refuses" in error.message
    assert not any(word in str(error) for word in ("ticket", "user", "pw", "portal"))


def nothing_kept(name: str) -> bool:
    folders = cache_root().glob("models--*/blobs")
    blobs = [path for folder in folders for path in folder.iterdir() if path.stat().st_size]
    return not any(cache_root().glob(f"models--*/snapshots/*/{name}")) and not any(
        b"<!doctype" in path.read_bytes() for path in blobs
    )


@pytest.mark.parametrize("name", [WEIGHTS, "config.json"])
def test_a_login_page_is_not_kept_in_place_of_a_file(
    name: str, repo: HubStandIn, cache: ModelCache
) -> None:
    repo.statuses[f"/{name}"] = [Answer.page()]
    error = failure(cache, ModelSpec(REPO))
    assert (error.code, f"a web page in place of {name}" in error.message) == (
        "download_failed", True,
    )  # fmt: skip
    assert nothing_kept(name)
    done(cache.acquire(ModelSpec(REPO))).release()


def test_a_page_that_calls_itself_something_else_is_not_kept(
    repo: HubStandIn, cache: ModelCache, folder_of: FolderOf
) -> None:
    length = (folder_of("smollm3") / "config.json").stat().st_size
    same_length = b"<!doctype html>".ljust(length)
    octets = {"Content-Type": "application/octet-stream"}
    for body, code in ((b"<!doctype html>", "download_failed"), (same_length, "corrupt_model")):
        repo.statuses["/config.json"] = [Answer(200, octets, body)]
        assert failure(cache, ModelSpec(REPO)).code == code
        assert nothing_kept("config.json")
    done(cache.acquire(ModelSpec(REPO))).release()


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


def test_a_certificate_of_its_own(
    tmp_path: Path, cache: ModelCache, folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority, key = trustme.CA(), tmp_path / "key.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(key))
    with HubStandIn(key) as standin, standin.client(tmp_path / "cache"):
        standin.add("me/model", folder_of("llama"))
        error = failure(cache, ModelSpec("me/model"))
        assert error.code == "no_network"
        assert "certificate is not trusted" in error.message
        assert "SSL_CERT_FILE" in (error.hint or "")
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))
    with HubStandIn(key) as standin, standin.client(tmp_path / "cache"):
        standin.add("me/model", folder_of("llama"))
        done(cache.acquire(ModelSpec("me/model"))).release()


def test_http_where_tls_is_spoken(tmp_path: Path, cache: ModelCache) -> None:
    with HubStandIn() as standin:
        endpoint = standin.url.replace("http:", "https:")
        with standin.client(tmp_path / "cache", endpoint):
            error = failure(cache, ModelSpec("me/model"))
    assert (error.code, "TLS" in error.message) == ("no_network", True)


def test_a_name_that_nobody_knows(tmp_path: Path, cache: ModelCache) -> None:
    with HubStandIn() as standin, standin.client(tmp_path / "cache", "http://hub.invalid"):
        error = failure(cache, ModelSpec("me/model"))
    assert error.code == "no_network"
    assert "http://hub.invalid cannot be reached" in error.message


def test_a_proxy_that_is_not_there(
    repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("http_proxy", "http://user:pa55word@127.0.0.1:9")
    error = failure(cache, ModelSpec(REPO))
    assert (error.code, "refused" in error.message) == ("no_network", True)
    assert "http://127.0.0.1:9" in (error.hint or "")
    assert "pa55word" not in str(error)
    assert "user:" not in str(error)


def test_a_proxy_that_wants_a_login(
    tmp_path: Path, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    with HubStandIn() as proxy, proxy.client(tmp_path / "cache", "http://hub.example"):
        proxy.statuses["me/model"] = [Answer.page(407)]
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:pa55word@"))
        error = failure(cache, ModelSpec("me/model"))
    assert error.code == "access_denied"
    assert f"{proxy.url} asks for a login to the proxy (407" in error.message
    assert "pa55word" not in str(error)


@pytest.mark.parametrize(
    "endpoint", ["hub.example", "", "ftp://hub.example", "https://", "http://a b", "http://[::1",
                 "https://user:pa55word@ hub", "file:///etc/passwd", "http://hub:port", "http://a\n"]
)  # fmt: skip
def test_an_endpoint_that_is_no_address(endpoint: str, tmp_path: Path, cache: ModelCache) -> None:
    with HubStandIn() as standin, standin.client(tmp_path / "cache", endpoint):
        error = failure(cache, ModelSpec("me/model"))
    assert error.code == "invalid_endpoint"
    assert "https://huggingface.co" in (error.hint or "")
    assert "pa55word" not in str(error)


def test_an_endpoint_with_a_path_and_a_password(
    tmp_path: Path, cache: ModelCache, folder_of: FolderOf
) -> None:
    with HubStandIn() as standin:
        endpoint = standin.url.replace("//", "//user:pa55word@") + "/mirror"
        with standin.client(tmp_path / "cache", endpoint):
            error = failure(cache, ModelSpec("me/model"))
        assert standin.requests[0].path == "/mirror/api/models/me/model"
    assert (error.code, "pa55word" in str(error)) == ("model_not_found", False)


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
    make: Callable[[Path], None],
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


@pytest.mark.parametrize(
    ("number", "code", "words"),
    [
        (errno.EROFS, "cache_unusable", "read-only file system"),
        (errno.EPERM, "cache_unusable", "permission denied"),
        (errno.EIO, "cache_unusable", "input/output error"),
        (errno.ENOSPC, "disk_full", "no space"),
        (errno.EDQUOT, "disk_full", "quota"),
    ],
)
def test_what_a_disk_says(number: int, code: str, words: str, tmp_path: Path) -> None:
    error = hub_errors.disk_error(ModelSpec(REPO), tmp_path, OSError(number, "?", "x"))
    assert (error.code, words in error.message.lower()) == (code, True)


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


def test_a_mirror_that_does_not_say_what_is_in_its_files(
    repo: HubStandIn, cache: ModelCache, folder_of: FolderOf
) -> None:
    siblings = [{"rfilename": path.name} for path in folder_of("smollm3").iterdir()]
    commit = repo.add(REPO, folder_of("smollm3"))
    listing = {"id": REPO, "sha": commit, "siblings": siblings}
    repo.statuses[f"/api/models/{REPO}"] = [Answer(200, body=json.dumps(listing).encode())]
    done(cache.acquire(ModelSpec(REPO))).release()


def test_damaged_models_in_the_cache_are_not_listed(repo: HubStandIn, cache: ModelCache) -> None:
    done(cache.acquire(ModelSpec(REPO))).release()
    (config,) = cache_root().glob("models--*/snapshots/*/config.json")
    index = config.with_name(f"{WEIGHTS}.index.json")
    index.write_text("{")
    config.with_name(WEIGHTS).unlink()
    assert [each.source for each in installed() if each.revision] == []


def copy(folder_of: FolderOf, to: Path) -> Path:
    return Path(shutil.copytree(folder_of("llama"), to / "m"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "lla')


def _marked_config(folder: Path) -> None:
    _mark(folder / "config.json")


def _marked_settings(folder: Path) -> None:
    _mark(folder / "generation_config.json")


def _marked_tokenizer(folder: Path) -> None:
    _mark(folder / "tokenizer_config.json")


def _mark(path: Path) -> None:
    path.write_text(path.read_text(), encoding="utf-16" if "token" in path.name else "utf-8-sig")


def _config_in_utf_16(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text(), encoding="utf-16-le")


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def _short_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def _broken_header(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:8] + b"?" * 50 + data[58:])


def _empty_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def _fewer_layers(folder: Path) -> None:
    change(folder, num_hidden_layers=3)


def _larger_vocabulary(folder: Path) -> None:
    change(folder, vocab_size=500)


def _wider(folder: Path) -> None:
    change(folder, intermediate_size=80)


def _mlx(folder: Path) -> None:
    change(folder, quantization={"group_size": 64, "bits": 4})


def _mlx_new(folder: Path) -> None:
    packed = {"group_size": 64, "bits": 4}
    change(folder, quantization=packed, quantization_config=packed)


POINTER = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a\nsize 12345\n"


def _pointer(name: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / name).write_text(POINTER)

    spoil.__name__ = f"_pointer_{name}"
    return spoil


def _pickled_pointer(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_text(POINTER)


def _pointer_index(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / f"{WEIGHTS}.index.json").write_text(POINTER)


def _pointer_shard(folder: Path) -> None:
    index = {"weight_map": {"x": "model-00001-of-00002.safetensors", "y": "odd.safetensors"}}
    (folder / WEIGHTS).replace(folder / "model-00001-of-00002.safetensors")
    (folder / "odd.safetensors").write_text(POINTER)
    (folder / f"{WEIGHTS}.index.json").write_text(json.dumps(index))


def _only(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / WEIGHTS).unlink()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("x")

    spoil.__name__ = f"_only_{names[0]}"
    return spoil


def _without_all(*names: str) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        for path in folder.iterdir():
            path.unlink()
        for name in names:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text("{}")

    spoil.__name__ = f"_all_{names[0]}"
    return spoil


ADAPTER = {"peft_type": "LORA", "base_model_name_or_path": "owner/base"}


def _adapter(folder: Path) -> None:
    _without_all("adapter_model.safetensors", "tokenizer.json")(folder)
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))


def _adapter_with_config(folder: Path) -> None:
    (folder / WEIGHTS).replace(folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))


def _adapter_of_nothing(folder: Path) -> None:
    _without_all("adapter_config.json", "adapter_model.safetensors")(folder)


def _adapter_beside(folder: Path) -> None:
    (folder / "adapter_config.json").write_text(json.dumps(ADAPTER))


def _inside(folder: Path) -> None:
    whole = {path: path.read_bytes() for path in folder.iterdir()}
    for path, data in whole.items():
        path.unlink()
        (folder / "checkpoint-5").mkdir(exist_ok=True)
        (folder / "checkpoint-5" / path.name).write_bytes(data)


def _embedder(folder: Path) -> None:
    (folder / "modules.json").write_text("[]")
    (folder / "config_sentence_transformers.json").write_text("{}")


def _whisper(folder: Path) -> None:
    change(folder, model_type="whisper", architectures=["WhisperForConditionalGeneration"],
           is_encoder_decoder=True)  # fmt: skip


def _reranker(folder: Path) -> None:
    change(folder, architectures=["LlamaForSequenceClassification"])


def _blip(folder: Path) -> None:
    (folder / "config.json").write_text(
        json.dumps({"model_type": "blip", "architectures": ["BlipForConditionalGeneration"]})
    )


def _changed(**values: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        change(folder, **values)

    spoil.__name__ = f"_changed_{next(iter(values))}"
    return spoil


def _empty_pickle(folder: Path) -> None:
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(b"")


def _no_mapping(folder: Path) -> None:
    (folder / "config.json").write_text("[]")


def _quantised(method: str, **options: Any) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        change(folder, quantization_config={"quant_method": method, "bits": 4, **options})

    spoil.__name__ = f"_quantised_{method}"
    return spoil


def _sentencepiece(name: str, kind: str, data: bytes) -> Callable[[Path], None]:
    def spoil(folder: Path) -> None:
        (folder / "tokenizer.json").unlink()
        (folder / name).write_bytes(data)
        path = folder / "tokenizer_config.json"
        path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": kind}))

    spoil.__name__ = f"_tokenizer_{name}"
    return spoil


def _unknown(folder: Path) -> None:
    change(folder, model_type="not_yet_invented")


def _own_code(folder: Path) -> None:
    change(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})


def _bert(folder: Path) -> None:
    change(folder, model_type="bert", architectures=["BertForMaskedLM"])


def _vision(folder: Path) -> None:
    change(folder, model_type="vit", architectures=["ViTForImageClassification"])


def _enormous(folder: Path) -> None:
    """A header that claims a tensor of 1 TiB, and a sparse file that has it."""
    size = 1 << 40
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_without_config, "incomplete_model", "config.json"),
        (_without_weights, "incomplete_model", "no weights"),
        (_without_tokenizer, "incomplete_model", "no tokenizer"),
        (_broken_config, "corrupt_model", "JSON"),
        (_marked_config, "corrupt_model", "config.json begins with a byte order mark"),
        (_marked_settings, "corrupt_model", "config.json begins with a byte order mark"),
        (_marked_tokenizer, "corrupt_model", "config.json begins with a byte order mark"),
        (_config_in_utf_16, "corrupt_model", "it is UTF-16 without a byte order mark"),
        (_broken_tokenizer, "corrupt_model", "tokenizer"),
        (_short_weights, "corrupt_model", "bytes"),
        (_broken_header, "corrupt_model", "header"),
        (_empty_weights, "corrupt_model", "header"),
        (_fewer_layers, "incomplete_model", "missing"),
        (_unknown, "unknown_architecture", "not_yet_invented"),
        (_own_code, "trust_remote_code", "Python code"),
        (_bert, "not_text_generation", "BertForMaskedLM"),
        (_vision, "not_text_generation", "ViT"),
        (_enormous, "out_of_memory", "1.1 TB"),
        (_larger_vocabulary, "incomplete_model",
         "do not fit config.json: model.embed_tokens.weight is 400×32, 500×32 expected (and 1"),
        (_wider, "incomplete_model", "mlp.gate_proj.weight is 64×32, 80×32 expected (and 5 more)"),
        (_mlx, "unsupported_format", "is an MLX model"),
        (_mlx_new, "unsupported_format", "is an MLX model"),
        *((_pointer(name), "corrupt_model", f"the content of {name} was not fetched")
          for name in (WEIGHTS, "config.json", "tokenizer.json", "tokenizer_config.json",
                       "generation_config.json", "chat_template.jinja", "tokenizer.model")),
        (_pickled_pointer, "corrupt_model", "pytorch_model.bin was not fetched"),
        (_pointer_index, "corrupt_model", "index.json was not fetched"),
        (_pointer_shard, "corrupt_model", "odd.safetensors was not fetched"),
        (_only("x-Q4_K_M.gguf"), "unsupported_format", "has only GGUF files"),
        (_only("onnx/model.onnx"), "unsupported_format", "has only ONNX files"),
        (_only("tf_model.h5", "flax_model.msgpack"), "unsupported_format", "Flax and TensorFlow"),
        (_only("model.ckpt"), "unsupported_format", "checkpoint"),
        (_only("consolidated.00.pth", "training_args.bin"), "unsupported_format", ".00.pth"),
        (_only("openvino_model.bin", "openvino_model.xml"), "unsupported_format", "OpenVINO"),
        (_only("training_args.bin"), "incomplete_model", "no weights"),
        (_without_all("x.gguf"), "unsupported_format", "has only GGUF files"),
        (_without_all("model_index.json", "unet/config.json"), "not_text_generation", "images"),
        (_without_all("README.md", "data/train.parquet"), "not_a_model", "is a data set"),
        (_without_all("README.md"), "incomplete_model", "config.json"),
        (_embedder, "not_text_generation", "embeddings"),
        (_adapter, "not_a_model", "is a LoRA adapter for owner/base"),
        (_adapter_with_config, "not_a_model", "put it under peft_adapters"),
        (_adapter_of_nothing, "not_a_model", "adapter: put it under peft_adapters of its model"),
        (_adapter_beside, "not_a_model", "an adapter beside the weights of a whole model"),
        (_inside, "incomplete_model", "checkpoint-5"),
        (_whisper, "not_text_generation", "WhisperForConditionalGeneration"),
        (_reranker, "not_text_generation", "LlamaForSequenceClassification"),
        (_blip, "not_text_generation", "it reads images, which is not supported"),
        (_no_mapping, "unknown_architecture", "None"),
        (_changed(architectures=[5], vocab_size=500), "incomplete_model", "500×32 expected"),
        (_changed(eos_token_id="</s>"), "load_failed", "'eos_token_id': TypeError"),
        (_changed(hidden_act="nosuch"), "load_failed", "KeyError: 'nosuch'"),
        (_changed(attn_implementation="flash_attention_2"), "not_installed", "library flash-attn"),
        (_empty_pickle, "load_failed", "damaged"),
        (_quantised("gptq"), "not_installed", "needs the libraries gptqmodel and optimum"),
        (_quantised("awq"), "not_installed", "needs the library gptqmodel"),
        (_quantised("bitsandbytes", load_in_4bit=True), "not_installed", "library bitsandbytes"),
        (_quantised("compressed-tensors"), "not_installed", "library compressed-tensors"),
        (_quantised("hqq", quant_config={}), "not_installed", "library hqq"),
        (_quantised("eetq"), "not_installed", "library kernels"),
        (_quantised("quanto", weights="int8"), "not_installed", "library optimum-quanto"),
        (_quantised("aqlm"), "not_installed", "library aqlm"),
        (_quantised("auto-round"), "not_installed", "library auto-round"),
        (_quantised("nvfp4"), "unsupported_format", "nvfp4"),
        (_quantised("not_yet_invented"), "unsupported_format", "does not know"),
        (_quantised(""), "unsupported_format", "does not say how"),
        (_sentencepiece("tokenizer.model", "LlamaTokenizer", b"\x0a\x0e\x0a\x05<unk>"),
         "not_installed", "needs the libraries sentencepiece and protobuf"),
        (_sentencepiece("qwen.tiktoken", "PreTrainedTokenizerFast", b"IQ== 0\n"),
         "not_installed", "needs the library tiktoken"),
        (_sentencepiece("tokenizer.model", "PreTrainedTokenizerFast", b"IQ== 0\nIg== 1\n"),
         "not_installed", "needs the library tiktoken"),
        (_sentencepiece("tekken.json", "LlamaTokenizer", b"{}"),
         "not_installed", "needs the library mistral-common"),
        (_sentencepiece("source.spm", "MarianTokenizer", b"\x0a"),
         "not_installed", "sentencepiece"),
    ],
    ids=lambda value: value.__name__[1:] if callable(value) else "",
)  # fmt: skip
def test_spoiled_folders(
    spoil: Callable[[Path], None],
    code: str,
    words: str,
    folder_of: FolderOf,
    tmp_path: Path,
    cache: ModelCache,
) -> None:
    folder = copy(folder_of, tmp_path)
    spoil(folder)
    error = failure(cache, ModelSpec(str(folder)))
    assert (error.code, words in error.message) == (code, True), error


def test_what_a_folder_needs_is_said(
    folder_of: FolderOf, tmp_path: Path, cache: ModelCache
) -> None:
    """The next steps of those whose message alone is not enough."""
    folder = copy(folder_of, tmp_path)
    hints: dict[Callable[[Path], None], str] = {
        _pointer(WEIGHTS): f"Run: git lfs pull, in {folder}",
        _adapter: "Write model: owner/base",
        _quantised("gptq"): "pip install gptqmodel optimum. Or: Take the repository",
        _sentencepiece("tokenizer.model", "LlamaTokenizer", b"\x0a"): "pip install sentencepiece",
        _only("x.gguf"): "model.safetensors",
    }
    for spoil, hint in hints.items():
        shutil.rmtree(folder)
        spoil(copy(folder_of, tmp_path))
        assert hint in (failure(cache, ModelSpec(str(folder))).hint or "")


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


@pytest.mark.parametrize(
    ("name", "words", "hint"),
    [
        ("x-Q4_K_M.gguf", "is a file; a model is a folder. GGUF files are not supported", "safet"),
        ("model.safetensors", "is a file; a model is a folder", "config.json"),
        ("pytorch_model.bin", "is a file", "config.json"),
        ("x.pt", "is a file", "config.json"),
        ("x.onnx", "ONNX files are not supported", "model.safetensors"),
        ("model.zip", "is a file", "Unpack"),
        ("model.tar.gz", "is a file", "Unpack"),
        ("MODEL.GGUF", "GGUF", "model.safetensors"),
        ("noextension", "is a file", "config.json"),
    ],
)
def test_a_path_that_is_a_file(
    name: str, words: str, hint: str, tmp_path: Path, cache: ModelCache
) -> None:
    (tmp_path / name).write_text("x")
    error = failure(cache, ModelSpec(str(tmp_path / name)))
    assert (error.code, words in error.message, hint in (error.hint or "")) == (
        "not_a_folder", True, True,
    )  # fmt: skip
    spec = ModelSpec(
        "bundled:storyteller", adapters=(AdapterSpec(ModelSpec(str(tmp_path / name))),)
    )
    assert failure(cache, spec).code == "not_a_folder"


def test_the_file_of_a_whole_folder(folder_of: FolderOf, cache: ModelCache) -> None:
    folder = folder_of("llama")
    error = failure(cache, ModelSpec(str(folder / WEIGHTS)))
    assert str(folder) in (error.hint or "")


@pytest.mark.parametrize("path", ["~no-such-user/x", "/a\0b", "./" + "n" * 300, "/dev/null/x"])
def test_paths_that_are_none(path: str, cache: ModelCache) -> None:
    assert failure(cache, ModelSpec(path)).code in ("model_not_found", "not_readable")
    spec = ModelSpec("bundled:storyteller", adapters=(AdapterSpec(ModelSpec(path)),))
    assert failure(cache, spec).code in ("model_not_found", "not_readable")


def test_a_folder_that_may_not_be_read(
    folder_of: FolderOf, tmp_path: Path, cache: ModelCache
) -> None:
    folder = copy(folder_of, tmp_path)
    for path in (folder, folder / WEIGHTS, folder / "tokenizer.json", folder / "config.json"):
        before = path.stat().st_mode
        path.chmod(0)
        with without_privileges():
            error = failure(cache, ModelSpec(str(folder)))
        path.chmod(before)
        assert (error.code, "permission denied" in error.message) == ("not_readable", True), path


def test_repositories_of_other_kinds(repo: HubStandIn, cache: ModelCache) -> None:
    adapter = json.dumps(ADAPTER).encode()
    config = b'{"model_type": "llama"}'
    kinds: dict[str, tuple[dict[str, bytes], str]] = {
        "me/lora": ({"adapter_config.json": adapter, "adapter_model.safetensors": b"x"},
                    "is a LoRA adapter for owner/base: put it under peft_adapters"),
        "me/lora2": ({"adapter_config.json": adapter, "adapter_model.bin": b"x",
                      "config.json": config}, "is a LoRA adapter for owner/base"),
        "me/lora3": ({"adapter_config.json": b"{", "adapter_model.bin": b"x"}, "a LoRA adapter"),
        "me/gguf": ({"x.gguf": b"x", "README.md": b""}, "has only GGUF files"),
        "me/gguf2": ({"x.gguf": b"x", "config.json": config}, "has only GGUF files"),
        "me/onnx": ({"onnx/model.onnx": b"x", "config.json": config}, "has only ONNX files"),
        "me/tf": ({"tf_model.h5": b"x", "config.json": config}, "has only TensorFlow files"),
        "me/sd": ({"model_index.json": b"{}", "unet/config.json": config}, "makes images"),
        "me/st": ({"modules.json": b"[]", "config_sentence_transformers.json": b"{}",
                   "config.json": config, WEIGHTS: b"x"}, "embeddings"),
        "me/data": ({"data/train-00000.parquet": b"x"}, "is a data set"),
        "me/sub": ({"base/config.json": config, "base/model.safetensors": b"x"}, "base"),
    }  # fmt: skip
    for name, (content, words) in kinds.items():
        repo.add(name, None, content)
        assert words in failure(cache, ModelSpec(name)).message


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


def test_libraries_of_own_code(folder_of: FolderOf, tmp_path: Path, cache: ModelCache) -> None:
    folder = copy(folder_of, tmp_path)
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto_map)
    spec = ModelSpec(str(folder), trust_remote_code=True)
    (folder / "own.py").write_text("import einops\nimport flash_attn\n")
    error = failure(cache, spec)
    assert error.code == "not_installed"
    assert "einops" in (error.hint or "")
    assert "flash" in (error.hint or "")


def test_own_code_runs_when_it_is_trusted(folder_of: FolderOf, tmp_path: Path,
                                          cache: ModelCache) -> None:  # fmt: skip
    folder = copy(folder_of, tmp_path)
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto_map)
    with done(cache.acquire(ModelSpec(str(folder), trust_remote_code=True))) as lease:
        assert lease.info.class_name == "OwnForCausalLM"
        assert ask(lease, max_output_length=2).usage["generated"] == 2


def test_other_errors(folder_of: FolderOf, cache: ModelCache) -> None:
    expected = {
        ModelSpec("/no/such/folder"): ("model_not_found", "/no/such/folder"),
        ModelSpec("bundled:storytelle"): ("model_not_found", "storytelle"),
        ModelSpec(str(folder_of("llama")), device="cuda:7"): ("device_unavailable", "cuda:7"),
        ModelSpec(str(folder_of("llama")), device="tpu"): ("device_unavailable", "tpu"),
    }
    for spec, (code, words) in expected.items():
        error = failure(cache, spec)
        assert (error.code, words in error.message) == (code, True), error
    assert "storyteller" in (failure(cache, ModelSpec("bundled:storytelle")).hint or "")


@pytest.mark.parametrize("missing", ["torch", "transformers", "huggingface_hub"])
def test_a_library_that_is_not_installed(missing: str, tmp_path: Path) -> None:
    source = "me/model" if missing == "huggingface_hub" else "bundled:storyteller"
    code = f"""
import sys
sys.modules[{missing!r}] = None
from modelcompose_jupyter.models import ModelCache, ModelSpec
error = ModelCache().acquire(ModelSpec({source!r})).exception(60)
print(error.code, '|', error)
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[3],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert output.stdout.startswith(f"not_installed | {missing} is not installed")
    assert "pip install" in output.stdout
