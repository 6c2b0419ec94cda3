"""Files that other users of the computer cannot read, and cannot have written elsewhere."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelcompose_jupyter.processes import own_start
from modelcompose_jupyter.run_spill import RunFiles
from modelcompose_jupyter.server.logs import configure
from modelcompose_jupyter.server.server_info import ServerInfo, find_servers, read
from modelcompose_jupyter.up.__main__ import LogFile

if os.name != "posix":
    pytest.skip("modes and owners are POSIX's", allow_module_level=True)

SOMEBODY = 12345


@pytest.fixture
def shared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A runtime folder in which everybody may write, and a process that denies nobody anything."""
    folder = tmp_path / "shared"
    folder.mkdir()
    folder.chmod(0o777)
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(folder))
    before = os.umask(0)
    yield folder
    os.umask(before)


def server_info(id: str = "mine") -> ServerInfo:
    return ServerInfo(id, "http://127.0.0.1:1/api", "t", os.getpid(), own_start(), "title", "1")


def modes(folder: Path) -> dict[str, int]:
    """The modes of all that is below a folder."""
    return {
        str(each.relative_to(folder)): each.stat().st_mode & 0o777 for each in folder.rglob("*")
    }


def test_what_is_written_is_for_this_user_alone(
    shared: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(shared / "made" / "runtime"))
    monkeypatch.setattr("tempfile.tempdir", str(shared))
    server_info().publish()
    log = LogFile(shared / "made" / "runtime" / "x.log")
    log.maxBytes = 40
    for _ in range(4):
        log.take("a line of more than forty bytes in all")
    configure(shared / "own.log")()
    files = RunFiles()
    files.write("run", ["a text"])
    found = modes(shared)
    log.remove()
    files.close()
    assert len(found) >= 8 and any(name.endswith(".log.1") for name in found)
    assert {name: oct(mode) for name, mode in found.items() if mode & 0o077} == {}


def test_a_link_in_place_of_a_log_is_not_followed(shared: Path, tmp_path: Path) -> None:
    precious = tmp_path / "precious"
    precious.write_text("kept")
    (shared / "x.log").symlink_to(precious)
    with pytest.raises(OSError):
        LogFile(shared / "x.log")
    (shared / "x.log").unlink()
    os.link(precious, shared / "x.log")
    with pytest.raises(OSError):
        LogFile(shared / "x.log")
    assert precious.read_text() == "kept"
    assert stat.S_IMODE(precious.stat().st_mode) == 0o666


@pytest.mark.skipif(os.getuid() != 0, reason="only root gives files away")
def test_files_of_somebody_else_are_neither_written_nor_believed(shared: Path) -> None:
    os.chown(shared, SOMEBODY, SOMEBODY)
    theirs = shared / "x.log"
    theirs.write_text("theirs")
    server_info().publish()
    forged = shared / "modelcompose-forged.json"
    forged.write_text((shared / "modelcompose-mine.json").read_text().replace("mine", "forged"))
    forged.chmod(0o600)
    for each in (theirs, forged):
        os.chown(each, SOMEBODY, SOMEBODY)
    with pytest.raises(OSError):
        LogFile(theirs)
    assert theirs.read_text() == "theirs"
    assert [each.id for each in find_servers()] == ["mine"]


def test_an_announcement_is_no_link(shared: Path, tmp_path: Path) -> None:
    server_info().publish()
    path = shared / "modelcompose-mine.json"
    path.rename(tmp_path / "elsewhere.json")
    path.symlink_to(tmp_path / "elsewhere.json")
    assert read(tmp_path / "elsewhere.json") is not None
    assert read(path) is None and find_servers() == []
