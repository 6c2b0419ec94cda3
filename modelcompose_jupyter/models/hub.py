"""Models from the Hugging Face Hub: from the local cache, or downloaded into it.

The Hub client lists, authorises and keeps the cache. The large files are transferred here, because
the client throws away what it has when a transfer breaks, and cannot be stopped inside a file.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..errors import ComposeError, ModelError
from ..units import size
from . import files
from .quiet import SilentBar, quiet
from .spec import Abandoned, ModelSpec, Progress, Report

if TYPE_CHECKING:
    from filelock import BaseFileLock
    from huggingface_hub.hf_api import ModelInfo, RepoSibling

_TIMEOUT = 10.0
_CHUNK = 1 << 20
_COMMIT = re.compile(r"[0-9a-f]{40}")
RETRY_WAITS = (0.5, 1.0, 2.0, 4.0)
"""Seconds to wait before each further attempt after a transfer broke off without a byte."""


def fetch(spec: ModelSpec, report: Report) -> Path:
    """The snapshot folder of a repository; its name is the commit.

    If the cache has everything that is needed, the network is not touched.
    """
    try:
        import huggingface_hub
    except ImportError:
        raise ModelError(
            "huggingface_hub is not installed",
            hint="Run: pip install huggingface_hub",
            code="not_installed",
        ) from None
    with quiet("huggingface_hub"), _explained(spec):
        folder = _cached(spec)
        if folder is not None and files.is_complete(folder, spec.trust_remote_code):
            return folder
        if spec.local_files_only or huggingface_hub.constants.is_offline_mode():
            raise _not_cached(spec)
        return _Download(spec, report).run()


def _cached(spec: ModelSpec) -> Path | None:
    from huggingface_hub import try_to_load_from_cache

    path = try_to_load_from_cache(
        spec.source, files.CONFIG, cache_dir=_root(spec), revision=spec.revision
    )
    return Path(path).parent if isinstance(path, str) else None


def _root(spec: ModelSpec) -> Path:
    from huggingface_hub import constants

    return Path(spec.cache_dir or constants.HF_HUB_CACHE).expanduser()


class _Download:
    """One repository on its way into the cache: small files first, so that weights mean whole."""

    def __init__(self, spec: ModelSpec, report: Report) -> None:
        self.spec = spec
        self.report = report
        self.root = _root(spec)
        self.repository = self.root / f"models--{spec.source.replace('/', '--')}"
        self.commit = ""
        self.done = 0
        self.total: int | None = None

    def run(self) -> Path:
        info = self._info()
        self.commit = info.sha or ""
        siblings = {sibling.rfilename: sibling for sibling in info.siblings or []}
        index = files.weight_index(siblings)
        if index is not None:
            self._take(siblings[index])
        weights = files.weight_files(siblings, lambda name: files.read_json(self._snapshot / name))
        self._check(siblings, weights)
        small = files.small_files(siblings, self.spec.trust_remote_code)
        self.done, self.total = 0, sum(siblings[name].size or 0 for name in small + weights)
        self._check_disk([siblings[name] for name in small + weights])
        for name in small + weights:
            self._fetch(siblings[name])
        self._remember_revision()
        return self._snapshot

    @property
    def _snapshot(self) -> Path:
        return self.repository / "snapshots" / self.commit

    def _info(self) -> ModelInfo:
        from huggingface_hub import HfApi

        return HfApi(token=self.spec.token).model_info(
            self.spec.source, revision=self.spec.revision, files_metadata=True, timeout=_TIMEOUT
        )

    def _check(self, siblings: dict[str, RepoSibling], weights: list[str]) -> None:
        missing = [name for name in [files.CONFIG, *weights] if name not in siblings]
        if not missing and weights:
            return
        reason = f"{missing[0]} is missing" if missing else "it has no weights for transformers"
        raise ModelError(
            f"the repository {self.spec.source} is not a whole model: {reason}",
            hint="Choose a repository with config.json and model.safetensors.",
            code="incomplete_model",
        )

    def _check_disk(self, siblings: list[RepoSibling]) -> None:
        present = sum(
            (sibling.size or 0)
            if (self._snapshot / sibling.rfilename).exists()
            else self._partial(sibling).stat().st_size
            if sibling.lfs and self._partial(sibling).exists()
            else 0
            for sibling in siblings
        )
        needed = (self.total or 0) - present
        self.repository.mkdir(parents=True, exist_ok=True)
        free = shutil.disk_usage(self.repository).free
        if needed > free:
            raise _disk_full(self.spec, self.root, f"{size(needed)} are needed,"
                             f" {size(free)} are free")  # fmt: skip

    def _advance(self, amount: int, name: str) -> None:
        self.done += amount
        self.report(Progress("download", self.spec.source, self.done, self.total, "B", name))

    def _fetch(self, sibling: RepoSibling) -> None:
        """A file into the snapshot: large ones are transferred here, then linked by the client."""
        before = self.done
        self._advance(0, sibling.rfilename)
        present = (self._snapshot / sibling.rfilename).exists()
        if sibling.lfs is not None and not present:
            with self._lock(sibling):
                if not self._blob(sibling).exists():
                    _Transfer(self, sibling, self._partial(sibling)).run()
                    self._partial(sibling).replace(self._blob(sibling))
        self._take(sibling)
        if sibling.lfs is not None and not (self._snapshot / sibling.rfilename).is_symlink():
            self._blob(sibling).unlink(missing_ok=True)  # without links the client made a copy
        self.done = before
        self._advance(sibling.size or 0, sibling.rfilename)

    def _take(self, sibling: RepoSibling) -> None:
        """A file through the client; where its content is in the cache already, a link to it."""
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
        assert sibling.lfs is not None
        return self.repository / "blobs" / str(sibling.lfs.sha256)

    def _partial(self, sibling: RepoSibling) -> Path:
        return self._blob(sibling).with_suffix(".modelcompose.incomplete")

    @contextmanager
    def _lock(self, sibling: RepoSibling) -> Iterator[None]:
        """Only one process transfers a file; the others wait for it."""
        from filelock import FileLock, Timeout

        self._blob(sibling).parent.mkdir(parents=True, exist_ok=True)
        lock: BaseFileLock = FileLock(f"{self._partial(sibling)}.lock")
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
        if _COMMIT.fullmatch(revision):
            return
        reference = self.repository / "refs" / revision
        reference.parent.mkdir(parents=True, exist_ok=True)
        fresh = reference.with_name(f"{reference.name}.{os.getpid()}.tmp")
        fresh.write_text(self.commit, encoding="utf-8")
        fresh.replace(reference)


class _Transfer:
    """One large file on its way to disk; what has arrived stays when it breaks off."""

    def __init__(self, download: _Download, sibling: RepoSibling, path: Path) -> None:
        from huggingface_hub import hf_hub_url

        assert sibling.lfs is not None
        self.download = download
        self.name = sibling.rfilename
        self.size = sibling.lfs.size
        self.sha256 = sibling.lfs.sha256
        self.path = path
        self.start = download.done
        self.url = hf_hub_url(download.spec.source, self.name, revision=download.commit)

    def run(self) -> None:
        from huggingface_hub.errors import HfHubHTTPError, HTTPError

        failures = 0
        while (before := self._have()) < self.size:
            reason = "the connection was closed"
            try:
                self._receive()
            except HTTPError as error:
                if isinstance(error, HfHubHTTPError) and error.response.status_code < 500:
                    raise
                reason = _reason(error)
            if self._have() > before:
                failures = 0
                continue
            if failures == len(RETRY_WAITS):
                raise _broken_off(self.download, self.name, reason)
            self._wait(RETRY_WAITS[failures])
            failures += 1
        self._verify()

    def _have(self) -> int:
        return self.path.stat().st_size if self.path.exists() else 0

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
            hf_raise_for_status(response)
            resumed = response.status_code == 206
            # Unbuffered: what has arrived is on disk, whatever becomes of this process.
            with self.path.open("ab" if resumed else "wb", buffering=0) as file:
                self._at(have if resumed else 0)
                for chunk in response.iter_raw():
                    file.write(chunk)
                    self._at(file.tell())

    def _at(self, position: int) -> None:
        self.download.done = self.start
        self.download._advance(position, self.name)

    def _wait(self, seconds: float) -> None:
        end = time.monotonic() + seconds
        while (left := end - time.monotonic()) > 0:
            self._at(self._have())
            time.sleep(min(left, 0.2))

    def _verify(self) -> None:
        digest = hashlib.sha256()
        with self.path.open("rb") as file:
            while chunk := file.read(_CHUNK):
                digest.update(chunk)
                self._at(self.size)
        if digest.hexdigest() != self.sha256:
            self.path.unlink()
            raise ModelError(
                f"{self.name} of {self.download.spec.source} arrived damaged: its checksum differs",
                hint="Run again to download it anew.",
                code="corrupt_model",
            )


@contextmanager
def _explained(spec: ModelSpec) -> Iterator[None]:
    """Turn what the Hub client raises into what a user can act on."""
    try:
        yield
    except (ComposeError, Abandoned):
        raise
    except Exception as error:
        raise _explain(spec, error) from None


def _explain(spec: ModelSpec, error: Exception) -> ModelError:
    from huggingface_hub import errors
    from huggingface_hub.utils import HFValidationError

    cause: BaseException = error
    if isinstance(error, errors.LocalEntryNotFoundError) and error.__cause__ is not None:
        cause = error.__cause__
    match cause:
        case errors.GatedRepoError():
            return ModelError(
                f"{spec.source} is gated: its owner must grant access",
                hint=f"Accept its terms on {_host()}/{spec.source}, then run `hf auth login` or"
                " set HF_TOKEN.",
                code="access_denied",
            )
        case errors.RevisionNotFoundError():
            return ModelError(
                f"{spec.source} has no revision '{spec.revision}'",
                hint="Name a branch, tag or commit of the repository, or leave revision out.",
                code="model_not_found",
            )
        case errors.RepositoryNotFoundError():
            return ModelError(
                f"there is no model repository {spec.source} on {_host()}, or it is private",
                hint="Check the name. For a private one run `hf auth login` or set HF_TOKEN;"
                " a folder begins with ./ or /.",
                code="model_not_found",
            )
        case HFValidationError():
            return ModelError(
                f"'{spec.source}' is not the name of a model",
                hint="Give owner/name of the Hub, a folder that begins with ./ or /, or"
                " bundled:storyteller.",
                code="model_not_found",
            )
        case errors.OfflineModeIsEnabled():
            return _not_cached(spec)
        case errors.HfHubHTTPError():
            return _refused(spec, cause)
        case errors.HTTPError():
            return ModelError(
                f"{_host()} cannot be reached ({_reason(cause)}) and {spec.source} is not"
                " completely in the local cache",
                hint="Check the network or proxy and run again; what has arrived is kept.",
                code="no_network",
            )
        case OSError() if cause.errno == errno.ENOSPC:
            return _disk_full(spec, _root(spec), "no space is left")
    return ModelError(
        f"{spec.source} could not be downloaded: {_reason(cause)}",
        hint="Run again to resume the download.",
        code="download_failed",
    )


def _refused(spec: ModelSpec, error: Any) -> ModelError:
    status = error.response.status_code
    if status in (401, 403):
        return ModelError(
            f"{_host()} refuses access to {spec.source} ({status})",
            hint="Check your token: run `hf auth login` or set HF_TOKEN.",
            code="access_denied",
        )
    return ModelError(
        f"{_host()} answered {status} for {spec.source}",
        hint="Run again in a while; what has arrived is kept.",
        code="download_failed",
    )


def _broken_off(download: _Download, name: str, reason: str) -> ModelError:
    return ModelError(
        f"the download of {name} of {download.spec.source} broke off at"
        f" {size(download.done)} of {size(download.total or 0)}: {reason}",
        hint="Run again to resume it.",
        code="download_failed",
    )


def _not_cached(spec: ModelSpec) -> ModelError:
    return ModelError(
        f"{spec.source} is not completely in the local cache, and downloads are switched off",
        hint="Unset HF_HUB_OFFLINE and local_files_only, and run again with a network.",
        code="not_cached",
    )


def _disk_full(spec: ModelSpec, folder: Path, numbers: str) -> ModelError:
    return ModelError(
        f"the disk has no room for {spec.source}: {numbers} in {folder}",
        hint="Free some space, or set HF_HOME or cache_dir to a larger disk.",
        code="disk_full",
    )


def _host() -> str:
    from huggingface_hub import constants

    return str(constants.ENDPOINT)


def _reason(error: BaseException) -> str:
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
