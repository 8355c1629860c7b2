"""The way from a door to a replica and back. Knows no database, no HTTP and no JSON.

The gateway works on a snapshot of routes and keys that its owner refreshes; it keeps one connection to each
ready replica and answers every request before its deadline. Answers come by callback: no task, no future and no
timer for each request.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from itertools import count

from modelry.core.errors import ModelryError, NotFound, ShuttingDown
from modelry.core.frames import Op
from modelry.core.manifests import ModelManifest
from modelry.core.records import Route, Snapshot
from modelry.core.settings import Settings
from modelry.server.gateway.access import Caller, authorize
from modelry.server.gateway.admission import Admission
from modelry.server.gateway.choice import find_manifest
from modelry.server.gateway.dispatch import Dispatch, Reply, RouteKey
from modelry.server.gateway.link import Link
from modelry.server.gateway.signature import Signatures
from modelry.server.gateway.ticket import Deadlines, Ticket

log = logging.getLogger(__name__)

#: Between two turns of asking replicas for signs of life.
PING_S = 1.0
#: A replica that has nothing to do is asked in every so many turns.
IDLE_PING_TURNS = 15
#: First and longest pause between tries to reach a replica.
FIRST_RETRY_S = 0.02
LONGEST_RETRY_S = 1.0
#: A sleeping deployment is asked for no more often than this.
WAKE_EVERY_S = 0.5
#: Keys and models found are remembered up to so many, until the next snapshot.
REMEMBERED = 4096

_NO_TRACE = bytes(16)


@dataclass(frozen=True, slots=True)
class _Wanted:
    """A replica the snapshot names."""

    key: RouteKey
    replica_id: str
    version: int
    address: str


class Gateway:
    """One per web process; all methods run on its event loop.

    `read_snapshot` reads routes and keys (in a thread); `pepper` is the service's secret; `admission` says who may
    come in now; `on_wake` starts a deployment that sleeps, and may be called again for the same one.
    """

    def __init__(
        self,
        read_snapshot: Callable[[], Snapshot],
        pepper: bytes,
        settings: Settings,
        *,
        admission: Admission | None = None,
        on_wake: Callable[[str], None] = lambda deployment_id: None,
    ) -> None:
        self.settings = settings
        self.admission = admission or Admission()
        self._read_snapshot = read_snapshot
        self._pepper = pepper
        self._snapshot = Snapshot(number=-1, routes={}, keys={})
        self._callers: dict[tuple[str | None, str | None, str], Caller] = {}
        self._found: dict[tuple[RouteKey, int | str | None], ModelManifest] = {}
        self._signatures = Signatures()
        self._on_wake = on_wake
        self._woken_at: dict[str, float] = {}
        self._dispatch = Dispatch(self._wake, shares=settings.web)
        self._deadlines = Deadlines()
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

    @property
    def snapshot(self) -> Snapshot:
        """The one in use."""
        return self._snapshot

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
        asked = (key_text, project, scope)
        known = self._callers.get(asked)
        if known is not None:
            ends_at = known.key.expires_at
            if ends_at is None or ends_at > time.time():
                return known
        caller = authorize(self._snapshot, self._pepper, key_text, project, scope)
        if len(self._callers) >= REMEMBERED:
            self._callers.clear()
        self._callers[asked] = caller
        return caller

    def find(self, caller: Caller, name: str, version: int | str | None = None) -> ModelManifest:
        """The manifest a request to this deployment is decoded by; raises `NotFound` or `NoReadyReplica`.

        That of the pinned version (a number or an alias), else of the wished one, or of the one that still serves
        while that is on its way. An instance key may name the project: `project/name`.
        """
        asked = (_key_of(caller, name), version)
        found = self._found.get(asked)
        if found is None:
            route = self._route(asked[0])
            found = self._signatures.of(find_manifest(route, _number_of(route, version)))
            if len(self._found) >= REMEMBERED:
                self._found.clear()
            self._found[asked] = found
        return found

    def route(self, caller: Caller, name: str) -> Route:
        """What is known of a deployment; raises `NotFound`."""
        return self._route(_key_of(caller, name))

    def routes(self, caller: Caller) -> list[Route]:
        """All of the caller's project, by name."""
        found = [route for key, route in self._snapshot.routes.items() if key[0] == caller.project]
        return sorted(found, key=lambda route: route.name)

    def submit(
        self,
        caller: Caller,
        name: str,
        payload: bytes,
        on_settled: Callable[[Reply | ModelryError], None],
        *,
        version: int | str | None = None,
        op: Op = Op.PREDICT,
        rows: int = 1,
        bytes_in: int = 0,
        deadline_s: float | None = None,
        trace: bytes = _NO_TRACE,
    ) -> Ticket | None:
        """Sends a request on its way. `on_settled` is called once, perhaps before this returns: with the reply, or
        with what the replica answered, `NotFound`, `NoReadyReplica`, `DeadlineExceeded`, `ModelCrashed`,
        `ShuttingDown` or what the admission raises; and not at all after `Ticket.cancel`. Raises nothing.

        None is returned where it was refused at once.
        """
        try:
            if self._is_closing:
                raise ShuttingDown
            key = _key_of(caller, name)
            route = self._route(key)
            pinned = _number_of(route, version)
            if deadline_s is None:
                deadline_s = route.deadline_s or self.settings.deadline_s
            permit = self.admission.enter(
                caller, route, rows=rows, bytes_in=bytes_in, deadline_s=deadline_s
            )
        except ModelryError as error:
            on_settled(error)
            return None
        ticket = Ticket(
            self._dispatch, permit, key, payload, on_settled,
            pinned=pinned, op=op, limit_s=deadline_s, trace=trace,
        )  # fmt: skip
        self._dispatch.submit(ticket)
        if not ticket.is_settled:
            self._deadlines.add(ticket)
        return ticket

    async def infer(
        self,
        caller: Caller,
        name: str,
        payload: bytes,
        *,
        version: int | str | None = None,
        op: Op = Op.PREDICT,
        rows: int = 1,
        bytes_in: int = 0,
        deadline_s: float | None = None,
        trace: bytes = _NO_TRACE,
    ) -> Reply:
        """The reply to one request; raises what `submit` settles it with.

        Cancel the task when the client is gone: the replica is told.
        """
        future: asyncio.Future[Reply] = asyncio.get_running_loop().create_future()
        ticket = self.submit(
            caller,
            name,
            payload,
            lambda answer: _settle(future, answer),
            version=version,
            op=op,
            rows=rows,
            bytes_in=bytes_in,
            deadline_s=deadline_s,
            trace=trace,
        )
        try:
            return await future
        finally:
            if ticket is not None:
                ticket.cancel()
            _look_at(future)

    def _route(self, key: RouteKey) -> Route:
        route = self._snapshot.routes.get(key)
        if route is None:
            raise NotFound(noun="deployment", name=key[1])
        return route

    def _wake(self, deployment_id: str) -> None:
        now = time.monotonic()
        if now - self._woken_at.get(deployment_id, -WAKE_EVERY_S) >= WAKE_EVERY_S:
            self._woken_at[deployment_id] = now
            self._on_wake(deployment_id)

    def _follow(self, snapshot: Snapshot) -> None:
        self._snapshot = snapshot
        self._callers.clear()
        self._found.clear()
        if self._woken_at:
            # Who woke and fell asleep again is not made to wait for the pause that its last waking began.
            asleep = {route.deployment_id for route in snapshot.routes.values() if route.wakes}
            self._woken_at = {key: at for key, at in self._woken_at.items() if key in asleep}
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
        self.admission.forget_all_but({r.deployment_id for r in snapshot.routes.values()})

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
        plain = None if route is None else route.manifests.get(want.version)
        if scheme != "unix" or route is None or plain is None:
            raise OSError(f"no way to {want.address}")
        manifest = self._signatures.of(plain)
        _, link = await asyncio.get_running_loop().create_unix_connection(
            lambda: Link(self._dispatch, route, want.replica_id, want.version, manifest), path
        )
        self._links[want.replica_id] = link
        if want.replica_id not in self._wanted:
            link.retire()
        return link

    async def _ping_all(self) -> None:
        """Asks every replica that has work of ours, and each of the others now and then: they may be hundreds."""
        for turn in count():
            await asyncio.sleep(PING_S)
            for number, link in enumerate(list(self._links.values())):
                if link.in_flight or link.is_asked or (number + turn) % IDLE_PING_TURNS == 0:
                    link.ping()
            self._dispatch.wake_again()


def _key_of(caller: Caller, name: str) -> RouteKey:
    """The deployment that is meant; an instance key may name another project's."""
    project, slash, rest = name.partition("/")
    if not slash:
        return caller.project, name
    if caller.key.project not in (None, project):
        raise NotFound(noun="project", name=project)
    return project, rest


def _number_of(route: Route, version: int | str | None) -> int | None:
    """A pinned version's number; raises `NotFound` for an alias that the model does not have."""
    if not isinstance(version, str):
        return version
    number = route.aliases.get(version)
    if number is None:
        known = ", ".join(sorted(route.aliases)) or "none"
        raise NotFound(
            noun="version",
            name=f"{route.name}@{version}",
            remedy=f"The aliases of the model '{route.model}' are: {known}.",
        )
    return number


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
