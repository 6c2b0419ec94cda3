"""Python modules beside documents: imported under names of their own, so that they are nobody
else's, and anew when one of their files has changed.

The folder of a document is a package of a hidden name, and its modules are in it: they import each
other as `from .helpers import tidy`. ``sys.path`` stays as it is.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.machinery
import sys
import threading
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from pathlib import Path
from types import ModuleType
from typing import Any

from ..errors import InputError, did_you_mean, one_line, shortened
from .user_traceback import user_traceback

_PREFIX = "_modelcompose_beside_"
_lock = threading.RLock()
_stamps: dict[str, dict[str, tuple[int, int] | None]] = {}
"""Of each hidden package: what its files were like when they were imported."""


def function_beside(folder: Path, name: str) -> Any:
    """What ``module:name`` stands for: a name of a module in a folder, which may be dotted; or
    ``beside/module:name``, of another folder from that one on.

    Raises:
        InputError: there is no such module, it cannot be imported, or has no such name.
    """
    module_name, _, attribute = name.partition(":")
    beside, _, module_name = module_name.rpartition("/")
    module = _module(folder / beside, module_name)
    found: Any = module
    for part in attribute.split("."):
        if not hasattr(found, part):
            functions = [each for each, value in vars(module).items() if callable(value)]
            raise InputError(
                f"the module '{shortened(module_name)}' has no '{shortened(attribute)}'",
                hint=did_you_mean(attribute, (each for each in functions if each[:1] != "_"))
                or "Define it there, or correct the name.",
                code="unknown_function",
            )
        found = getattr(found, part)
    return found


def _module(folder: Path, name: str) -> ModuleType:
    package = _PREFIX + hashlib.sha256(str(folder.resolve()).encode()).hexdigest()[:16]
    with _lock:
        if _has_changed(package):
            _forget(package)
        if package not in sys.modules:
            _declare(package, folder)
        full = f"{package}.{name}"
        if full not in sys.modules:
            importlib.invalidate_caches()
            _check_there(folder, name)
            try:
                importlib.import_module(full)
            except BaseException as error:  # sys.exit() of a module is its error, too
                _forget(package)
                if isinstance(error, KeyboardInterrupt):
                    raise
                raise _not_imported(name, error) from None
            _stamps[package] = {path: _stamp(path) for path in _files(package)}
        return sys.modules[full]


def _declare(package: str, folder: Path) -> None:
    """The hidden package of a folder, which has nothing but modules in it."""
    if not any(isinstance(each, _Finder) for each in sys.meta_path):
        sys.meta_path.insert(0, _Finder())
    module = ModuleType(package)
    module.__path__ = [str(folder)]
    sys.modules[package] = module


class _Finder(MetaPathFinder):
    """Finds the modules of hidden packages, and no others."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not fullname.startswith(_PREFIX):
            return None
        for folder in path or ():
            finder = importlib.machinery.FileFinder(folder, (_Loader, [".py"]))
            spec = finder.find_spec(fullname, target)
            if spec is not None:
                return spec
        return None


class _Loader(importlib.machinery.SourceFileLoader):
    """Compiles a file as it is now: kept bytecode goes by the second in which it was changed."""

    def path_stats(self, path: str) -> Any:
        raise OSError


def _check_there(folder: Path, name: str) -> None:
    """Raise InputError where no file is the module's."""
    path = folder.joinpath(*name.split("."))
    if path.with_name(f"{path.name}.py").is_file() or path.is_dir():
        return
    beside = sorted(each.stem for each in folder.glob("*.py"))
    raise InputError(
        f"there is no module '{shortened(name)}' beside the document",
        hint=did_you_mean(name, beside) or f"It is the file {shortened(name)}.py in its folder.",
        code="unknown_function",
    )


def _not_imported(name: str, error: BaseException) -> InputError:
    missing = error.name if isinstance(error, ModuleNotFoundError) else None
    reason = f"{type(error).__name__}: {one_line(error)}"
    return InputError(
        f"the module '{shortened(name)}' cannot be imported: {reason}",
        hint=None
        if missing is None
        else f"Of a module beside it, write: from .{missing} import … Else install it.",
        code="function_failed",
        traceback=user_traceback(error),
    )


def _files(package: str) -> list[str]:
    """The files that were imported of a hidden package."""
    modules = [each for name, each in sys.modules.items() if name.startswith(f"{package}.")]
    return [file for each in modules if (file := getattr(each, "__file__", None))]


def _has_changed(package: str) -> bool:
    return any(_stamp(path) != before for path, before in _stamps.get(package, {}).items())


def _stamp(path: str) -> tuple[int, int] | None:
    try:
        status = Path(path).stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size


def _forget(package: str) -> None:
    for name in [each for each in sys.modules if each.partition(".")[0] == package]:
        del sys.modules[name]
    _stamps.pop(package, None)
