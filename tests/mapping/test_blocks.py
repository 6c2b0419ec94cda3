"""Blocks of rows, each done by itself, as workers in other processes do them; here in this one."""

from __future__ import annotations

import json
import pickle
import threading
from pathlib import Path
from typing import Any

import pandas
import pytest

from modelcompose_jupyter import InputError
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.mapping.blocks import BlockDone, BlockRunner
from modelcompose_jupyter.mapping.elsewhere import RowsElsewhere
from modelcompose_jupyter.mapping.job_folder import JOB_FILE
from modelcompose_jupyter.mapping.on_ray import OnRay
from modelcompose_jupyter.mapping.row_files import row_files
from modelcompose_jupyter.mapping.saving import SaveTo

from .conftest import BODY, instant
from .test_folder import file_of, indexes, names, prompts, shout


def run_all(runner: BlockRunner, **options: Any) -> list[BlockDone]:
    lacking = runner.lacking(**options)
    return [runner.run(block, again=again) for block, again in lacking.items()]


def done(
    flow: Workflow, rows: Any, save_to: Any, seed: int | None = None, **options: Any
) -> tuple[list[BlockDone], Any]:
    job = RowsElsewhere(flow, rows, {}, save_to, seed)
    with job.opened() as runner:
        return run_all(runner, **options), job.results(runner, None)


def test_blocks_give_what_a_map_gives_and_are_not_done_again(tmp_path: Path) -> None:
    flow, host = instant(shout)
    rows, out = file_of(tmp_path, 25), tmp_path / "out"
    blocks, saved = done(flow, rows, SaveTo(out, block_rows=10), seed=5)
    assert blocks == [BlockDone(10, 0, 10), BlockDone(10, 0, 10), BlockDone(5, 0, 5)]
    assert list(saved) == flow.map(rows, progress=False, seed=5)
    assert indexes(out) == list(range(25))
    submitted = len(host.submitted)
    assert done(flow, rows, out)[0] == []
    assert list(flow.map(rows, save_to=out, progress=False)) == list(saved)
    (out / "part-00001.parquet").unlink()
    assert done(flow, rows, out)[0] == [BlockDone(10, 0, 10)]
    assert prompts(host)[submitted:] == [f"row {n}" for n in range(10, 20)]


def test_a_block_that_was_short_is_done_where_it_ended(tmp_path: Path) -> None:
    flow, host = instant(shout)
    rows, out = file_of(tmp_path, 25), tmp_path / "out"
    for limit in (3, 12, 25):
        files = row_files([str(rows)])
        files.limit(limit)
        done(flow, files, SaveTo(out, block_rows=10))
        assert indexes(out) == list(range(limit))
    assert prompts(host) == [f"row {n}" for n in range(25)]


def test_failed_rows_alone_are_done_again(tmp_path: Path) -> None:
    fails = {"row 3"}

    def answer(given: Any) -> Any:
        if given["prompt"] in fails:
            raise InputError("not now")
        return shout(given)

    flow, host = instant(answer)
    rows, out = file_of(tmp_path, 25), tmp_path / "out"
    blocks, saved = done(flow, rows, SaveTo(out, block_rows=10))
    assert [each.failed for each in blocks] == [1, 0, 0]
    assert isinstance(saved[3], InputError)
    fails.clear()
    assert done(flow, rows, out)[0] == []
    blocks, saved = done(flow, rows, out, retry_failed=True)
    assert blocks == [BlockDone(10, 0, 1)]
    assert prompts(host)[25:] == ["row 3"]
    assert saved[3] == {"generated": "row 3!"}


