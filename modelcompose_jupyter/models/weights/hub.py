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
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from ...errors import ComposeError, ModelError, shortened
from ...formatting import size
from ...redaction import remember
from ..spec import Abandoned, LoadProgress, ModelSpec, Report
from . import file_kinds, files, hub_errors, hub_http
from .coming_weights import ComingWeights, OnComing
from .gguf_names import models_among, parts_of
from .library_logging import SilentBar, quiet

if TYPE_CHECKING:
    from filelock import BaseFileLock

_CHUNK = 1 << 20
_LONGEST_REFERENCE = 1000  # bytes; a commit has 40
_COMMIT = re.compile(r"[0-9a-f]{40}")
_BLOB = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
RETRY_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each further attempt after a transfer broke off without a byte."""


def _noted(reference: Path) -> str | None:
    """The commit that a branch or tag was when it was last looked up."""
    if not reference.is_file():
        return None
    with reference.open("rb") as file:
        commit = file.read(_LONGEST_REFERENCE).decode("utf-8", "replace").strip()
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


@dataclass(frozen=True)
class _RemoteFile:
    """A file of a repository, as a listing has it.

    Attributes:
        name: with the folders in the repository.
        size: in bytes; 0 where a mirror does not say.
        checksum: what its content is called in the cache: its SHA-256, or Git's name of small ones.
            None where the listing does not say enough to check it.
    """

    name: str
    size: int
    checksum: str | None


def _remote_file(entry: Any) -> _RemoteFile:
    """What an entry of a listing says; any error where it is none, or leads out of a folder."""
    name, size, lfs = entry["rfilename"], entry.get("size"), entry.get("lfs")
    if not _is_inside(name) or not (size is None or (type(size) is int and size >= 0)):
        raise ValueError
    checksum = entry.get("blobId") if lfs is None else lfs["sha256"]
    is_one = isinstance(checksum, str) and _BLOB.fullmatch(checksum) and size is not None
    return _RemoteFile(name, size or 0, checksum if is_one else None)


class Download:
    """One repository on its way into the cache: small files first, so that weights mean whole.

    Writes nothing that is there already, so that a cache may be read-only.

    Args:
        file: the GGUF file that is wanted alone, with the folders in the repository, or a part of
            one; None for all that transformers needs.
        on_coming: called before weights are transferred; what it raises ends the download.
    """

    def __init__(
        self,
        spec: ModelSpec,
        report: Report,
        file: str | None = None,
        *,
        on_coming: OnComing | None = None,
    ) -> None:
        self.spec = spec
        self._on_coming = on_coming
        self.report = report
        self._parts = [] if file is None else parts_of(file)
        self._named = spec if file is None else replace(spec, source=f"{spec.source}/{file}")
        self.root = _root(spec)
        self.repository = self.root / f"models--{spec.source.replace('/', '--')}"
        self.commit = ""
        self.files: dict[str, _RemoteFile] = {}
        self.done = 0
        self.total: int | None = None

    def fetch(self) -> Path:
        """The snapshot folder; its name is the commit. What is lacking in the cache is downloaded.

        If the cache has everything that is needed, the network is not touched and nothing is
        written. The Hub's client is silent meanwhile.

        Raises:
            ModelError: downloads are switched off, or what goes wrong with one.
        """
        from huggingface_hub.utils import validate_repo_id

        with quiet("huggingface_hub"):
            try:
                validate_repo_id(self.spec.source)
                if not all(map(_is_inside, self._parts)):
                    raise self._no_file([])
                return self._cached() or self._download()
            except (ComposeError, Abandoned):
                raise
            except Exception as error:
                raise hub_errors.explain(self.spec, self.root, error) from None

    def _cached(self) -> Path | None:
        """The snapshot in the cache that the revision stands for; None where it is not whole."""
        revision = self.spec.revision or "main"
        try:
            commit = _noted(self.repository / "refs" / revision) or revision
            folder = self.repository / "snapshots" / commit
            if folder.name != commit or not folder.is_dir() or not self._is_complete(folder):
                return None
            self._check_links(folder)
            return folder
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None  # no such revision; or what is written will say so
            raise hub_errors.disk_error(self.spec, self.root, error, "read") from None

    def _is_complete(self, folder: Path) -> bool:
        """Whether a snapshot has all files that are needed."""
        if self._parts:
            return all((folder / part).is_file() for part in self._parts)
        return files.is_complete(folder, self.spec.trust_remote_code)

    def _check_links(self, folder: Path) -> None:
        """Raise a `ModelError` where another user's links lead out of a cache that several share.

        Those of this user's own, and root's, may lead to another disk.
        """
        if not hasattr(os, "getuid"):
            return
        repository = self.repository
        inside = repository.resolve()
        for path in (folder, *self._entries(folder)):
            if path.resolve().is_relative_to(inside):
                continue
            content = path.readlink() if path.is_symlink() else path.name
            target = Path(os.path.normpath(path.parent / content))
            ways = (repository / "snapshots", folder, path, repository / "blobs", target)
            for link in ways:
                if link.is_symlink() and link.lstat().st_uid not in (0, os.getuid()):
                    raise ModelError(
                        f"the cache of {self.spec.source} leads out of its folder by a link of"
                        f" another user's: {link}",
                        hint="Delete the link and run again, or set HF_HOME to a folder of your"
                        " own.",
                        code="cache_unusable",
                    )

    def _entries(self, folder: Path) -> list[Path]:
        """What of a snapshot is read: all in it, or the parts with the folders that they are in."""
        if not self._parts:
            return list(folder.iterdir())
        names = (PurePosixPath(part) for part in self._parts)
        return [folder / each for name in names for each in (*reversed(name.parents[:-1]), name)]

    def _download(self) -> Path:
        from huggingface_hub import constants

        if self.spec.local_files_only or constants.is_offline_mode():
            raise hub_errors.not_cached(self._named)
        _check_token(self.spec)
        self.commit, listed = self._listing()
        self.files = {file.name: file for file in listed}
        small, weights = ([self.files[name] for name in names] for names in self._names())
        needed = [*small, *weights]
        self.done, self.total = 0, sum(file.size for file in needed)
        self._check_disk(needed)
        for file in small:
            self._fetch(file)
        if self._on_coming is not None:
            self._on_coming(self._coming(small, weights))
        for file in weights:
            self._fetch(file)
        with suppress(OSError):  # the next time it is looked up again
            self._remember_revision()
        return self._snapshot

    def _coming(self, small: list[_RemoteFile], weights: list[_RemoteFile]) -> ComingWeights:
        paths = tuple(self._snapshot / file.name for file in small)
        sizes = {file.name: file.size for file in weights}
        return ComingWeights(self.commit, paths, sizes, self._read_part)

    def _read_part(self, name: str, start: int, end: int) -> bytes:
        """A part of a file, which is not kept."""
        content = bytearray()
        headers = {"Range": f"bytes={start}-{end - 1}"}
        with hub_http.get(self.url_of(name), self.spec.token, headers) as response:
            hub_http.check_response(response)
            skipped = start if response.status_code != 206 else 0
            for chunk in response.iter_raw():
                self._advance(name=name)
                content += chunk
                if len(content) >= skipped + end - start:
                    break
        return bytes(content[skipped : skipped + end - start])

    def url_of(self, name: str) -> str:
        """Where the Hub has a file."""
        from huggingface_hub import hf_hub_url

        endpoint = hub_errors.endpoint()
        return str(hf_hub_url(self.spec.source, name, revision=self.commit, endpoint=endpoint))

    def _names(self) -> tuple[list[str], list[str]]:
        """The files that are needed, small ones and weights, in the order of their transfer."""
        if self._parts:
            if any(part not in self.files for part in self._parts):
                raise self._no_file(models_among(self.files))
            return [], self._parts
        index = files.weight_index(self.files)
        if index is not None:
            self._fetch(self.files[index])
        weights = files.weight_files(self.files, self._snapshot)
        self._check(weights)
        small = files.small_files(self.files, self.spec.trust_remote_code)
        return [*([index] if index else []), *small], weights

    @property
    def _snapshot(self) -> Path:
        return self.repository / "snapshots" / self.commit

    def _listing(self) -> tuple[str, list[_RemoteFile]]:
        """The commit that the revision is now, and the files in it."""
        hub_errors.check_endpoint()
        revision = self.spec.revision
        at = "" if revision is None else f"/revision/{quote(revision, safe='')}"
        url = f"{hub_errors.endpoint()}/api/models/{self.spec.source}{at}?blobs=true"
        with hub_http.get(url, self.spec.token) as response:
            hub_http.check_response(response)
            try:
                listing = hub_http.read_json(response, hub_http.LISTING, self._advance)
                commit, siblings = listing["sha"], map(_remote_file, listing["siblings"])
                if _COMMIT.fullmatch(commit):
                    return commit, list(siblings)
            except (ValueError, KeyError, TypeError, AttributeError):
                pass
        raise hub_errors.not_the_hub(self.spec, "sends no listing of files")

    def _check(self, weights: list[str]) -> None:
        needed = [files.CONFIG, *weights]
        missing = [name for name in needed if name not in self.files]
        if not missing and weights and not file_kinds.is_embedder(self.files):
            return
        what = f"the repository {self.spec.source}"
        reason = f"{missing[0]} is missing" if missing else "it has no weights for transformers"
        hint = "Choose a repository with config.json and model.safetensors."
        other = file_kinds.other_than_model(what, self.spec.source, self.files, self._read)
        raise other or file_kinds.incomplete(what, reason, hint=hint)

    def _no_file(self, models: list[str]) -> ModelError:
        """The error for a file that the repository does not have."""
        missing = [part for part in self._parts if part not in self.files]
        return file_kinds.no_gguf(self.spec.source, shortened(missing[0]), models)

    def _read(self, name: str) -> Any:
        """The content of a small JSON file of the repository."""
        self._fetch(self.files[name])
        return files.read_json(self._snapshot / name)

    def _check_disk(self, needed: list[_RemoteFile]) -> None:
        lacking = [file for file in needed if not (self._snapshot / file.name).exists()]
        room = sum(file.size - _size(self._partial(file)) for file in lacking)
        there = next(path for path in (self.repository, *self.repository.parents) if path.exists())
        free = shutil.disk_usage(there).free
        if room > free:
            numbers = f"{size(room)} are needed, {size(free)} are free"
            raise hub_errors.disk_full(self.spec, self.root, numbers)

    def _advance(self, amount: int = 0, name: str | None = None) -> None:
        self.done += amount
        self.report(LoadProgress("download", self._named.source, self.done, self.total, "B", name))

    def _fetch(self, file: _RemoteFile) -> None:
        """A file into the snapshot, unless it is there."""
        before = self.done
        files.check_size(file.name, file.size)
        self._advance(name=file.name)
        if not (self._snapshot / file.name).exists():
            if file.checksum is None:
                self._take(file.name)
            else:
                self._store(file)
        self.done = before
        self._advance(file.size, file.name)

    def _store(self, file: _RemoteFile) -> None:
        partial, blob = self._partial(file), self._blob(file)
        with self._lock(file.name):
            fresh = not blob.exists()
            if fresh:
                _Transfer(self, file, partial).run()
                partial.replace(blob)
            _link(blob, self._snapshot / file.name, fresh)

    def _take(self, name: str) -> None:
        """A file through the client: of a mirror that does not say what is in it."""
        from huggingface_hub import hf_hub_download

        still_wanted = partial(self._advance, name=name)

        class Bar(SilentBar):
            def update(self, amount: float | None = 1) -> None:
                super().update(amount)
                files.check_size(name, self.n)
                still_wanted()

        hf_hub_download(
            self.spec.source,
            name,
            revision=self.commit,
            cache_dir=self.root,
            token=self.spec.token,
            etag_timeout=hub_http.TIMEOUT,
            tqdm_class=Bar,
            endpoint=hub_errors.endpoint(),
        )

    def _blob(self, file: _RemoteFile) -> Path:
        return self.repository / "blobs" / str(file.checksum)

    def _partial(self, file: _RemoteFile) -> Path:
        return self._blob(file).with_suffix(".modelcompose.incomplete")

    @contextmanager
    def _lock(self, name: str) -> Iterator[None]:
        """Only one process transfers files of a repository; the others wait for it."""
        from filelock import FileLock, Timeout

        folder = self.repository / "blobs"
        folder.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(folder / ".modelcompose.lock")
        while True:
            try:
                held = lock.acquire(timeout=0.5)
                break
            except Timeout:
                self._advance(name=name)
        with held:
            yield

    def _remember_revision(self) -> None:
        """Note which commit a branch or tag is, as the client does, for the next time."""
        revision = self.spec.revision or "main"
        reference = self.repository / "refs" / revision
        if _COMMIT.fullmatch(revision) or _noted(reference) == self.commit:
            return
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        fresh.unlink(missing_ok=True)
        with fresh.open("x", encoding="utf-8") as file:  # never through a link
            file.write(self.commit)
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

    def __init__(self, download: Download, file: _RemoteFile, path: Path) -> None:
        self.download = download
        self.file = file
        self.path = path
        self.start = download.done
        self.url = download.url_of(file.name)

    def run(self) -> None:
        from huggingface_hub.errors import HTTPError

        self._check_partial()
        self._open("ab").close()
        failures = 0
        while (before := self._have()) < self.file.size:
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
                raise self._broken_off(reason)
            self._wait(RETRY_WAITS[failures])
            failures += 1
        self._verify()

    def _check_partial(self) -> None:
        """Take away what is no file of one name: in a shared cache another user may have put it."""
        with suppress(FileNotFoundError):
            found = self.path.lstat()
            if not stat.S_ISREG(found.st_mode) or found.st_nlink > 1:
                self.path.unlink()

    def _open(self, mode: str) -> Any:
        """The file, to be written; never another one that a link leads to."""

        def opened(path: str, flags: int) -> int:
            return os.open(path, flags | getattr(os, "O_NOFOLLOW", 0), 0o666)

        return open(self.path, mode, buffering=0, opener=opened)

    def _have(self) -> int:
        return _size(self.path)

    def _receive(self) -> None:
        have = self._have()
        headers = {"Range": f"bytes={have}-"} if have else {}
        with hub_http.get(self.url, self.download.spec.token, headers) as response:
            if have and not self._goes_on(response, have):
                return
            hub_http.check_response(response)
            self._check_content(response)
            resumed = response.status_code == 206
            # Unbuffered: what has arrived is on disk, whatever becomes of this process.
            with self._open("ab" if resumed else "wb") as file:
                self._at(have if resumed else 0)
                for chunk in response.iter_raw():
                    if file.tell() + len(chunk) > self.file.size:
                        file.truncate(0)
                        raise self._other_content(response)
                    file.write(chunk)
                    self._at(file.tell())

    def _goes_on(self, response: Any, have: int) -> bool:
        """Whether an answer goes on where the file ends; if not it begins anew the next time."""
        start = response.headers.get("Content-Range", "").replace(f"bytes {have}-", "", 1)
        misses = response.status_code == 206 and not start[:1].isdecimal()
        if response.status_code == 416 or misses:
            self._open("wb").close()
            return False
        return True

    def _check_content(self, response: Any) -> None:
        """A login page or another file in place of the content is not kept."""
        length = response.headers.get("Content-Length")
        whole = response.status_code == 200 and "Content-Encoding" not in response.headers
        if hub_errors.is_page(response) or (whole and length and length != str(self.file.size)):
            raise self._other_content(response)

    def _other_content(self, response: Any) -> ModelError:
        what = "a web page" if hub_errors.is_page(response) else "something of another length"
        return hub_errors.not_the_hub(
            self.download.spec, f"sends {what} in place of {self.file.name}", str(response.url)
        )

    def _at(self, position: int) -> None:
        self.download.done = self.start
        self.download._advance(position, self.file.name)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._at(self._have())
            time.sleep(min(left, 0.2))

    def _verify(self) -> None:
        name, length, checksum = self.file.name, self.file.size, str(self.file.checksum)
        large = len(checksum) == 64
        digest = hashlib.sha256() if large else hashlib.sha1(b"blob %d\0" % length)
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                self._at(length)
        if digest.hexdigest() != checksum:
            self.path.unlink()
            raise ModelError(
                f"{name} of {self.download.spec.source} arrived damaged: its checksum differs",
                hint="Run again to download it anew.",
                code="corrupt_model",
            )

    def _broken_off(self, reason: str) -> ModelError:
        download = self.download
        return ModelError(
            f"the download of {self.file.name} of {download.spec.source} broke off at"
            f" {size(download.done)} of {size(download.total or 0)}: {reason}",
            hint="Run again to resume it.",
            code="download_failed",
        )
