"""The cluster: users, servers, directories and replicas, from one event to the next.

Where a run goes is decided by the code that decides it in a cluster: `Ring`, told by each server
what it knows of how many runs each replica has.
"""

from __future__ import annotations

import heapq
import math
import random
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any

from modelcompose_jupyter.ray.failover import MOST_LOSSES
from modelcompose_jupyter.ray.messages import Route
from modelcompose_jupyter.ray.placement import MOST_REFUSALS, Ring

from .replica import Replica
from .service_times import EngineTimes, ServerTimes
from .workload import Ask, Users, Workload

_MOST_EVENTS = 0.9
"""Of a server's time that events may take: beyond it, those of a run that are there together are
passed on as one."""
_WINDOW = 2.0  # seconds over which it is averaged how many events a server has
_RETRY_AFTER = 1.0  # seconds, as the answer 429 says
_TRIES = 4  # after which a user gives up, and thinks


@dataclass(frozen=True)
class Setting:
    """What is there.

    Attributes:
        replicas: all of them, a share of which is in each application.
        servers: of each application.
        applications: clusters side by side, each with a directory of its own; a user is of one.
        most_runs: of a replica.
        by_beginning: whether runs go where their beginning is known; else where least is to do.
        failures: of a replica in an hour.
        restart: seconds until there is another one in its place.
    """

    replicas: int
    engine: EngineTimes
    server: ServerTimes
    servers: int = 1
    applications: int = 1
    most_runs: int = 256
    by_beginning: bool = True
    failures: float = 0.0
    restart: float = 60.0


@dataclass
class Seen:
    """What was seen after the time that it takes to warm up. Seconds.

    Attributes:
        first: of each run, from when it was asked for to its first token.
        whole: to its end; ``paused`` has those of runs that were begun anew alone.
        present: runs that had been asked for and not ended, on average.
        refused: answers 429.
        given_up: runs of users who had been refused again and again.
        begun_anew: how often runs were.
        unfinished: runs that had not ended when the simulation did.
        busiest: the greatest share of its time that a server, and a directory, was busy.
    """

    seconds: float = 0.0
    first: list[float] = field(default_factory=list)
    whole: list[float] = field(default_factory=list)
    paused: list[float] = field(default_factory=list)
    present: float = 0.0
    prompt_tokens: int = 0
    reused_tokens: int = 0
    reply_tokens: int = 0
    submitted: int = 0
    refused: int = 0
    given_up: int = 0
    failures: int = 0
    begun_anew: int = 0
    lost: int = 0
    unfinished: int = 0
    busiest_server: float = 0.0
    busiest_directory: float = 0.0

    @property
    def throughput(self) -> float:
        """Runs a second."""
        return len(self.whole) / self.seconds

    @property
    def hit_rate(self) -> float:
        """The share of the prompts' tokens that were there already."""
        return self.reused_tokens / max(1, self.prompt_tokens)


class _Station:
    """Serves one after the other, in the order in which they come."""

    def __init__(self) -> None:
        self.free_at = 0.0
        self.busy = 0.0

    def serve(self, now: float, seconds: float) -> float:
        """When something is done that comes now and takes so long."""
        self.busy += seconds
        self.free_at = max(now, self.free_at) + self.stretched(now, seconds)
        return self.free_at

    def stretched(self, now: float, seconds: float) -> float:
        """How long something takes beside all else that is done meanwhile."""
        return seconds


class _Server(_Station):
    """A server of the run API, which passes on events beside.

    Attributes:
        loads: the runs of each replica, as far as it knows.
    """

    def __init__(self) -> None:
        super().__init__()
        self.loads: dict[str, int] = {}
        self._events = 0.0
        self._at = 0.0

    def pass_on(self, now: float, seconds: float) -> None:
        """Events took so many seconds of it, up to now."""
        self._events = self._events * math.exp((self._at - now) / _WINDOW) + seconds
        self._at = now
        self.busy += seconds

    def stretched(self, now: float, seconds: float) -> float:
        share = self._events * math.exp((self._at - now) / _WINDOW) / _WINDOW
        return seconds / (1 - min(share, _MOST_EVENTS))


