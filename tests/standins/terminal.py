"""``model-compose`` as a user types it: in this process, or as a process of its own."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path
from unittest.mock import patch

from click.testing import CliRunner, Result

from modelcompose_jupyter import host_selection
from modelcompose_jupyter.cli import main

COMMAND = [sys.executable, "-m", "modelcompose_jupyter.cli"]


class Terminal:
    """A terminal in a folder.

    Args:
        folder: the working folder of its commands.
        environment: variables that its commands see besides those of the tests.
    """

    def __init__(self, folder: Path, **environment: str) -> None:
        self.folder = folder
        self.environment = environment
        self._started: list[subprocess.Popen[str]] = []

    def call(self, *arguments: str, stdin: str | bytes = "", charset: str = "utf-8") -> Result:
        """What a command does in this process, where all is imported and models stay in memory.

        What it raises and does not handle is raised here. Which hosts it found is forgotten.
        """
        runner = CliRunner(charset, catch_exceptions=False)
        with contextlib.chdir(self.folder), patch.dict(os.environ, self.environment):
            try:
                return runner.invoke(main, arguments, input=stdin)
            finally:
                forget_hosts()

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        """A process that runs a command. It is killed when the terminal is closed."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            cwd=self.folder,
            env={**os.environ, **self.environment},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self._started.append(process)
        return process

    def close(self) -> None:
        for process in self._started:
            process.kill()
            process.communicate()


def forget_hosts() -> None:
    """Let this process decide anew which host runs what. Its own host, with its models, stays."""
    host_selection.disconnect()
    host_selection.stop_serving()
    for each in list(host_selection._remote.values()):
        each.close(10)
    host_selection._after_fork()
