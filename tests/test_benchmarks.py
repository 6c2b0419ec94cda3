"""The benchmark's own logic: when requests arrive, what is read off them, what a peer may do."""

from __future__ import annotations

import contextlib
import json
import os
import random
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from click.testing import CliRunner
from standins import tiny_models

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are in the repository alone", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

import attacks  # noqa: E402
import evaluation  # noqa: E402
import jobs  # noqa: E402
import quality  # noqa: E402
from on_gpu import cases, correctness  # noqa: E402
from peers import processes, report, weights, work  # noqa: E402
from peers.protocol import BlockingEngine, PeerSettings, Request, SteppingEngine, Timeline  # noqa: E402


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class Counting(SteppingEngine):
    """Gives every request that it has a token a step; a step takes a second."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._left: dict[int, int] = {}

    def load(self, settings: PeerSettings) -> dict[str, Any]:
        return {}

    def add(self, number: int, request: Request) -> None:
        self._left[number] = request.tokens

    def step(self) -> list[tuple[int, int]]:
        self._clock.now += 1
        came = [(number, number) for number in self._left]
        self._left = {number: left - 1 for number, left in self._left.items() if left > 1}
        return came


class Batches(BlockingEngine):
    batches = True

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.sizes: list[int] = []

    def load(self, settings: PeerSettings) -> dict[str, Any]:
        return {}

    def generate(self, requests: Sequence[Request], on_token: Callable[[int, int], None]) -> None:
        self.sizes.append(len(requests))
        for _ in range(requests[0].tokens):
            self._clock.now += 1
            for place in range(len(requests)):
                on_token(place, place)


def asked(tokens: int, length: int = 1, **options: Any) -> Request:
    return Request([1] * length, "", tokens, **options)


def test_requests_join_a_stepping_engine_at_their_time_and_after_others() -> None:
    clock = Clock()
    timeline = Timeline([asked(4), asked(2, at=1.5), asked(1, after=(0, 3))], clock)
    Counting(clock).run(timeline)
    first, second, third = timeline.records()
    assert first.times == [1, 2, 3, 4]
    assert (second.arrived, second.times, second.ended) == (1.5, [3, 4], 4)
    assert (third.arrived, third.times) == (3, [4])


def test_a_blocking_engine_takes_what_waits_in_one_shape_as_one_batch() -> None:
    clock = Clock()
    requests = [asked(2), asked(2, length=3), asked(2), asked(2, at=1), asked(2, after=(0, 2))]
    engine = Batches(clock)
    timeline = Timeline(requests, clock)
    engine.run(timeline)
    assert engine.sizes == [2, 1, 2]
    assert [record.times[0] for record in timeline.records()] == [1, 3, 1, 5, 5]
    assert timeline.records()[4].arrived == 2


def test_waiting_ends_with_what_another_thread_tells() -> None:
    timeline = Timeline([asked(1)])
    assert timeline.due() == [0]
    thread = threading.Thread(target=lambda: timeline.token(0, 7))
    thread.start()
    timeline.wait()
    thread.join()
    assert timeline.done
    timeline.wait()
    assert timeline.records()[0].head == [7]


def test_a_request_that_fails_fails_the_work() -> None:
    timeline = Timeline([asked(1)])
    timeline.due()
    timeline.fail(ValueError("no"))
    timeline.wait()
    with pytest.raises(RuntimeError, match="a request failed: no"):
        _ = timeline.done


def test_gaps_are_those_that_the_arrival_touches() -> None:
    records = [
        {"times": [0, 1, 2, 5, 6], "arrived": 0},
        {"times": [0, 4.5], "arrived": 0},
        {"times": [4.75], "arrived": 2.5},
    ]
    found = work.gaps(records[:-1], 2.5, 4.75)
    assert found == [3, 4.5]


def test_a_ratio_is_taken_within_a_round_and_above_one_where_ours_is_better() -> None:
    rows = [
        report.Row(round, "one-stream", peer, {"token": token})
        for round, peer, token in [
            (0, "ours", 10),
            (0, "generate", 30),
            (1, "ours", 100),
            (1, "generate", 200),
            (2, "generate", 1),
        ]
    ]
    ours, generate = report.lines(rows)
    assert ours.advantage is None
    assert ours.figure.median == 55
    assert generate.advantage == report.Spread(2.25, 2.5, 2.75)
    faster = [report.Row(0, "4-streams", p, {"tokens a second": v}) for p, v in
              [("ours", 90.0), ("openvino-cb", 30.0)]]  # fmt: skip
    _, openvino = report.lines(faster)
    assert openvino.advantage == report.Spread(3, 3, 3)


def test_weights_in_few_bits_are_compared_with_ours_of_as_many_bits() -> None:
    tokens = {
        "ours": 60.0,
        "ours-int8": 30.0,
        "llama.cpp-q8_0": 45.0,
        "openvino-int8": 15.0,
        "openvino-int4": 20.0,
        "openvino-cb": 90.0,
    }
    rows = [report.Row(0, "one-stream", peer, {"token": each}) for peer, each in tokens.items()]
    found = {line.peer: line.advantage for line in report.lines(rows)}
    assert {peer: spread and spread.median for peer, spread in found.items()} == {
        "ours": None,
        "ours-int8": 0.5,
        "llama.cpp-q8_0": 1.5,
        "openvino-int8": 0.5,
        "openvino-int4": None,  # nothing of ours in 4 bits is there
        "openvino-cb": 1.5,
    }


def test_each_peer_is_compared_with_one_of_ours_that_does_the_same_work() -> None:
    for peer in processes.PEERS.values():
        ours = processes.PEERS[peer.ours]
        assert (ours.kind, ours.ours) in (("engine", "ours"), ("http", "ours-http"))
        assert ours.kind == peer.kind
    few = {name: peer.ours for name, peer in processes.PEERS.items() if peer.ours[-1].isdigit()}
    assert few == {
        "llama.cpp-q8_0": "ours-int8",
        "llama.cpp-q4_k_m": "ours-int4",
        "llama.cpp-q4_0": "ours-int4",
        "openvino-int8": "ours-int8",
        "openvino-int4": "ours-int4",
    }
    assert not {*few, *few.values()} & {*processes.USUAL_PEERS}


def test_sampled_work_is_the_same_work_with_tokens_that_are_drawn() -> None:
    sampled = [item for item in work.WORK.values() if item.name.endswith("-sampled")]
    assert [len(item.requests) for item in sampled] == [1, 16]
    for item in sampled:
        same = work.WORK[item.name.removesuffix("-sampled")]
        assert (item.lengths, item.measures) == (same.lengths, same.measures)
        assert [each.tokens for each in item.requests] == [each.tokens for each in same.requests]
        assert {each.temperature for each in item.requests} == {0.7}


def test_shortened_work_still_arrives() -> None:
    for item in work.WORK.values():
        clock = Clock()
        timeline = Timeline(item.shortened(6).requests, clock)
        clock.now = 10  # all that come at a time are there
        Counting(clock).run(timeline)
        assert all(record.tokens <= 6 for record in timeline.records())


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_models.save(tmp_path_factory.mktemp("model"))


def test_prompts_have_exactly_so_many_tokens(model: Path, tmp_path: Path) -> None:
    from transformers import AutoTokenizer

    weights._tokenizer(20000).save_pretrained(tmp_path)
    for folder in (model, tmp_path):
        tokenizer = AutoTokenizer.from_pretrained(folder)
        prompts = weights.Prompts(folder)
        for tokens in (1, 32, 200):
            ids, text = prompts.draw(tokens, random.Random(tokens))
            assert len(ids) == tokens
            assert tokenizer(text)["input_ids"] == ids
    assert all(word.startswith("Ġ") for word in tokenizer.convert_ids_to_tokens(ids))


def test_the_bytes_of_a_step_are_the_weights_and_the_cache(model: Path) -> None:
    stored = tiny_models.make(tie_word_embeddings=False)
    numbers = sum(each.numel() for each in stored.parameters())
    vocabulary, hidden = stored.get_input_embeddings().weight.shape
    cache = 2 * 2 * 2 * 8  # keys and values, layers, heads, their size
    expected = 4 * (numbers - (vocabulary - 1) * hidden + 10 * cache)
    assert weights.least_bytes(model, "float32", 10) == expected


def test_a_peer_generates_and_is_stopped_while_it_is_not_asked(model: Path, tmp_path: Path) -> None:
    peer = processes.PEERS["static-batch"]
    settings = PeerSettings(model, "float32", 1, "cpu", tmp_path, {})
    process = processes.PeerProcess(peer, Path(sys.executable), settings)
    try:
        assert states(process) == {psutil.STATUS_STOPPED}
        requests = [asked(5, length=4), asked(5, length=4), asked(3, length=4, after=(0, 5))]
        answer = process.run(requests)
        assert states(process) == {psutil.STATUS_STOPPED}
    finally:
        process.close()
    first, second, third = answer["requests"]
    assert [each["tokens"] for each in (first, second, third)] == [5, 5, 3]
    assert first["head"] == second["head"]
    assert first["times"] == sorted(first["times"])
    assert third["arrived"] >= first["times"][-1]
    assert not psutil.pid_exists(process._process.pid)


def test_what_is_said_last_is_the_reason_why_a_process_ended() -> None:
    assert processes.last_words("Traceback\nValueError: no\n \n") == "ValueError: no"
    assert processes.last_words("\n") == "without a word"


def test_a_change_is_the_divergence_of_probabilities() -> None:
    wanted = np.log(np.array([[0.5, 0.5], [0.9, 0.1], [0.2, 0.8]]))
    same = quality.Change.of("same", wanted, (wanted + 3).astype(np.float32), [2, 1])
    assert same.divergence == pytest.approx(0, abs=1e-12)
    assert same.same_likeliest == 1
    other = np.log(np.array([[0.25, 0.75], [0.9, 0.1], [0.2, 0.8]]))
    told = quality.Change.of("other", wanted, other, [2, 1])
    first = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert told.divergence == pytest.approx(first / 3)
    assert told.error == pytest.approx(first / 4 / 2**0.5)  # texts have first / 2 and 0
    assert told.hundredth_worst == pytest.approx(0.98 * first)
    assert told.same_likeliest == pytest.approx(2 / 3)


def change(name: str, divergence: float) -> quality.Change:
    return quality.Change(name, divergence, divergence / 10, 2 * divergence, 0.99)


def test_divergences_are_compared_with_those_of_ours_of_as_many_bits() -> None:
    told = {"ours": 5e-5, "ours-int8": 1e-4, "ours-int4": 3e-3, "llama.cpp, float32": 1e-9}
    told |= {"llama.cpp": 1e-5, "openvino-int8": 2e-4, "llama.cpp-q4_0": 1e-2}
    found = quality.ratios({name: change(name, each) for name, each in told.items()})
    assert found == {
        "openvino-int8": pytest.approx(0.5),
        "llama.cpp-q4_0": pytest.approx(0.3),
    }


def test_a_point_has_the_speed_of_one_stream_and_the_divergence() -> None:
    rows = [
        report.Row(round, item, peer, {"token": each})
        for peer, tokens in (("ours-int8", (4.0, 5.0, 8.0)), ("generate", (20.0, 20.0, 20.0)))
        for round, each in enumerate(tokens)
        for item in ("one-stream", "busy-core")
    ]
    formats = [change("ours-int8", 1e-4), change("ours-int8, cache int8", 2e-4)]
    (point,) = quality.points(
        report.as_json(report.lines(rows), rows)["lines"], [asdict(each) for each in formats]
    )
    assert point == {
        "engine": "ours",
        "format": "int8",
        "speed": {
            "low": pytest.approx(1000 / 6.5),
            "median": pytest.approx(200),
            "high": pytest.approx(1000 / 4.5),
        },
        "divergence": 1e-4,
        "error": 1e-5,
    }


def test_a_plot_says_which_results_it_cannot_draw(tmp_path: Path) -> None:
    formats = {"formats": [asdict(change("ours", 1e-4))]}
    (tmp_path / "quality.json").write_text(json.dumps(formats))
    for precision, reason in (("float32", "another precision"), ("bfloat16", "none of the")):
        engine = tmp_path / "engine.json"
        engine.write_text(json.dumps({"model": {"precision": precision}, "lines": []}))
        line = ["plot", str(engine), "--quality", str(tmp_path / "quality.json")]
        told = CliRunner().invoke(quality.main, line)
        assert told.exit_code == 1
        assert reason in told.output
    assert not (tmp_path / "quality.svg").exists()


def test_scores_of_a_peer_that_fails_are_missing_with_the_reason(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(quality, "environment", lambda peer, venvs: Path(sys.executable))
    scores = quality.by_peer("openvino-cb", {"openvino-int8": "int8"}, tmp_path, [[1]], tmp_path)
    with pytest.raises(processes.PeerError, match=r"ended: ModuleNotFoundError: .*'openvino'"):
        next(scores)


@pytest.mark.skipif(
    sys.platform != "linux", reason="only Linux tells a process that its parent died"
)
def test_a_peer_that_stands_still_goes_with_who_started_it(model: Path, tmp_path: Path) -> None:
    script = f"""
