"""Ray Serve's request router of the replicas: `placement` decides."""

from __future__ import annotations

from typing import Any

from ray.serve.request_router import PendingRequest, ReplicaID, RequestRouter, RunningReplica

from .messages import Route
from .placement import Ring


class BeginningRouter(RequestRouter):
    """Sends a request where its `Route` says, the first argument of every call."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._by_name: dict[str, RunningReplica] = {}
        self._loads: dict[str, int] = {}
        self._ring = Ring()

    def update_replicas(self, replicas: list[RunningReplica]) -> None:
        super().update_replicas(replicas)
        self._look()

    def on_replica_actor_died(self, replica_id: ReplicaID) -> None:
        super().on_replica_actor_died(replica_id)
        self._look()

    def _look(self) -> None:
        """Take in which replicas there are."""
        self._by_name = {each.replica_id.unique_id: each for each in self.curr_replicas.values()}
        self._loads = {name: self._loads.get(name, 0) for name in self._by_name}
        self._ring = Ring(self._by_name)

    def on_send_request(self, replica_id: ReplicaID) -> None:
        super().on_send_request(replica_id)
        self._count(replica_id, self._loads.get(replica_id.unique_id, 0) + 1)

    def on_new_queue_len_info(self, replica_id: ReplicaID, num_ongoing_requests: int) -> None:
        super().on_new_queue_len_info(replica_id, num_ongoing_requests)
        self._count(replica_id, num_ongoing_requests)

    def decrement_queue_len_cache(self, replica_id: ReplicaID) -> None:
        super().decrement_queue_len_cache(replica_id)
        self._count(replica_id, self._loads.get(replica_id.unique_id, 0) - 1)

    def _count(self, replica_id: ReplicaID, load: int) -> None:
        if replica_id.unique_id in self._loads:
            self._loads[replica_id.unique_id] = max(0, load)

    async def choose_replicas(
        self,
        candidate_replicas: list[RunningReplica],
        pending_request: PendingRequest | None = None,
    ) -> list[list[RunningReplica]]:
        if pending_request is None:
            return [candidate_replicas]
        pending_request.routing_context.should_backoff = True  # each is tried once, then it waits
        route = pending_request.args[0]
        assert isinstance(route, Route)
        return [[self._by_name[name]] for name in self._ring.ranked(route, self._loads)]
