"""What the command writes steers no terminal, whoever had a part in it."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pty = pytest.importorskip("pty", reason="there are no pseudo-terminals")

COMMAND = [sys.executable, "-m", "modelcompose_jupyter.cli"]
# As YAML escapes it: fills the clipboard, wipes, paints.
STEERING = "\\e]52;c;eA==\\a\\e[2J\\x9b31m"


def on_terminal(folder: Path, *arguments: str) -> bytes:
    """What a command writes where its outputs are a terminal."""
    ours, theirs = pty.openpty()
    with subprocess.Popen([*COMMAND, *arguments], cwd=folder, stdout=theirs, stderr=theirs):
        os.close(theirs)
        written = b""
        while True:
            try:
                piece = os.read(ours, 4096)
            except OSError:  # Linux says so of a terminal that nobody has any more
                break
            if not piece:
                break
            written += piece
    os.close(ours)
    return written


def test_a_terminal_is_not_steered(tmp_path: Path) -> None:
    (tmp_path / "model-compose.yml").write_text(f'"a{STEERING}z": 1\n')
    written = on_terminal(tmp_path, "validate")
    assert b"unknown key" in written and "a\ufffd]52;".encode() in written
    assert not set(written) & ({*range(0x20), 0x7F} - set(b"\t\r\n"))
    assert "\x9b".encode() not in written
    piped = subprocess.run([*COMMAND, "validate"], cwd=tmp_path, capture_output=True, check=False)
    assert b"\x1b]52;" in piped.stderr  # a file has all that there is
