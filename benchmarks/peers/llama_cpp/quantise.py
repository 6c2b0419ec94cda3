"""From a GGUF file to one of fewer bits, by llama.cpp itself."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp


def quantised(whole: Path, name: str) -> Path:
    """The file of a type, made by llama.cpp as its own tool does without further options."""
    file = whole.with_name(f"{name}.gguf")
    if name == "F32" or file.exists():
        return whole if name == "F32" else file
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = getattr(llama_cpp, f"LLAMA_FTYPE_MOSTLY_{name}")
    failed = llama_cpp.llama_model_quantize(
        str(whole).encode(), str(file).encode(), ctypes.byref(options)
    )
    if failed:
        raise RuntimeError(f"llama.cpp cannot make {name}")
    return file
