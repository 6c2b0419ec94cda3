"""What config.json says of weights that are stored quantised."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ....errors import shortened
from ..config_reader import Other

KEYS = ("quantization_config", "compression_config")
"""Of config.json; the second is an older name for the first."""
_METHODS = {
    "gptq": "GPTQ", "awq": "AWQ", "compressed-tensors": "compressed-tensors", "fp8": "FP8",
}  # fmt: skip
_FORMATS = {
    "dense", "pack-quantized", "int-quantized", "naive-quantized", "float-quantized",
    "mxfp4-pack-quantized", "mixed-precision",
}  # fmt: skip
"""Of compressed-tensors."""
_BITS = (4, 8)


@dataclass(frozen=True)
class Settings:
    """How weights are stored.

    Attributes:
        method: what people call it.
        bits: of a code, where all have as many; 0 where tensors say.
        zero_offset: what is to be added to zero points.
        symmetric: whether all zero points are in the middle of the codes; ``has_zeros`` whether
            there are some that are not, so that they must be in the files.
        ordered: whether inputs of a group stand apart, so that the files must say where.
        block: how many outputs and inputs share a scale of numbers of 8 bits, where it is a block.
    """

    method: str
    bits: int = 0
    zero_offset: int = 0
    symmetric: bool = False
    has_zeros: bool = False
    ordered: bool = False
    block: tuple[int, int] | None = None


def read(content: Mapping[str, Any]) -> Settings | None:
    """How the weights beside a config.json are stored; None where they are no codes.

    Raises:
        Other: in a way that is not known here.
    """
    given = next((content[key] for key in KEYS if content.get(key) is not None), None)
    if given is None:
        return None
    if not isinstance(given, dict):
        raise Other("how its weights are quantised is no mapping")
    name = given.get("quant_method")
    if not isinstance(name, str) or name not in _METHODS:
        raise Other(f"its weights are quantised with {shortened(str(name))}")
    return _READERS[name](given)


def _gptq(given: Mapping[str, Any]) -> Settings:
    bits, format = given.get("bits"), given.get("checkpoint_format") or "gptq"
    if type(bits) is not int or bits not in _BITS:
        raise Other(f"its weights are quantised to {shortened(str(bits))} bits by GPTQ")
    if format not in ("gptq", "gptq_v2") or given.get("is_marlin_format"):
        raise Other(f"its weights are GPTQ's in the format {shortened(str(format))}")
    symmetric, ordered = given.get("sym") is True, bool(given.get("desc_act"))
    return Settings(
        _METHODS["gptq"], bits, int(format == "gptq"), symmetric, not symmetric, ordered
    )


def _awq(given: Mapping[str, Any]) -> Settings:
    bits, version = given.get("bits"), str(given.get("version") or "gemm")
    if type(bits) is not int or bits != 4:
        raise Other(f"its weights are quantised to {shortened(str(bits))} bits by AWQ")
    if version.lower() != "gemm":
        raise Other(f"its weights are AWQ's in the version {shortened(version)}")
    return Settings(_METHODS["awq"], bits, has_zeros=True)


def _compressed(given: Mapping[str, Any]) -> Settings:
    groups = given.get("config_groups")
    groups = groups if isinstance(groups, dict) else {}
    for each in (given, *map(_of, groups.values())):
        format = each.get("format") or "dense"
        if not isinstance(format, str) or format not in _FORMATS:
            raise Other(f"its weights are in the format {shortened(str(format))}")
    if _of(given.get("sparsity_config")).get("format") not in (None, "dense"):
        raise Other("its weights are sparse")
    if _of(given.get("transform_config")).get("config_groups"):
        raise Other("its weights are transformed")
    if given.get("quantization_status") not in (None, "compressed", "frozen"):
        raise Other("its weights are not compressed")
    weights = [_of(_of(each).get("weights")) for each in groups.values()]
    blocks = {_block(each.get("block_structure")) for each in weights} - {None}
    if len(blocks) > 1:
        raise Other("its scales are for blocks of several sizes")
    for each in weights:
        bits = each.get("num_bits", 8)
        if type(bits) is not int or bits not in _BITS:
            raise Other(f"its weights are quantised to {shortened(str(bits))} bits")
    widths = {each.get("num_bits", 0) for each in weights}
    return Settings(
        _METHODS["compressed-tensors"],
        bits=widths.pop() if len(widths) == 1 else 0,
        has_zeros=_all(weights, lambda each: each.get("symmetric") is False),
        ordered=_all(weights, lambda each: each.get("actorder") in (True, "group", "dynamic")),
        block=next(iter(blocks), None),
    )


def _all(weights: Sequence[Mapping[str, Any]], holds: Callable[[Mapping[str, Any]], bool]) -> bool:
    """Whether something holds for all layers, whichever they are."""
    return bool(weights) and all(map(holds, weights))


def _fp8(given: Mapping[str, Any]) -> Settings:
    if given.get("fmt") not in (None, "e4m3"):
        raise Other(f"its weights are in the format {shortened(str(given['fmt']))}")
    return Settings(_METHODS["fp8"], block=_block(given.get("weight_block_size")))


def _of(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _block(value: Any) -> tuple[int, int] | None:
    if value is None:
        return None
    if not (isinstance(value, list) and len(value) == 2):
        raise Other("its blocks are of no size")
    outputs, inputs = value
    if not all(type(each) is int and 0 < each < 1 << 31 for each in value):
        raise Other("its blocks are of no size")
    return outputs, inputs


_READERS = {
    "gptq": _gptq, "awq": _awq, "compressed-tensors": _compressed, "fp8": _fp8,
}  # fmt: skip
