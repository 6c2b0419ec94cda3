"""Results in a folder of blocks: no row is lost or there twice, whoever is killed."""

from __future__ import annotations

import contextlib
import json
import random
import shutil
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pandas
import pyarrow.parquet
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from standins.processes import environment
from standins.scripted import ScriptedModels

from modelcompose_jupyter import ComposeError, InputError, load
from modelcompose_jupyter.callable import Workflow
from modelcompose_jupyter.errors import UsageError
from modelcompose_jupyter.mapping.job_folder import JOB_FILE
from modelcompose_jupyter.mapping.parts import Kind, Parts
from modelcompose_jupyter.mapping.row_files import row_files
from modelcompose_jupyter.mapping.saved_rows import SavedRows
from modelcompose_jupyter.mapping.saving import SaveTo
from modelcompose_jupyter.seeds import first_of_rows, seed_of_row

from .conftest import BODY, InstantHost, instant, rows_that_raise

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
KINDS: list[Kind] = ["parquet", "jsonl"]


def shout(given: Any) -> dict[str, str]:
    if given["prompt"].startswith("bad"):
        raise InputError("not this one")
    return {"generated": f"{given['prompt']}!"}


def prompts(host: InstantHost) -> list[str]:
    return [each["prompt"] for each in host.submitted]


