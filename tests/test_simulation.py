"""The simulation of many replicas: laws of any queue; what routing and failures do."""

from __future__ import annotations

import math
import statistics
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from click.testing import CliRunner

from modelcompose_jupyter.document import load_document

BENCHMARKS = Path(__file__).parent.parent / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("the benchmarks are in the repository alone", allow_module_level=True)
sys.path.append(str(BENCHMARKS))

import simulation  # noqa: E402
from simulated import slowed  # noqa: E402
from simulated.clients import DOCUMENT  # noqa: E402
from simulated.cluster import Seen, Setting, Simulation  # noqa: E402
from simulated.replica import KeptPrefixes, Replica  # noqa: E402
from simulated.service_times import EngineTimes, ServerTimes, ServiceTimes, line  # noqa: E402
from simulated.workload import Ask, Users, Workload  # noqa: E402

ENGINE = EngineTimes("a model", 0.02, 0.001, 0.001, 32, 20_000, 256)
SERVER = ServerTimes(0.002, 0.0001, 0.001, 1e-6, 0.001, 0.004)
NOTHING = ServerTimes(0.0, 0.0, 0.0, 0.0, 0.0, 0.0)
CHATS = Workload(300, think=10.0, pause=60.0, classes=50, reply=30)
PROMPTS = replace(CHATS, turns=1, pause=10.0, beginning=300, by_class=True)


def simulated(setting: Setting, workload: Workload, seed: int = 0, seconds: float = 200.0) -> Seen:
    return Simulation(setting, workload, seed).run(60.0, seconds)


def test_the_same_seed_gives_the_same_and_another_one_does_not() -> None:
    setting = Setting(4, ENGINE, SERVER, servers=2, failures=20.0)
    first, again, other = (simulated(setting, CHATS, seed) for seed in (1, 1, 2))
    assert first == again
    assert first.first != other.first


@pytest.mark.parametrize("applications", [1, 2])
def test_as_many_are_there_as_come_times_how_long_they_stay(applications: int) -> None:
    """Little's law."""
    setting = Setting(4, ENGINE, SERVER, servers=2, applications=applications)
    seen = simulated(setting, CHATS, seconds=1000.0)
    assert seen.present == pytest.approx(seen.throughput * statistics.fmean(seen.whole), rel=0.02)
    assert seen.submitted == pytest.approx(len(seen.whole), rel=0.02)


def test_one_text_at_a_time_waits_as_the_formula_says() -> None:
    """M/D/1: many users who ask rarely, and answers of the same length."""
    engine = EngineTimes("a model", 0.01, 0.0, 0.001, 1, 0, 0)
    service, load, users = 0.05, 0.7, 20_000  # 40 tokens of a prompt, and a step
    workload = Workload(
        users, pause=users * service / load, turns=1, beginning=0, question=40, reply=1, spread=0.0
    )
    seen = simulated(Setting(1, engine, NOTHING, most_runs=users), workload, seconds=3000.0)
    assert seen.throughput == pytest.approx(load / service, rel=0.03)
    waited = statistics.fmean(seen.first) - service
    assert waited == pytest.approx(service * load / (2 * (1 - load)), rel=0.06)


def test_texts_that_run_together_share_the_steps() -> None:
    engine = EngineTimes("a model", 0.1, 0.01, 0.001, 4, 0, 0)
    replica = Replica("one", engine, most_runs=8)
    for chat in range(5):
        replica.add(Ask(chat, chat, chat, 0, 0, 20, 11, "", 0.0), 0.0)
    seen = []
    while (now := replica.next_time()) < math.inf:
        firsts, ended = replica.pass_until(now)
        seen.append((round(now, 6), len(firsts), len(ended)))
    read, step = 0.1 + 0.02, 0.1 + 4 * 0.01
    # The first is read as soon as it is there; then three more, in one step with a token of it.
    others = read + 0.1 + 0.01 + 3 * 0.02
    first_ends = others + 9 * step
    # The fifth, for which there was no room before, beside the last token of the others.
    fifth = first_ends + 0.1 + 3 * 0.01 + 0.02
    assert seen == [
        (round(read, 6), 1, 0),
        (round(others, 6), 3, 0),
        (round(first_ends, 6), 0, 1),
        (round(fifth, 6), 1, 3),
        (round(fifth + 10 * engine.step(1), 6), 0, 1),
    ]


@pytest.mark.parametrize("workload", [CHATS, PROMPTS])
def test_where_beginnings_are_known_less_is_read(workload: Workload) -> None:
    engine = replace(ENGINE, kept_tokens=8000)
    by_beginning, by_load = (
        simulated(Setting(6, engine, SERVER, by_beginning=way), workload) for way in (True, False)
    )
    assert by_beginning.hit_rate > by_load.hit_rate + 0.1
    assert statistics.median(by_beginning.first) < statistics.median(by_load.first)