def test_several_threads_do_blocks_at_once(tmp_path: Path) -> None:
    flow, _ = instant(shout)
    job = RowsElsewhere(
        flow, file_of(tmp_path, 500), {}, SaveTo(tmp_path / "out", block_rows=10), 1
    )
    with job.opened() as runner:
        blocks = list(runner.lacking())
        shares = [blocks[place::4] for place in range(4)]
        threads = [
            threading.Thread(target=lambda s=share: [runner.run(b, again=False) for b in s])
            for share in shares
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert indexes(tmp_path / "out") == list(range(500))


def test_a_runner_goes_to_other_processes(flow: Workflow, tmp_path: Path) -> None:
    job = RowsElsewhere(flow, file_of(tmp_path, 5), {"length": 3}, tmp_path / "out", 1)
    with job.opened() as runner:
        copy = pickle.loads(pickle.dumps(runner))
        assert copy.lacking() == runner.lacking()
        assert copy.workflow.document.hash == flow.document.hash


def test_rows_of_this_process_are_carried_as_a_file(tmp_path: Path) -> None:
    flow, _ = instant(lambda given: shout({"prompt": "bad", **given}))
    frame = pandas.DataFrame({"prompt": ["a", "bad", None], "x": 1}, index=[7, 8, 9])
    _, outputs = done(flow, frame, tmp_path / "out")
    assert outputs.index.tolist() == [7, 8, 9]
    assert outputs[7] == {"generated": "a!"}
    assert all(isinstance(outputs[each], InputError) for each in (8, 9))
    lines = (tmp_path / "out" / "_rows.jsonl").read_text().splitlines()
    assert list(map(json.loads, lines)) == [{"prompt": "a"}, {"prompt": "bad"}, {}]
    assert done(flow, frame, tmp_path / "out")[0] == []
    with pytest.raises(UsageError, match="another job: its rows"):
        done(flow, ["a", "b", "c"], tmp_path / "out")
    assert list(done(flow, iter(["a", {"prompt": "b"}]), tmp_path / "plain")[1]) == [
        {"generated": "a!"},
        {"generated": "b!"},
    ]
    done(flow, ["x"], SaveTo(tmp_path / "out", overwrite=True))
    assert names(tmp_path / "out") == [JOB_FILE, "_rows.jsonl", "part-00000.parquet"]


GATED = BODY.replace("  text:", "  token: ${input.token as text}\n  text:", 1)


def test_a_secret_is_for_all_rows_or_for_none(tmp_path: Path) -> None:
    flow, host = instant(shout, GATED)
    with pytest.raises(InputError, match="row 0 has a secret, which is not written to a file"):
        done(flow, [{"prompt": "a", "token": "hf_secret"}], tmp_path / "out")
    job = RowsElsewhere(
        flow, [{"prompt": "a"}], {"token": "hf_secret"}, SaveTo(tmp_path / "out", "jsonl"), 1
    )
    with job.opened() as runner:
        run_all(runner)
    assert host.submitted == [{"prompt": "a", "token": "hf_secret"}]
    written = [path.read_bytes() for path in (tmp_path / "out").iterdir()]
    assert not any(b"hf_secret" in each for each in written)


def test_rows_that_cannot_be_carried(tmp_path: Path) -> None:
    flow, _ = instant(shout)
    with pytest.raises(InputError, match="row 1 is no plain data"):
        done(flow, ["a", {"prompt": {1, 2}}], tmp_path / "out")
    with pytest.raises(UsageError, match="are saved to a folder"):
        done(flow, ["a"], None)
    with pytest.raises(UsageError, match="are saved to a folder"):
        done(flow, ["a"], tmp_path / "out.jsonl")
    assert not (tmp_path / "out").exists()


def test_a_folder_that_has_a_uri(tmp_path: Path) -> None:
    flow, _ = instant(shout)
    rows, out = file_of(tmp_path, 25), tmp_path / "out"
    uri = out.as_uri()
    _, saved = done(flow, rows.as_uri(), SaveTo(uri, block_rows=10))
    assert indexes(out) == list(range(25))
    assert saved[24] == {"generated": "row 24!"}
    assert saved.failed == 0
    assert done(flow, rows.as_uri(), uri)[0] == []
    (out / "part-00002.parquet").unlink()
    assert done(flow, rows.as_uri(), uri)[0] == [BlockDone(5, 0, 5)]
    done(flow, ["a"], SaveTo(uri, overwrite=True))
    assert names(out) == [JOB_FILE, "_rows.jsonl", "part-00000.parquet"]


def test_what_on_may_be() -> None:
    assert OnRay.of("ray") == OnRay()
    assert OnRay.of("ray:head:6379") == OnRay("head:6379")
    assert OnRay.of("ray:auto") == OnRay("auto")
    assert OnRay.of(OnRay(workers=(2, 5))).range_of_workers == (2, 5)
    assert OnRay(workers=3).range_of_workers == (3, 3)
    with pytest.raises(InputError, match="a worker has no -1 GPUs"):
        OnRay(gpus=-1)
    for given in ("spark", "rayon"):
        with pytest.raises(InputError, match="are not run on"):
            OnRay.of(given)
    for workers in (0, (3, 2)):
        with pytest.raises(InputError, match="one worker or more"):
            _ = OnRay(workers=workers).range_of_workers
