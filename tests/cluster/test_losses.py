"""Replicas, servers and the directory are killed while runs go on: no text is lost, or another."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from standins.waiting import until

from modelcompose_jupyter.document import load_document
from modelcompose_jupyter.submission import Requester

from .conftest import LONG, STORY

pytestmark = pytest.mark.ray
KILLS = 20


class Watched:
    """What somebody has been shown of a run, by its events as they come."""

    def __init__(self, run):
        self.run = run
        self.numbers, self.taken_back = [-1], []
        self.texts = {}
        run.watch(self._look)

    def _look(self):
        for event in self.run.events_so_far(self.numbers[-1]):
            self.numbers.append(event.number)
            if event.type == "text" and not self.run.done:
                shown = self.texts.setdefault(tuple(event.data["stream"]), "")
                text = shown[: event.data["offset"]] + event.data["text"]
                if not text.startswith(shown.rstrip("\ufffd")):
                    self.taken_back.append((shown, text))
                self.texts[tuple(event.data["stream"])] = text


def place(host, run):
    return host._followed[run.id].replica


def going(host, run):
    """Wait until a run is amid its texts."""
    assert run.wait_for(lambda: len(run.text) > 300 and place(host, run) is not None, 60)
    return run


def test_a_replica_is_killed_amid_streams_again_and_again(host, story, solo, replicas):
    chance = random.Random(7)
    asked = [
        ({"prompt": f"Once upon a time a {who}", **LONG}, seed)
        for who in ("fox", "owl") for seed in range(3)
    ]  # fmt: skip
    expected = [solo(story, *each).streams for each in asked]
    kills = 0
    while kills < KILLS:  # all but one of the replicas, at the same time
        pids = replicas.pids()
        runs = [host.submit(story, None, given, seed=seed) for given, seed in asked]
        watched = [Watched(run) for run in runs]
        going(host, chance.choice(runs))
        there = {run.id: place(host, run) for run in runs if not run.done}
        victims = sorted({*pids} & {*there.values()})[: max(1, len(pids) - 1)]
        for victim in victims:
            os.kill(pids[victim], signal.SIGKILL)
        for run, each, streams in zip(runs, watched, expected, strict=True):
            assert run.wait(240) and run.error is None
            assert run.streams == streams and not run.warnings
            assert each.numbers == sorted({*each.numbers}) and not each.taken_back
        anew = {at for id, at in there.items() if host._followed[id].epoch}
        kills += len(anew & {*victims})  # others came when its runs were over
        until(lambda: len(replicas.pids()) >= 2)
    assert host.begun_anew.total() >= KILLS


COMPONENT = """
component:
  id: teller
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: 400
"""
KINDS = {
    "tokens": (STORY, {"prompt": "Once", **LONG}, {"logprobs": 2}),
    "a format": (
        f"{COMPONENT}  format: {{regex: '[a-z ]{{300}}'}}\n"
        "workflow: {job: {repeat_count: 16}}",
        {"prompt": "Once"},
        {},
    ),
    "sequences": (f"{COMPONENT}  num_return_sequences: 16", {"prompt": "Once"}, {}),
    "a list": (
        f"""{COMPONENT}
workflow:
  jobs:
    - id: all
      type: for-each
      input: ${{input.prompts as string[]}}
      batch_size: 4
      do: {{component: teller, input: {{prompt: "${{item}}"}}}}
