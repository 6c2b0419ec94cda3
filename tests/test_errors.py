"""What is said of other people's errors."""

from __future__ import annotations

import errno
import socket
from pathlib import Path

import pytest

from modelcompose_jupyter.errors import one_line


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError(errno.ENOENT, "No such file", "a.json"), "No such file: 'a.json'"),
        (
            RuntimeError("<urlopen error [Errno -3] Temporary failure in name resolution>"),
            "<urlopen error Temporary failure in name resolution>",
        ),
        (ValueError("first:\n  second\nthird"), "first: second"),
        (ValueError("[1] is no item"), "[1] is no item"),
        (KeyError(), "KeyError"),
    ],
)
def test_a_library_s_error_is_told_in_words(error: Exception, words: str) -> None:
    assert one_line(error) == words


def test_the_system_s_own_errors_too(tmp_path: Path) -> None:
    with pytest.raises(OSError, match="Errno") as caught:
        (tmp_path / "nothing").read_bytes()
    assert one_line(caught.value).startswith("No such file or directory: '")
