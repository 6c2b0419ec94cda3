"""What is said where a hub, a mirror, a proxy or a disk does not give what it should."""

from __future__ import annotations

import errno
from pathlib import Path

import pytest
import trustme
from standins.hub import Answer, HubStandIn

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import hub_errors

from ..conftest import done
from .conftest import REPO, WEIGHTS, FolderOf, cache_root, failure, refused


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


def test_an_endpoint_that_is_set_after_a_failure_counts(
    repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In the same process, though the Hub's client reads it only when it is imported."""
    with monkeypatch.context() as wrong:
        wrong.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
        error = failure(cache, ModelSpec(REPO))
        assert (error.code, "http://127.0.0.1:9 cannot be reached" in error.message) == (
            *("no_network", True),
        )
    done(cache.acquire(ModelSpec(REPO)))
    monkeypatch.delenv("HF_ENDPOINT")
    assert hub_errors.host() == "https://huggingface.co"


def test_a_switch_that_is_read_once_says_so(
    repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    assert "Unset HF_HUB_OFFLINE" in (failure(cache, ModelSpec(REPO)).hint or "")
    monkeypatch.delenv("HF_HUB_OFFLINE")
    assert "Restart the kernel" in (failure(cache, ModelSpec(REPO)).hint or "")


def test_no_network(repo: HubStandIn, cache: ModelCache) -> None:
    repo.stop()
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "no_network"
    assert repo.url in error.message
    assert "cache" in error.message


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
