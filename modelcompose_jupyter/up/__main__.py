"""``python -m modelcompose_jupyter.up``: the supervisor of `up -d`.

It reads its launch configuration as JSON from standard input, and keeps a log.
"""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
import sys
from io import TextIOWrapper
from pathlib import Path

from ..errors import ComposeError
from ..private_files import open_for_writing
from .launch_config import LaunchConfig, log_path
from .supervisor import Supervisor

_LOG_BYTES = 10 * 2**20


class LogFile(logging.handlers.RotatingFileHandler):
    """The log of a detached supervisor: its owner's alone, and no longer than it may be."""

    def __init__(self, path: Path) -> None:
        super().__init__(path, maxBytes=_LOG_BYTES, backupCount=1, encoding="utf-8")

    def _open(self) -> TextIOWrapper:
        descriptor = open_for_writing(Path(self.baseFilename), append=True)
        return open(descriptor, "a", encoding=self.encoding)  # noqa: PTH123 - not a path

    def take(self, line: str) -> None:
        """Add a line. Any thread."""
        self.handle(logging.makeLogRecord({"msg": line}))

    def remove(self) -> None:
        """Remove it, and what of it was set aside."""
        self.close()
        for path in (self.baseFilename, f"{self.baseFilename}.1"):
            with contextlib.suppress(OSError):
                Path(path).unlink(missing_ok=True)


def main() -> None:
    """The detached supervisor. The log goes where nothing is wrong."""
    config = LaunchConfig.from_json(sys.stdin.read())
    path = log_path(config.document)
    log = LogFile(path)
    try:
        status = Supervisor(config, log.take, path).run()
    except ComposeError as error:
        for line in error.lines():
            log.take(line)
        sys.exit(1)
    log.remove()
    sys.exit(status)


if __name__ == "__main__":
    main()
