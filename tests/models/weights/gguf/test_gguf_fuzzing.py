"""GGUF files that are damaged or hostile: an error that says so, or a model that runs.

Lengths, counts, offsets and numbers become extreme ones, bytes others, files shorter; in a process
of its own, whose memory is watched. ``MODELCOMPOSE_EXAMPLES`` makes it many more than a test run
has.
"""

from __future__ import annotations

import gc
import json
import os
import random
import resource
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

MIB = 1 << 20
_SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}
_STRING, _ARRAY = 8, 9

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="memory is measured in KiB there")


class Field(NamedTuple):
    """A number of the header, by what it is for."""

    kind: str
    place: int
    size: int


def fields(data: bytes) -> tuple[list[Field], int]:
    """The numbers of a sound header, and where it ends; written for this test alone."""
    found: list[Field] = []
    place = 0

    def number(kind: str, size: int) -> int:
        nonlocal place
        found.append(Field(kind, place, size))
        place += size
        return int.from_bytes(data[place - size : place], "little")

    def text() -> None:
        nonlocal place
        length = number("length", 8)
        place += length

    def value(kind: int) -> None:
        if kind == _STRING:
            text()
        elif kind == _ARRAY:
            inner = number("type", 4)
            for _ in range(number("count", 8)):
                value(inner)
        else:
            number("value", _SIZES[kind])

    number("magic", 4), number("version", 4)
    tensors, keys = number("count", 8), number("count", 8)
    for _ in range(keys):
        text()
        value(number("type", 4))
    for _ in range(tensors):
        text()
        for _ in range(number("dimensions", 4)):
            number("dimension", 8)
        number("type", 4), number("offset", 8)
    return found, place


def extremes(before: int, size: int) -> list[int]:
    most = (1 << 8 * size) - 1
    wanted = (0, 1, before - 1, before + 1, 2 * before, before << 8, 1 << 20, 1 << 31, most >> 1,
              (most >> 1) + 1, most, most - before, 0x7FC00000, 0x7F800000, 0xBF800000)  # fmt: skip
    return [each & most for each in wanted]


def mutations(data: bytes, seed: int) -> Iterator[bytes]:
    """Files that are nearly a sound one, without an end; one kind after the other."""
    draw = random.Random(seed)
    found, end = fields(data)
    rare = [each for each in found if each.kind not in ("length", "value")]
    # Of lists there are many alike, and one number for each of them is enough.
    few = [*rare, *draw.sample([each for each in found if each not in rare], 40), *found[:120]]
    while True:
        for field in (*draw.sample(few, 6), draw.choice(found)):
            place, size = field.place, field.size
            before = int.from_bytes(data[place : place + size], "little")
            other = draw.choice(extremes(before, size)).to_bytes(size, "little")
            yield data[:place] + other + data[place + size :]
        yield data[: draw.choice([draw.randrange(len(data)), draw.choice(found).place, end])]
        changed = bytearray(data)
        for _ in range(draw.randint(1, 8)):
            changed[draw.randrange(end if draw.random() < 0.7 else len(data))] = draw.randrange(256)
        yield bytes(changed)
        place = draw.randrange(len(data) - 64)
        yield data[:place] + draw.randbytes(64) + data[place + 64 :]
        place = draw.randrange(end)
        yield data[:place] + draw.randbytes(draw.randrange(1, 9)) + data[place:]


def fuzz(folder: Path, originals: list[bytes], count: int, seed: int) -> dict[str, int]:
    """Load so many files, and have those that can be loaded write a text."""
    from modelcompose_jupyter.document.parameters import GenerationParameters
    from modelcompose_jupyter.errors import ComposeError, ModelError
    from modelcompose_jupyter.models import ModelCache, ModelSpec

    parameters = GenerationParameters(max_output_length=3, seed=1)
    cache = ModelCache()
    outcomes = {"ran": 0, "refused": 0}
    changed = [mutations(each, seed) for each in originals]
    for number in range(count):
        path = folder / f"m{number}.gguf"
        path.write_bytes(next(changed[number % len(changed)]))
        try:
            with cache.acquire(ModelSpec(str(path))).result(120) as lease:
                try:
                    lease.generate("A fox, 여우 1 <s>", parameters).future.result(120)
                except ComposeError as error:  # what is said of scores that are no numbers, say
                    assert "Traceback" not in str(error), number
            outcomes["ran"] += 1
        except ModelError as error:
            told = str(error)
            told.encode()
            # What went wrong is said in words of ours, not by an exception that nobody expected.
            assert error.code != "load_failed", f"{number}: {told}"
            assert len(told) < 5000, number
            outcomes["refused"] += 1
        cache.unload()
        path.unlink()
    cache.close()
    return outcomes


