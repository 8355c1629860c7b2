"""How a deployment is served: the keywords that `deploy`, `create` and `update` take alike."""

from __future__ import annotations

from typing import TypedDict


class Serving(TypedDict, total=False):
    """What is not given, or None, stays as it is; a new deployment has one replica that never sleeps."""

    #: A fixed number of replicas; 0 stops the deployment.
    replicas: int | None
    #: The bounds between which autoscaling chooses their number.
    min_replicas: int | None
    max_replicas: int | None
    #: Seconds without a request after which it sleeps, until the next one; 0: never.
    idle_s: float | None
    #: Rows per runtime call at most.
    max_batch: int | None
    #: Compute threads of each replica.
    threads: int | None
    #: Requests worked on at once, and waiting beside them (or beside what the replicas run), at most; 0: no bound.
    max_in_flight: int | None
    max_queue: int | None
    #: Seconds that a request may take if it does not say; 0: as the service.
    deadline_s: float | None
