"""Weights in blocks, as the format's own package reads them."""

from __future__ import annotations

import gguf
import numpy as np
import pytest

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models.weights.gguf.container import TYPES
from modelcompose_jupyter.models.weights.gguf.dequantize import dequantized, is_known

KNOWN = [each for each in TYPES.values() if is_known(each)]


@pytest.mark.parametrize("type", KNOWN, ids=lambda type: type.name)
def test_blocks_stand_for_what_the_format_says(type: object) -> None:
    draw = np.random.default_rng(0)
    blocks = draw.integers(0, 256, (6, 500, type.size), np.uint8)
    with np.errstate(all="ignore"):  # bytes at random are infinite scales, too
        own = dequantized(type, blocks)
        packed = blocks.reshape(6, -1)
        theirs = gguf.quants.dequantize(packed, gguf.GGMLQuantizationType[type.name])
    assert own.dtype == np.float32
    assert own.shape == (6, 500, type.block)
    assert np.array_equal(own.reshape(6, -1), theirs, equal_nan=True)


def test_every_type_has_the_size_that_the_format_says() -> None:
    for number, type in TYPES.items():
        kind = gguf.GGMLQuantizationType(number)
        assert kind.name == type.name
        assert gguf.GGML_QUANT_SIZES[kind] == (type.block, type.size)


def test_a_type_that_is_not_known_says_which_are() -> None:
    with pytest.raises(ModelError, match="IQ1_S, which is not supported") as caught:
        dequantized(TYPES[19], np.zeros((1, 50), np.uint8))
    assert "Q4_K" in str(caught.value.hint)