class _Application:
    def __init__(self, servers: int) -> None:
        self.directory = _Station()
        self.servers = [_Server() for _ in range(servers)]
        self.replicas: dict[str, Replica] = {}
        self.ring = Ring()
        self.parked: list[Ask] = []  # while there is no replica

    def look(self) -> None:
        """Take in which replicas there are."""
        self.ring = Ring(self.replicas)
        for server in self.servers:
            server.loads = {name: server.loads.get(name, 0) for name in self.replicas}


class _Kind(IntEnum):
    ASK = 0  # by a user
    NOTE = 1  # a run, by the directory
    PLACE = 2  # a run, at a replica
    REPLICA = 3  # a replica has something
    FAIL = 4
    RESTART = 5
    AGAIN = 6  # a run, after a 429


class Simulation:
    """See the module. The same arguments give the same.

    Args:
        seed: of what is drawn.
    """

    def __init__(self, setting: Setting, workload: Workload, seed: int = 0) -> None:
        self._setting = setting
        self._times = setting.server
        self._users = Users(workload, seed)
        self._chance = random.Random(seed + 1)
        self._events: list[tuple[float, int, _Kind, Any, int]] = []
        self._number = 0
        self._made = 0
        self._seen = Seen()
        self._now = 0.0
        self._present = 0
        self._is_counting = False
        self._applications = [_Application(setting.servers) for _ in range(setting.applications)]
        for number in range(setting.replicas):
            self._start(self._applications[number % setting.applications])
        for application in self._applications:
            application.look()
        for user in range(workload.users):
            self._push(self._users.think(user), _Kind.ASK, user)
        self._schedule_failure(0.0)

    def run(self, warm: float, seconds: float) -> Seen:
        """Let so many seconds pass, after some whose runs do not count."""
        self._pass_until(warm)
        self._begin_counting()
        self._pass_until(warm + seconds)
        seen = self._seen
        seen.seconds = seconds
        seen.present /= seconds
        seen.unfinished = self._present
        stations = [each for app in self._applications for each in app.servers]
        seen.busiest_server = max(each.busy for each in stations) / seconds
        seen.busiest_directory = max(each.directory.busy for each in self._applications) / seconds
        return seen

    def _begin_counting(self) -> None:
        self._is_counting = True
        self._seen = Seen()
        for application in self._applications:
            for station in (application.directory, *application.servers):
                station.busy = 0.0

    def _pass_until(self, end: float) -> None:
        events, do = self._events, self._do
        while events and events[0][0] <= end:
            now, _, kind, what, version = heapq.heappop(events)
            self._seen.present += self._present * (now - self._now)
            self._now = now
            do(now, kind, what, version)
        self._seen.present += self._present * (end - self._now)
        self._now = end

    def _push(self, time: float, kind: _Kind, what: Any, version: int = 0) -> None:
        self._number += 1
        heapq.heappush(self._events, (time, self._number, kind, what, version))

    def _do(self, now: float, kind: _Kind, what: Any, version: int) -> None:
        match kind:
            case _Kind.REPLICA:
                application, replica = what
                if replica.version == version and replica.name in application.replicas:
                    self._continue(now, application, replica)
            case _Kind.PLACE:
                self._place(now, what)
            case _Kind.NOTE:
                done = self._application(what).directory.serve(now, self._times.directory)
                self._push(done + self._times.path, _Kind.PLACE, what)
            case _Kind.ASK:
                ask = self._users.ask(what, now)
                self._present += 1
                self._seen.submitted += 1
                self._submit(now, ask)
            case _Kind.AGAIN:
                self._submit(now, what)
            case _Kind.FAIL:
                self._fail(now)
            case _Kind.RESTART:
                self._start(what)
                what.look()
                parked, what.parked = what.parked, []
                for ask in parked:
                    self._push(now, _Kind.PLACE, ask)

    # Runs

    def _application(self, ask: Ask) -> _Application:
        return self._applications[ask.user % len(self._applications)]

    def _server(self, ask: Ask) -> _Server:
        servers = self._application(ask).servers
        return servers[ask.user // len(self._applications) % len(servers)]

    def _submit(self, now: float, ask: Ask) -> None:
        server = self._server(ask)
        replicas = len(self._application(ask).replicas)
        seconds = self._times.run + self._times.ranking * replicas
        done = server.serve(now, seconds)
        self._push(done, _Kind.NOTE, ask)

    def _place(self, now: float, ask: Ask) -> None:
        """Find a replica for a run."""
        application, server = self._application(ask), self._server(ask)
        if not application.replicas:
            application.parked.append(ask)
            return
        beginning = ask.beginning if self._setting.by_beginning else None
        refused: set[str] = set()
        while len(refused) < min(MOST_REFUSALS, len(application.replicas)):
            route = Route(refused=frozenset(refused), beginning=beginning)
            name = application.ring.ranked(route, server.loads)[0]
            replica = application.replicas[name]
            if not replica.is_full:
                replica.add(ask, now)
                server.loads[name] = replica.runs
                self._tell(application, replica)
                break
            server.loads[name] = replica.runs
            refused.add(name)
        else:
            self._seen.refused += 1
            self._refuse(now, ask)
        if refused:
            each = self._times.attempt + self._times.ranking * len(application.replicas)
            server.serve(now, len(refused) * each)

    def _refuse(self, now: float, ask: Ask) -> None:
        ask.refusals += 1
        if ask.refusals == _TRIES and not ask.losses:
            self._seen.given_up += 1
            self._leave(now, ask)
        else:
            again = _RETRY_AFTER * self._chance.uniform(1, 2)
            self._push(now + again, _Kind.AGAIN, ask)

    def _leave(self, now: float, ask: Ask) -> None:
        self._present -= 1
        self._push(now + self._users.think(ask.user), _Kind.ASK, ask.user)

    def _tell(self, application: _Application, replica: Replica) -> None:
        replica.version += 1
        time = replica.next_time()
        if time < math.inf:
            self._push(time, _Kind.REPLICA, (application, replica), replica.version)

    def _continue(self, now: float, application: _Application, replica: Replica) -> None:
        firsts, ended = replica.pass_until(now)
        for ask in firsts:
            if ask.first < 0:
                server = self._server(ask)
                ask.first = now + server.stretched(now, self._times.event)
        for ask in ended:
            self._end(now, replica, ask)
        self._tell(application, replica)

    def _end(self, now: float, replica: Replica, ask: Ask) -> None:
        server = self._server(ask)
        server.pass_on(now, ask.reply * self._times.event)
        server.loads[replica.name] = max(0, server.loads.get(replica.name, 0) - 1)
        self._leave(now, ask)
        if self._is_counting:
            seen = self._seen
            seen.first.append(ask.first - ask.asked)
            seen.whole.append(now - ask.asked)
            if ask.losses:
                seen.paused.append(now - ask.asked)
            seen.prompt_tokens += ask.prompt
            seen.reused_tokens += ask.reused
            seen.reply_tokens += ask.reply

    # Replicas

    def _start(self, application: _Application) -> None:
        self._made += 1
        name = f"{random.Random(self._made).getrandbits(48):012x}"  # as Ray's are
        setting = self._setting
        application.replicas[name] = Replica(name, setting.engine, setting.most_runs)

    def _schedule_failure(self, now: float) -> None:
        rate = self._setting.failures * self._setting.replicas / 3600
        if rate:
            self._push(now + self._chance.expovariate(rate), _Kind.FAIL, None)

    def _fail(self, now: float) -> None:
        """One of the replicas that there may be fails, if it is there."""
        self._schedule_failure(now)
        chosen = self._chance.randrange(self._setting.replicas)
        application = self._applications[chosen % len(self._applications)]
        names = sorted(application.replicas)
        place = chosen // len(self._applications)
        if place >= len(names):
            return
        replica = application.replicas.pop(names[place])
        application.look()
        self._seen.failures += 1
        self._push(now + self._setting.restart, _Kind.RESTART, application)
        for ask in replica.all():
            ask.losses += 1
            if ask.losses > MOST_LOSSES:
                self._seen.lost += 1
                self._leave(now, ask)
                continue
            self._seen.begun_anew += 1
            self._push(now + self._times.path, _Kind.PLACE, ask)
