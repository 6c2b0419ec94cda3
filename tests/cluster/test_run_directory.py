"""What a cluster knows of its runs."""

from __future__ import annotations

import asyncio
import functools

from modelcompose_jupyter.ray import run_directory
from modelcompose_jupyter.ray.messages import Order, PackedDocument
from modelcompose_jupyter.ray.run_directory import Entry, RunDirectory
from modelcompose_jupyter.submission import Requester
from modelcompose_jupyter.workflow.extension import EarlierRun


def on_a_loop(test):
    @functools.wraps(test)
    def run(**fixtures):
        asyncio.run(test(**fixtures))

    return run


def order(id):
    return Order(
        id=id, document="d", workflow="w", input={}, options={}, earlier=EarlierRun(),
        metadata=None, requester=Requester({"caller": 1}), beginning=None,
    )  # fmt: skip


@on_a_loop
async def test_of_those_who_say_that_a_run_is_lost_one_begins_it_anew():
    directory = RunDirectory()
    await directory.add(Entry(order("a"), 10))
    await directory.placed("a", 0, "r0")
    said = await asyncio.gather(*(directory.begin_anew("a", 0) for _ in range(3)))
    assert said == [True, False, False]
    finding = asyncio.create_task(directory.find("a"))  # the others wait until it has a place
    await asyncio.sleep(0)
    await directory.placed("a", 0, "old")  # who is late says nothing
    await directory.placed("a", 1, "r1")
    entry = await finding
    assert entry is not None and (entry.epoch, entry.replica) == (1, "r1")


@on_a_loop
async def test_a_run_that_is_nowhere_is_found_after_a_while(monkeypatch):
    monkeypatch.setattr(run_directory, "_PLACED_SECONDS", 0.01)
    directory = RunDirectory()
    await directory.add(Entry(order("a"), 10))
    entry = await directory.find("a")
    assert entry is not None and entry.replica is None
    assert await directory.find("b") is None


@on_a_loop
async def test_it_is_bounded_by_number_and_bytes(monkeypatch):
    monkeypatch.setattr(run_directory, "KEPT_RUNS", 3)
    monkeypatch.setattr(run_directory, "KEPT_BYTES", 100)
    directory = RunDirectory()
    for id in "abc":
        await directory.add(Entry(order(id), 10, replica="r"))
    await directory.ended("b")  # those that have ended go first
    await directory.add(Entry(order("d"), 10, replica="r"))
    assert [bool(await directory.find(id)) for id in "abcd"] == [True, False, True, True]
    await directory.add(Entry(order("e"), 90, replica="r"))
    assert [bool(await directory.find(id)) for id in "acde"] == [False, False, True, True]


@on_a_loop
async def test_runs_that_ended_are_forgotten_after_their_time(monkeypatch):
    now = 0.0
    monkeypatch.setattr(run_directory.time, "monotonic", lambda: now)
    directory = RunDirectory(ttl=60)
    for id in "ab":
        await directory.add(Entry(order(id), 10, replica="r"))
    await directory.ended("a")
    now = 61.0
    assert [bool(await directory.find(id)) for id in "ab"] == [False, True]


@on_a_loop
async def test_what_a_server_tells_again_changes_nothing_that_is_newer():
    directory = RunDirectory()
    await directory.add(Entry(order("a"), 10, epoch=2, replica="r2"))
    await directory.add(Entry(order("a"), 10, epoch=1, replica="r1"))
    entry = await directory.find("a")
    assert entry is not None and (entry.epoch, entry.replica) == (2, "r2")


@on_a_loop
async def test_servers_are_there_while_they_say_so(monkeypatch):
    now = 0.0
    monkeypatch.setattr(run_directory.time, "monotonic", lambda: now)
    directory = RunDirectory()
    assert await directory.greet("one") == await directory.greet("two")
    now = run_directory.SERVER_SECONDS / 2
    await directory.greet("two")
    assert await directory.servers() == ["one", "two"]
    now = run_directory.SERVER_SECONDS + 1
    assert await directory.servers() == ["two"]
    assert await directory.part("two") == 0
    assert await RunDirectory().greet("one") != await directory.greet("one")


@on_a_loop
async def test_documents_are_bounded_and_say_nothing_of_what_they_hold(monkeypatch):
    monkeypatch.setattr(run_directory, "KEPT_DOCUMENTS", 2)
    directory = RunDirectory()
    documents = [PackedDocument(bytes([number]) * 10) for number in range(3)]
    for each in documents[:2]:
        await directory.add_document(each)
    assert await directory.document(documents[0].key) == documents[0]
    await directory.add_document(documents[2])
    assert await directory.document(documents[1].key) is None
    assert "content" not in repr(documents[0]) and "input" not in repr(order("a"))