import os, sys
from pathlib import Path
sys.path.append({str(BENCHMARKS)!r})
import attacks  # noqa: E402
import evaluation  # noqa: E402
import jobs  # noqa: E402
from peers import processes
from peers.protocol import PeerSettings
settings = PeerSettings(Path({str(model)!r}), "float32", 1, "cpu", Path({str(tmp_path)!r}), {{}})
peer = processes.PeerProcess(processes.PEERS["static-batch"], Path(sys.executable), settings)
print(peer._process.pid, flush=True)
os.kill(os.getpid(), 9)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    peer = int(done.stdout)
    with contextlib.suppress(psutil.NoSuchProcess):
        process = psutil.Process(peer)
        gone, _ = psutil.wait_procs([process], timeout=30)
        assert gone or process.status() == psutil.STATUS_ZOMBIE


def states(process: processes.PeerProcess) -> set[str]:
    return {each.status() for each in process._tree()}


def test_a_peer_that_cannot_load_says_why(tmp_path: Path) -> None:
    before = psutil.Process().children()
    settings = PeerSettings(tmp_path / "none", "float32", 1, "cpu", tmp_path, {})
    with pytest.raises(processes.PeerError, match="none"):
        processes.PeerProcess(processes.PEERS["generate"], Path(sys.executable), settings)
    assert not [each for each in psutil.Process().children() if each not in before]


