"""Pictures of results, drawn by matplotlib, which has an environment of its own."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from .processes import Peer, environment

_SCRIPTS = Path(__file__).parent / "plot"


def draw(script: str, told: dict[str, Any], picture: Path, venvs: Path) -> None:
    """Have a script of ``plot/`` draw what it is told, as SVG.

    Raises:
        PeerError: matplotlib cannot be installed.
    """
    python = environment(Peer("plot", "plot", "matplotlib"), venvs.resolve())
    command = [python, _SCRIPTS / script, picture]
    subprocess.run(command, input=json.dumps(told), text=True, check=True)
