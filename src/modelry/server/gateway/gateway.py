"""The way from a door to a replica and back. Knows no database, no HTTP and no JSON.

The gateway works on a snapshot of routes and keys that its owner refreshes; it keeps one connection to each
ready replica and answers every request before its deadline.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from modelry.core.errors import DeadlineExceeded, ModelryError, NotFound, ShuttingDown
from modelry.core.frames import Op
from modelry.core.records import Snapshot
from modelry.core.settings import Settings
from modelry.server.gateway.access import Caller, authorize
from modelry.server.gateway.choice import find_manifest
from modelry.server.gateway.dispatch import Dispatch, Pending, Reply, RouteKey
from modelry.server.gateway.link import Link

log = logging.getLogger(__name__)

#: Between two signs of life asked of each replica.
PING_S = 1.0
#: First and longest pause between tries to reach a replica.
FIRST_RETRY_S = 0.02
LONGEST_RETRY_S = 1.0


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A replica the snapshot names."""

    key: RouteKey
    replica_id: str
    version: int
    address: str


class Gateway:
    """One per web process; all methods run on its event loop.

    `read_snapshot` reads routes and keys (in a thread); `pepper` is the service's secret.
    """

    def __init__(
        self, read_snapshot: Callable[[], Snapshot], pepper: bytes, settings: Settings
    ) -> None:
        self.settings = settings
        self._read_snapshot = read_snapshot
        self._pepper = pepper
        self._snapshot = Snapshot(number=-1, routes={}, keys={})
        self._dispatch = Dispatch()
        self._wanted: dict[str, _Wanted] = {}
        self._keepers: dict[str, asyncio.Task[None]] = {}
        self._links: dict[str, Link] = {}
        self._pinger: asyncio.Task[None] | None = None
        self._refreshing = asyncio.Lock()
        self._is_closing = False

    def __repr__(self) -> str:
        return f"<Gateway snapshot={self._snapshot.number} {self._dispatch!r}>"

    @property
    def number(self) -> int:
        """Which snapshot is in use; -1 before the first."""
        return self._snapshot.number

    async def start(self) -> None:
        """Reads the first snapshot and begins to connect."""
        await self.refresh()
        self._pinger = asyncio.create_task(self._ping_all())

    async def close(self) -> None:
        """Refuses what is still under way and ends all connections."""
        self._is_closing = True
        self._dispatch.settle_all(ShuttingDown())
        tasks = [*self._keepers.values(), *([self._pinger] if self._pinger else [])]
        for task in tasks:
            task.cancel()
        for link in self._links.values():
            link.close()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def refresh(self) -> None:
        """Reads the snapshot again and follows it; one reader at a time."""
        async with self._refreshing:
            snapshot = await asyncio.to_thread(self._read_snapshot)
            if snapshot.number >= self._snapshot.number:
                self._follow(snapshot)

    def authorize(self, key_text: str | None, project: str | None, scope: str) -> Caller:
        """Who asks; raises `NoKey`, `InvalidKey`, `ScopeTooSmall`, or `NotFound` for another's project."""
        return authorize(self._snapshot, self._pepper, key_text, project, scope)

    def manifest(self, caller: Caller, name: str, version: int | None) -> Mapping[str, Any]:
        """The `model.json` a request to this deployment is decoded by; raises `NotFound`.

        That of the pinned version, else of the wished one, or of the one that still serves while that is on its way.
        """
        route = self._snapshot.routes.get((caller.project, name))
        if route is None:
            raise NotFound(noun="deployment", name=name)
        return find_manifest(route, version)

    async def infer(
        self,
        caller: Caller,
        name: str,
        payload: bytes,
        *,
        version: int | None = None,
        deadline_s: float | None = None,
        op: Op = Op.PREDICT,
        trace: bytes = bytes(16),
    ) -> Reply:
        """One prediction. Cancel the task when the client is gone: the replica is told.

        Raises what the replica answered, or `NotFound`, `NoReadyReplica`, `DeadlineExceeded`,
        `ModelCrashed`, `ShuttingDown`.
        """
        if self._is_closing:
            raise ShuttingDown
        limit_s = deadline_s if deadline_s is not None else self.settings.deadline_s
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Reply] = loop.create_future()
        request = Pending(
            (caller.project, name),
            payload,
            lambda answer: _settle(future, answer),
            pinned=version,
            op=op,
            deadline_at=time.monotonic() + limit_s,
            trace=trace,
        )
        self._dispatch.submit(request)
        timer = loop.call_later(limit_s, self._expire, request, limit_s)
        try:
            return await future
        finally:
            timer.cancel()
            self._dispatch.abandon(request)
            _look_at(future)

    def _expire(self, request: Pending, limit_s: float) -> None:
        self._dispatch.abandon(request, DeadlineExceeded(deadline_s=limit_s))

    def _follow(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        wanted = {
            replica_id: _Wanted(key, replica_id, version, address)
            for key, route in snapshot.routes.items()
            for replica_id, version, address in route.replicas
        }
        self._wanted = wanted
        for replica_id, link in self._links.items():
            if replica_id not in wanted:
                link.retire()
        for replica_id, want in wanted.items():
            if replica_id not in self._keepers:
                self._keepers[replica_id] = asyncio.create_task(self._keep(want))
        self._dispatch.route(snapshot.routes)

    async def _keep(self, want: _Wanted) -> None:
        """Holds a connection to one replica for as long as the snapshot names it."""
        pause_s = FIRST_RETRY_S
        try:
            while want.replica_id in self._wanted:
                try:
                    link = await self._connect(want)
                except OSError as error:
                    log.debug("replica unreachable id=%s reason=%s", want.replica_id, error)
                else:
                    await link.closed
                    pause_s = FIRST_RETRY_S
                await asyncio.sleep(pause_s)
                pause_s = min(pause_s * 2, LONGEST_RETRY_S)
        finally:
            self._keepers.pop(want.replica_id, None)
            self._links.pop(want.replica_id, None)

    async def _connect(self, want: _Wanted) -> Link:
        scheme, _, path = want.address.partition(":")
        route = self._snapshot.routes.get(want.key)
        if scheme != "unix" or route is None:
            raise OSError(f"no way to {want.address}")
        _, link = await asyncio.get_running_loop().create_unix_connection(
            lambda: Link(self._dispatch, route, want.replica_id, want.version), path
        )
        self._links[want.replica_id] = link
        if want.replica_id not in self._wanted:
            link.retire()
        return link

    async def _ping_all(self) -> None:
        while True:
            await asyncio.sleep(PING_S)
            for link in list(self._links.values()):
                link.ping()


def _settle(future: asyncio.Future[Reply], answer: Reply | ModelryError) -> None:
    if future.done():
        return
    if isinstance(answer, ModelryError):
        future.set_exception(answer)
    else:
        future.set_result(answer)


def _look_at(future: asyncio.Future[Reply]) -> None:
    """An error that came in the moment its client left is nobody's, and no reason for a warning."""
    if future.done() and not future.cancelled():
        future.exception()
