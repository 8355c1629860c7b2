"""The deployments that need a look, kept in step with the store: read whole once, then only what changed."""

from __future__ import annotations

from collections.abc import Collection

from modelry.core.records import Deployment, Replica
from modelry.core.states import DeploymentState, DeploymentWish
from modelry.server.control.replica_plan import DeploymentView
from modelry.server.store import Transaction, deployments, replicas, routes


class Watched:
    """What the leader of one epoch knows; another epoch begins with nothing."""

    def __init__(self) -> None:
        self.views: dict[str, DeploymentView] = {}
        self._epoch: int | None = None
        self._number = 0
        self._touched: set[str] = set()

    def touch(self, deployment_id: str) -> None:
        """This one is read again, though no gateway has to hear of what was done to it."""
        self._touched.add(deployment_id)

    def catch_up(self, tx: Transaction, epoch: int) -> None:
        """Reads what others, and this leader, changed since the last time."""
        number = routes.number(tx)
        if epoch != self._epoch or number < self._number:
            self.views = {}
            self._take(tx, deployments.list_unsettled(tx))
        else:
            self._take(tx, self._changed(tx, number))
        self._epoch, self._number = epoch, number
        self._touched.clear()

    def _changed(self, tx: Transaction, number: int) -> list[Deployment]:
        found = deployments.list_changed(tx, self._number) if number != self._number else []
        others = self._touched - {deployment.id for deployment in found}
        for deployment_id in others:
            self.views.pop(deployment_id, None)
        return [*found, *deployments.list_by_id(tx, others)] if others else found

    def _take(self, tx: Transaction, found: Collection[Deployment]) -> None:
        rows = replicas.list_of(tx, [deployment.id for deployment in found]) if found else {}
        for deployment in found:
            view = _view(deployment, rows[deployment.id])
            if view.live or not _is_settled(deployment):
                self.views[deployment.id] = view
            else:
                self.views.pop(deployment.id, None)


def _view(deployment: Deployment, rows: list[Replica]) -> DeploymentView:
    ended = (replica for replica in rows if replica.state.is_final)
    return DeploymentView(
        deployment,
        tuple(replica for replica in rows if not replica.state.is_final),
        tuple(sorted(ended, key=lambda replica: -(replica.ended_at or 0.0))),
    )


def _is_settled(deployment: Deployment) -> bool:
    """What `tables.UNSETTLED` says, the other way round: nothing runs, and nothing is to."""
    return deployment.replicas == 0 and (deployment.wish, deployment.state) in (
        (DeploymentWish.STOP, DeploymentState.STOPPED),
        (DeploymentWish.RUN, DeploymentState.IDLE),
    )
