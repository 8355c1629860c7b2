"""A deployment's versions side by side: what each was asked, how it answered and how long that took."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Literal

from modelry.core.home import Home
from modelry.core.records import Deployment, Replica, VersionTraffic
from modelry.core.states import ReplicaState
from modelry.server.gateway.layout import TIME_BOUNDS_US
from modelry.server.gateway.totals import Totals, read_counted


def read_traffic(
    home: Home, deployment: Deployment, replicas: Iterable[Replica]
) -> list[VersionTraffic]:
    """The version that serves first, then its canary, then those that were counted before, the newest first."""
    counted = read_counted(home.counters)
    known = {int(str(name[4])) for name in counted.versions if name and name[1] == deployment.id}
    ready = [one.version for one in replicas if one.state is ReplicaState.READY]
    versions = _in_order(deployment, known | set(ready))
    return [
        _compare(deployment, version, ready.count(version), counted.totals(deployment.id, version))
        for version in versions
    ]


def _in_order(deployment: Deployment, known: set[int]) -> list[int]:
    wished = [deployment.version, *([deployment.canary.version] if deployment.canary else [])]
    return [*wished, *sorted(known - set(wished), reverse=True)]


def _compare(deployment: Deployment, version: int, ready: int, totals: Totals) -> VersionTraffic:
    canary = deployment.canary
    share = canary.percent if canary else 0.0
    role: Literal["serving", "canary", "before"]
    if version == deployment.version:
        role, percent = "serving", 100.0 - share
    elif canary is not None and version == canary.version:
        role, percent = "canary", share
    else:
        role, percent = "before", 0.0
    answered = totals.answered
    return VersionTraffic(
        version=version,
        role=role,
        percent=percent,
        ready_replicas=ready,
        answered=answered,
        failed=totals.failed,
        refused=totals.refused,
        mean_ms=totals.latency_us / answered / 1e3 if answered else None,
        p99_ms=quantile_ms(totals.latencies, 0.99),
        queue_ms=totals.queue_us / answered / 1e3 if answered else None,
        errors=totals.errors,
    )


def quantile_ms(counts: Sequence[int], share: float) -> float | None:
    """Milliseconds that so large a share stays below, from a histogram over `TIME_BOUNDS_US`; None where it is empty.

    Within a bucket times count as evenly spread; over the last bound the bound is all that is known.
    """
    left = share * sum(counts)
    if left <= 0.0:
        return None
    low = 0
    for bound, count in zip(TIME_BOUNDS_US, counts, strict=False):
        if count >= left:
            return (low + (bound - low) * left / count) / 1e3
        left, low = left - count, bound
    return low / 1e3
