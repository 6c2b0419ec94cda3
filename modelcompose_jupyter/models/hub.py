"""Models from the Hugging Face Hub: from the local cache, or downloaded into it.

The Hub's client lists and authorises, and the layout of its cache is kept. The files are
transferred here, because the client throws away what it has when a transfer breaks, cannot be
stopped inside a file, sleeps for as long as a server asks it to, and keeps what it did not check.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ComposeError, ModelError
from ..redaction import remember
from ..units import size
from . import files, hub_errors, kinds
from .quiet import SilentBar, quiet
from .spec import Abandoned, ModelSpec, Progress, Report

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_TIMEOUT = 10.0
_CHUNK = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
RETRY_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each further attempt after a transfer broke off without a byte."""


def fetch(spec: ModelSpec, report: Report) -> Path:
    """The snapshot folder of a repository; its name is the commit.

    If the cache has everything that is needed, the network is not touched and nothing is written.
    """
    with access(spec):
        folder = cached(spec, lambda folder: files.is_complete(folder, spec.trust_remote_code))
        return folder or Download(spec, report).run()


@contextmanager
def access(spec: ModelSpec) -> Iterator[None]:
    """Use the Hub's client for a repository: in silence, its errors in words of our own."""
    try:
        from huggingface_hub.utils import validate_repo_id
    except ImportError:
        raise ModelError(
            "huggingface_hub is not installed",
            hint="Run: pip install huggingface_hub",
            code="not_installed",
        ) from None
    with quiet("huggingface_hub"):
        try:
            validate_repo_id(spec.source)
            yield
        except (ComposeError, Abandoned):
            raise
        except Exception as error:
            raise hub_errors.explain(spec, _root(spec), error) from None


def cached(spec: ModelSpec, is_complete: Callable[[Path], bool]) -> Path | None:
    """The snapshot in the cache that a revision stands for; None where it is not complete."""
    repository = _repository(spec)
    revision = spec.revision or "main"
    try:
        commit = _noted(repository / "refs" / revision) or revision
        folder = repository / "snapshots" / commit
        is_there = folder.name == commit and folder.is_dir()
        return folder if is_there and is_complete(folder) else None
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            return None  # no such revision; or what is written will say so
        raise hub_errors.disk_error(spec, _root(spec), error, "read") from None


def _noted(reference: Path) -> str | None:
    """The commit that a branch or tag was when it was last looked up."""
    if not reference.is_file():
        return None
    commit = reference.read_text(encoding="utf-8", errors="replace").strip()
    return commit if _COMMIT.fullmatch(commit) else None


def _root(spec: ModelSpec) -> Path:
    from huggingface_hub import constants

    try:
        return Path(spec.cache_dir or constants.HF_HUB_CACHE).expanduser()
    except RuntimeError:
        raise ModelError(
            "the cache's folder begins with the home of somebody who is not known here",
            hint="Set HF_HOME or cache_dir to a folder that is there.",
            code="cache_unusable",
        ) from None


def _repository(spec: ModelSpec) -> Path:
    return _root(spec) / f"models--{spec.source.replace('/', '--')}"


