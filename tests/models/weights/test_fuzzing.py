"""Headers and settings that are changed at random: read or refused, in little memory.

``MODELCOMPOSE_EXAMPLES`` makes it many more than a test run has.
"""

from __future__ import annotations

import copy
import gc
import json
import os
import random
import resource
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

MIB = 1 << 20

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in KiB there")

ODD: list[Any] = [
    *(None, True, False, 0, -1, 1, 2**31, 2**53, 2**63, 2**64, 10**12, 10**30, 10**99, 10**400),
    *(-(2**63), 0.5, -0.0, 1e308, float("inf"), float("-inf"), float("nan"), "", "a", "1", "F32"),
    *("\0", "\ud800", "x" * 5000, "../../x", "/etc/passwd", "(a+)+$", "{{ x }}", [], [[]], {}),
    *({"a": {}}, [0], [-1], [10**12], ["a"], [[1]] * 50, list(range(5000)), {"": None}),
    {str(number): number for number in range(500)},
]


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"a": value}
    return value


def mutated(value: Any, draw: random.Random, strength: int = 3) -> Any:
    """A few places of a structure with something else in them."""
    changed = copy.deepcopy(value)
    for _ in range(draw.randint(1, strength)):
        places = list(_places(changed))
        if not places:
            return draw.choice(ODD)
        parent, key = draw.choice(places)
        kind = draw.randrange(8)
        if kind == 0:
            del parent[key]
        elif kind == 1 and isinstance(parent[key], int) and not isinstance(parent[key], bool):
            parent[key] = parent[key] * draw.choice([-1, 0, 2, 10**3, 10**6, 10**9]) + draw.choice(
                [0, 1, -1]
            )
        elif kind == 2:
            parent[key] = [parent[key]] * draw.choice([0, 1, 2, 1000])
        elif kind == 3:
            parent[key] = nested(draw.choice([5, 99, 150]))
        elif kind == 4:
            other, name = draw.choice(places)
            parent[key] = copy.deepcopy(other[name]) if name in _keys(other) else None
        elif kind == 5 and isinstance(parent, dict):
            parent[str(draw.choice(ODD))[:50]] = parent[key]
        else:
            parent[key] = copy.deepcopy(draw.choice(ODD))
    return changed


def _keys(value: Any) -> Any:
    return value if isinstance(value, dict) else range(len(value))


def _places(value: Any) -> Any:
    waiting = [value]
    while waiting:
        each = waiting.pop()
        if isinstance(each, dict | list):
            for key in list(_keys(each)):
                yield each, key
                waiting.append(each[key])


def written(value: Any, draw: random.Random) -> bytes:
    """JSON of a value, now and then cut, with bytes changed, doubled, or with a key twice."""
    try:
        data = json.dumps(value, ensure_ascii=draw.random() < 0.5).encode("utf-8", "surrogatepass")
    except (ValueError, RecursionError):  # of Python's bounds
        data = b"[" * 2000
    kind = draw.randrange(12)
    at = draw.randrange(len(data) + 1)
    if kind == 0:
        return data[:at]
    if kind == 1:
        return data[:at] + bytes([draw.randrange(256)]) + data[at + 1 :]
    if kind == 2:
        return (
            data[:at]
            + draw.choice([b"[" * 5000, b"{}," * 5000, b"9" * 5000, b'"', b"\\"])
            + data[at:]
        )
    if kind == 3 and data.startswith(b"{") and len(data) > 2:
        return b"{" + data[1:-1] + b"," + data[1:]
    return data


def header(draw: random.Random) -> bytes:
    """The bytes of a file whose header is nearly one."""
    tensors: dict[str, Any] = {}
    end = 0
    for number in range(draw.randrange(5)):
        shape = [draw.randrange(4) for _ in range(draw.randrange(3))]
        size = 4
        for length in shape:
            size *= length
        tensors[f"t{number}"] = {"dtype": "F32", "shape": shape, "data_offsets": [end, end + size]}
        end += size
    if draw.random() < 0.3:
        tensors["__metadata__"] = {"format": "pt", "x": '{"[\\"'}
    data = written(tensors if draw.random() < 0.3 else mutated(tensors, draw, 1), draw)
    length = len(data) if draw.random() < 0.9 else draw.choice([0, 1, 2**31, 2**63, 99_999_999])
    return struct.pack("<Q", length) + data + bytes(max(0, end + draw.choice([0, 0, 0, 1, -1])))


