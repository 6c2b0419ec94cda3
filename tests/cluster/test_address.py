"""Addresses at which there is no cluster are told at once, before Ray tries them."""

from __future__ import annotations

import socket

import pytest

from modelcompose_jupyter.errors import ComposeError
from modelcompose_jupyter.ray.cluster import cluster


@pytest.mark.parametrize("address", ["head", "ray://head:10001", ":6379", "head:x"])
def test_what_is_no_address_is_told(address: str) -> None:
    with (
        pytest.raises(ComposeError, match="an address is HOST:PORT, or 'auto'") as caught,
        cluster(address),
    ):
        raise AssertionError
    assert caught.value.code == "no_cluster"


def test_where_nothing_listens_there_is_no_cluster() -> None:
    with socket.socket() as taken:  # so that nobody else comes to listen there
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        message = f"no Ray cluster at {address}: Connection refused"
        with pytest.raises(ComposeError, match=message), cluster(address):
            raise AssertionError
