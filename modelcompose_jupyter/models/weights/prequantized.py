"""Weights that are stored quantised, by GPTQ or AWQ say: which of them can be read here."""

from __future__ import annotations

import copy
import re
from typing import Any

from ...errors import ModelError, shortened
from ..spec import ModelSpec
from . import optional_libraries

_LIBRARIES = {
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
"""The libraries that each method needs, as PyPI calls them."""
_UNQUANTISED = (
    "Take the repository of the model that is not quantised, with 'quantization: int4' if it is to"
    " be small."
)


def check_prequantized(
    spec: ModelSpec, config: Any, device: str, reason: str | None = None
) -> str | None:
    """How a model's weights are quantised as they are stored, if they are.

    Args:
        reason: why it does not run in C; None where nobody has asked.

    Raises:
        ModelError: in a way that cannot be read here, or it is asked to be quantised again.
    """
    source = spec.source
    packed = getattr(config, "quantization", None)
    if isinstance(packed, dict) and {"bits", "group_size"} <= packed.keys():
        raise ModelError(
            f"{source} is an MLX model: its weights are packed for Apple's MLX",
            hint="Take the repository that it was made from.",
            code="unsupported_format",
        )
    configs = (config, config.get_text_config(decoder=True))
    settings = next(filter(None, (getattr(c, "quantization_config", None) for c in configs)), None)
    if not isinstance(settings, dict):
        return None
    in_bits = settings.get("load_in_4bit") or settings.get("load_in_8bit")
    method = "bitsandbytes" if in_bits else shortened(str(settings.get("quant_method") or ""))
    if not method:
        raise ModelError(
            f"{source} is quantised, and its config.json does not say how (quant_method)",
            hint=_UNQUANTISED,
            code="unsupported_format",
        )
    not_in_c = f", which does not run in C ({reason})," if reason else ""
    what = f"the quantisation of {source} with {method}{not_in_c}"
    if lacking := optional_libraries.lacking(_LIBRARIES.get(method, ())):
        raise optional_libraries.not_installed(what, lacking, _UNQUANTISED)
    _check_environment(what, method, settings, device)
    if spec.quantization is not None:
        raise ModelError(
            f"{source} is quantised already ({method}), so it cannot be by quantization:"
            f" {spec.quantization}",
            hint="Leave out quantization, or take the repository that is not quantised.",
            code="unsupported_format",
        )
    return method


def _check_environment(what: str, method: str, settings: Any, device: str) -> None:
    """Ask transformers, which knows of further libraries, versions and devices."""
    import torch
    import transformers
    from transformers.quantizers.auto import AUTO_QUANTIZATION_CONFIG_MAPPING, AutoHfQuantizer

    known = {str(name) for name in AUTO_QUANTIZATION_CONFIG_MAPPING}
    if not known & {method, f"{method}_4bit"}:
        raise ModelError(
            f"transformers {transformers.__version__} does not know {what}",
            hint=f"Run: pip install --upgrade transformers. Or: {_UNQUANTISED}",
            code="unsupported_format",
        )
    try:
        quantizer: Any = AutoHfQuantizer.from_config(copy.deepcopy(settings), pre_quantized=True)
        quantizer.validate_environment(device_map=None, dtype=torch.float32, weights_only=True)
    except Exception as error:
        found = optional_libraries.missing(error)
        if lacking := optional_libraries.lacking(found):
            raise optional_libraries.not_installed(what, lacking, _UNQUANTISED) from None
        if found:
            raise ModelError(
                f"{what} needs another version of {found[0]} than is installed",
                hint=f"Run: pip install --upgrade {found[0]}. Or: {_UNQUANTISED}",
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
