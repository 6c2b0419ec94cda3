"""Metrics of a host and its server, for Prometheus.

Names begin with ``modelcompose_``. Counters and histograms count from the server's start; what is
in memory is looked up when the metrics are asked for. What users do stands apart, since it is not
for everybody.
"""

from __future__ import annotations

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Histogram, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from ..hosted_runs import HostedRuns
from ..workflow import Run, State
from .observer import Observer, RequestRecord
from .tasks import user_of

CONTENT_TYPE = "text/plain; version=0.0.4"
CLIENT_LEFT = 499
"""What stands for the status where the client left before it had its answer."""

_MAX_LABELS = 100  # of workflows, and of users
_OTHER = "other"
_METHODS = ("GET", "HEAD", "POST", "DELETE", "PATCH", "PUT", "OPTIONS")

# Upper ends of the histograms' buckets, in seconds.
_WAITS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300)
_TOKENS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
_RUNS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)
_LOADS = (0.1, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, 600, 1800)


class Metrics(Observer, Collector):
    """Counts what happens at a host, whoever submits its runs, and at its server."""

    def __init__(self, host: HostedRuns) -> None:
        self._host = host
        self._registry = registry = CollectorRegistry()
        self._of_users = CollectorRegistry()
        self._workflows: set[str] = set()
        self._users: set[str] = set()

        def counter(name: str, about: str, *labels: str, of_users: bool = False) -> Counter:
            within = self._of_users if of_users else registry
            return Counter(f"modelcompose_{name}", about, labels, registry=within)

        def histogram(name: str, about: str, buckets: tuple[float, ...], *labels: str) -> Histogram:
            return Histogram(
                f"modelcompose_{name}", about, labels, registry=registry, buckets=buckets
            )

        self._runs = counter("runs", "Runs that have ended.", "workflow", "state")
        self._tokens = counter(
            "tokens",
            "Tokens of runs that have ended: of prompts, of prompts but reused from earlier"
            " requests, and generated.",
            "kind",
        )
        self._queue_seconds = histogram(
            "queue_seconds", "Time for which a run's first request waited for its model.", _WAITS
        )
        self._first_token_seconds = histogram(
            "first_token_seconds", "Time from a run's first request to its first token.", _WAITS
        )
        self._token_seconds = histogram(
            "token_seconds", "Time for a token, a run's mean over its tokens.", _TOKENS
        )
        self._run_seconds = histogram(
            "run_seconds", "Time from submitting a run to its end.", _RUNS
        )
        self._load_seconds = histogram(
            "model_load_seconds", "Time for which a run waited until its model was loaded.", _LOADS
        )
        self._requests = counter(
            "http_requests", "Requests by route; those whose client left have status 499.",
            "route", "method", "status",
        )  # fmt: skip
        self._request_seconds = histogram(
            "http_request_seconds", "Time to the end of the answer, streams included.", _WAITS,
            "route", "method",
        )  # fmt: skip
        self._rejected = counter("rejected", "Requests refused because the host was busy.")
        self._user_runs = counter(
            "user_runs", "Runs of users that have ended.", "user", "state", of_users=True
        )
        self._user_tokens = counter(
            "user_tokens", "Tokens of users' runs that have ended.", "user", "kind", of_users=True
        )
        registry.register(self)
        self._of_users.register(_UserRuns(self))

    def run_ended(self, run: Run, seconds: float) -> None:
        workflow = _bounded(run.workflow, self._workflows)
        self._runs.labels(workflow, str(run.state)).inc()
        if (user := self.user_label(run)) is not None:
            self._user_runs.labels(user, str(run.state)).inc()
            for kind, count in run.usage.items():
                self._user_tokens.labels(user, kind).inc(count)
        self._run_seconds.observe(seconds)
        usage, timings = run.usage, run.timings
        for kind, count in usage.items():
            self._tokens.labels(kind).inc(count)
        if usage["generated"]:
            self._queue_seconds.observe(timings["queue"])
            self._first_token_seconds.observe(timings["first_token"])
            if rate := timings["tokens_per_second"]:
                self._token_seconds.observe(1 / rate)
        phases = {e.data["phase"] for e in run.events_so_far() if e.type == "progress"}
        if "load" in timings and not phases.isdisjoint(("download", "load")):  # it waited for it
            self._load_seconds.observe(timings["load"])

    def request_ended(self, record: RequestRecord) -> None:
        route = record.route or _OTHER
        method = record.method if record.method in _METHODS else _OTHER
        status = CLIENT_LEFT if record.disconnected else record.status
        self._requests.labels(route, method, str(status)).inc()
        self._request_seconds.labels(route, method).observe(record.seconds)
        if status == 429:
            self._rejected.inc()

    def text(self, *, with_users: bool = False) -> str:
        """All of it in Prometheus' text format, what users do among it or not. Takes a while: it
        looks through the memory."""
        registries = [self._registry, *([self._of_users] if with_users else [])]
        return "".join(generate_latest(each).decode() for each in registries)

    def of_users(self) -> dict[str, Tally[str]]:
        """What each user took in runs that have ended: ``runs``, and tokens by kind."""
        taken: dict[str, Tally[str]] = {}
        for counter, label in ((self._user_runs, None), (self._user_tokens, "kind")):
            for sample in (each for family in counter.collect() for each in family.samples):
                if sample.name.endswith("_total"):
                    kind = "runs" if label is None else sample.labels[label]
                    taken.setdefault(sample.labels["user"], Tally())[kind] += int(sample.value)
        return taken

    def user_label(self, run: Run) -> str | None:
        """What a run's user is called, if it is one's."""
        user = user_of(self._host, run)
        return None if user is None else _bounded(user, self._users)

    def going(self) -> list[Run]:
        """The runs that have not ended."""
        return self._host.run_store.going()

    def collect(self) -> Iterator[Metric]:
        """What there is at the moment: runs that go on, models, memory."""
        states = Tally(run.state for run in self.going())
        going = (State.QUEUED, State.RUNNING, State.INTERRUPTED)
        begun_anew = CounterMetricFamily(
            "modelcompose_runs_begun_anew",
            "Runs that were begun anew, since what had them was lost.",
            labels=["workflow"],
        )
        for workflow, count in self._host.begun_anew.items():
            begun_anew.add_metric([_bounded(workflow, self._workflows)], count)
        yield begun_anew
        models, memory = self._host.models(), self._host.memory()
        yield _gauge("runs_in_flight", "Runs that have not ended.", ["state"],
                     {(str(state),): states[state] for state in going})  # fmt: skip
        yield _gauge("model_memory_bytes", "Memory of the weights of a model that is loaded.",
                     ["model"],
                     {(each.id,): each.memory_bytes for each in models if each.state == "ready"},
                     )  # fmt: skip
        yield _gauge("model_mapped_bytes", "What of these weights lies in mapped files.",
                     ["model"],
                     {(each.id,): each.mapped_bytes for each in models if each.state == "ready"},
                     )  # fmt: skip
        yield _gauge("model_leases", "Holders of a model.", ["model"],
                     {(each.id,): each.leases for each in models})  # fmt: skip
        yield _gauge("model_requests", "Requests at a model.", ["model", "state"],
                     {(each.id, "running"): each.running for each in models}
                     | {(each.id, "queued"): each.queued for each in models})  # fmt: skip
        yield _gauge("process_memory_bytes",
                     "Memory of the process: resident, private (USS) and proportional (PSS).",
                     ["kind"],
                     {(kind,): getattr(memory, kind)
                      for kind in ("resident", "private", "proportional")})  # fmt: skip
        yield _gauge("device_memory_bytes", "Memory that the process holds of a device.",
                     ["device", "kind"],
                     {(each.device, kind): getattr(each, kind)
                      for each in memory.devices for kind in ("allocated", "reserved")}
                     )  # fmt: skip


class _UserRuns(Collector):
    """The runs of users that go on."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics

    def collect(self) -> Iterator[GaugeMetricFamily]:
        found = ((self._metrics.user_label(run), str(run.state)) for run in self._metrics.going())
        tally = Tally(each for each in found if each[0] is not None)
        yield _gauge("user_runs_in_flight", "Runs of users that have not ended.", ["user", "state"],
                     tally)  # fmt: skip


def _bounded(label: str, known: set[str]) -> str:
    """A label while there are few; a notebook may run ever new workflows."""
    if label not in known:
        if len(known) >= _MAX_LABELS:
            return _OTHER
        known.add(label)
    return label


def _gauge(
    name: str, about: str, labels: list[str], values: Mapping[Any, float | None]
) -> GaugeMetricFamily:
    """A family of gauges, by tuples of the labels' values; those that are None are left out."""
    family = GaugeMetricFamily(f"modelcompose_{name}", about, labels=labels)
    for key, value in values.items():
        if value is not None:
            family.add_metric(key, value)
    return family