def settings_of(folder: Path) -> cases.Settings:
    return cases.Settings(
        "storyteller", "bfloat16", "cpu", threads=1, rounds=1, tokens=4, folder=folder
    )


def do_as_the_case_says(_: cases.Settings, case: str, __: float) -> cases.Told:
    if case == "fails":
        raise ValueError("no\nway")
    if case == "crashes":
        os._exit(3)
    if case == "hangs":
        time.sleep(600)
    return {"summary": str(os.getpid())}


def test_cases_that_fail_or_crash_leave_the_others_alone(tmp_path: Path) -> None:
    names = ["right", "fails", "right too", "crashes", "right again"]
    part = cases.Part("some", lambda _: names, do_as_the_case_says, share=1)
    found = cases.run(part, settings_of(tmp_path), 90)
    assert list(found) == names
    assert [each.get("error") for each in found.values()] == [
        None, "ValueError: no way", None, "its process ended with 3", None,
    ]  # fmt: skip
    assert "do_as_the_case_says" in found["fails"]["traceback"]
    first, second, third = (found[name]["summary"] for name in names if "right" in name)
    assert first == second != third


def test_cases_that_hang_end_with_the_time_of_their_part(tmp_path: Path) -> None:
    part = cases.Part("some", lambda _: ["hangs", "right"], do_as_the_case_says, share=1)
    found = cases.run(part, settings_of(tmp_path), 2)
    assert found["hangs"]["error"] == "no answer within 2 s"
    assert found["right"] == {"error": cases.NO_TIME}


