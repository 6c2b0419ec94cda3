"""Rows by blocks on a cluster: workers are killed, rows kill workers; every row is there once."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from mapping.conftest import BODY
from mapping.test_folder import file_of, indexes
from standins.scripted import ScriptedModels
from standins.waiting import until

from modelcompose_jupyter import ComposeError, InputError, LocalHost, load
from modelcompose_jupyter.mapping.elsewhere import RowsElsewhere
from modelcompose_jupyter.mapping.on_ray import OnRay
from modelcompose_jupyter.mapping.saved_rows import SavedRows
from modelcompose_jupyter.mapping.saving import SaveTo

pytestmark = [pytest.mark.ray, pytest.mark.slow, pytest.mark.usefixtures("address")]


def host_that_dies() -> LocalHost:
    """A host whose process is killed by one prompt, whenever it comes; another one raises."""

    def reply(prompt: str) -> list[str]:
        if prompt == "row 17":
            os.kill(os.getpid(), signal.SIGKILL)
        return [f"<{prompt}>"]

    return LocalHost(ScriptedModels(reply))  # type: ignore[arg-type]


def waiting_host(folder: str) -> Callable[[], LocalHost]:
    """What makes hosts that answer some prompts only when a file is there."""

    def make() -> LocalHost:
        def reply(prompt: str) -> list[str]:
            if prompt.endswith("7"):
                (Path(folder) / f"at-{os.getpid()}").touch()
                until(lambda: (Path(folder) / "go").exists())
            return [f"<{prompt}>"]

        return LocalHost(ScriptedModels(reply))  # type: ignore[arg-type]

    return make


def mapped(
    rows: Path, save_to: Any, make_host: Callable[[], LocalHost], **options: Any
) -> SavedRows:
    from modelcompose_jupyter.ray.rows import map_on_ray

    job = RowsElsewhere(load(BODY), rows, {}, save_to, 3)
    with job.opened() as runner:
        map_on_ray(runner, OnRay(workers=2), progress=False, make_host=make_host, **options)
        found: SavedRows = job.results(runner, None)
        return found


def test_texts_are_those_of_a_map_in_one_process(tmp_path: Path) -> None:
    flow = load(BODY)
    rows = file_of(tmp_path, 40)
    shown = flow.map(rows, save_to=tmp_path / "ray", on=OnRay(workers=2), seed=9, progress=False)
    assert list(shown) == flow.map(rows, seed=9, progress=False)
    assert indexes(tmp_path / "ray") == list(range(40))
    assert list(flow.map(rows, save_to=tmp_path / "ray", progress=False)) == list(shown)
    outputs = flow.map(["row 0", "row 1"], save_to=tmp_path / "two", on="ray", seed=9)
    assert outputs == list(shown)[:2]


def test_rows_that_raise_are_rows_with_an_error(tmp_path: Path) -> None:
    (tmp_path / "rows.jsonl").write_text('{"prompt": "a"}\nno\n{}\n{"prompt": "b"}\n')
    saved = mapped(tmp_path / "rows.jsonl", tmp_path / "out", lambda: LocalHost(ScriptedModels()))  # type: ignore[arg-type]
    assert saved.failed == 2
    assert [isinstance(each, InputError) for each in saved] == [False, True, True, False]


def test_workers_that_are_killed_are_replaced_and_every_row_is_there_once(tmp_path: Path) -> None:
    rows = file_of(tmp_path, 200)
    target = SaveTo(tmp_path / "out", block_rows=20)
    found: list[SavedRows] = []
    thread = threading.Thread(
        target=lambda: found.append(mapped(rows, target, waiting_host(str(tmp_path))))
    )
    thread.start()
    killed: set[int] = set()
    while len(killed) < 2:  # in the midst of rows
        until(lambda: {int(path.name[3:]) for path in tmp_path.glob("at-*")} > killed)
        pid = max({int(path.name[3:]) for path in tmp_path.glob("at-*")} - killed)
        os.kill(pid, signal.SIGKILL)
        killed.add(pid)
    (tmp_path / "go").touch()
    thread.join(120)
    assert [each["generated"] for each in found[0]] == [f"<row {n}>" for n in range(200)]
    assert indexes(tmp_path / "out") == list(range(200))


def test_a_row_that_kills_its_workers_holds_up_no_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("modelcompose_jupyter.ray.rows._ATTEMPTS", 2)  # each is a new worker
    rows = file_of(tmp_path, 60)
    target = SaveTo(tmp_path / "out", block_rows=5)
    with pytest.raises(ComposeError, match=r"workers died at rows 15 to 19") as caught:
        mapped(rows, target, host_that_dies)
    assert caught.value.code == "workers_died"
    assert indexes(tmp_path / "out") == [*range(15), *range(20, 60)]
    saved = mapped(rows, tmp_path / "out", lambda: LocalHost(ScriptedModels()))  # type: ignore[arg-type]
    assert len(list(saved)) == 60


def test_more_than_there_is_is_refused(tmp_path: Path) -> None:
    rows = file_of(tmp_path, 3)
    with pytest.raises(InputError, match="no node of the cluster has 99 CPUs"):
        load(BODY).map(rows, save_to=tmp_path / "out", on=OnRay(cpus=99), progress=False)
