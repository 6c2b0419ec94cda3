"""Weights in pickles: they run no code, and take no more than is in them."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from standins import tiny_models
from standins.hub import HubStandIn

from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.models.weights import files

from ..conftest import ask, done
from .conftest import WEIGHTS, failure

MIB = 1 << 20


def test_pickled_weights_where_there_are_no_others(
    standin: HubStandIn, cache: ModelCache, tmp_path: Path
) -> None:
    folder = tiny_models.save(tmp_path / "m")
    torch.save(tiny_models.make().state_dict(), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    standin.add("me/pickled", folder)
    with done(cache.acquire(ModelSpec("me/pickled"))) as lease:
        assert ask(lease, max_output_length=2).usage["generated"] == 2


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_run_no_code(cache: ModelCache, tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    folder = tiny_models.save(tmp_path / "m")
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    assert failure(cache, folder).code == "load_failed"
    assert not (tmp_path / "ran").exists()


def pickled(folder: Path, content: Any, compress: bool = False) -> Path:
    """The folder with weights in a pickle, which may be an archive that is compressed anew."""
    (folder / WEIGHTS).unlink()
    path = folder / "pytorch_model.bin"
    torch.save(content, path)
    if compress:
        with zipfile.ZipFile(path) as archive:
            entries = {name: archive.read(name) for name in archive.namelist()}
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in entries.items():
                archive.writestr(name, data)
    return path


def test_a_pickle_that_expands_is_refused(folder: Path, cache: ModelCache) -> None:
    path = pickled(folder, {"a": torch.zeros(4 * MIB)}, compress=True)
    assert path.stat().st_size < MIB
    error = failure(cache, folder)
    assert "would expand to 16" in error.message
    assert path.name in error.message


@pytest.mark.parametrize("shape", [(10**6, 10**6), (10_000,)])
def test_a_pickle_of_more_numbers_than_are_in_it(
    shape: tuple[int, ...], folder: Path, cache: ModelCache
) -> None:
    one = torch.zeros(10_000) if len(shape) == 1 else torch.zeros(1).expand(shape)
    path = pickled(folder, {str(number): one for number in range(100)})
    assert path.name in failure(cache, folder).message


def test_a_pickle_that_shares_weights_is_read(tmp_path: Path) -> None:
    weights = torch.zeros(1000)
    path = tmp_path / "pytorch_model.bin"
    for new in (True, False):
        torch.save({"a": weights, "b": weights}, path, _use_new_zipfile_serialization=new)
        assert files.read_weights([path]).tensors == 2
