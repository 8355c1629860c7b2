"""Which replica answers: a pure choice between those that are connected. Does nothing."""

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


def choose(route: Route, pinned: int | None, options: Sequence[Chosen]) -> Chosen | None:
    """The least-loaded usable replica of the pinned, else of the wished, else of any newest version.

    None means: wait, one is on its way. Raises `NoReadyReplica` where none is, and `NotFound` for a
    version that this deployment does not serve.
    """
    usable = [option for option in options if option.is_usable]
    if pinned is not None:
        exact = [option for option in usable if option.version == pinned]
        if exact:
            return min(exact, key=_load)
        _check_served(route, pinned)
    elif usable:
        return min(usable, key=lambda option: _preference(route, option))
    _check_expected(route)
    return None


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


def _load(option: Option) -> tuple[int, int]:
    return option.in_flight, option.queue_depth


def _preference(route: Route, option: Option) -> tuple[bool, int, int, int]:
    return option.version != route.version, -option.version, option.in_flight, option.queue_depth


def _check_served(route: Route, pinned: int) -> None:
    served = {route.version, *(version for _, version, _ in route.replicas)}
    if pinned not in served:
        numbers = ", ".join(str(version) for version in sorted(served))
        raise NotFound(
            noun="version",
            name=f"{route.name}/{pinned}",
            remedy=f"The deployment '{route.name}' serves: {numbers}.",
        )


def _check_expected(route: Route) -> None:
    if route.state is DeploymentState.FAILED:
        reason = (route.failure or {}).get("message") or "its replicas fail to start"
    elif route.state is DeploymentState.STOPPED:
        reason = "it is stopped"
    elif route.state is DeploymentState.DELETING:
        reason = "it is being deleted"
    else:
        return
    raise NoReadyReplica(name=route.name, reason=str(reason).rstrip("."))
