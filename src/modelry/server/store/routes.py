"""What the gateways know, read at one moment, and the number that tells them to read it again.

A gateway reads all of it once (`Reader`), and after that only what carries a later number than it has seen: a start of
one deployment costs the same beside five thousand others.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

from modelry.core.records import Deployment, Route, Snapshot
from modelry.core.states import DeploymentState, DeploymentWish, ReplicaState
from modelry.server.store import deployments, keys
from modelry.server.store.naming import in_parts
from modelry.server.store.tables import (
    counters,
    model_aliases,
    model_versions,
    replicas,
)
from modelry.server.store.tables import deployments as rows
from modelry.server.store.transaction import REMOVALS, ROUTES, Transaction

#: What of a manifest no request is decoded or answered by; it would be most of a gateway's memory.
_UNREAD = ("metrics", "lineage", "files", "measurements")
#: Manifests kept beyond those that routes name, before they are looked through.
_SPARE_MANIFESTS = 64


def number(tx: Transaction) -> int:
    """Grows with every change of routes or keys."""
    tx.flush()
    return _counter(tx, ROUTES)


def bump(tx: Transaction) -> None:
    """Tells the gateways to read again. The functions that change routes or keys do it themselves."""
    tx.change_routes()


def snapshot(tx: Transaction) -> Snapshot:
    """Everything an inference request needs; without deployments that are to be deleted and keys that ended."""
    return Reader().read(tx)


class Reader:
    """Remembers the last snapshot and the manifests; for one thread at a time."""

    def __init__(self) -> None:
        self._last: Snapshot | None = None
        #: Model version → (its number, its manifest).
        self._versions: dict[str, tuple[int, dict[str, Any]]] = {}

    def read(self, tx: Transaction) -> Snapshot:
        """The snapshot of this moment; routes that did not change are the same objects as before."""
        now, last = number(tx), self._last
        if last is None or now < last.number:
            found, routes = deployments.list_all(tx), {}
        else:
            found = deployments.list_changed(tx, last.number)
            routes = self._without_removed(tx, last, {one.id for one in found})
        routes |= self._routes(tx, [one for one in found if one.wish is not DeploymentWish.DELETE])
        living = {row.key.id: row for row in keys.list_living(tx)}
        self._last = Snapshot(number=now, routes=routes, keys=living)
        self._forget_versions(routes)
        return self._last

    @staticmethod
    def _without_removed(
        tx: Transaction, last: Snapshot, changed: set[str]
    ) -> dict[tuple[str, str], Route]:
        """The last routes without those that changed, were renamed in a way by a new row, or are gone."""
        kept = {
            key: route for key, route in last.routes.items() if route.deployment_id not in changed
        }
        if _counter(tx, REMOVALS) <= last.number:
            return kept
        there = set(tx.execute(sa.select(rows.c.id)).scalars())
        return {key: route for key, route in kept.items() if route.deployment_id in there}

    def _routes(
        self, tx: Transaction, wished: Sequence[Deployment]
    ) -> dict[tuple[str, str], Route]:
        ready = _ready(tx, [one.id for one in wished])
        aliases = _aliases(tx, {one.model_version_id for one in wished})
        named = {one.model_version_id for one in wished}
        named |= {one.canary.model_version_id for one in wished if one.canary}
        self._learn(tx, named | {row[0] for rows in ready.values() for row in rows})
        return {
            (one.project, one.name): self._route(
                one, ready[one.id], aliases.get(one.model_version_id, {})
            )
            for one in wished
        }

    def _learn(self, tx: Transaction, version_ids: set[str]) -> None:
        columns = model_versions.c
        statement = sa.select(columns.id, columns.version, columns.manifest)
        for some in in_parts(version_ids - self._versions.keys()):
            for row in tx.execute(statement.where(columns.id.in_(some))):
                blank = {
                    name: type(row.manifest[name])() for name in _UNREAD if name in row.manifest
                }
                self._versions[row.id] = (row.version, {**row.manifest, **blank})

    def _forget_versions(self, routes: dict[tuple[str, str], Route]) -> None:
        """Keeps the manifests that routes name, once there are many others."""
        if len(self._versions) <= 2 * len(routes) + _SPARE_MANIFESTS:
            return
        used = {id(one) for route in routes.values() for one in route.manifests.values()}
        self._versions = {
            version_id: known
            for version_id, known in self._versions.items()
            if id(known[1]) in used
        }

    def _route(
        self,
        deployment: Deployment,
        ready: list[tuple[str, str, str]],
        aliases: dict[str, int],
    ) -> Route:
        canary = deployment.canary
        named = [deployment.model_version_id, *(version_id for version_id, _, _ in ready)]
        known = [
            self._versions[one] for one in named + ([canary.model_version_id] if canary else [])
        ]
        return Route(
            deployment_id=deployment.id,
            project=deployment.project,
            name=deployment.name,
            state=_state(deployment),
            model=deployment.model,
            version=deployment.version,
            max_batch=deployment.max_batch,
            failure=deployment.failure,
            replicas=tuple(
                (replica_id, self._versions[version_id][0], address)
                for version_id, replica_id, address in ready
            ),
            manifests=dict(known),
            created_at=deployment.created_at,
            weights=_weights(deployment),
            aliases=aliases,
            wakes=deployment.wish is DeploymentWish.RUN and deployment.replicas == 0,
            max_in_flight=deployment.max_in_flight,
            max_queue=deployment.max_queue,
            deadline_s=deployment.deadline_s,
        )


def _state(deployment: Deployment) -> DeploymentState:
    """What is wished now, where the controller's summary tells of the time before."""
    if deployment.wish is DeploymentWish.STOP:
        return DeploymentState.STOPPED
    if deployment.state is DeploymentState.STOPPED:
        return DeploymentState.STARTING if deployment.replicas else DeploymentState.IDLE
    return deployment.state


def _weights(deployment: Deployment) -> tuple[tuple[int, float], ...]:
    canary = deployment.canary
    if canary is None:
        return ()
    return ((deployment.version, 100.0 - canary.percent), (canary.version, canary.percent))


def _ready(tx: Transaction, ids: Sequence[str]) -> dict[str, list[tuple[str, str, str]]]:
    """Deployment → (model version, replica, address) of its ready replicas, the oldest first."""
    found: dict[str, list[tuple[str, str, str]]] = {one: [] for one in ids}
    columns = replicas.c
    statement = (
        sa.select(columns.deployment_id, columns.model_version_id, columns.id, columns.address)
        .where(columns.state == ReplicaState.READY.value, columns.address.is_not(None))
        .order_by(columns.number)
    )
    for some in in_parts(ids):
        for row in tx.execute(statement.where(columns.deployment_id.in_(some))):
            found[row.deployment_id].append((row.model_version_id, row.id, row.address))
    return found


def _aliases(tx: Transaction, version_ids: set[str]) -> dict[str, dict[str, int]]:
    """Model version → the aliases of its model."""
    mine, pointed = model_versions.alias("mine"), model_versions.alias("pointed")
    statement = (
        sa.select(mine.c.id, model_aliases.c.alias, pointed.c.version)
        .join(model_aliases, model_aliases.c.model_id == mine.c.model_id)
        .join(pointed, pointed.c.id == model_aliases.c.version_id)
        .order_by(model_aliases.c.alias)
    )
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for some in in_parts(version_ids):
        for row in tx.execute(statement.where(mine.c.id.in_(some))):
            found[row.id][row.alias] = row.version
    return dict(found)


def _counter(tx: Transaction, name: str) -> int:
    return tx.execute(sa.select(counters.c.value).where(counters.c.name == name)).scalar_one()
