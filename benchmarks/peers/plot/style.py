"""How pictures are made: from JSON on standard input to an SVG file, with text as text.

The same results give the same bytes.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from typing import Any

import matplotlib

matplotlib.use("svg")
matplotlib.rcParams["svg.fonttype"] = "none"
matplotlib.rcParams["svg.hashsalt"] = "engine"
from matplotlib import pyplot  # noqa: E402

__all__ = ["pyplot", "save", "title"]


def save(draw: Callable[[dict[str, Any]], Any]) -> None:
    """Write the figure that ``draw`` makes of what is told to the file that is named."""
    draw(json.load(sys.stdin)).savefig(sys.argv[1], metadata={"Date": None})


def title(results: dict[str, Any]) -> str:
    """On what `engine.py` measured."""
    model, machine = results["model"], results["machine"]
    return (
        f"{model['shape']}, {model['precision']}; {machine.get('gpu') or machine['processor']}, "
        f"{results['threads']} threads, {results['rounds']} rounds"
    )