def fuzz_headers(folder: Path, count: int, seed: int) -> dict[str, int]:
    from safetensors import SafetensorError, safe_open

    from modelcompose_jupyter.errors import ModelError
    from modelcompose_jupyter.models.weights import files

    path = folder / "model.safetensors"
    outcomes = {"read": 0, "refused": 0}
    for number in range(count):
        path.write_bytes(header(random.Random(f"{seed} {number}")))
        try:
            found = files.read_weights([path])
        except ModelError as error:
            assert error.code == "corrupt_model", number
            outcomes["refused"] += 1
            continue
        outcomes["read"] += 1
        try:  # what is read is what the library of the format reads
            with safe_open(path, "np") as file:
                shapes = [file.get_slice(name).get_shape() for name in file.keys()]  # noqa: SIM118
                assert sum(0 not in shape for shape in shapes) == found.tensors, number
        except SafetensorError:
            pass
    return outcomes


def fuzz_settings(folder: Path, count: int, seed: int) -> dict[str, int]:
    from standins import tiny_models

    from modelcompose_jupyter.errors import ComposeError, ModelError
    from modelcompose_jupyter.models import ModelCache, ModelSpec

    original = tiny_models.save(folder / "original", "llama")
    cache = ModelCache()
    names = ("config.json", "generation_config.json", "tokenizer_config.json", "tokenizer.json",
             "model.safetensors.index.json", "special_tokens_map.json", "config.json")  # fmt: skip
    outcomes = {"loaded": 0, "refused": 0}
    index = {"metadata": {"total_size": 1}, "weight_map": {"x": "model.safetensors"}}
    for number in range(count):
        draw = random.Random(f"{seed} {number}")
        to = folder / f"m{number}"
        shutil.copytree(original, to)
        name = names[number % len(names)]
        path = to / name
        content = json.loads(path.read_text()) if path.is_file() else index
        if name.endswith(".index.json"):
            (to / "model.safetensors").rename(to / "model-1.safetensors")
            index["weight_map"] = {"x": "model-1.safetensors"}
            content = index
        path.write_bytes(written(mutated(content, draw), draw))
        try:
            cache.acquire(ModelSpec(str(to))).result(120).release()
            outcomes["loaded"] += 1
        except ModelError as error:
            assert "Traceback" not in str(error), number
            str(error).encode()
            assert len(str(error)) < 5000, number
            outcomes["refused"] += 1
        except ComposeError as error:
            raise AssertionError(number) from error
        cache.unload()
        shutil.rmtree(to)
    cache.close()
    return outcomes


def main() -> None:
    """Run one of the two in this process; print how it went, and by how much its memory grew."""
    what, folder, count, seed = sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4])
    fuzz: Callable[[Path, int, int], dict[str, int]] = globals()[f"fuzz_{what}"]
    fuzz(folder, 1, seed)  # with what is imported
    shutil.rmtree(folder)
    folder.mkdir()
    gc.freeze()  # no collection goes through what is imported
    resource.setrlimit(resource.RLIMIT_AS, (16 << 30, 16 << 30))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = fuzz(folder, count, seed)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**outcomes, "grown": (after - before) * 1024}))


@pytest.mark.parametrize(
    ("what", "count"),
    [
        ("headers", 300),
        ("settings", 28),
        pytest.param("settings", 100, marks=pytest.mark.slow),
    ],
)
def test_files_that_are_changed_at_random(what: str, count: int, tmp_path: Path) -> None:
    folder = tmp_path / "files"
    folder.mkdir()
    count = int(os.environ.get("MODELCOMPOSE_EXAMPLES", count))
    seed = os.environ.get("MODELCOMPOSE_SEED", "1")
    command = [sys.executable, __file__, what, str(folder), str(count), seed]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    print(told)
    assert sum(told.values()) - told["grown"] == count
    assert told["refused"] > count // 4
    assert told["grown"] < 100 * MIB


if __name__ == "__main__":
    main()
