"""Which replica answers: a pure choice between those that are connected. Does nothing.

Unpinned requests are spread over versions by weight where a canary is tried (`Draws`), and then, as always, go to the
least-loaded replica. While one version rolls out in place of another, the replicas of both answer: each takes what it
can, so the first new one is never left alone with all the traffic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol, TypeVar

from modelry.core.errors import NoReadyReplica, NotFound
from modelry.core.records import Route
from modelry.core.states import DeploymentState


class Option(Protocol):
    """A replica as the choice sees it."""

    @property
    def version(self) -> int: ...

    @property
    def is_usable(self) -> bool:
        """Connected, not draining, lately heard of."""

    @property
    def in_flight(self) -> int:
        """Requests this gateway has given it."""

    @property
    def queue_depth(self) -> int:
        """Requests waiting there, by its last word; other gateways' among them."""


Chosen = TypeVar("Chosen", bound=Option)

#: One over the golden ratio: multiples of it, taken modulo one, fill the unit interval more evenly than any other
#: number's, whatever rhythm the requests come in (Weyl's sequence; Niederreiter 1992, chapter 3).
_STEP = 0.6180339887498949


class Draws:
    """Gives each unpinned request a version, so that each version's share of them is its weight.

    After n requests a share is off by about log(n)/n, in each process for itself and so over all of them together;
    random draws would be off by the root of 1/n.
    """

    def __init__(self) -> None:
        self._at: dict[str, float] = {}

    def draw(self, route: Route) -> int | None:
        """The version of the next request; None where no weights are set, and whoever is free may answer."""
        if not route.weights:
            return None
        at = (self._at.get(route.deployment_id, 0.0) + _STEP) % 1.0
        self._at[route.deployment_id] = at
        left = at * sum(weight for _, weight in route.weights)
        for version, weight in reversed(route.weights):
            left -= weight
            if left < 0.0:
                return version
        return route.version


def choose(
    route: Route, pinned: int | None, options: Sequence[Chosen], drawn: int | None = None
) -> Chosen | None:
    """The least-loaded usable replica of the pinned version; else of the drawn one; else of those that there are.

    None means: wait, one is on its way. Raises `NoReadyReplica` where none is, and `NotFound` for a
    version that this deployment does not serve.
    """
    # From the word on that stops it: its last replicas only finish what they have.
    is_stopped = route.state is DeploymentState.STOPPED and not route.wakes
    usable = [] if is_stopped else [option for option in options if option.is_usable]
    if pinned is not None:
        exact = [option for option in usable if option.version == pinned]
        if exact:
            return min(exact, key=_load)
        _check_served(route, pinned)
    elif usable:
        pool = usable if drawn is None else _pool(route, drawn, usable) or usable
        if len(pool) == 1:
            return pool[0]
        return min(pool, key=lambda option: (_load(option), option.version != route.version))
    _check_expected(route, pinned)
    return None


def _pool(route: Route, drawn: int, usable: Sequence[Chosen]) -> list[Chosen]:
    """Who answers for a drawn version: for a canary its own replicas, for the wished version all others."""
    canaries = {version for version, _ in route.weights if version != route.version}
    if drawn in canaries:
        return [option for option in usable if option.version == drawn]
    return [option for option in usable if option.version not in canaries]


def find_manifest(route: Route, pinned: int | None) -> Mapping[str, Any]:
    """The `model.json` that a request is decoded by; raises `NotFound` for a version that is not served."""
    if pinned is not None:
        _check_served(route, pinned)
        wanted = pinned
    else:
        serving = {version for _, version, _ in route.replicas}
        wanted = route.version if route.version in serving else max(serving, default=route.version)
    manifest = route.manifests.get(wanted)
    if manifest is None:
        raise NoReadyReplica(name=route.name, reason=f"version {wanted} is not known here yet")
    return manifest


def why_unloadable(route: Route, version: int) -> str | None:
    """What keeps a version from loading, once the controller has seen that; None where it serves, or soon may."""
    failure = route.failure or {}
    if failure.get("version") != version or any(version == one for _, one, _ in route.replicas):
        return None
    return str(failure.get("message") or "its replicas fail to start")


def _load(option: Option) -> tuple[int, int]:
    return option.in_flight, option.queue_depth


def _check_served(route: Route, pinned: int) -> None:
    served = {route.version, *(version for _, version, _ in route.replicas)}
    served.update(version for version, _ in route.weights)
    if pinned not in served:
        numbers = ", ".join(str(version) for version in sorted(served))
        raise NotFound(
            noun="version",
            name=f"{route.name}/{pinned}",
            remedy=f"The deployment '{route.name}' serves: {numbers}.",
        )


def _check_expected(route: Route, pinned: int | None) -> None:
    if route.wakes:
        return
    reason: str | None
    if route.state is DeploymentState.FAILED:
        reason = str((route.failure or {}).get("message") or "its replicas fail to start")
    elif route.state is DeploymentState.STOPPED:
        reason = "it is stopped"
    elif route.state is DeploymentState.DELETING:
        reason = "it is being deleted"
    else:
        reason = None if pinned is None else why_unloadable(route, pinned)
    if reason is not None:
        raise NoReadyReplica(name=route.name, reason=reason.rstrip("."))