def file_of(folder: Path, count: int, name: str = "rows.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(f"{json.dumps({'prompt': f'row {n}'})}\n" for n in range(count)))
    return path


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def indexes(folder: Path) -> list[int]:
    """The rows of a folder's parts, in the order of their names."""
    found: list[int] = []
    for path in sorted(folder.glob("part-*")):
        if path.suffix == ".parquet":
            found += pyarrow.parquet.read_table(path)["index"].to_pylist()
        else:
            found += [json.loads(line)["index"] for line in path.read_bytes().splitlines()]
    return found


@pytest.mark.parametrize("kind", KINDS)
def test_rows_of_a_file_become_parts_of_a_folder(kind: Kind, tmp_path: Path) -> None:
    flow, host = instant(shout)
    target = SaveTo(tmp_path / "out", kind, block_rows=100)
    saved = flow.map(file_of(tmp_path, 250), save_to=target, progress=False)
    assert names(tmp_path / "out") == [JOB_FILE, *(f"part-0000{n}.{kind}" for n in range(3))]
    assert indexes(tmp_path / "out") == list(range(250))
    assert isinstance(saved, SavedRows)
    assert (len(saved), saved.failed) == (250, 0)
    assert list(saved) == [{"generated": f"row {n}!"} for n in range(250)]
    assert (saved[249], saved[-250], saved[99:101]) == (saved[-1], saved[0], list(saved)[99:101])
    with pytest.raises(IndexError):
        saved[250]
    assert saved.to_frame()["generated"].tolist() == [f"row {n}!" for n in range(250)]
    assert "row 19!" in saved._repr_html_()
    assert "row 20!" not in saved._repr_html_()

    again = flow.map(tmp_path / "rows.jsonl", save_to=tmp_path / "out", progress=False)
    assert list(again) == list(saved)
    assert len(host.submitted) == 250


def test_a_folder_is_a_table_for_other_programs(tmp_path: Path) -> None:
    def answer(given: Any) -> Any:
        return {"generated": "half \ud800"} if given["prompt"] == "half" else shout(given)

    flow, _ = instant(answer)
    rows = ["a", "bad", "half"]
    flow.map(rows, save_to=SaveTo(tmp_path / "out", block_rows=2), progress=False)
    table = pandas.read_parquet(tmp_path / "out").sort_values("index")
    assert list(table) == ["index", "generated", "output", "error", "input", "record"]
    assert table["generated"].dropna().tolist() == ["a!"]  # UTF-8 has no half characters
    assert json.loads(table["output"][2]) == {"generated": "half \ud800"}
    assert json.loads(table["error"][1])["message"] == "not this one"
    assert json.loads(table["input"][0]) == {"prompt": "a"}


@settings(deadline=None, max_examples=100)
@given(kind=st.sampled_from(KINDS), outputs=st.lists(VALUES, max_size=4))
def test_any_outputs_are_read_as_they_were(kind: Kind, outputs: list[Any]) -> None:
    import io

    named, plain = load(BODY).signature, load(BODY + "  output: ${output}\n").signature
    for signature in (named, plain):
        parts = Parts(kind, signature)
        lines = [
            {"index": 7 * number, "input": output, "output": given, "record": {"a": [output]}}
            for number, output in enumerate(outputs)
            for given in (output, {"generated": output}, {"text": output}, str(output))
        ]
        lines.append({"index": 99, "input": None, "error": {"message": "no"}, "record": {}})
        content = parts.encode(lines)
        assert parts.decode(io.BytesIO(content)) == json.loads(json.dumps(lines))
        assert parts.failures(io.BytesIO(content)) == 1


def test_lists_tables_and_generators_are_saved_by_blocks_too(tmp_path: Path) -> None:
    flow, host = instant(shout)
    texts = [f"row {n}" for n in range(25)]
    frame = pandas.DataFrame({"prompt": texts}, index=range(100, 125))
    for number, rows in enumerate((texts, frame, iter(texts))):
        target = SaveTo(tmp_path / str(number), block_rows=10)
        first = flow.map(rows, save_to=target, progress=False)
        assert list(first) == [shout({"prompt": each}) for each in texts]
        assert indexes(tmp_path / str(number)) == list(range(25))
    assert len(host.submitted) == 75
    for number, again in enumerate((texts, frame, iter(texts))):
        assert list(flow.map(again, save_to=tmp_path / str(number), progress=False)) == list(first)
    assert len(host.submitted) == 75


def test_more_rows_of_a_list_go_on_in_the_last_block(tmp_path: Path) -> None:
    flow, host = instant(shout)
    for count in (3, 12, 12, 25):
        rows = [f"row {n}" for n in range(count)]
        outputs = flow.map(rows, save_to=SaveTo(tmp_path / "out", block_rows=10), progress=False)
        assert outputs == [shout({"prompt": each}) for each in rows]
        assert len(host.submitted) == count
        assert indexes(tmp_path / "out") == list(range(count))


def test_another_input_of_a_row_is_refused_before_anything_runs(tmp_path: Path) -> None:
    flow, host = instant(shout)
    flow.map(["a", "b"], save_to=tmp_path / "out", progress=False)
    with pytest.raises(InputError, match=r"row 1 of .* was done with another input"):
        flow.map(["a", "x", "c"], save_to=tmp_path / "out", progress=False)
    assert prompts(host) == ["a", "b"]


def interrupted(flow: Workflow, target: SaveTo, models: ScriptedModels) -> None:
    models.hold = ("held",)
    with pytest.raises(KeyboardInterrupt):
        flow.map(rows_that_raise(flow.host, KeyboardInterrupt()), save_to=target, progress=False)


@pytest.mark.parametrize("kind", KINDS)
def test_what_has_ended_is_kept_at_an_interrupt(
    kind: Kind, flow: Workflow, models: ScriptedModels, tmp_path: Path
) -> None:
    target = SaveTo(tmp_path / "out", kind)
    interrupted(flow, target, models)
    assert names(tmp_path / "out") == [JOB_FILE, "_part-00000.lines"]
    before = len(models.prompts)
    models.hold = ()
    outputs = flow.map(["held", "go", "more"], save_to=target, progress=False)
    assert [each["generated"] for each in outputs] == ["<held>", "<go>", "<more>"]
    assert models.prompts[before:] == ["held", "more"]
    assert names(tmp_path / "out") == [JOB_FILE, f"part-00000.{kind}"]


def test_rows_that_failed_stay_so_until_they_are_to_be_done_again(tmp_path: Path) -> None:
    fails = {"row 3", "row 7"}

    def answer(given: Any) -> Any:
        if given["prompt"] in fails:
            raise InputError("not now")
        return shout(given)

    flow, host = instant(answer)
    rows, out = file_of(tmp_path, 25), tmp_path / "out"
    saved = flow.map(rows, save_to=SaveTo(out, block_rows=10), progress=False)
    assert saved.failed == 2
    assert [(index, str(error)) for index, error in saved.failures(9)] == [
        (3, "not now"),
        (7, "not now"),
    ]
    fails.remove("row 3")
    assert flow.map(rows, save_to=out, progress=False).failed == 2
    assert len(host.submitted) == 25
    saved = flow.map(rows, save_to=SaveTo(out, retry_failed=True), progress=False)
    assert prompts(host)[25:] == ["row 3", "row 7"]
    assert (saved.failed, saved[3]) == (1, {"generated": "row 3!"})
    assert isinstance(saved[7], InputError)
    assert indexes(out) == list(range(25))


def test_results_of_another_job_are_refused_until_they_are_to_be_overwritten(
    tmp_path: Path,
) -> None:
    flow, host = instant(shout)
    rows, out = file_of(tmp_path, 5), tmp_path / "out"
    flow.map(rows, save_to=out, seed=5, progress=False)
    kept = {path.name: path.read_bytes() for path in out.iterdir()}
    other = file_of(tmp_path, 6, "other.jsonl")
    document = load(BODY.replace("| 4", "| 5"), host=host)  # type: ignore[arg-type]
    for refused, message in (
        (lambda: flow.map(other, save_to=out), "another job: its rows, or the inputs"),
        (lambda: flow.map(rows, save_to=out, length=3), "another job: its rows, or the inputs"),
        (lambda: flow.map(["row 0"], save_to=out), "another job: its rows, or the inputs"),
        (lambda: flow.map(rows, save_to=out, seed=6), "its seed is 5, and 6 is asked for"),
        (lambda: flow.map(rows, save_to=SaveTo(out, "jsonl")), "its kind is parquet, and jsonl"),
        (lambda: document.map(rows, save_to=out), "another document"),
    ):
        with pytest.raises(UsageError, match=message):
            refused()
    assert {path.name: path.read_bytes() for path in out.iterdir()} == kept
    (out / "notes.txt").write_text("mine")
    flow.map(other, save_to=SaveTo(out, "jsonl", overwrite=True), progress=False)
    assert names(out) == [JOB_FILE, "notes.txt", "part-00000.jsonl"]
    assert indexes(out) == list(range(6))


def test_a_folder_with_other_files_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    flow, host = instant(shout)
    for overwrite in (False, True):
        with pytest.raises(UsageError, match=r"has other files in it, such as notes\.txt"):
            flow.map(["a"], save_to=SaveTo(tmp_path, overwrite=overwrite))
    (tmp_path / JOB_FILE).write_text('{"version": 99}')
    with pytest.raises(UsageError, match="cannot be read: it is of another version"):
        flow.map(["a"], save_to=tmp_path)
    assert host.submitted == []


def test_a_part_that_somebody_broke_is_named(tmp_path: Path) -> None:
    flow, _ = instant(shout)
    saved = flow.map(file_of(tmp_path, 5), save_to=tmp_path / "out", progress=False)
    (tmp_path / "out" / "part-00000.parquet").write_bytes(b"no")
    with pytest.raises(UsageError, match=r"part-00000\.parquet in .* cannot be read"):
        list(SavedRows(saved._folder, 5))


def test_only_one_map_at_a_time_has_a_folder(flow: Workflow, tmp_path: Path) -> None:
    stream = flow.imap(["a", "b"], save_to=tmp_path / "out", progress=False)
    next(stream)
    with pytest.raises(UsageError, match="is being written by another map"):
        flow.map(["a", "b"], save_to=tmp_path / "out")
    stream.close()
    assert len(flow.map(["a", "b"], save_to=tmp_path / "out", progress=False)) == 2


def test_a_name_without_an_end_is_a_folder_and_with_a_slash_any_name_is(tmp_path: Path) -> None:
    flow, _ = instant(shout)
    flow.map(["a"], save_to=tmp_path / "out", progress=False)
    flow.map(["a"], save_to=f"{tmp_path}/v1.jsonl/", progress=False)
    flow.map(["a"], save_to=f"{tmp_path}/file.jsonl", progress=False)
    assert (tmp_path / "out").is_dir()
    assert (tmp_path / "v1.jsonl").is_dir()
    assert (tmp_path / "file.jsonl").is_file()
    with pytest.raises(UsageError, match="cannot be saved to s3://bucket/out one by one"):
        flow.map(["a"], save_to="s3://bucket/out", progress=False)


# Killed


@settings(deadline=None, max_examples=60)
@given(data=st.data())
def test_any_sessions_end_with_all_rows_there_once(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Sessions that end early, whose unfinished lines are cut anywhere, and parts that are lost."""
    folder = tmp_path_factory.mktemp("sessions")
    count, size = data.draw(st.integers(1, 12)), data.draw(st.integers(1, 5))
    kind = data.draw(st.sampled_from(KINDS))
    rows, out = file_of(folder, count), folder / "out"
    chance = random.Random(data.draw(st.integers()))  # of what depends on how far a session came
    for _ in range(2):
        files = row_files([str(rows)])
        files.limit(data.draw(st.integers(1, count)))
        stop = data.draw(st.integers(0, count))
        flow, _ = instant(shout)
        stream = flow.imap(files, save_to=SaveTo(out, kind, block_rows=size), progress=False)
        for row in stream:
            if row.index >= stop:
                break
        stream.close()
        for path in out.glob("_part-*"):
            path.write_bytes(path.read_bytes()[: chance.randint(0, path.stat().st_size)])
        for path in list(out.glob("part-*")):
            if chance.random() < 0.2:
                path.unlink()
        (out / "_tmp-1-left").write_bytes(b"half")
    flow, _ = instant(shout)
    saved = flow.map(rows, save_to=out, progress=False)
    assert list(saved) == [shout({"prompt": f"row {n}"}) for n in range(count)]
    assert indexes(out) == list(range(count))
    blocks = -(-count // size)
    assert names(out) == [JOB_FILE, *(f"part-{n:05}.{kind}" for n in range(blocks))]


KILLED = """
import sys
from itertools import pairwise
from pathlib import Path
from mapping.conftest import instant
from modelcompose_jupyter.mapping.saving import SaveTo

flow, host = instant(lambda given: {"generated": given["prompt"] + "!"})
print("begun", flush=True)
flow.map(Path("rows.jsonl"), save_to=SaveTo("out", sys.argv[1], block_rows=50), progress=False)
"""


@pytest.mark.parametrize("kind", KINDS)
def test_a_process_that_is_killed_at_any_moment_goes_on(kind: Kind, tmp_path: Path) -> None:
    file_of(tmp_path, 3000)
    chance = random.Random(kind)
    killed = 0
    while True:
        process = subprocess.Popen(
            [sys.executable, "-c", KILLED, kind],
            cwd=tmp_path,
            env=environment(),
            stdout=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == b"begun\n"
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(chance.expovariate(8) if killed < 6 else None)
        if process.returncode == 0:
            break
        process.kill()
        process.communicate()
        killed += 1
        # What is there is whole and there once, at every moment.
        found = indexes(tmp_path / "out") if (tmp_path / "out").exists() else []
        assert len(set(found)) == len(found)
    process.communicate()
    assert killed > 0
    assert indexes(tmp_path / "out") == list(range(3000))
    assert names(tmp_path / "out") == [JOB_FILE, *(f"part-{n:05}.{kind}" for n in range(60))]


FULL = """
import json, resource
from modelcompose_jupyter import ComposeError
from mapping.conftest import instant

flow, host = instant(lambda given: {"generated": given["prompt"] * 1000})
resource.setrlimit(resource.RLIMIT_FSIZE, (5000, resource.RLIM_INFINITY))
try:
    flow.map([str(number) for number in range(10)], save_to="out/", progress=False)
except ComposeError as error:
    print(json.dumps([error.code, str(error)]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no limit of that kind there")
def test_a_disk_that_is_full_ends_the_map_and_loses_nothing(tmp_path: Path) -> None:
    env = {k: v for k, v in environment().items() if not k.startswith("COVERAGE_")}
    command = [sys.executable, "-c", FULL]
    done = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path, env=env)
    code, message = json.loads(done.stdout)
    assert code == "not_saved"
    assert message.startswith("out cannot be written: file too large")
    flow, _ = instant(lambda given: {"generated": given["prompt"] * 1000})
    rows = [str(number) for number in range(10)]
    outputs = flow.map(rows, save_to=tmp_path / "out", progress=False)
    assert outputs == [{"generated": each * 1000} for each in rows]


# Seeds


def test_rows_have_seeds_by_their_places_that_are_far_apart() -> None:
    for first in (0, 7, 2**31 - 1, 2**62 + 5):
        seeds = [seed_of_row(first, index) for index in range(2000)]
        assert seeds[0] == first
        assert len(set(seeds)) == 2000
        ordered = sorted(seeds)
        assert min(b - a for a, b in pairwise(ordered)) > 100_000
        assert {first_of_rows(seed, index) for index, seed in enumerate(seeds)} == {first}
        assert all(0 <= seed < 2**63 for seed in seeds)


def seeds_of(models: ScriptedModels) -> dict[str, int]:
    """The seed of each prompt since this was asked last."""
    found = dict(zip(models.prompts, (each["seed"] for each in models.parameters), strict=True))
    models.prompts.clear()
    models.parameters.clear()
    return found


@pytest.mark.parametrize("name", ["out.jsonl", "out.parquet", "out"])
def test_a_row_has_the_same_seed_after_a_resume(
    name: str, flow: Workflow, models: ScriptedModels, tmp_path: Path
) -> None:
    rows = [f"row {n}" for n in range(20)]
    flow.map(rows, progress=False, seed=11)
    expected = seeds_of(models)
    assert expected == {row: seed_of_row(11, index) for index, row in enumerate(rows)}
    flow.map(rows[:8], save_to=tmp_path / name, progress=False, seed=11)
    first = seeds_of(models)
    flow.map(rows, save_to=tmp_path / name, progress=False)
    second = seeds_of(models)
    assert (len(first), len(second)) == (8, 12)
    assert {**first, **second} == expected
    with pytest.raises(UsageError, match="seed"):
        flow.map(rows, save_to=tmp_path / name, progress=False, seed=12)


def test_seeds_are_drawn_once_for_a_map(flow: Workflow, models: ScriptedModels) -> None:
    firsts = []
    for _ in range(2):
        flow.map(["a", "b"], progress=False)
        seeds = seeds_of(models)
        firsts += [seeds["a"], first_of_rows(seeds["b"], 1)]
    assert firsts[0] == firsts[1] != firsts[2] == firsts[3]
    with pytest.raises(InputError, match="seed"):
        flow.map(["a"], seed=-1)


def test_an_input_that_is_called_seed_is_the_workflows() -> None:
    flow, host = instant(lambda given: given["seed"], BODY + "  seed: ${input.seed as integer}\n")
    assert flow.map(["a"], seed=5, progress=False) == [5]
    assert host.submitted == [{"prompt": "a", "seed": 5}]


def test_the_rows_of_a_folder_survive_its_move(tmp_path: Path) -> None:
    flow, host = instant(shout)
    rows = file_of(tmp_path, 5)
    flow.map(rows, save_to=tmp_path / "out", progress=False)
    shutil.move(tmp_path / "out", tmp_path / "moved")
    flow.map(rows, save_to=tmp_path / "moved", progress=False)
    assert len(host.submitted) == 5


def test_progress_counts_what_was_done_before(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    flow, _ = instant(shout)
    rows = file_of(tmp_path, 25)
    flow.map(rows, save_to=SaveTo(tmp_path / "out", block_rows=10), progress=False)
    (tmp_path / "out" / "part-00001.parquet").unlink()
    flow.map(rows, save_to=tmp_path / "out")
    shown = capsys.readouterr().err
    assert "| 15/25 [" in shown
    assert "25/25" in shown
    assert isinstance(flow.last_map, list)


def test_an_error_of_the_host_ends_the_map_and_closes_the_folder(tmp_path: Path) -> None:
    flow, host = instant(shout)

    def gone(*_: Any, **__: Any) -> Any:
        raise ComposeError("no such host", code="host_gone")

    host.closed = False  # type: ignore[attr-defined]
    submit, host.submit = host.submit, gone  # type: ignore[method-assign]
    with pytest.raises(ComposeError, match="no such host"):
        flow.map(["a"], save_to=tmp_path / "out", progress=False)
    host.submit = submit  # type: ignore[method-assign]
    assert flow.map(["a"], save_to=tmp_path / "out", progress=False) == [{"generated": "a!"}]
