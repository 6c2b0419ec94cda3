"""Local text-generation workflows, described in ten lines of YAML, native to Jupyter."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ._version import __version__ as __version__

if TYPE_CHECKING:
    from .callable import Workflow, load
    from .errors import (
        ComposeError,
        DocumentError,
        ExpressionError,
        InputError,
        ModelError,
        RunCancelled,
    )
    from .grid import Grid, compare
    from .host import Host, LocalHost, local_host
    from .mapping.on_ray import OnRay
    from .mapping.row_files import row_files
    from .mapping.saving import SaveTo
    from .run_hooks import on_run
    from .server.client import RemoteHost
    from .workflow import Event, Run, State


_MODULES = {
    "callable": ("Workflow", "load"),
    "errors": (
        "ComposeError",
        "DocumentError",
        "ExpressionError",
        "InputError",
        "ModelError",
        "RunCancelled",
    ),
    "grid": ("Grid", "compare"),
    "host": ("Host", "LocalHost", "local_host"),
    "mapping.on_ray": ("OnRay",),
    "mapping.row_files": ("row_files",),
    "mapping.saving": ("SaveTo",),
    "run_hooks": ("on_run",),
    "server.client": ("RemoteHost",),
    "workflow": ("Event", "Run", "State"),
}
_HOMES = {name: module for module, names in _MODULES.items() for name in names}

__all__ = [
    "ComposeError",
    "DocumentError",
    "Event",
    "ExpressionError",
    "Grid",
    "Host",
    "InputError",
    "LocalHost",
    "ModelError",
    "OnRay",
    "RemoteHost",
    "Run",
    "RunCancelled",
    "SaveTo",
    "State",
    "Workflow",
    "compare",
    "load",
    "local_host",
    "on_run",
    "row_files",
]


if not TYPE_CHECKING:  # it would give a name that is not there a type, too

    def __getattr__(name: str) -> Any:
        """Import public names at their first use, so that importing the package costs nothing."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        return getattr(import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})


def load_ipython_extension(shell: Any) -> None:
    """``%load_ext modelcompose_jupyter``: ``%%compose``, ``%compose``, and answers to editors."""
    from .notebook import completer, lab_backend
    from .notebook.magics import ComposeMagics

    shell.register_magics(ComposeMagics)
    completer.register(shell)
    lab_backend.register(shell)


def unload_ipython_extension(shell: Any) -> None:
    """``%unload_ext modelcompose_jupyter``: takes them back. Workflows and models stay."""
    from .notebook import completer, lab_backend

    completer.unregister(shell)
    lab_backend.unregister(shell)
    for magics in shell.magics_manager.magics.values():
        magics.pop("compose", None)


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    """Where a Jupyter server finds its extension."""
    return [{"module": f"{__name__}.extension"}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where `jupyter-builder develop` finds the JupyterLab extension of a checkout."""
    return [{"src": "labextension", "dest": "modelcompose-jupyter"}]