""",
        {"prompts": [f"On day {number}" for number in range(24)]},
        {},
    ),
    "a chat": (
        COMPONENT.replace("text-generation", "chat-completion").replace(
            "text: ${input.prompt as text}", "messages: ${input.messages as messages}"
        ) + "workflow: {job: {repeat_count: 16}}",
        {"messages": [{"role": "user", "content": "Tell me a story."}]},
        {},
    ),
}  # fmt: skip


def test_runs_of_all_kinds_go_on(host, replicas, solo):
    pids = replicas.pids()
    kinds = [(load_document(text), *others) for text, *others in KINDS.values()]
    runs = [host.submit(document, None, *given, seed=3, **more) for document, *given, more in kinds]
    watched = list(map(Watched, runs))
    for run in runs:
        assert run.wait_for(lambda: run.done or run.text, 60)  # noqa: B023
    there = {run.id: place(host, run) for run in runs if not run.done}
    for victim in sorted({*pids} & {*there.values()})[:2]:
        os.kill(pids[victim], signal.SIGKILL)
    for run, each, (document, given, more) in zip(runs, watched, kinds, strict=True):
        alone = solo(document, given, 3, **more)
        assert run.wait(240) and run.error is None and not run.warnings
        assert run.output == alone.output and run.streams == alone.streams
        assert run.finish_reasons == alone.finish_reasons
        assert states(run) == states(alone)
        assert [list(map(odds, each)) for each in run.tokens] == [
            list(map(odds, each)) for each in alone.tokens
        ]
        assert each.numbers == sorted({*each.numbers}) and not each.taken_back


def odds(token):
    return token.id, token.logprob, [(each.id, each.logprob) for each in token.alternatives]


def states(run):
    """How far its jobs and their elements are."""
    jobs = {
        id: [each.get(name) for name in ("state", "done", "total")] for id, each in run.jobs.items()
    }
    return jobs, {
        id: {index: each["state"] for index, each in of.items()} for id, of in run.items.items()
    }


def test_two_servers_see_the_same_run_go_on(hosts, story, solo, replicas):
    first, second = hosts(), hosts()
    given = {"prompt": "Once", **LONG}
    run = going(first, first.submit(story, None, given, seed=4, requester=Requester(Owed())))
    there = adopted(second, run.id)
    replicas.kill(place(first, run))
    assert run.wait(120) and there.wait(120)
    assert run.streams == there.streams == solo(story, given, 4).streams
    assert run.last_event == there.last_event >= 2**32


class Owed:
    """For whom a run is, as a server's terms say it."""

    def __init__(self, linger=None):
        self.linger = linger

    def to_plain(self):
        return {"caller": 2, "linger": self.linger, "session_id": None}


def adopted(host, id):
    """The run of another server, as a host finds it."""
    import asyncio

    found = asyncio.run(host.find(id, lambda plain: Owed()))
    return host.run_store.load(found)


def test_a_run_that_has_ended_is_there_though_its_replica_is_not(hosts, story, solo, replicas):
    first, second = hosts(), hosts()
    given = {"prompt": "Once upon a time", "tokens": 60}
    run = first.submit(story, None, given, seed=9, requester=Requester(Owed()))
    assert run.wait(60)
    victim = place(first, run)
    replicas.kill(victim)
    until(lambda: victim not in replicas.pids())
    there = adopted(second, run.id)
    assert there.wait(120) and there.text == run.text == solo(story, given, 9).text


def test_who_loses_too_many_replicas_is_told(host, story, replicas, monkeypatch):
    monkeypatch.setattr("modelcompose_jupyter.ray.ray_host.MOST_LOSSES", 0)
    run = going(host, host.submit(story, None, {"prompt": "Once", **LONG}))
    replicas.kill(place(host, run))
    assert run.wait(60) and run.error.code == "replicas_lost"
    assert run.text  # what there was stays


def test_the_directory_is_killed(hosts, story, solo, application):
    import ray

    first, second = hosts(), hosts()
    given = {"prompt": "Once", **LONG}
    run = going(first, first.submit(story, None, given, seed=2, requester=Requester(Owed())))
    ended = first.submit(story, None, {"prompt": "A fox"}, seed=2, requester=Requester(Owed()))
    assert ended.wait(60)
    ray.kill(application.directory, no_restart=False)
    new = first.submit(story, None, {"prompt": "An owl"}, seed=2)
    assert new.wait(120) and new.error is None

    def is_told():  # servers tell a new one what they know
        return all(ray.get(application.directory.find.remote(each.id)) for each in (run, ended))

    until(is_told)
    assert adopted(second, run.id).wait(120) and run.wait(120)
    assert adopted(second, run.id).streams == run.streams == solo(story, given, 2).streams
    assert adopted(second, ended.id).text == ended.text


ASKING = STORY.replace("  job:\n", """  jobs:
    - id: ask
      input: {prompt: "${input.prompt}"}
      interrupt: {before: {message: "Which?"}}
    - id: long
      depends_on: [ask]
      input: {prompt: "${jobs.ask.output}", tokens: 480}
""").replace("    repeat_count: ${input.texts as integer | 1}\n    output: ${output}\n",
"      repeat_count: 16\n")  # fmt: skip


def test_what_was_answered_is_answered_again(host, replicas):
    document = load_document(ASKING)
    run = host.submit(document, None, {"prompt": "Once"}, seed=1)
    assert run.wait_for(lambda: run.questions, 60)
    run.answer({"prompt": "The old owl"})
    assert not run.questions
    run.wait_for(lambda: len(run.text) > 2000, 60)
    replicas.kill(place(host, run))
    assert run.wait(120) and run.error is None
    assert host._followed[run.id].epoch == 1 and not run.warnings
    again = host.submit(document, None, {"prompt": "Once"}, seed=1)
    assert again.wait_for(lambda: again.questions, 60)
    again.answer({"prompt": "The old owl"})
    assert again.wait(120) and again.streams == run.streams
    assert "The old owl" in run.text


