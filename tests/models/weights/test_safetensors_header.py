"""Headers of safetensors: whatever the library writes is read, all else is refused."""

from __future__ import annotations

import json
import struct
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models.weights import files, safetensors_header

from ..conftest import peak

MIB = 1 << 20


def write(path: Path, header: bytes, numbers: int = 0) -> Path:
    """A file of safetensors with a header as it is given, and so many bytes behind it."""
    path.write_bytes(struct.pack("<Q", len(header)) + header + bytes(numbers))
    return path


def tensor(dtype: Any = "F32", shape: Any = (1,), offsets: Any = (0, 4)) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


def refused(path: Path) -> ModelError:
    with pytest.raises(ModelError) as caught:
        files.read_weights([path])
    assert str(path) in caught.value.message
    return caught.value


REAL = {
    "plain": {"a": torch.ones(2, 3), "b": torch.ones(5, dtype=torch.int64)},
    "scalars": {"a": torch.tensor(1.0), "b": torch.tensor(True)},
    "sizes of zero": {"a": torch.ones(0, 4), "b": torch.ones(2, 0, 3), "c": torch.ones(1)},
    "nothing": {},
    "kinds": {
        str(dtype): torch.zeros(3, dtype=dtype)
        for dtype in (torch.bfloat16, torch.float16, torch.float64, torch.int8, torch.uint8,
                      torch.float8_e4m3fn, torch.float8_e5m2, torch.float8_e8m0fnu,
                      torch.complex64, torch.uint16, torch.int32)
    },
    "names": {'a"b\\': torch.ones(1), "{[,]}": torch.ones(2),
              "어": torch.ones(1), "": torch.ones(0)},
    "four bits": {"a": torch.zeros(3, 4, dtype=torch.uint8).view(torch.float4_e2m1fn_x2)},
}  # fmt: skip


@pytest.mark.parametrize("content", REAL.values(), ids=REAL)
@pytest.mark.parametrize("metadata", [None, {"format": "pt", "x": '{"a": [1, "\\"}"]}'}])
def test_whatever_the_library_writes_is_read(
    content: dict[str, Any], metadata: dict[str, str] | None, tmp_path: Path
) -> None:
    path = tmp_path / "m.safetensors"
    save_file(content, path, metadata)
    found = safetensors_header.read(path)
    assert len(found) == len(content)
    assert sum(each.size for each in found) == sum(each.nbytes for each in content.values())
    packed = 2 if "a" in content and content["a"].dtype == torch.float4_e2m1fn_x2 else 1
    assert sum(e.elements for e in found) == packed * sum(e.numel() for e in content.values())


def test_kinds_that_this_version_does_not_know_have_the_size_that_they_say(tmp_path: Path) -> None:
    header = {"a": tensor("F3_NEW", [5], [0, 2]), "b": tensor("F6_E2M3", [4], [2, 5])}
    path = write(tmp_path / "m.safetensors", json.dumps(header).encode(), 5)
    found = safetensors_header.read(path)
    assert [(each.dtype, each.shape, each.size) for each in found] == [
        ("F3_NEW", (5,), 2),
        ("F6_E2M3", (4,), 3),
    ]


BROKEN_TENSORS = {
    "a text as a length": tensor(shape=["a", 1_500_000_000]),
    "a length below zero": tensor(shape=[-1]),
    "two below zero": tensor(shape=[-1, -1]),
    "a truth value": tensor(shape=[True]),
    "a fraction": tensor(shape=[1.0]),
    "no finite number": tensor(shape=[float("inf")]),
    "no number": tensor(shape=[float("nan")]),
    "a length of thousands of digits": tensor(shape=[10**4000]),
    "a length too long to count": tensor(shape=[10**30]),
    "no list": tensor(shape=4),
    "lists in the list": tensor(shape=[[1]]),
    "offsets that are texts": tensor(offsets=["0", "4"]),
    "one offset": tensor(offsets=[4]),
    "three offsets": tensor(offsets=[0, 2, 4]),
    "offsets backwards": tensor(offsets=[4, 0]),
    "an offset below zero": tensor(offsets=[-4, 0]),
    "an offset behind the file": tensor(shape=[10**12], offsets=[0, 4 * 10**12]),
    "another size than the shape's": tensor(shape=[2]),
    "a hole before it": tensor(offsets=[4, 8]),
    "no dtype": {"shape": [1], "data_offsets": [0, 4]},
    "a dtype that is a list": tensor(dtype=["F32"]),
    "no mapping": 5,
    "deep": json.loads("[" * 100 + "]" * 100),
}


