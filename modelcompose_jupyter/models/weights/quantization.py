"""Weights of linear layers in 8 or 4 bits, of models that run on torch.

On a processor the kernels multiply by codes, as in models that run in C alone. Elsewhere, and where
there are no kernels, weights have 8 bits and one scale for each output, and are widened.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

from ..native import codes
from ..native.build import kernels
from ..native.codes import Form
from ..native.linear import Linear
from ..spec import Quantization
from .decoder_parts import Role
from .packed_weights import form_of

_ALIGNMENT = 32
"""Of in_features, for torch's kernel on the CPU."""
_MOST_ROWS = 16
"""Of the input, for that kernel: it reads all weights once for each few rows. Beyond these it is
quicker to widen the weights once."""
_AT_ONCE = 1 << 20
"""Numbers that are quantised together, which bounds the memory that it takes."""
_NUMBER = re.compile(r"\.(\d+)\.")
_ROLES: dict[str, Role] = {
    "k_proj": "keys", "v_proj": "values", "down_proj": "down", "fc2": "down", "fc_out": "down",
    "dense_4h_to_h": "down",
}  # fmt: skip
"""Of modules by their names; those of others need no other bits."""


class CodedLinear(nn.Module):
    """A linear layer on codes, on a processor. It computes in float32, whatever its input is.

    Args:
        weight: (out_features, in_features).
        bias: (out_features,) or None.

    Attributes:
        stored: the codes, uint8.
        dtype: that of the layer which this one is made from.
    """

    def __init__(self, weight: torch.Tensor, bias: Any, form: Form) -> None:
        super().__init__()
        self.out_features, self.in_features = weight.shape
        self.dtype = weight.dtype
        numbers = weight.float().contiguous().numpy()
        room = np.empty(form.size(self.out_features, self.in_features), np.uint8)
        made = codes.coded(numbers, "float32", form, room, torch.get_num_threads())
        self.stored = nn.Parameter(torch.from_numpy(made.stored), requires_grad=False)
        self.bias = bias
        wide = None if bias is None else bias.detach().float().numpy()
        self._linear = Linear(made, wide, "float32")

    @property
    def weight(self) -> torch.Tensor:
        """The weights as numbers again, for models that look at them; made for each that asks."""
        assert isinstance(self._linear.weights, codes.Codes)
        return torch.from_numpy(self._linear.weights.as_float32()).to(self.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in_features) → (…, out_features), of the input's dtype."""
        rows = x.detach().float().contiguous()
        y = rows.new_empty((*x.shape[:-1], self.out_features))
        self._linear.run(
            rows.data_ptr(), rows.numel() // self.in_features, y.data_ptr(),
            add=False, threads=torch.get_num_threads(),
        )  # fmt: skip
        return y.to(x.dtype)

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