class Download:
    """One repository on its way into the cache: small files first, so that weights mean whole.

    Writes nothing that is there already, so that a cache may be read-only.
    """

    def __init__(self, spec: ModelSpec, report: Report) -> None:
        self.spec = spec
        self.report = report
        self.root = _root(spec)
        self.repository = _repository(spec)
        self.commit = ""
        self.siblings: dict[str, RepoSibling] = {}
        self.done = 0
        self.total: int | None = None

    def run(self) -> Path:
        """Fetch what is lacking; the snapshot's folder.

        Raises:
            ModelError: downloads are switched off, or what goes wrong with one.
            Abandoned: from ``report``.
        """
        self._check_online()
        _check_token(self.spec)
        info = self._info()
        self.commit = str(info.sha)
        self.siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        names = self._names()
        self.total = sum(self.siblings[name].size or 0 for name in names)
        self._check_disk(names)
        self.done = 0
        for name in names:
            self._fetch(self.siblings[name])
        with suppress(OSError):  # the next time it is looked up again
            self._remember_revision()
        return self._snapshot

    def _names(self) -> list[str]:
        """The files that are needed, in the order in which they are fetched."""
        index = files.weight_index(self.siblings)
        if index is not None:
            self._fetch(self.siblings[index])
        weights = files.weight_files(self.siblings, self._snapshot)
        self._check(weights)
        small = files.small_files(self.siblings, self.spec.trust_remote_code)
        return [*([index] if index else []), *small, *weights]

    @property
    def _snapshot(self) -> Path:
        return self.repository / "snapshots" / self.commit

    def _check_online(self) -> None:
        from huggingface_hub import constants

        if self.spec.local_files_only or constants.is_offline_mode():
            raise hub_errors.not_cached(self.spec)

    def _info(self) -> ModelInfo:
        from huggingface_hub import HfApi
        from huggingface_hub.errors import HTTPError
        from huggingface_hub.utils import HFValidationError

        hub_errors.check_endpoint()
        try:
            info = HfApi(token=self.spec.token).model_info(
                self.spec.source, revision=self.spec.revision, files_metadata=True, timeout=_TIMEOUT
            )
        except (HTTPError, HFValidationError):
            raise
        except (ValueError, KeyError, TypeError, AttributeError):
            raise hub_errors.not_the_hub(self.spec, "sends no listing of files") from None
        sane = all(
            _is_inside(each.rfilename) and isinstance(each.size, int | None)
            for each in info.siblings or []
        )
        if not _COMMIT.fullmatch(str(info.sha)) or info.siblings is None or not sane:
            raise hub_errors.not_the_hub(self.spec, "sends no listing of files")
        return info

    def _check(self, weights: list[str]) -> None:
        needed = [files.CONFIG, *weights]
        missing = [name for name in needed if name not in self.siblings]
        if not missing and weights and not kinds.is_embedder(self.siblings):
            return
        what = f"the repository {self.spec.source}"
        other = kinds.other_than_model(what, self.siblings, self._read)
        if other is not None:
            raise other
        reason = f"{missing[0]} is missing" if missing else "it has no weights for transformers"
        raise ModelError(
            f"{what} is not a whole model: {reason}",
            hint="Choose a repository with config.json and model.safetensors.",
            code="incomplete_model",
        )

    def _read(self, name: str) -> Any:
        """The content of a small JSON file of the repository."""
        self._fetch(self.siblings[name])
        return files.read_json(self._snapshot / name)

    def _check_disk(self, names: list[str]) -> None:
        siblings = [self.siblings[name] for name in names]
        lacking = [each for each in siblings if not (self._snapshot / each.rfilename).exists()]
        needed = sum((each.size or 0) - _size(self._partial(each)) for each in lacking)
        there = next(path for path in (self.repository, *self.repository.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if needed > free:
            numbers = f"{size(needed)} are needed, {size(free)} are free"
            raise hub_errors.disk_full(self.spec, self.root, numbers)

    def _advance(self, amount: int, name: str) -> None:
        self.done += amount
        self.report(Progress("download", self.spec.source, self.done, self.total, "B", name))

    def _fetch(self, sibling: RepoSibling) -> None:
        """A file into the snapshot, unless it is there."""
        before = self.done
        self._advance(0, sibling.rfilename)
        if not (self._snapshot / sibling.rfilename).exists():
            if _checksum(sibling) is None:
                self._take(sibling)
            else:
                self._store(sibling)
        self.done = before
        self._advance(sibling.size or 0, sibling.rfilename)

    def _store(self, sibling: RepoSibling) -> None:
        partial, blob = self._partial(sibling), self._blob(sibling)
        with self._lock(sibling):
            fresh = not blob.exists()
            if fresh:
                _Transfer(self, sibling, partial).run()
                partial.replace(blob)
            _link(blob, self._snapshot / sibling.rfilename, fresh)

    def _take(self, sibling: RepoSibling) -> None:
        """A file through the client: of a mirror that does not say what is in it."""
        from huggingface_hub import hf_hub_download

        hf_hub_download(
            self.spec.source,
            sibling.rfilename,
            revision=self.commit,
            cache_dir=self.root,
            token=self.spec.token,
            etag_timeout=_TIMEOUT,
            tqdm_class=SilentBar,
        )

    def _blob(self, sibling: RepoSibling) -> Path:
        return self.repository / "blobs" / str(_checksum(sibling))

    def _partial(self, sibling: RepoSibling) -> Path:
        return self._blob(sibling).with_suffix(".modelcompose.incomplete")

    @contextmanager
    def _lock(self, sibling: RepoSibling) -> Iterator[None]:
        """Only one process transfers files of a repository; the others wait for it."""
        from filelock import FileLock, Timeout

        folder = self._blob(sibling).parent
        folder.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(folder / ".modelcompose.lock")
        while True:
            try:
                lock.acquire(timeout=0.5)
                break
            except Timeout:
                self._advance(0, sibling.rfilename)
        try:
            yield
        finally:
            lock.release()

    def _remember_revision(self) -> None:
        """Note which commit a branch or tag is, as the client does, for the next time."""
        revision = self.spec.revision or "main"
        reference = self.repository / "refs" / revision
        if _COMMIT.fullmatch(revision) or _noted(reference) == self.commit:
            return
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        fresh.write_text(self.commit, encoding="utf-8")
        fresh.replace(reference)


def _check_token(spec: ModelSpec) -> None:
    """Raise a `ModelError` for a token that no header can carry; it is not quoted."""
    from huggingface_hub import get_token

    try:
        token = spec.token or get_token() or ""
    except (OSError, ValueError):
        raise ModelError(
            "the file of the Hub's token cannot be read",
            hint="Run `hf auth login`, or set HF_TOKEN.",
            code="invalid_token",
        ) from None
    remember(token)  # that of the environment or login is known only here
    wrong = next((char for char in token if not "!" <= char <= "~"), None)
    if wrong is None:
        return
    what = (
        "a space" if wrong == " "
        else "a line break" if wrong in "\r\n"
        else "a control character" if wrong < " " or wrong == "\x7f"
        else "a letter or sign that is not ASCII"
    )  # fmt: skip
    raise ModelError(
        f"the token for {spec.source} has a character that cannot be sent ({what})",
        hint="Copy it again: a Hub token is hf_ and letters and digits.",
        code="invalid_token",
    )


def _checksum(sibling: RepoSibling) -> str | None:
    """What a file's content is called in the cache: its SHA-256, or Git's name of small ones.

    None where the listing does not say enough to check it.
    """
    known = sibling.blob_id if sibling.lfs is None else sibling.lfs.sha256
    is_one = isinstance(known, str) and _BLOB.fullmatch(known)
    return str(known) if is_one and sibling.size is not None else None


def _is_inside(name: Any) -> bool:
    """Whether a listed name is that of a file in the repository: it becomes a path here."""
    return (
        isinstance(name, str)
        and not {"", ".", ".."} & set(re.split(r"[/\\]", name))
        and ":" not in name
        and name.isprintable()
    )


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _link(blob: Path, name: Path, fresh: bool) -> None:
    """Give a content its name in a snapshot: a link, as the client makes it, or the file itself."""
    from huggingface_hub import constants

    name.parent.mkdir(parents=True, exist_ok=True)
    name.unlink(missing_ok=True)  # a link to a content that was lost
    if not getattr(constants, "HF_HUB_DISABLE_SYMLINKS", False):
        with suppress(OSError):
            name.symlink_to(os.path.relpath(blob, name.parent))
            return
    if fresh:
        blob.replace(name)
    else:
        shutil.copyfile(blob, name)


class _Transfer:
    """One file on its way to disk; what has arrived stays when it breaks off."""

    def __init__(self, download: Download, sibling: RepoSibling, path: Path) -> None:
        from huggingface_hub import hf_hub_url

        self.download = download
        self.name = sibling.rfilename
        self.size = int(sibling.size or 0)
        self.checksum = str(_checksum(sibling))
        self.path = path
        self.start = download.done
        self.url = hf_hub_url(download.spec.source, self.name, revision=download.commit)

    def run(self) -> None:
        from huggingface_hub.errors import HTTPError

        self.path.touch()
        failures = 0
        while (before := self._have()) < self.size:
            reason = "the connection was closed"
            try:
                self._receive()
            except HTTPError as error:
                if not hub_errors.may_pass(error):
                    raise
                reason = hub_errors.reason(error)
            if self._have() > before:
                failures = 0
                continue
            if failures == len(RETRY_WAITS):
                raise _broken_off(self.download, self.name, reason)
            self._wait(RETRY_WAITS[failures])
            failures += 1
        self._verify()

    def _have(self) -> int:
        return _size(self.path)

    def _receive(self) -> None:
        from huggingface_hub.utils import build_hf_headers, get_session, hf_raise_for_status

        have = self._have()
        headers = build_hf_headers(token=self.download.spec.token)
        headers["Accept-Encoding"] = "identity"
        if have:
            headers["Range"] = f"bytes={have}-"
        with get_session().stream(
            "GET", self.url, headers=headers, timeout=_TIMEOUT, follow_redirects=True
        ) as response:
            if have and not self._goes_on(response, have):
                return
            hf_raise_for_status(response)
            self._check_content(response)
            resumed = response.status_code == 206
            # Unbuffered: what has arrived is on disk, whatever becomes of this process.
            with self.path.open("ab" if resumed else "wb", buffering=0) as file:
                self._at(have if resumed else 0)
                for chunk in response.iter_raw():
                    if file.tell() + len(chunk) > self.size:
                        file.truncate(0)
                        raise self._other_content(response)
                    file.write(chunk)
                    self._at(file.tell())

    def _goes_on(self, response: Any, have: int) -> bool:
        """Whether an answer goes on where the file ends; if not it begins anew the next time."""
        start = response.headers.get("Content-Range", "").replace(f"bytes {have}-", "", 1)
        misses = response.status_code == 206 and not start[:1].isdecimal()
        if response.status_code == 416 or misses:
            self.path.write_bytes(b"")
            return False
        return True

    def _check_content(self, response: Any) -> None:
        """A login page or another file in place of the content is not kept."""
        length = response.headers.get("Content-Length")
        whole = response.status_code == 200 and "Content-Encoding" not in response.headers
        if hub_errors.is_page(response) or (whole and length and length != str(self.size)):
            raise self._other_content(response)

    def _other_content(self, response: Any) -> ModelError:
        what = "a web page" if hub_errors.is_page(response) else "something of another length"
        return hub_errors.not_the_hub(
            self.download.spec, f"sends {what} in place of {self.name}", str(response.url)
        )

    def _at(self, position: int) -> None:
        self.download.done = self.start
        self.download._advance(position, self.name)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._at(self._have())
            time.sleep(min(left, 0.2))

    def _verify(self) -> None:
        large = len(self.checksum) == 64
        digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % self.size)
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                self._at(self.size)
        if digest.hexdigest() != self.checksum:
            self.path.unlink()
            raise ModelError(
                f"{self.name} of {self.download.spec.source} arrived damaged: its checksum differs",
                hint="Run again to download it anew.",
                code="corrupt_model",
            )


def _broken_off(download: Download, name: str, reason: str) -> ModelError:
    return ModelError(
        f"the download of {name} of {download.spec.source} broke off at"
        f" {size(download.done)} of {size(download.total or 0)}: {reason}",
        hint="Run again to resume it.",
        code="download_failed",
    )