def test_no_run_is_lost_where_replicas_fail() -> None:
    setting = Setting(4, ENGINE, SERVER, failures=60.0, restart=20.0)
    seen = simulated(setting, CHATS, seconds=600.0)
    assert seen.failures > 20 and seen.begun_anew > 50 and seen.lost == 0
    assert statistics.fmean(seen.paused) > statistics.fmean(seen.whole)
    # Each user has one run at most, and goes on after it.
    assert seen.submitted - len(seen.whole) <= seen.unfinished <= CHATS.users


def test_runs_wait_while_there_is_no_replica() -> None:
    setting = Setting(1, ENGINE, SERVER, failures=30.0, restart=50.0)
    seen = simulated(setting, replace(CHATS, users=20), seconds=2000.0)
    assert seen.failures > 5 and seen.lost == 0
    assert max(seen.whole) > 50


def test_a_full_cluster_sends_users_away_and_they_come_back() -> None:
    seen = simulated(Setting(2, ENGINE, SERVER, most_runs=4), replace(CHATS, pause=5.0))
    assert seen.refused > 100 and len(seen.whole) > 100
    assert seen.present <= CHATS.users


def test_a_busy_directory_bounds_what_one_application_takes() -> None:
    slow = replace(SERVER, directory=0.5)
    one, two = (
        simulated(Setting(8, ENGINE, slow, applications=count), replace(CHATS, pause=5.0))
        for count in (1, 2)
    )
    assert one.throughput == pytest.approx(2.0, rel=0.02)
    assert two.throughput == pytest.approx(4.0, rel=0.02)
    assert one.busiest_directory == pytest.approx(1.0, rel=0.02)


def ask(chat: int, kind: int, known: int = 0) -> Ask:
    return Ask(0, chat, kind, 100, known, known + 150, 50, "", 0.0)


def test_a_prefix_cache_forgets_what_was_used_least_recently() -> None:
    kept = KeptPrefixes(most_tokens=1000, most_texts=3)
    for chat in range(3):
        kept.classes[chat] += 1  # it runs
        kept.keep(ask(chat, kind=chat))
    assert kept.reused(ask(0, 0, known=200)) == 200
    assert kept.reused(ask(9, 1)) == 100  # of the class
    kept.classes[3] += 1
    kept.keep(ask(3, kind=3))  # chat 1 goes
    assert [kept.reused(ask(chat, chat, known=200)) for chat in range(4)] == [200, 0, 200, 200]
    kept.classes[0] += 1
    kept.keep(ask(0, 0, known=800))  # which is as much as there is room for
    assert [kept.reused(ask(chat, chat, known=200)) for chat in range(4)] == [200, 0, 0, 0]


def test_users_ask_on_in_their_chats() -> None:
    workload = Workload(1, turns=3, beginning=100, question=20, reply=30, spread=0.0)
    users = Users(workload, 0)
    asked = [users.ask(0, 0.0) for _ in range(9)]
    while asked[0].known:  # amid a chat
        asked.pop(0)
    for number, each in enumerate(asked):
        turn = number % 3
        assert each.known == (100 + 50 * turn if turn else 0)
        assert each.prompt == 120 + 50 * turn
        assert each.beginning == f"chat {each.chat}"
    assert len({each.chat for each in asked}) == (len(asked) + 2) // 3


def test_service_times_are_kept_and_a_line_goes_through_points(tmp_path: Path) -> None:
    times = ServiceTimes({"cores": 2}, {"a model": ENGINE}, SERVER, 12.0)
    times.save(tmp_path / "times.json")
    assert ServiceTimes.load(tmp_path / "times.json") == times
    assert line([(1, 12.0), (2, 14.0), (5, 20.0)]) == pytest.approx((10.0, 2.0))


class _Clock:
    """Time stands still but for those who sleep."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    def perf_counter(self) -> float:
        return 0.0

    def sleep(self, seconds: float) -> None:
        self.slept.append(round(seconds, 6))


def test_a_slowed_model_sleeps_as_long_as_its_steps_are_said_to_take(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    clock = _Clock()
    monkeypatch.setattr(slowed, "time", clock)
    monkeypatch.setattr(slowed.scheduler, "make_runner", slowed.scheduler.make_runner)
    host = slowed.make_host(EngineTimes("slow", 1.0, 0.5, 0.25, 64, 0, 0))
    try:
        given = {"prompt": "Once upon a time", "tokens": 4}
        run = host.submit(load_document(DOCUMENT), None, given)
        run.result()
    finally:
        host.close()
    read = 1.0 + 0.25 * run.usage["prompt"]
    assert clock.slept == [read, 1.5, 1.5, 1.5]


def test_one_setting_is_simulated_with_what_was_measured_here() -> None:
    line = ["run", "--users", "2000", "--replicas", "2", "--seconds", "100", "--failures", "9"]
    done = CliRunner().invoke(simulation.main, line, catch_exceptions=False)
    assert done.exit_code == 0, done.output
    assert '"runs_a_second": ' in done.output and "simulated in" in done.output