class Int8Linear(nn.Module):
    """A linear layer with int8 weights, where there are no kernels for codes.

    On the CPU it computes in bfloat16, whatever its input is.

    Attributes:
        quantized: int8 (out_features, in_features).
        scale: (out_features,), what each output's weights are multiplied by.
        bias: (out_features,) or None.
        dtype: that of the layer which this one is made from.
    """

    def __init__(
        self, quantized: torch.Tensor, scale: torch.Tensor, bias: Any, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.out_features, self.in_features = quantized.shape
        self.quantized = nn.Parameter(quantized, requires_grad=False)
        self.scale = nn.Parameter(scale, requires_grad=False)
        self.bias = bias
        self.dtype = dtype
        self._most = _MOST_ROWS * self.in_features

    @property
    def weight(self) -> torch.Tensor:
        """The weights as numbers again, for models that look at them; made for each that asks."""
        return (self.quantized * self.scale.to(self.dtype)[:, None]).to(self.dtype)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """(…, in_features) → (…, out_features), of the input's dtype."""
        if x.device.type == "cpu":
            y = self._narrow(x if x.dtype == torch.bfloat16 else x.to(torch.bfloat16))
            y = y if y.dtype == x.dtype else y.to(x.dtype)
        else:
            # Scaled first: sums of unscaled weights could overflow in float16.
            y = functional.linear(x, self.weight.to(x.dtype))
        return y if self.bias is None else y + self.bias.to(y.dtype)

    def _narrow(self, x: torch.Tensor) -> torch.Tensor:
        quantized = self.quantized
        if 0 < x.numel() <= self._most and self.in_features % _ALIGNMENT == 0:
            rows = x.reshape(-1, self.in_features).contiguous()
            y = torch._weight_int8pack_mm(rows, quantized, self.scale)
            return y.view(*x.shape[:-1], self.out_features)
        return functional.linear(x, quantized.to(torch.bfloat16)) * self.scale

    def extra_repr(self) -> str:
        return f"{self.in_features}, {self.out_features}, bias={self.bias is not None}"


def can_be(quantization: Quantization, device: str) -> bool:
    """Whether weights can be quantised so on a device."""
    return quantization == "int8" or _has_kernels(device)


def _has_kernels(device: str) -> bool:
    return device == "cpu" and kernels() is not None


def quantize(model: nn.Module, device: str, quantization: Quantization) -> None:
    """Put quantised layers in place of the linear ones, each made on the device, and free those.

    Layers of other kinds stay where they are. A head that shares the embedding's weights gets its
    own.
    """
    # Of layers that stand in several places one is made.
    made: dict[nn.Module, nn.Module] = {}
    forms = _forms(model, quantization)
    for parent, name, layer in list(_linears(model)):
        if layer not in made:
            if _has_kernels(device):
                made[layer] = CodedLinear(_matrix(layer), layer.bias, forms[layer])
            else:
                made[layer] = _int8(layer, device)
            layer.weight = None  # the model's lists of tied weights may still hold the layer
        setattr(parent, name, made[layer])
    for tensor in (*model.parameters(), *model.buffers()):
        if tensor.device.type == "cpu" and tensor.dtype not in (torch.int8, torch.uint8):
            # It may be a view of the mapped file, all of which it would keep in memory.
            tensor.data = tensor.data.clone()


def sizes(
    model: nn.Module, device: str, width: int | None, quantization: Quantization
) -> tuple[int, int]:
    """Bytes of a model, which may be without data, when it is quantised, and of its largest linear
    layer before.

    Args:
        device: where its linear layers will be.
        width: bytes of a number in other layers; None is as they are.
    """
    linears = _forms(model, quantization)
    quantized = sum(_quantized_bytes(each, device, width, form) for each, form in linears.items())
    elsewhere = {
        id(parameter): parameter
        for module in model.modules()
        if module not in linears
        for parameter in (*module.parameters(recurse=False), *module.buffers(recurse=False))
    }
    other = sum(_bytes(each, width) for each in elsewhere.values())
    largest = max((_bytes(layer.weight, width) for layer in linears), default=0)
    return other + quantized, largest


def _quantized_bytes(layer: Any, device: str, width: int | None, form: Form) -> int:
    outputs, inputs = _matrix(layer).shape
    bias = 0 if layer.bias is None else _bytes(layer.bias, width)
    if _has_kernels(device):
        return form.size(outputs, inputs) + bias
    scale = 2 if device == "cpu" else width or layer.weight.element_size()
    return int(outputs * (inputs + scale) + bias)


def _forms(model: nn.Module, quantization: Quantization) -> dict[nn.Module, Form]:
    """The linear layers, and how many bits the weights of each get where there are kernels."""
    found: dict[nn.Module, Form] = {}
    text: Any = model.config.get_text_config(decoder=True)
    layers = getattr(text, "num_hidden_layers", 0)
    head = model.get_output_embeddings()
    for name, module in model.named_modules():
        if _is_linear(module) and module not in found:
            number = _NUMBER.search(name)
            layer = None if module is head else int(number[1]) if number else 0
            role = _ROLES.get(name.rpartition(".")[2], "output")
            found[module] = form_of(role, layer, layers, quantization)
    return found


def _bytes(tensor: torch.Tensor, width: int | None) -> int:
    wide = width if width and tensor.is_floating_point() else tensor.element_size()
    return int(tensor.numel() * wide)


def _linears(model: nn.Module) -> Iterator[tuple[nn.Module, str, Any]]:
    """The linear layers, with what holds each and under which name."""
    for parent in model.modules():
        for name, child in parent.named_children():
            if _is_linear(child):
                yield parent, name, child


def _is_linear(module: nn.Module) -> bool:
    """Whether a layer multiplies by a matrix and no more; subclasses of Linear may do more."""
    return type(module) is nn.Linear or _is_transposed(module)


def _is_transposed(module: nn.Module) -> bool:
    """Whether it is GPT-2's Conv1D, whose weights are (in_features, out_features)."""
    from transformers.pytorch_utils import Conv1D

    return type(module) is Conv1D


def _matrix(layer: Any) -> torch.Tensor:
    """The weights as (out_features, in_features)."""
    weight: torch.Tensor = layer.weight.detach()
    return weight.t() if _is_transposed(layer) else weight


def _int8(layer: Any, device: str) -> Int8Linear:
    matrix = _matrix(layer).to(device)
    # As the kernel takes it, so that weights are rounded to multiples of just that.
    dtype = torch.bfloat16 if matrix.device.type == "cpu" else matrix.dtype
    rows = max(1, _AT_ONCE // matrix.shape[1])
    parts = [_quantized(part.float(), dtype) for part in matrix.split(rows)]
    weight, scale = (torch.cat(each) for each in zip(*parts, strict=True))
    return Int8Linear(weight, scale, layer.bias, matrix.dtype)


def _quantized(rows: torch.Tensor, dtype: torch.dtype) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows of weights in 8 bits, and the scale of each."""
    scale = (rows.abs().amax(1) / 127).clamp(min=torch.finfo(torch.float32).tiny).to(dtype)
    scale = torch.where(scale == 0, torch.ones_like(scale), scale)
    quantized = (rows / scale.float()[:, None]).round().clamp(-127, 127)
    return quantized.to(torch.int8), scale
