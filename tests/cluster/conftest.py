"""A cluster of Ray on this machine: three raylets, each of which is a node to Ray.

All tests that are marked ``ray`` share it. They are left out where Ray is not installed.
"""

from __future__ import annotations

import os
import secrets
import shutil
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from standins.waiting import until

from modelcompose_jupyter import LocalHost
from modelcompose_jupyter.document import Document, RayRuntime, load_document
from modelcompose_jupyter.server.access import Access
from modelcompose_jupyter.server.catalog import Catalog
from modelcompose_jupyter.server.server import Server, ServerSettings

STORY = """
component:
  type: model
  task: text-generation
  model: bundled:storyteller
  text: ${input.prompt as text}
  max_output_length: ${input.tokens as integer | 40}
workflow:
  job:
    repeat_count: ${input.texts as integer | 1}
    output: ${output}
"""
LONG = {"tokens": 480, "texts": 16}
"""Inputs of runs that are not over before something can be done to them."""
LIMITS = {"max_runs": 64, "max_run_seconds": 600.0, "run_ttl": 600.0}
NODES = 3


# Ray reads this when it is imported. Otherwise threads of its own connect this process once more
# when its connection has been closed, or start another cluster.
os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        skip = pytest.mark.skip(reason="Ray is not installed")
        for item in items:
            if item.get_closest_marker("ray"):
                item.add_marker(skip)


def _patiently(start: Callable[[], object]) -> None:
    """Start a node, which has half a minute for it, however busy the machine is."""
    for attempt in range(5):
        try:
            start()
            return
        except Exception:
            if attempt == 4:
                raise


@pytest.fixture(scope="session")
def address() -> Iterator[str]:
    """The address of the cluster, to which this process is connected."""
    from ray.cluster_utils import Cluster

    from modelcompose_jupyter.ray.cluster import cluster, prepare
    from modelcompose_jupyter.ray.cluster_folder import folder_of, make_folder

    folder = folder_of(secrets.token_hex(6))
    make_folder(folder).mkdir()  # what tests left that were killed goes
    (folder / "token").write_text(secrets.token_hex(32))
    os.environ["RAY_AUTH_TOKEN_PATH"] = str(folder / "token")
    prepare()
    tests = str(Path(__file__).parent.parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [tests, os.environ.get("PYTHONPATH")]))
    os.environ["RAY_TMPDIR"] = str(folder)
    nodes = Cluster()
    try:
        node = {"num_cpus": 4, "include_dashboard": False, "object_store_memory": 2**27}
        node |= {"include_log_monitor": False, "no_monitor": True}  # fewer processes
        for _ in range(NODES):
            _patiently(lambda: nodes.add_node(**node))
        with cluster(nodes.address):
            yield nodes.address
    finally:
        try:
            nodes.shutdown()
        finally:
            shutil.rmtree(folder, ignore_errors=True)


@dataclass
class Replicas:
    """The replicas of an application, and what may happen to them."""

    application: Any

    def pids(self) -> dict[str, int]:
        """The processes of those that live, by their names."""
        import ray

        found = {}
        for actor in ray.util.list_named_actors(all_namespaces=True):
            if actor["name"].startswith(f"SERVE_REPLICA::{self.application.name}#"):
                try:
                    handle = ray.get_actor(actor["name"], namespace=actor["namespace"])
                    pid = ray.get(handle.__ray_call__.remote(lambda _: os.getpid()), timeout=20)
                except (ray.exceptions.RayError, ValueError):
                    continue
                found[actor["name"].rpartition("#")[2]] = pid
        return found

    def kill(self, name: str) -> None:
        os.kill(until(lambda: self.pids().get(name, 0)), signal.SIGKILL)

    def until_there_are(self, count: int) -> dict[str, int]:
        until(lambda: len(self.pids()) == count)
        return self.pids()


@pytest.fixture(scope="session")
def application(address: str) -> Iterator[Any]:
    """Three replicas of the bundled model."""
    from modelcompose_jupyter.ray.cluster import deploy
    from modelcompose_jupyter.ray.ray_host import RayHost

    application = deploy("tests", RayRuntime(min_replicas=NODES), LIMITS)
    stays = RayHost(application)  # so that the application does not go with a test's host
    yield application
    stays.close(20)


@pytest.fixture
def replicas(application: Any) -> Replicas:
    """All of them live when a test begins."""
    found = Replicas(application)
    found.until_there_are(NODES)
    return found


@pytest.fixture
def hosts(application: Any) -> Iterator[Callable[[], Any]]:
    """Makes hosts of the application, as servers on several machines have them."""
    from modelcompose_jupyter.ray.ray_host import RayHost

    made = []

    def make() -> Any:
        made.append(RayHost(application, 600.0))
        return made[-1]

    yield make
    for host in made:
        host.close(20)


@pytest.fixture
def host(hosts: Callable[[], Any]) -> Any:
    return hosts()


@pytest.fixture(scope="session")
def story() -> Document:
    return load_document(STORY)


@pytest.fixture(scope="session")
def solo() -> Iterator[Callable[..., Any]]:
    """``solo(document, input, seed, …)``: the run on one host without Ray, when it has ended."""
    host = LocalHost()
    found: dict[str, Any] = {}

    def run(document: Document, given: dict[str, Any], seed: int, **options: Any) -> Any:
        key = f"{document.key} {given} {seed} {options}"
        if key not in found:
            found[key] = host.submit(document, None, given, seed=seed, **options)
            assert found[key].wait(120)
        return found[key]

    yield run
    host.close()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """``serve(host, document)``: a server of a host on a free port."""
    servers = []

    def start(host: Any, document: Document) -> Server:
        catalog = Catalog.of(document)
        access = Access("127.0.0.1", "a-token-for-tests")
        settings = ServerSettings(port=0)
        servers.append(Server(host, lambda: catalog, access, settings).start())
        return servers[-1]

    yield start
    for server in servers:
        server.close()
