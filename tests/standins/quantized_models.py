"""Repositories whose weights are stored quantised, written as the definitions of the formats say.

`save` takes a folder that save_pretrained() wrote, and writes two: with codes, and with the numbers
that they stand for, in float32.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

Arrays = dict[str, np.ndarray]
AWQ_ORDER = (0, 2, 4, 6, 1, 3, 5, 7)
_OTHERS = ("lm_head", "embed_tokens", "embed_in", "embed_out", "wte", "wpe")
FP4 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


@dataclass(frozen=True)
class Format:
    """How weights are stored.

    Attributes:
        layout: gptq, awq, pack, int, fp8 or mxfp4.
        group: inputs that share a scale; -1 for all.
        scale: the type of scales, as safetensors calls it.
        shuffled: whether groups are of inputs that do not stand side by side.
        offset: what is taken off zero points when they are stored.
        block: outputs and inputs that share a scale, in fp8.
        settings: further ones for quantization_config.
    """

    layout: str
    bits: int = 4
    group: int = 32
    symmetric: bool = True
    scale: str = "F16"
    shuffled: bool = False
    offset: int = 1
    block: tuple[int, int] | None = None
    settings: dict[str, Any] = field(default_factory=dict)


def save(
    folder: Path,
    source: Path,
    format: Format,
    *,
    skip: tuple[str, ...] = (),
    others: str = "float32",
) -> Path:
    """Write a folder, and beside it ``<its name>-same`` with the same weights in float32.

    Args:
        skip: ends of the names of layers that stay numbers, beside the head.
        others: what all that stays numbers is rounded to.
    """
    import torch
    from safetensors.torch import load_file, save_file

    same = folder.with_name(f"{folder.name}-same")
    shutil.copytree(source, folder)
    shutil.copytree(source, same)
    content = json.loads((folder / "config.json").read_text())
    is_turned = content["model_type"] == "gpt2"  # whose files have [inputs, outputs]
    stored: dict[str, Any] = {}
    plain: dict[str, Any] = load_file(source / "model.safetensors")
    for name, tensor in dict(plain).items():
        layer = name.rpartition(".")[0]
        if tensor.ndim < 2 or layer.endswith((*_OTHERS, *skip)):
            stored[name] = tensor.to(getattr(torch, others))
            plain[name] = stored[name].float()
            continue
        weights = tensor.float().numpy()
        arrays, numbers = quantized(weights.T if is_turned else weights, format)
        plain[name] = torch.from_numpy(np.ascontiguousarray(numbers.T if is_turned else numbers))
        stored |= {f"{layer}.{part}": _tensor(each) for part, each in arrays.items()}
    save_file(plain, same / "model.safetensors", {"format": "pt"})
    save_file(stored, folder / "model.safetensors", {"format": "pt"})
    content["quantization_config"] = settings(format)
    (folder / "config.json").write_text(json.dumps(content))
    return folder


def settings(format: Format) -> dict[str, Any]:
    """What config.json says of a format."""
    weights: dict[str, Any] = {
        "num_bits": format.bits, "type": "int", "symmetric": format.symmetric,
        "actorder": "group" if format.shuffled else None,
    }  # fmt: skip
    compressed = {
        "quant_method": "compressed-tensors", "quantization_status": "compressed",
        "ignore": ["lm_head"], "config_groups": {"group_0": {"weights": weights}},
    }  # fmt: skip
    found: dict[str, Any] = {
        "gptq": {"quant_method": "gptq", "bits": format.bits, "group_size": format.group,
                 "sym": format.symmetric, "desc_act": format.shuffled,
                 "checkpoint_format": "gptq" if format.offset else "gptq_v2"},
        "awq": {"quant_method": "awq", "bits": format.bits, "group_size": format.group,
                "zero_point": True, "version": "gemm"},
        "pack": {**compressed, "format": "pack-quantized"},
        "int": {**compressed, "format": "int-quantized"},
        "mxfp4": {**compressed, "format": "mxfp4-pack-quantized"},
        "fp8": {"quant_method": "fp8", "fmt": "e4m3",
                "weight_block_size": format.block and list(format.block)},
    }[format.layout]  # fmt: skip
    return found | format.settings


def quantized(weights: np.ndarray, format: Format) -> tuple[Arrays, np.ndarray]:
    """The tensors of a layer by the ends of their names, and the numbers that they stand for."""
    if format.layout == "fp8":
        return _fp8(weights, format)
    if format.layout == "mxfp4":
        return _mxfp4(weights)
    outputs, inputs = weights.shape
    size = inputs if format.group == -1 else format.group
    groups = np.arange(inputs) // size
    if format.shuffled:
        groups = np.random.default_rng(inputs).permutation(groups)
    count, most, middle = -(-inputs // size), (1 << format.bits) - 1, 1 << (format.bits - 1)
    scales = np.zeros((outputs, count))
    zeros = np.full((outputs, count), middle)
    codes, numbers = np.zeros(weights.shape, np.int64), np.zeros(weights.shape, np.float32)
    for output in range(outputs):
        for group in range(count):
            there = groups == group
            own = weights[output, there].astype(np.float64)
            scale = np.abs(own).max() / (middle - 1)
            if not format.symmetric:
                scale = (max(own.max(), 0) - min(own.min(), 0)) / most
            scale = rounded(np.array(scale), format.scale)
            zero = middle if format.symmetric else int(np.clip(round(-own.min() / scale), 0, most))
            code = np.clip(np.rint(own / scale) + zero, 0, most).astype(np.int64)
            scales[output, group], zeros[output, group] = scale, zero
            codes[output, there] = code
            numbers[output, there] = np.float32(scale) * (code - zero).astype(np.float32)
    return _LAYOUTS[format.layout](format, codes, scales, zeros, groups), numbers


def _gptq(format: Format, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray,
          groups: np.ndarray) -> Arrays:  # fmt: skip
    ones = sum(format.offset << at for at in range(0, 32, format.bits))
    words = packed(zeros.T, format.bits).view(np.uint32) - np.uint32(ones)
    return {
        "qweight": packed(codes, format.bits).T,
        "qzeros": words.view(np.int32),
        "scales": stored(scales.T, format.scale),
        "g_idx": groups.astype(np.int32),
    }


def _awq(format: Format, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray,
         _: np.ndarray) -> Arrays:  # fmt: skip
    def in_order(values: np.ndarray) -> np.ndarray:
        order = [start + at for start in range(0, values.shape[1], 8) for at in AWQ_ORDER]
        return packed(values[:, order], 4)

    return {
        "qweight": in_order(codes.T),
        "qzeros": in_order(zeros.T),
        "scales": stored(scales.T, format.scale),
    }


def _pack(format: Format, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray,
          groups: np.ndarray) -> Arrays:  # fmt: skip
    found = {
        "weight_packed": packed(codes, format.bits),
        "weight_scale": stored(scales, format.scale),
        "weight_shape": np.array(codes.shape),
    }
    if not format.symmetric:
        found["weight_zero_point"] = packed(zeros.T, format.bits).T
    if format.shuffled:
        found["weight_g_idx"] = groups.astype(np.int32)
    return found


def _int(format: Format, codes: np.ndarray, scales: np.ndarray, zeros: np.ndarray,
         _: np.ndarray) -> Arrays:  # fmt: skip
    found = {
        "weight": (codes - 128).astype(np.int8),
        "weight_scale": stored(scales, format.scale),
    }
    if not format.symmetric:
        found["weight_zero_point"] = (zeros - 128).astype(np.int8)
    return found


_LAYOUTS: dict[str, Callable[..., Arrays]] = {
    "gptq": _gptq, "awq": _awq, "pack": _pack, "int": _int,
}  # fmt: skip


def packed(values: np.ndarray, bits: int) -> np.ndarray:
    """Rows of codes as words of 32 bits, the first in the lowest bits: int32."""
    rows, count = values.shape
    words = np.zeros((rows, -(-count * bits // 32)), np.uint32)
    for at in range(count):
        words[:, at * bits // 32] |= values[:, at].astype(np.uint32) << np.uint32(at * bits % 32)
    return words.view(np.int32)


def _mxfp4(weights: np.ndarray) -> tuple[Arrays, np.ndarray]:
    outputs, inputs = weights.shape
    exponents = np.zeros((outputs, inputs // 32), np.uint8)
    halves, numbers = np.zeros((outputs, inputs), np.uint8), np.zeros(weights.shape, np.float32)
    for output in range(outputs):
        for group in range(inputs // 32):
            own = weights[output, 32 * group : 32 * group + 32]
            exponent = int(np.floor(np.log2(np.abs(own).max()))) - 2
            exponents[output, group] = exponent + 127
            for each, number in enumerate(own):
                place = int(np.argmin([abs(abs(number) / 2.0**exponent - value) for value in FP4]))
                sign = number < 0
                halves[output, 32 * group + each] = place | sign << 3
                value = FP4[place] * 2.0**exponent
                numbers[output, 32 * group + each] = -value if sign else value
    both = halves[:, ::2] | halves[:, 1::2] << 4
    return {"weight_packed": both, "weight_scale": exponents}, numbers


def _fp8(weights: np.ndarray, format: Format) -> tuple[Arrays, np.ndarray]:
    import torch

    outputs, inputs = weights.shape
    high, wide = format.block or (1, inputs)
    scales = np.zeros((-(-outputs // high), -(-inputs // wide)))
    codes, numbers = np.zeros(weights.shape, np.uint8), np.zeros(weights.shape, np.float32)
    for row in range(len(scales)):
        for column in range(scales.shape[1]):
            place = (
                slice(row * high, row * high + high),
                slice(column * wide, column * wide + wide),
            )
            scale = rounded(np.abs(weights[place]).max() / 448.0, format.scale)
            scales[row, column] = scale
            small = torch.from_numpy(weights[place] / np.float32(scale)).to(torch.float8_e4m3fn)
            codes[place] = small.view(torch.uint8).numpy()
            numbers[place] = small.float().numpy() * np.float32(scale)
    name = "weight_scale_inv" if format.block else "weight_scale"
    return {"weight": codes.view("V1"), name: stored(scales, format.scale)}, numbers


def rounded(numbers: np.ndarray, type: str) -> np.ndarray:
    """To those that a type has."""
    if type == "BF16":
        bits = np.asarray(numbers, np.float32).view(np.uint32)
        return (bits + 0x8000 & 0xFFFF0000).astype(np.uint32).view(np.float32)
    return np.asarray(numbers, {"F16": np.float16, "F32": np.float32}[type])


def stored(numbers: np.ndarray, type: str) -> np.ndarray:
    """Numbers as a type has them; bfloat16 as structures of two bytes."""
    found = rounded(numbers, type)
    if type == "BF16":
        return (found.view(np.uint32) >> 16).astype(np.uint16).view("V2")
    return found


def _tensor(array: np.ndarray) -> Any:
    """An array as safetensors stores it: structures of two bytes are bfloat16, of one FP8."""
    import torch

    array = np.ascontiguousarray(array)
    if array.dtype == "V2":
        return torch.from_numpy(array.view(np.int16)).view(torch.bfloat16)
    if array.dtype == "V1":
        return torch.from_numpy(array.view(np.uint8)).view(torch.float8_e4m3fn)
    return torch.from_numpy(array)
