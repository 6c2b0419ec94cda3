"""Ports to listen at: what is taken, and what no error may keep."""

from __future__ import annotations

import socket

import pytest

from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.server.ports import bind, try_bind


def test_a_port_that_is_half_taken_is_free_again_while_the_error_is_kept() -> None:
    """An IPython shell keeps the last error: what it holds would stay bound."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ComposeError, match=f"port {port} of 127.0.0.1 is taken") as failed:
            bind("127.0.0.1", port)
        assert failed.value.code == "port_taken"
    assert failed.value.__context__ is None  # its frames would hold sockets
    for each in bind("127.0.0.1", port):
        each.close()


@pytest.mark.parametrize("host", ["a..b", "no.such.invalid"])
def test_what_is_no_address_of_this_computer_is_said(host: str) -> None:
    with pytest.raises(ComposeError, match="is no address of this computer") as failed:
        try_bind(host, 0)
    assert "127.0.0.1" in str(failed.value.hint)
