"""A dashboard of a document, as a process of its own."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
from browser.servers import Server, free_port, serve

COMMAND = [sys.executable, "-m", "modelcompose_jupyter.dashboard"]


@contextmanager
def dashboard(folder: Path, document: str, *options: str, **environment: str) -> Iterator[Server]:
    """A server for a document, which it has as ``story.yml`` in its working folder."""
    served = folder / "served"
    served.mkdir()
    (served / "story.yml").write_text(document, encoding="utf-8")
    (served / "picture.png").write_bytes(b"a picture")
    port = free_port()
    home = {"JUPYTER_DATA_DIR": str(folder / "data"), "IPYTHONDIR": str(folder / "ipython")}
    command = [*COMMAND, "story.yml", f"--port={port}", *options]
    with serve(command, port, served, {**home, **environment}) as server:
        yield server


def kernels(server: Server) -> list[psutil.Process]:
    """The kernels of its visitors, the oldest first."""
    return psutil.Process(server.process.pid).children()