def main() -> None:
    """Run it in this process; print how it went, and by how much its memory grew."""
    folder, count, seed = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
    originals = [path.read_bytes() for path in sorted(folder.glob("*.gguf"))]
    fuzz(folder, originals, 4, seed)  # with what is imported
    gc.freeze()
    resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    outcomes = fuzz(folder, originals, count, seed)
    after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({**outcomes, "grown": (after - before) * 1024}))


def sentencepiece(folder: Path) -> dict[str, float]:
    """Make the vocabulary of a folder one of SentencePiece's; its scores."""
    from tokenizers import Tokenizer, models

    names = ["<pad>", "<s>", "</s>", "<unk>", *(f"<0x{byte:02X}>" for byte in range(256))]
    names += ["▁", *"abcdefoxAF,1", "▁f", "ox", "▁fox"]
    raw = Tokenizer(models.BPE({name: id for id, name in enumerate(names)}, []))
    raw.add_special_tokens(names[:4])
    raw.save(str(folder / "tokenizer.json"))
    return {name: -float(id) for id, name in enumerate(names)}


def test_files_that_are_damaged_at_random(tmp_path: Path) -> None:
    from standins import gguf_files, tiny_models

    folder = tmp_path / "files"
    folder.mkdir()
    sizes = {"num_hidden_layers": 1, "hidden_size": 32, "intermediate_size": 32}
    rope = {"rope_type": "llama3", "rope_theta": 500_000.0, "factor": 8.0, "low_freq_factor": 1.0,
            "high_freq_factor": 4.0, "original_max_position_embeddings": 8192}  # fmt: skip
    llama = tiny_models.save(tmp_path / "llama", "llama", **sizes, rope_parameters=rope)
    (llama / "chat_template.jinja").write_text("{{ messages[0].content }}")
    gguf_files.save(folder / "a.gguf", llama, "F32")
    gguf_files.save(folder / "b.gguf", llama, "Q8_0")
    options = {"query_pre_attn_scalar": 8, "layer_types": None}
    gemma = tiny_models.save(tmp_path / "gemma", "gemma3_text", **{**sizes, **options})
    gguf_files.save(folder / "c.gguf", gemma, "Q4_0", scores=sentencepiece(gemma))
    lfm2 = tiny_models.save(tmp_path / "lfm2", "lfm2", hidden_size=32, block_multiple_of=32)
    gguf_files.save(folder / "d.gguf", lfm2, "Q8_0")
    count = int(os.environ.get("MODELCOMPOSE_EXAMPLES", 600))
    seed = os.environ.get("MODELCOMPOSE_SEED", "1")
    command = [sys.executable, __file__, str(folder), str(count), seed]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(sys.path),
        "XDG_CACHE_HOME": str(tmp_path / "cache"),
    }
    ended = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert ended.returncode == 0, ended.stderr[-3000:]
    told = json.loads(ended.stdout.splitlines()[-1])
    print(told)
    assert told["ran"] + told["refused"] == count
    assert min(told["ran"], told["refused"]) > count // 10
    assert told["grown"] < 100 * MIB


@pytest.mark.parametrize("count", [1 << 20, 1 << 40, (1 << 64) - 1])
def test_counts_beyond_the_file_take_no_memory(tmp_path: Path, count: int) -> None:
    import tracemalloc

    from modelcompose_jupyter.models.weights.file_bounds import BrokenFile, OutOfBounds
    from modelcompose_jupyter.models.weights.gguf import container

    key = struct.pack("<Q", 1) + b"a"
    headers = {
        "tensors": struct.pack("<IQQ", 3, count, 0),
        "keys": struct.pack("<IQQ", 3, 0, count),
        "key": struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", count),
        "text": struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<IQ", 8, count),
        "numbers": struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<IIQ", 9, 10, count),
        "texts": struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<IIQ", 9, 8, count),
        "lists": struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<IIQ", 9, 9, count),
    }
    for name, header in headers.items():
        path = tmp_path / name
        path.write_bytes(b"GGUF" + header + bytes(1000))
        tracemalloc.start()
        with pytest.raises((BrokenFile, OutOfBounds)):
            container.read(path)
        assert tracemalloc.get_traced_memory()[1] < MIB
        tracemalloc.stop()


if __name__ == "__main__":
    main()
