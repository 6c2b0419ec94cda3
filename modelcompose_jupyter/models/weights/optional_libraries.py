"""Libraries that only some models need, and what is said where one is not installed."""

from __future__ import annotations

import copy
import re
from collections.abc import Iterable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from ...errors import ModelError, causes, shortened
from ..spec import ModelSpec

_QUANTISED = {
    "gptq": ("gptqmodel", "optimum"),
    "awq": ("gptqmodel",),
    "bitsandbytes": ("bitsandbytes",),
    "compressed-tensors": ("compressed-tensors",),
    "hqq": ("hqq",),
    "eetq": ("kernels",),
    "quanto": ("optimum-quanto",),
    "aqlm": ("aqlm",),
    "torchao": ("torchao",),
    "auto-round": ("auto-round",),
    "vptq": ("vptq",),
    "spqr": ("spqr_quant",),
    "higgs": ("flute-kernel",),
    "quark": ("amd-quark",),
    "fp_quant": ("fp_quant",),
    "fouroversix": ("fouroversix",),
    "sinq": ("sinq",),
}
"""What each way to quantise needs, as PyPI calls it."""

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
    wanted: list[str] = []
    for path in sorted(folder.iterdir()):
        if path.suffix == ".tiktoken" or (path.name in _SENTENCEPIECE and _is_tiktoken(path)):
            wanted = ["tiktoken"]
        elif path.name in _SENTENCEPIECE:
            wanted = ["sentencepiece", "protobuf"]
        elif path.name == "tekken.json":
            wanted = ["mistral-common"]
        if wanted:
            break
    return [project for project in wanted if not has(project)]


def _is_tiktoken(path: Path) -> bool:
    with path.open("rb") as file:
        return _TIKTOKEN_LINE.match(file.read(1000)) is not None


def not_installed(what: str, projects: Iterable[str], otherwise: str = "") -> ModelError:
    """The error for libraries that something needs; ``otherwise`` is what else can be done."""
    listed = list(projects)
    plural = len(listed) > 1
    return ModelError(
        f"{what} needs the {'libraries' if plural else 'library'} {' and '.join(listed)}, which"
        f" {'are' if plural else 'is'} not installed",
        hint=f"Run: pip install {' '.join(listed)}{otherwise}",
        code="not_installed",
    )


def check_quantised(spec: ModelSpec, config: Any, device: str) -> str | None:
    """How a model's weights are quantised as they are stored, if they are.

    Args:
        spec: what is asked for.
        config: the model's.
        device: where it shall run.

    Raises:
        ModelError: in a way that cannot be read here, or it is asked to be quantised again.
    """
    source = spec.source
    if _is_mlx(getattr(config, "quantization", None)):
        raise ModelError(
            f"{source} is an MLX model: its weights are packed for Apple's MLX",
            hint="Take the repository that it was made from.",
            code="unsupported_format",
        )
    text_config = config.get_text_config(decoder=True)
    settings = getattr(config, "quantization_config", None) or getattr(
        text_config, "quantization_config", None
    )
    if not isinstance(settings, dict):
        return None
    method = _method(settings)
    if method is None:
        raise ModelError(
            f"{source} is quantised, and its config.json does not say how (quant_method)",
            hint=_UNQUANTISED,
            code="unsupported_format",
        )
    what = f"{source} is quantised with {method}, which"
    otherwise = f". Or: {_UNQUANTISED}"
    if lacking := [project for project in _QUANTISED.get(method, ()) if not has(project)]:
        raise not_installed(what, lacking, otherwise)
    _check_environment(what, method, settings, device, otherwise)
    if spec.quantization is not None:
        raise ModelError(
            f"{source} is quantised already ({method}), so it cannot be by quantization:"
            f" {spec.quantization}",
            hint="Leave out quantization, or take the repository that is not quantised.",
            code="unsupported_format",
        )
    return method


_UNQUANTISED = "Take the repository of the model that is not quantised."


def _check_environment(what: str, method: str, settings: Any, device: str, otherwise: str) -> None:
    """Ask transformers, which knows of further libraries, versions and devices."""
    import torch
    import transformers
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

    known = {str(name) for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
    if not known & {method, f"{method}_4bit"}:
        raise ModelError(
            f"{what} transformers {transformers.__version__} does not know",
            hint=f"Run: pip install --upgrade transformers{otherwise}",
            code="unsupported_format",
        )
    try:
        quantizer: Any = AutoHfQuantizer.from_config(copy.deepcopy(settings), pre_quantized=True)
        quantizer.validate_environment(device_map=None, dtype=torch.float32, weights_only=True)
    except Exception as error:
        found = missing(error)
        if lacking := [project for project in found if not has(project)]:
            raise not_installed(what, lacking, otherwise) from None
        if found:
            raise ModelError(
                f"{what} needs another version of {found[0]} than is installed",
                hint=f"Run: pip install --upgrade {found[0]}{otherwise}",
                code="not_installed",
            ) from None
        if device == "cpu" and re.search(r"\b(GPU|CUDA|XPU|MPS|compute capability)\b", str(error)):
            raise ModelError(
                f"{what} does not run on a CPU", hint=_UNQUANTISED, code="device_unavailable"
            ) from None
        text = " ".join(str(error).split())
        raise ModelError(
            f"{what} cannot be read here: {text}", hint=_UNQUANTISED, code="unsupported_format"
        ) from None


def _method(settings: dict[str, Any]) -> str | None:
    if settings.get("load_in_4bit") or settings.get("load_in_8bit"):
        return "bitsandbytes"
    method = settings.get("quant_method")
    return shortened(str(method)) if method else None


def _is_mlx(settings: Any) -> bool:
    return isinstance(settings, dict) and "bits" in settings and "group_size" in settings
