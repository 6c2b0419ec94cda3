"""The cluster: joined, or started on this machine; and the application that is deployed there."""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import shutil
import socket
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import ray
from ray import serve
from ray.serve.config import RequestRouterConfig

from ..document import RayRuntime
from ..errors import ComposeError
from ..host import LocalHost
from ..processes import descendants, end_all, find_process
from ..redaction import get_logger
from .cluster_folder import folder_of, make_folder
from .replica import Replica
from .run_directory import RunDirectory

NAMESPACE = "modelcompose"
_REPLICA = "replica"
_ROUTER = "modelcompose_jupyter.ray.request_router.BeginningRouter"
_MOST_REQUESTS = 100_000  # at a replica; its host says how many runs it takes
_SCALING = {"target_ongoing_requests": 32}  # runs of a replica that autoscaling aims at
_START_MILLISECONDS = 120_000
_ANSWER_SECONDS = 10.0  # in which the head of a cluster takes a connection
_HEALTH_SECONDS = 2.0
_ATTEMPTS = 6  # of half a minute each
_CONTROL = {"num_cpus": 0}

_log = get_logger(__name__)


@dataclass(frozen=True)
class Application:
    """What runs in the cluster for servers of the same name.

    Attributes:
        name: of it.
        handle: of the replicas.
        directory: of the actor that has the `RunDirectory`.
        connection: to the cluster, where it is closed with the application.
    """

    name: str
    handle: Any
    directory: Any
    connection: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)

    def remove(self) -> None:
        """End all of it in the cluster. Replicas that have runs of servers that are lost may take
        their time, which nobody has to wait for but who calls."""
        ray.kill(self.directory)
        serve.delete(self.name)


def join(name: str, runtime: RayRuntime, limits: Mapping[str, Any], folder: Path) -> Application:
    """Connect to the cluster and `deploy`; ``folder`` is as in `cluster`.

    Raises:
        ComposeError: there is no cluster.
    """
    with contextlib.ExitStack() as stack:
        stack.enter_context(cluster(runtime.address, folder))
        application = deploy(name, runtime, limits)
        return replace(application, connection=stack.pop_all())


@contextlib.contextmanager
def cluster(address: str | None, folder: Path | None = None) -> Iterator[None]:
    """A connection to a cluster, or to one that is started on this machine where there is no
    address, and ends with it: its files are in the folder, or one that is made.

    Raises:
        ComposeError: there is none.
    """
    prepare()
    if address is None and folder is None:
        folder = folder_of(secrets.token_hex(6))
    try:
        if address is not None:
            _connect(address)
        elif folder is not None:
            _start(folder)
        yield
    finally:
        ray.shutdown()
        if address is None and folder is not None:
            shutil.rmtree(folder, ignore_errors=True)


def prepare() -> None:
    """Set how Ray is in this process, and in those that it starts: patient, quiet, and telling
    nobody anything."""
    # Agents have 15 seconds by default, in which a busy machine may not start them.
    os.environ.setdefault("RAY_agent_register_timeout_ms", str(_START_MILLISECONDS))
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    for name in ("ray", "ray.serve"):
        logging.getLogger(name).setLevel(logging.ERROR)


def _start(folder: Path) -> None:
    temporary = make_folder(folder)
    # Its own, in place of one in the home: nobody else on this machine can use it.
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(token)
    for attempt in range(_ATTEMPTS):
        try:
            _init("local", include_dashboard=False, _temp_dir=str(temporary))
            return
        except Exception as error:  # it has half a minute, whatever the machine has to do
            if attempt == _ATTEMPTS - 1:
                reason = _reason(error)
                raise ComposeError(f"Ray cannot be started: {reason}", code="no_cluster") from None
            _log.warning("Ray is started once more: %s", _reason(error))
            end_all(descendants(find_process(os.getpid())))


def _connect(address: str) -> None:
    try:
        if address != "auto":
            _reach(address)
        _init(address)
    except Exception as error:  # of many kinds
        raise ComposeError(
            f"there is no Ray cluster at {address}: {_reason(error)}",
            hint="This machine must be one of its nodes: 'ray start --address=HEAD:6379' makes it "
            "one, and 'auto' is the cluster that it belongs to. Its version of Ray must be this "
            f"one, {ray.__version__}, and its token that of this user. Without an address one is "
            "started here.",
            code="no_cluster",
        ) from None


def _reach(address: str) -> None:
    """See whether something listens there, which Ray itself tries for minutes.

    Raises:
        ValueError: it is no address.
        OSError: nothing does.
    """
    host, _, port = address.rpartition(":")
    if not host or "/" in host or not port.isdecimal():
        raise ValueError("an address is HOST:PORT, or 'auto'")
    with socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS):
        pass


