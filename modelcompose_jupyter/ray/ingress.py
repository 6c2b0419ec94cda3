"""A kernel that serves a document in front of a cluster's replicas: started by `up --ray`.

There may be several, on any machines of the cluster, for the same document: all offer the same
runs, so that clients go on at another where one is gone.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from ..document import RayRuntime
from ..hosted_runs import HostedRuns
from ..server.serving_kernel import serve_dedicated
from .cluster_folder import folder_of


def serve_ingress(*, runtime: Mapping[str, Any], application: str, id: str, **options: Any) -> None:
    """`serve_dedicated` on the replicas of an application, which are there when it returns.

    Args:
        runtime: a `RayRuntime`, as plain data.
        application: what it is called in the cluster.
        id: of the server.
        options: of `serve_dedicated`.
    """

    # Where the cluster is gone Ray would otherwise start another one, as soon as it is asked.
    os.environ["RAY_ENABLE_AUTO_CONNECT"] = "0"

    def host(limits: Mapping[str, Any]) -> HostedRuns:
        from .cluster import join
        from .ray_host import RayHost

        joined = join(application, RayRuntime(**runtime), limits, folder_of(id))
        return RayHost(joined, limits.get("run_ttl"))

    serve_dedicated(host=host, id=id, **options)