def test_a_run_that_nobody_watches_any_more_ends(hosts, application):
    from modelcompose_jupyter.ray.ray_host import RayHost

    document = load_document(ASKING)
    lost = RayHost(application)  # which says nothing any more, as one that was killed
    runs = [
        lost.submit(document, None, {"prompt": "a"}, requester=Requester(Owed(linger)))
        for linger in (0.0, None)
    ]
    assert all(run.wait_for(lambda: run.questions, 60) for run in runs)  # noqa: B023
    lost._greeting.cancel()
    other = hosts()
    until(lambda: lost._name not in lost._schedule(lost._servers()).result(20))
    until(lambda: runs[0].done)
    assert adopted(other, runs[0].id).state == "cancelled"
    stays = adopted(other, runs[1].id)  # to its end, whoever watches
    assert stays.state == "interrupted"
    stays.cancel()
    assert stays.wait(20)
    lost.close(20)


# Servers as processes of their own, as `up --ray` starts them


@contextlib.contextmanager
def server(address, path):
    """The URL of the run API of a server of a cluster's replicas, and its host's process."""
    arguments = [path, "--ray", address, "--replicas", "2", "--no-webui", "--port", "0"]
    code = "from modelcompose_jupyter.cli import main; main()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, "up", *arguments],
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        line = process.stdout.readline()
        assert line.startswith("API"), process.stderr.read()
        yield line.split()[1], process
    finally:
        process.terminate()
        process.communicate(timeout=60)


def host_of(process):
    import psutil

    [host] = [
        each for each in psutil.Process(process.pid).children()
        if any("serve_ingress" in part for part in each.cmdline())
    ]  # fmt: skip
    return host.pid


def read_to_the_end(urls, id):
    """The texts of a run by stream, read at one server after the other: where one is gone, at the
    next; and how often that was so."""
    last, texts, state, changes = -1, {}, None, 0
    while state not in ("completed", "failed", "cancelled"):
        headers = {} if last < 0 else {"Last-Event-ID": str(last)}
        url = f"{urls[changes % len(urls)]}/tasks/{id}/events"
        try:
            with httpx.stream("GET", url, headers=headers, timeout=60, trust_env=False) as answer:
                if answer.status_code == 204:
                    break
                assert answer.status_code == 200
                fields = {}
                for line in answer.iter_lines():
                    name, _, value = line.partition(": ")
                    if name:
                        fields[name] = value
                    elif "data" in fields:
                        number, data = int(fields["id"]), json.loads(fields["data"])
                        assert number > last
                        last = number
                        if fields["event"] == "text":
                            stream = tuple(data["stream"])
                            texts[stream] = texts.get(stream, "")[: data["offset"]] + data["text"]
                        if fields["event"] == "state":
                            state = data["state"]
                        fields = {}
        except httpx.HTTPError:
            changes += 1
    assert state == "completed"
    return texts, changes


def test_a_server_is_killed_and_clients_go_on_at_another(address, tmp_path, story, solo):
    path = tmp_path / "told.yml"
    path.write_text(STORY)
    with server(address, str(path)) as (first, process), server(address, str(path)) as (second, _):
        asked = [
            ({"prompt": f"The {who}", **LONG}, seed) for who in ("fox", "owl") for seed in (1, 2)
        ]
        ids = []
        for given, seed in asked:
            body = {"input": given, "seed": seed, "wait_for_completion": False}
            answer = httpx.post(f"{first}/workflows/runs", json=body, timeout=60, trust_env=False)
            ids.append(answer.json()["task_id"])
        with ThreadPoolExecutor(len(ids)) as pool:
            reading = [pool.submit(read_to_the_end, [first, second], id) for id in ids]
            os.kill(host_of(process), signal.SIGKILL)
            for (given, seed), told in zip(asked, reading, strict=True):
                texts, changes = told.result(120)
                assert changes == 1 and texts == solo(story, given, seed).streams
        # What nobody had asked the other one for is there as well.
        body = {"input": {"prompt": "A"}, "seed": 1}
        assert httpx.post(f"{second}/workflows/runs", json=body, trust_env=False).status_code == 200