def _init(address: str, **more: Any) -> None:
    ray.init(
        address=address, namespace=NAMESPACE, log_to_driver=False, logging_level="ERROR", **more
    )


def _reason(error: Exception) -> str:
    told = getattr(error, "strerror", None) or str(error)
    return str(told).strip().partition("\n")[0]


def deploy(
    name: str,
    runtime: RayRuntime,
    limits: Mapping[str, Any],
    *,
    make_host: Callable[[], LocalHost] = LocalHost,
) -> Application:
    """Have replicas run; those that run already are given what has changed, and lose no run.

    Args:
        name: of the application.
        runtime: how many there are, and what each needs.
        limits: of each replica's host; see `LocalHost.limit`.
        make_host: gives a replica its host, there.

    Raises:
        ComposeError: there is no room for them on this machine.
    """
    needs, (least, most) = _resources(runtime.resources), _scale(runtime)
    _check_room(runtime, needs, least)
    directory = (
        ray.remote(RunDirectory)
        .options(
            name=f"{name}-runs",
            namespace=NAMESPACE,
            get_if_exists=True,
            lifetime="detached",
            max_restarts=-1,
            max_task_retries=-1,
            **_CONTROL,
        )
        .remote(limits.get("run_ttl"))
    )
    serve.start(proxy_location="Disabled", logging_config=_quiet())
    seconds = limits.get("max_run_seconds")
    deployment = serve.deployment(
        Replica,
        name=_REPLICA,
        ray_actor_options=needs,
        max_ongoing_requests=_MOST_REQUESTS,
        request_router_config=RequestRouterConfig(request_router_class=_ROUTER),
        health_check_period_s=_HEALTH_SECONDS,
        graceful_shutdown_timeout_s=60.0 if seconds is None else seconds,
        logging_config=_quiet(),
        **_replicas(least, most),
    )
    handle = serve.run(
        deployment.bind(directory, dict(limits), make_host),
        name=name,
        route_prefix=None,
        logging_config=_quiet(),
    )
    return Application(name, handle, directory)


def _quiet() -> dict[str, Any]:
    return {"log_level": "WARNING", "enable_access_log": False}


def _scale(runtime: RayRuntime) -> tuple[int, int]:
    """How many replicas there are at least and at most."""
    least, most = runtime.min_replicas, runtime.max_replicas
    if least is None:
        places = _places(runtime.resources)
        least = places if most is None else min(places, most)
    return least, least if most is None else most


def _replicas(least: int, most: int) -> dict[str, Any]:
    if least == most:
        return {"num_replicas": most}
    return {"autoscaling_config": {"min_replicas": least, "max_replicas": most, **_SCALING}}


def _check_room(runtime: RayRuntime, needs: Mapping[str, Any], least: int) -> None:
    """See whether there is room for so many replicas: other machines may come, this one stays as
    it is."""
    wanted = {"CPU": needs["num_cpus"], "GPU": needs["num_gpus"], **needs.get("resources", {})}
    wanted |= {"memory": needs["memory"]} if "memory" in needs else {}
    room = sum(
        min((int(node["Resources"].get(k, 0) // v) for k, v in wanted.items() if v), default=least)
        for node in ray.nodes()
        if node["Alive"]
    )
    if room >= least:
        return
    asked = ", ".join(f"{value:g} {name}" for name, value in wanted.items() if value)
    message = f"there is room for {room} replicas that need {asked} each, and {least} are asked for"
    if runtime.address is None:
        raise ComposeError(
            message,
            hint="Ask for less by --replicas, or by 'resources' of the document's runtime.",
            code="no_room",
        )
    _log.warning("%s: the others begin when there is more", message)


def _places(resources: Mapping[str, float]) -> int:
    """How many replicas there are where nobody says: one for each GPU, or else for each node."""
    gpus = int(ray.cluster_resources().get("GPU", 0) / (resources.get("gpu") or 1))
    return gpus or len([node for node in ray.nodes() if node["Alive"]])


def _resources(resources: Mapping[str, float]) -> dict[str, Any]:
    has_gpus = ray.cluster_resources().get("GPU", 0) > 0
    found: dict[str, Any] = {
        "num_cpus": resources.get("cpu", 1),
        "num_gpus": resources.get("gpu", 1 if has_gpus else 0),
    }
    if "memory" in resources:
        found["memory"] = resources["memory"]
    known = ("cpu", "gpu", "memory")
    others = {name: each for name, each in resources.items() if name not in known}
    return {**found, "resources": others} if others else found