@pytest.mark.parametrize("broken", BROKEN_TENSORS.values(), ids=BROKEN_TENSORS)
def test_tensors_that_cannot_be(broken: Any, tmp_path: Path) -> None:
    # A bound of Python's own stands in the way of writing the longest numbers.
    text = json.dumps({"a": broken}, default=str)
    path = write(tmp_path / "m.safetensors", text.encode(), 4)
    assert refused(path).code == "corrupt_model"


BROKEN_HEADERS = {
    "overlap": json.dumps({"a": tensor(), "b": tensor()}).encode(),
    "a name twice": b'{"a":%s,"b":%s,"b":%s}'
    % tuple(
        json.dumps(tensor(shape=s, offsets=o)).encode()
        for s, o in (([1], [0, 4]), ([0], [4, 4]), ([0], [4, 4]))
    ),
    "nothing": b"",
    "a list": b"[]",
    "cut": json.dumps({"a": tensor()}).encode()[:-5],
    "more behind it": json.dumps({"a": tensor()}).encode() + b"{}",
    "metadata of numbers": b'{"__metadata__":{"a":5}}',
    "no comma": b'{"a":{"dtype":"U8","shape":[],"data_offsets":[0,1]}"b":{}}',
    "bytes that are no text": b'{"\xff":\xff}',
    "a key alone": b'{"a"}',
}


@pytest.mark.parametrize("header", BROKEN_HEADERS.values(), ids=BROKEN_HEADERS)
def test_headers_that_are_none(header: bytes, tmp_path: Path) -> None:
    assert refused(write(tmp_path / "m.safetensors", header, 4)).code == "corrupt_model"


LARGE = 2_000_000
BOMBS = {
    "lists": b'{"a":[' + b"[]," * (LARGE // 3) + b"[]]}",
    "mappings": b'{"a":[' + b"{}," * (LARGE // 3) + b"{}]}",
    "depth": b'{"a":' + b"[" * LARGE,
    "a number": b'{"a":{"dtype":"U8","shape":[' + b"9" * LARGE + b"]}}",
    "a shape": b'{"a":{"dtype":"U8","shape":[' + b"1," * (LARGE // 2) + b"1]}}",
    "escapes": b'{"' + rb"\"" * (LARGE // 2) + b'":{}}',
    "keys": b'{"a":{' + b'"":0,' * (LARGE // 5) + b'"":0}}',
    "metadata": b'{"__metadata__":{' + b'"":"",' * (LARGE // 6) + b'"":""}}',
    "quotes": b"{" + b'"' * LARGE + b"}",
    "blanks": b" " * LARGE,
}


@pytest.mark.parametrize("header", BOMBS.values(), ids=BOMBS)
def test_a_header_takes_the_memory_of_its_own_size(header: bytes, tmp_path: Path) -> None:
    path = write(tmp_path / "m.safetensors", header)

    def read() -> None:
        try:
            files.read_weights([path])
        except ModelError as error:
            assert error.code == "corrupt_model"

    assert peak(read) < 5 * len(header) + MIB


def test_metadata_that_is_nothing_is_read(tmp_path: Path) -> None:
    header = json.dumps({"__metadata__": None, "a": tensor()}).encode()
    assert len(safetensors_header.read(write(tmp_path / "m.safetensors", header, 4))) == 1


def test_a_header_is_bounded(tmp_path: Path) -> None:
    path = tmp_path / "m.safetensors"
    with path.open("wb") as file:
        file.write(struct.pack("<Q", safetensors_header.LONGEST_HEADER + 1))
        file.truncate(1 << 40)
    assert peak(lambda: refused(path)) < MIB