@pytest.mark.parametrize("case", ["gpt_neo, float32", "storyteller, bfloat16"])
def test_steps_are_checked_and_recorded(case: str, tmp_path: Path) -> None:
    told = correctness.check_small(settings_of(tmp_path), case, 60)
    assert "error" not in told
    steps = told["recorded_steps"]
    assert steps["recordings"] >= 2
    assert steps["equal"] == steps["replayed"] > 20
    assert steps["equal_later"] > 0


@pytest.mark.slow
def test_all_parts_for_a_gpu_run_on_a_cpu(tmp_path: Path) -> None:
    output = tmp_path / "results" / "gpu.json"
    done = subprocess.run(
        [
            sys.executable, BENCHMARKS / "gpu.py", "--device", "cpu", "--shape", "storyteller",
            "--parts", "machine,weights,shape,company,speed", "--tokens", "4", "--rounds", "1",
            "--seconds", "250", "--folder", tmp_path, "--output", output,
        ],
        capture_output=True,
        text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    told = json.loads(output.read_text())
    assert told["failed"] == []
    assert set(told["parts"]) == {"machine", "weights", "shape", "company", "speed"}
    for found in told["parts"]["company"].values():
        assert found["equal"] == found["texts"]
    lines = told["parts"]["speed"]["speed"]["lines"]
    assert {line["work"] for line in lines} == {"one-stream", "64-streams"}
    assert {line["peer"] for line in lines} == {"ours", "static-batch", "continuous-batching"}


@pytest.mark.parametrize(
    "kinds", [("slots",), pytest.param(("headers", "forms", "slots"), marks=pytest.mark.slow)]
)
def test_no_honest_request_fails_beside_an_attack(kinds: tuple[str, ...]) -> None:
    with attacks.hosting("nobody", max_queue=32) as host:
        for attack in kinds:  # the last fills it
            told = attacks.measure(attack, host, clients=10, seconds=1)

            for who in ("owner", "guest"):
                assert told[who]["failures"] == []
            assert len(told["owner"]["seconds"]) >= 5
            assert told["owner"]["sent away"] == 0


# lm_eval


def outcome(accuracy: float, answer: Any) -> evaluation.Outcome:
    return evaluation.Outcome({("task", "acc"): accuracy}, {("task", 0): answer}, 1.0)


@pytest.mark.parametrize(
    ("ours", "theirs", "count"),
    [
        (outcome(0.5, [["a text"]]), outcome(0.5, [["a text"]]), 0),
        (outcome(0.5, [["a text"]]), outcome(0.5, [["a  text"]]), 1),
        (outcome(0.50001, [[["-1.0", "True"]]]), outcome(0.5, [[["-1.0005", "True"]]]), 0),
        (outcome(0.5, [[["-1.0", "True"]]]), outcome(0.5, [[["-1.0", "False"]]]), 1),
        (outcome(0.51, [["-1.0"]]), outcome(0.5, [["-1.01"]]), 2),
        (outcome(0.5, [["-1000.0"]]), outcome(0.5, [["-1000.005"]]), 0),
        (outcome(0.5, [["-1.0"]]), evaluation.Outcome({}, {}, 1.0), 2),
    ],
)
def test_evaluations_that_differ(
    ours: evaluation.Outcome, theirs: evaluation.Outcome, count: int
) -> None:
    assert len(evaluation.differences(ours, theirs)) == count
    assert len(evaluation.differences(theirs, ours)) == count


@pytest.mark.slow
def test_lm_eval_finds_in_what_is_served_what_its_own_backend_finds(tmp_path: Path) -> None:
    done = CliRunner().invoke(
        evaluation.main, ["--stories", "12", "--folder", str(tmp_path)], catch_exceptions=False
    )
    assert done.exit_code == 0, done.output
    assert re.search(r"equal: .* of 43 samples", done.output)


def test_a_for_each_is_measured_beside_map() -> None:
    """Few items, so that what is tried is how the benchmark is called."""
    line = ["--items", "6", "--tokens", "2", "--rounds", "2"]
    done = CliRunner().invoke(jobs.main, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    told = re.findall(r"^(for-each|map|ratio|memory) +-?[\d.]+", done.output, re.MULTILINE)
    assert told == ["for-each", "map", "ratio", "memory"]
