"""Libraries that only some models need, and what is said where one is not installed."""

from __future__ import annotations

import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path

from ...errors import ModelError, causes
from ..spec import ModelSpec

_MODULES = {
    "optimum-quanto": "optimum.quanto",
    "flute-kernel": "flute",
    "amd-quark": "quark",
    "protobuf": "google.protobuf",
}
"""Of libraries whose module is called otherwise than the project on PyPI."""

_PROJECTS = {
    "google": "protobuf",
    "PIL": "pillow",
    "cv2": "opencv-python",
    "yaml": "pyyaml",
    "sklearn": "scikit-learn",
    "flash_attn": "flash-attn",
    "mistral_common": "mistral-common",
}
_KNOWN = re.compile(
    r"sentencepiece|protobuf|tiktoken|blobfile|mistral[-_]common|einops|flash[-_]attn|FlashAttention",
    re.I,
)
_NOT_FOUND = re.compile(r"not found in your environment: ([\w.\-]+(?:, [\w.\-]+)*)")
_PIP = re.compile(r"pip install (?:--?[\w-]+ )*['\"`]?([A-Za-z][\w.\-]*)")
_SENTENCEPIECE = ("tokenizer.model", "spiece.model", "sentencepiece.bpe.model", "source.spm")
_TIKTOKEN_LINE = re.compile(rb"[A-Za-z0-9+/]+={0,2} \d+\s")


def has(project: str) -> bool:
    """Whether a library is installed, by its name on PyPI."""
    module = _MODULES.get(project, project.replace("-", "_"))
    try:
        return find_spec(module) is not None
    except (ImportError, ValueError):  # of its parent, or it is None in sys.modules
        return False


def lacking(projects: Iterable[str]) -> list[str]:
    """Those of some libraries that are not installed."""
    return [project for project in projects if not has(project)]


def missing(error: BaseException) -> list[str]:
    """The libraries whose lack an error tells of, as PyPI calls them."""
    for each in causes(error):
        if not isinstance(each, ImportError | ValueError):
            continue
        text = str(each)
        if found := _NOT_FOUND.search(text):
            return [_PROJECTS.get(name, name) for name in found[1].split(", ")]
        if isinstance(each, ModuleNotFoundError) and each.name:
            name = each.name.partition(".")[0]
            return [_PROJECTS.get(name, name)]
        if found := _PIP.search(text):
            return [found[1]]
        if isinstance(each, ImportError) and (found := _KNOWN.search(text)):
            name = found[0].lower().replace("_", "-")
            return [name.replace("flashattention", "flash-attn")]
    return []


def of_tokenizer(folder: Path) -> list[str]:
    """The libraries that reading a tokenizer's files takes and that are not installed."""
    if (folder / "tokenizer.json").is_file():
        return []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tiktoken" or (path.name in _SENTENCEPIECE and _is_tiktoken(path)):
            return lacking(["tiktoken"])
        if path.name in _SENTENCEPIECE:
            return lacking(["sentencepiece", "protobuf"])
        if path.name == "tekken.json":
            return lacking(["mistral-common"])
    return []


def _is_tiktoken(path: Path) -> bool:
    with path.open("rb") as file:
        return _TIKTOKEN_LINE.match(file.read(1000)) is not None


def not_installed(what: str, projects: Iterable[str], otherwise: str = "") -> ModelError:
    """The error for libraries that something needs; ``otherwise`` is what else can be done."""
    listed = list(projects)
    names = " and ".join(listed)
    if len(listed) > 1:
        message = f"{what} needs the libraries {names}, which are not installed"
    else:
        message = f"{what} needs the library {names}, which is not installed"
    instead = f". Or: {otherwise}" if otherwise else ""
    return ModelError(
        message,
        hint=f"Run: pip install {' '.join(listed)}{instead}",
        code="not_installed",
    )


def require(spec: ModelSpec) -> None:
    """Check that the libraries are installed that a model needs on torch.

    Raises:
        ModelError: one is not.
    """
    wanted = [
        ("torch", True, "local models need it", "torch"),
        ("transformers", True, "local models need it", "transformers"),
        ("peft", bool(spec.adapters), "'peft_adapters' needs it", "'modelcompose-jupyter[lora]'"),
    ]  # fmt: skip
    for library, is_needed, why, install in wanted:
        if is_needed and not has(library):
            raise ModelError(
                f"{library} is not installed, and {why}",
                hint=f"Run: pip install {install}",
                code="not_installed",
            )
