"""A terminal shows what a model thinks, dimmed, and not among what was asked for."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from standins.thinker import BUDGET, SAID, THINKER

from modelcompose_jupyter import load
from modelcompose_jupyter.run_follower import follow
from modelcompose_jupyter.terminal import for_thoughts

COMMAND = [sys.executable, "-m", "modelcompose_jupyter.cli", "run", "--local"]


class Terminal:
    """A stream that says that it is one, and keeps what it is given."""

    def __init__(self) -> None:
        self.written = ""

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.written += text
        return len(text)

    def flush(self) -> None:
        pass


def test_thoughts_are_dim_and_before_the_text() -> None:
    run = load(THINKER).start({"messages": SAID}, seed=3)
    terminal = Terminal()
    follow(run, write=terminal.write, think=for_thoughts(terminal))  # type: ignore[arg-type]
    thought, text = terminal.written.rsplit("\033[22m", 1)
    assert text.strip() == run.text
    plain = thought.replace("\033[2m", "").replace("\033[22m", "")
    assert plain.split() == run.reasoning.split()
    assert thought.startswith("\033[2m")


def test_where_there_is_no_terminal_the_result_is_alone(tmp_path: Path) -> None:
    (tmp_path / "model-compose.yml").write_text(THINKER + "  seed: 3\n")
    given = ["-i", f"messages={json.dumps(SAID)}"]
    for options in ([], ["--stream"]):
        done = subprocess.run(
            [*COMMAND, *given, *options], cwd=tmp_path, capture_output=True, text=True, check=True
        )
        assert done.stderr == ""
        wanted = load(THINKER + "  seed: 3\n").run(messages=SAID)
        assert wanted.usage["reasoning"] == BUDGET
        assert wanted.reasoning not in done.stdout
        assert wanted.text in done.stdout
