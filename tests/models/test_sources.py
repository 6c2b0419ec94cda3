"""From the Hub, a folder or the package to a model, and what is said when that cannot be."""

from __future__ import annotations

import errno
import json
import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from standins import tiny_models
from standins.hub import HubStandIn

from modelcompose_jupyter.errors import ModelError
from modelcompose_jupyter.models import ModelCache, ModelSpec, Progress, hub

from .conftest import ask, done, eventually

REPO = "HuggingFaceTB/SmolLM3-3B"
WEIGHTS = "model.safetensors"
FolderOf = Callable[[str], Path]


@pytest.fixture
def standin(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[HubStandIn]:
    monkeypatch.setattr(hub, "RETRY_WAITS", (0.0, 0.0))
    with HubStandIn() as standin, standin.client(tmp_path / "cache"):
        yield standin


@pytest.fixture
def repo(standin: HubStandIn, folder_of: FolderOf) -> HubStandIn:
    extra = {
        "README.md": b"# a model",
        "model.fp16.safetensors": b"x" * 5000,
        "pytorch_model.bin": b"x" * 5000,
        "tf_model.h5": b"x" * 5000,
        "modeling_own.py": b"print('must not run')",
        "training_args.bin": b"x",
        "trainer_state.json": b"{}",
    }
    standin.add(REPO, folder_of("smollm3"), extra, revisions={"v1"})
    return standin


def failure(cache: ModelCache, spec: ModelSpec) -> ModelError:
    with pytest.raises(ModelError) as caught:
        done(cache.acquire(spec))
    assert caught.value.__context__ is None
    assert caught.value.hint
    assert "\n" not in caught.value.message
    return caught.value


def test_only_what_is_needed_is_downloaded_weights_last(
    repo: HubStandIn, cache: ModelCache
) -> None:
    seen: list[Progress] = []
    with done(cache.acquire(ModelSpec(REPO), seen.append)) as lease:
        assert ask(lease, max_output_length=3).usage["generated"] == 3
        assert len(lease.info.revision) == 40
    fetched = repo.fetched()
    assert set(fetched) == {
        "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json", WEIGHTS
    }  # fmt: skip
    assert fetched[-1] == WEIGHTS
    downloads = [p for p in seen if p.phase == "download"]
    assert downloads[-1].done == downloads[-1].total
    assert [p.done for p in downloads] == sorted(p.done for p in downloads)


def test_the_second_use_needs_no_network(repo: HubStandIn, cache: ModelCache) -> None:
    for revision in (None, "v1"):
        done(cache.acquire(ModelSpec(REPO, revision=revision))).release()
    cache.unload()
    repo.stop()
    count = len(repo.requests)
    for revision in (None, "main", "v1"):
        with done(cache.acquire(ModelSpec(REPO, revision=revision))) as lease:
            assert ask(lease, max_output_length=2).usage["generated"] == 2
    assert [info.id for info in cache.list()] == ["SmolLM3-3B"]  # one commit, one model
    assert len(repo.requests) == count
    done(cache.acquire(ModelSpec(REPO, local_files_only=True))).release()


def test_a_cut_transfer_goes_on_where_it_was(repo: HubStandIn, cache: ModelCache) -> None:
    repo.cuts[WEIGHTS] = [50_000, 20_000]
    done(cache.acquire(ModelSpec(REPO))).release()
    assert repo.ranges(WEIGHTS) == [None, "bytes=50000-", "bytes=70000-"]


def test_a_broken_download_goes_on_the_next_time(repo: HubStandIn, cache: ModelCache) -> None:
    repo.cuts[WEIGHTS] = [50_000, 0, 0, 0]
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "download_failed"
    assert "Run again to resume" in (error.hint or "")
    repo.requests.clear()
    done(cache.acquire(ModelSpec(REPO))).release()
    assert repo.ranges(WEIGHTS) == ["bytes=50000-"]
    assert repo.fetched() == [WEIGHTS]


def test_a_server_that_fails_for_a_while(repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[f"/{WEIGHTS}"] = [500, 503]
    done(cache.acquire(ModelSpec(REPO))).release()


def test_a_download_that_nobody_waits_for_stops(repo: HubStandIn, cache: ModelCache) -> None:
    gate = repo.gates[WEIGHTS] = threading.Event()
    futures = [cache.acquire(ModelSpec(REPO)) for _ in range(2)]
    partial_of(repo)
    futures[0].cancel()
    assert [info.state for info in cache.list()] == ["loading"]
    futures[1].cancel()
    eventually(lambda: cache.list() == [])
    gate.set()
    eventually(lambda: not loading())
    repo.requests.clear()
    done(cache.acquire(ModelSpec(REPO))).release()
    (start,) = repo.ranges(WEIGHTS)
    assert start is not None and int(start.split("=")[1][:-1]) >= 1000


def test_who_leaves_and_comes_back_goes_on_with_the_same_download(
    repo: HubStandIn, cache: ModelCache
) -> None:
    gate = repo.gates[WEIGHTS] = threading.Event()
    first = cache.acquire(ModelSpec(REPO))
    assert repo.began.wait(30)
    first.cancel()
    again = cache.acquire(ModelSpec(REPO))
    gate.set()
    done(again).release()
    assert repo.ranges(WEIGHTS) == [None]


def test_one_waiter_may_leave(repo: HubStandIn, cache: ModelCache) -> None:
    gate = repo.gates[WEIGHTS] = threading.Event()
    leaves, stays = (cache.acquire(ModelSpec(REPO)) for _ in range(2))
    assert repo.began.wait(30)
    assert leaves.cancel()
    gate.set()
    assert done(stays).info.leases == 1
    assert repo.fetched().count(WEIGHTS) == 1


def test_shards(standin: HubStandIn, cache: ModelCache, tmp_path: Path) -> None:
    folder = tiny_models.save(tmp_path / "m", shards="60KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    standin.add("me/sharded", folder)
    with done(cache.acquire(ModelSpec("me/sharded"))) as lease:
        remote = ask(lease, do_sample=False, max_output_length=8)
    with done(cache.acquire(ModelSpec(str(folder)))) as lease:
        assert ask(lease, do_sample=False, max_output_length=8).texts == remote.texts
    (folder / sorted(p.name for p in folder.glob("*.safetensors"))[1]).unlink()
    assert failure(cache, ModelSpec(str(folder))).code == "incomplete_model"


def test_pickled_weights_where_there_are_no_others(
    standin: HubStandIn, cache: ModelCache, tmp_path: Path
) -> None:
    import torch

    folder = tiny_models.save(tmp_path / "m")
    torch.save(tiny_models.make().state_dict(), folder / "pytorch_model.bin")
    (folder / WEIGHTS).unlink()
    standin.add("me/pickled", folder)
    with done(cache.acquire(ModelSpec("me/pickled"))) as lease:
        assert ask(lease, max_output_length=2).usage["generated"] == 2


@pytest.mark.filterwarnings("ignore:Detected pickle protocol")
def test_pickles_run_no_code(cache: ModelCache, tmp_path: Path) -> None:
    import pickle

    class Payload:
        def __reduce__(self) -> Any:
            return (Path.touch, (tmp_path / "ran",))

    folder = tiny_models.save(tmp_path / "m")
    (folder / WEIGHTS).unlink()
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps(Payload()))
    assert failure(cache, ModelSpec(str(folder))).code == "load_failed"
    assert not (tmp_path / "ran").exists()


def test_a_token_is_sent_and_never_shown(standin: HubStandIn, cache: ModelCache,
                                         folder_of: FolderOf) -> None:  # fmt: skip
    standin.add("me/private", folder_of("llama"), private=True)
    spec = ModelSpec("me/private", token="hf_secret")
    assert "hf_secret" not in repr(spec)
    done(cache.acquire(spec)).release()
    to_hub = {r.authorization for r in standin.requests if not r.path.startswith("/cdn")}
    to_cdn = {r.authorization for r in standin.requests if r.path.startswith("/cdn")}
    assert (to_hub, to_cdn) == ({"Bearer hf_secret"}, {None})


def test_a_file_that_arrives_damaged(repo: HubStandIn, cache: ModelCache) -> None:
    repo.gates[WEIGHTS] = threading.Event()
    future = cache.acquire(ModelSpec(REPO))
    partial = partial_of(repo)
    future.cancel()
    eventually(lambda: cache.list() == [])
    repo.gates[WEIGHTS].set()
    eventually(lambda: not loading())
    partial.write_bytes(b"\0" * 1000)
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "corrupt_model"
    assert not partial.exists()
    done(cache.acquire(ModelSpec(REPO))).release()


def partial_of(repo: HubStandIn) -> Path:
    """The file of the transfer that waits at the gate, when it has its first bytes."""
    pattern = "models--*/blobs/*.incomplete"
    assert repo.began.wait(30)
    eventually(lambda: any(path.stat().st_size for path in cache_root().glob(pattern)))
    return next(cache_root().glob(pattern))


def cache_root() -> Path:
    from huggingface_hub import constants

    return Path(constants.HF_HUB_CACHE)


def loading() -> bool:
    return any(thread.name == "model SmolLM3-3B" for thread in threading.enumerate())


def test_a_damaged_file_of_the_cache_can_be_fetched_anew(
    repo: HubStandIn, cache: ModelCache
) -> None:
    done(cache.acquire(ModelSpec(REPO))).release()
    cache.unload()
    (link,) = cache_root().glob(f"models--*/snapshots/*/{WEIGHTS}")
    with link.open("r+b") as file:
        file.truncate(1000)
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "corrupt_model"
    assert str(link.resolve()) in error.message
    link.resolve().unlink()
    done(cache.acquire(ModelSpec(REPO))).release()


def test_hub_errors(repo: HubStandIn, cache: ModelCache, folder_of: FolderOf) -> None:
    repo.add("me/gated", folder_of("llama"), gated=True)
    repo.add("me/private", folder_of("llama"), private=True)
    repo.add("me/empty", None, {"config.json": b"{}"})
    expected = {
        ModelSpec("me/nothing"): ("model_not_found", "me/nothing"),
        ModelSpec("me/private"): ("model_not_found", "private"),
        ModelSpec("me/gated"): ("access_denied", "gated"),
        ModelSpec(REPO, revision="v9"): ("model_not_found", "v9"),
        ModelSpec("me/empty"): ("incomplete_model", "no weights"),
        ModelSpec("not a name"): ("model_not_found", "not a name"),
        ModelSpec("a/b/c"): ("model_not_found", "a/b/c"),
        ModelSpec(REPO, local_files_only=True): ("not_cached", REPO),
    }
    for spec, (code, words) in expected.items():
        error = failure(cache, spec)
        assert (error.code, words in error.message) == (code, True), error


def test_refused_token(repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[REPO] = [403]
    assert failure(cache, ModelSpec(REPO)).code == "access_denied"


def test_a_server_error(repo: HubStandIn, cache: ModelCache) -> None:
    repo.statuses[REPO] = [500]
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "download_failed"
    assert "500" in error.message


def test_no_network(repo: HubStandIn, cache: ModelCache) -> None:
    repo.stop()
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "no_network"
    assert repo.url in error.message
    assert "cache" in error.message


def test_offline_mode(repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    assert failure(cache, ModelSpec(REPO)).code == "not_cached"
    assert repo.requests == []


def test_a_full_disk_is_seen_before_the_download(repo: HubStandIn, cache: ModelCache) -> None:
    repo.sizes[WEIGHTS] = 2**60
    error = failure(cache, ModelSpec(REPO))
    assert error.code == "disk_full"
    assert "are needed" in error.message
    assert WEIGHTS not in repo.fetched()


def test_a_disk_that_fills_up(
    repo: HubStandIn, cache: ModelCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(hub._Transfer, "_receive", full)
    assert failure(cache, ModelSpec(REPO)).code == "disk_full"


def test_another_process_uses_the_stand_in_and_prints_nothing(
    repo: HubStandIn, tmp_path: Path
) -> None:
    code = f"""
from modelcompose_jupyter.models import ModelCache, ModelSpec
from modelcompose_jupyter.document.parameters import GenerationParameters
cache = ModelCache()
lease = cache.acquire(ModelSpec({REPO!r})).result(60)
asked = GenerationParameters(num_beams=2, max_output_length=5, seed=1)
print(len(lease.generate("fox", asked).future.result(60).texts))
cache.close()
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        env=repo.environment(tmp_path / "home") | {"OMP_NUM_THREADS": "1"},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (output.stdout, output.stderr) == ("1\n", "")


def test_the_users_own_bars_and_logs_stay(cache: ModelCache, folder_of: FolderOf) -> None:
    import logging

    from transformers.utils.logging import tqdm

    from modelcompose_jupyter.models.quiet import SilentBar

    done(cache.acquire(ModelSpec(str(folder_of("llama"))))).release()
    assert not isinstance(tqdm([1], disable=True), SilentBar)
    record = logging.LogRecord("transformers", logging.WARNING, "", 0, "hello", None, None)
    assert all(handler.filter(record) for handler in logging.getLogger("transformers").handlers)


def copy(folder_of: FolderOf, to: Path) -> Path:
    return Path(shutil.copytree(folder_of("llama"), to / "m"))


def change(folder: Path, **values: Any) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def _without_config(folder: Path) -> None:
    (folder / "config.json").unlink()


def _without_weights(folder: Path) -> None:
    (folder / WEIGHTS).unlink()


def _without_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").unlink()
    (folder / "tokenizer_config.json").unlink()


def _broken_config(folder: Path) -> None:
    (folder / "config.json").write_text('{"model_type": "lla')


def _marked_config(folder: Path) -> None:
    _mark(folder / "config.json")


def _marked_settings(folder: Path) -> None:
    _mark(folder / "generation_config.json")


def _marked_tokenizer(folder: Path) -> None:
    _mark(folder / "tokenizer_config.json")


def _mark(path: Path) -> None:
    path.write_text(path.read_text(), encoding="utf-16" if "token" in path.name else "utf-8-sig")


def _config_in_utf_16(folder: Path) -> None:
    path = folder / "config.json"
    path.write_text(path.read_text(), encoding="utf-16-le")


def _broken_tokenizer(folder: Path) -> None:
    (folder / "tokenizer.json").write_text("{")


def _short_weights(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:-100])


def _broken_header(folder: Path) -> None:
    data = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(data[:8] + b"?" * 50 + data[58:])


def _empty_weights(folder: Path) -> None:
    (folder / WEIGHTS).write_bytes(b"")


def _fewer_layers(folder: Path) -> None:
    change(folder, num_hidden_layers=3)


def _unknown(folder: Path) -> None:
    change(folder, model_type="not_yet_invented")


def _own_code(folder: Path) -> None:
    change(folder, model_type="own", auto_map={"AutoConfig": "own.OwnConfig"})


def _bert(folder: Path) -> None:
    change(folder, model_type="bert", architectures=["BertForMaskedLM"])


def _vision(folder: Path) -> None:
    change(folder, model_type="vit", architectures=["ViTForImageClassification"])


def _enormous(folder: Path) -> None:
    """A header that claims a tensor of 1 TiB, and a sparse file that has it."""
    size = 1 << 40
    tensor = {"dtype": "F32", "shape": [size // 4], "data_offsets": [0, size]}
    header = json.dumps({"model.embed_tokens.weight": tensor}).encode()
    with (folder / WEIGHTS).open("wb") as file:
        file.write(struct.pack("<Q", len(header)) + header)
        file.truncate(8 + len(header) + size)


@pytest.mark.parametrize(
    ("spoil", "code", "words"),
    [
        (_without_config, "incomplete_model", "config.json"),
        (_without_weights, "incomplete_model", "no weights"),
        (_without_tokenizer, "incomplete_model", "no tokenizer"),
        (_broken_config, "corrupt_model", "JSON"),
        (_marked_config, "corrupt_model", "config.json begins with a byte order mark"),
        (_marked_settings, "corrupt_model", "config.json begins with a byte order mark"),
        (_marked_tokenizer, "corrupt_model", "config.json begins with a byte order mark"),
        (_config_in_utf_16, "corrupt_model", "it is UTF-16 without a byte order mark"),
        (_broken_tokenizer, "corrupt_model", "tokenizer"),
        (_short_weights, "corrupt_model", "bytes"),
        (_broken_header, "corrupt_model", "header"),
        (_empty_weights, "corrupt_model", "header"),
        (_fewer_layers, "incomplete_model", "missing"),
        (_unknown, "unknown_architecture", "not_yet_invented"),
        (_own_code, "trust_remote_code", "Python code"),
        (_bert, "not_text_generation", "BertForMaskedLM"),
        (_vision, "not_text_generation", "ViT"),
        (_enormous, "out_of_memory", "1.1 TB"),
    ],
    ids=lambda value: value.__name__[1:] if callable(value) else "",
)
def test_spoiled_folders(
    spoil: Callable[[Path], None],
    code: str,
    words: str,
    folder_of: FolderOf,
    tmp_path: Path,
    cache: ModelCache,
) -> None:
    folder = copy(folder_of, tmp_path)
    spoil(folder)
    error = failure(cache, ModelSpec(str(folder)))
    assert (error.code, words in error.message) == (code, True), error


def test_own_code_runs_when_it_is_trusted(folder_of: FolderOf, tmp_path: Path,
                                          cache: ModelCache) -> None:  # fmt: skip
    folder = copy(folder_of, tmp_path)
    (folder / "own.py").write_text(
        "from transformers import LlamaConfig, LlamaForCausalLM\n"
        "class OwnConfig(LlamaConfig):\n    model_type = 'own'\n"
        "class OwnForCausalLM(LlamaForCausalLM):\n    config_class = OwnConfig\n"
    )
    auto_map = {"AutoConfig": "own.OwnConfig", "AutoModelForCausalLM": "own.OwnForCausalLM"}
    change(folder, model_type="own", architectures=["OwnForCausalLM"], auto_map=auto_map)
    with done(cache.acquire(ModelSpec(str(folder), trust_remote_code=True))) as lease:
        assert lease.info.class_name == "OwnForCausalLM"
        assert ask(lease, max_output_length=2).usage["generated"] == 2


def test_other_errors(folder_of: FolderOf, cache: ModelCache) -> None:
    expected = {
        ModelSpec("/no/such/folder"): ("model_not_found", "/no/such/folder"),
        ModelSpec("bundled:storytelle"): ("model_not_found", "storytelle"),
        ModelSpec(str(folder_of("llama")), device="cuda:7"): ("device_unavailable", "cuda:7"),
        ModelSpec(str(folder_of("llama")), device="tpu"): ("device_unavailable", "tpu"),
    }
    for spec, (code, words) in expected.items():
        error = failure(cache, spec)
        assert (error.code, words in error.message) == (code, True), error
    assert "storyteller" in (failure(cache, ModelSpec("bundled:storytelle")).hint or "")


@pytest.mark.parametrize("missing", ["torch", "transformers", "huggingface_hub"])
def test_a_library_that_is_not_installed(missing: str, tmp_path: Path) -> None:
    source = "me/model" if missing == "huggingface_hub" else "bundled:storyteller"
    code = f"""
import sys
sys.modules[{missing!r}] = None
from modelcompose_jupyter.models import ModelCache, ModelSpec
error = ModelCache().acquire(ModelSpec({source!r})).exception(60)
print(error.code, '|', error)
"""
    output = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    assert output.stdout.startswith(f"not_installed | {missing} is not installed")
    assert "pip install" in output.stdout
