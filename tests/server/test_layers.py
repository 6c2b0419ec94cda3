"""The files of server/ import each other in one direction, imports for types included."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import modelcompose_jupyter.server

FOLDER = Path(modelcompose_jupyter.server.__file__).parent


def imports(path: Path) -> set[str]:
    """The neighbours that a file names, wherever in it."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    return {
        name
        for node in nodes
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for name in ([node.module] if node.module else [each.name for each in node.names])
    }


def test_files_import_in_one_direction() -> None:
    graph = {path.stem: imports(path) for path in FOLDER.glob("*.py")}
    order = list(TopologicalSorter(graph).static_order())  # raises CycleError where there is none
    assert {"http", "handler", "server"} <= set(order) <= graph.keys()
    assert order.index("http") < order.index("handler") < order.index("server")
