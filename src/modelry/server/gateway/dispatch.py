"""Requests on their way: who waits, who is with which replica, who gets which answer.

No input or output and no clock: events come in as calls (`submit`, `answered`, `lost`, …), and what follows
is done at once through two seams, a replica's `send` and a request's `settle`. So every order of events can
be tried in a test. The law: each submitted request is settled exactly once, unless it was abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import count
from typing import Protocol

import msgspec

from modelry.core.errors import ModelCrashed, ModelryError, NotFound
from modelry.core.frames import Op, Stats
from modelry.core.manifests import ModelManifest
from modelry.core.records import Route
from modelry.server.gateway.choice import Draws, Option, choose

RouteKey = tuple[str, str]


class Reply(msgspec.Struct, frozen=True):
    """A replica's answer to one request."""

    payload: memoryview
    stats: Stats
    model: str
    version: int
    #: Of the version that answered.
    manifest: ModelManifest


class Pending:
    """One request between its door and its answer."""

    __slots__ = (
        "alone",
        "deadline_at",
        "drawn",
        "id",
        "is_settled",
        "is_started",
        "key",
        "on_settled",
        "op",
        "payload",
        "pinned",
        "replica",
        "trace",
    )

    def __init__(
        self,
        key: RouteKey,
        payload: bytes,
        on_settled: Callable[[Reply | ModelryError], None],
        *,
        pinned: int | None = None,
        op: Op = Op.PREDICT,
        deadline_at: float = 0.0,
        trace: bytes = bytes(16),
    ) -> None:
        self.key = key
        self.payload = payload
        self.on_settled = on_settled
        self.pinned = pinned
        self.op = op
        #: On the gateway's monotonic clock.
        self.deadline_at = deadline_at
        self.trace = trace
        self.id = 0
        #: The version it goes to by the weights of a canary; it stays with it when it must go elsewhere.
        self.drawn: int | None = None
        #: The replica that has it, None while it waits.
        self.replica: ReplicaLink | None = None
        #: Set for the second try: it runs in a batch of its own.
        self.alone = False
        #: The replica said that this request, alone, is what it works on.
        self.is_started = False
        self.is_settled = False

    def moved(self, version: int | None) -> None:
        """It is given to a replica of this version, or (None) waits for one."""

    def settle(self, answer: Reply | ModelryError) -> None:
        """The end of its way; called once by the dispatch, and not at all where it was abandoned without an error."""
        self.is_settled = True
        self.on_settled(answer)


class ReplicaLink(Option, Protocol):
    """A connected replica."""

    @property
    def deployment_id(self) -> str: ...

    @property
    def requests(self) -> dict[int, Pending]:
        """What it has been given and not answered, by request id; the dispatch is its owner."""

    def send(self, request: Pending) -> None:
        """Gives it a request; never blocks, never raises."""

    def cancel(self, request_id: int) -> None:
        """Nobody waits for this one any more."""

    def idle(self) -> None:
        """Called when its last request left it."""


class Dispatch:
    """Owner of all requests under way in one web process.

    `on_wake` hears of a deployment whose replicas sleep each time a request must wait for one. `shares`: how many
    processes share a deployment's `max_in_flight`; each keeps to its part, so that together they never give more.
    """

    def __init__(
        self, on_wake: Callable[[str], None] = lambda deployment_id: None, *, shares: int = 1
    ) -> None:
        self.routes: Mapping[RouteKey, Route] = {}
        self._on_wake = on_wake
        self._shares = shares
        self._links: dict[str, list[ReplicaLink]] = {}
        self._waiting: dict[RouteKey, dict[int, Pending]] = {}
        self._ids = count(1)
        self._draws = Draws()

    def __repr__(self) -> str:
        waiting = sum(len(requests) for requests in self._waiting.values())
        links = [link for links in self._links.values() for link in links]
        flying = sum(link.in_flight for link in links)
        return f"<Dispatch {waiting} waiting, {flying} in flight on {len(links)} replicas>"

    def submit(self, request: Pending) -> None:
        """Takes a request over: sent at once, kept waiting, or refused."""
        request.id = next(self._ids)
        self._place(request)

    def abandon(self, request: Pending, error: ModelryError | None = None) -> None:
        """Its client is gone, or (with an error) its deadline has passed."""
        if request.is_settled:
            return
        self._detach(request, cancel=True)
        if error is None:
            request.is_settled = True
        else:
            request.settle(error)

    def wake_again(self) -> None:
        """Asks once more for the replicas that requests wait for: the first word may have been lost."""
        for key in self._waiting:
            route = self.routes.get(key)
            if route is not None and route.wakes:
                self._on_wake(route.deployment_id)

    def route(self, routes: Mapping[RouteKey, Route]) -> None:
        """New routes: what waits is looked at again."""
        self.routes = routes
        self._retry_waiting()

    def opened(self, link: ReplicaLink) -> None:
        """A replica can be used (again)."""
        links = self._links.setdefault(link.deployment_id, [])
        if link not in links:
            links.append(link)
        self._retry_waiting()

    def started(self, link: ReplicaLink, request_id: int) -> None:
        """The replica works on this request and on no other."""
        request = link.requests.get(request_id)
        if request is not None:
            request.is_started = True

    def answered(self, link: ReplicaLink, request_id: int, answer: Reply | ModelryError) -> None:
        """The replica's word; an answer that nobody waits for is dropped."""
        request = link.requests.get(request_id)
        if request is not None:
            self._detach(request)
            request.settle(answer)

    def lost(self, link: ReplicaLink) -> None:
        """The link broke. Its requests go elsewhere, alone; one that was alone already is to blame."""
        links = self._links.get(link.deployment_id, [])
        if link in links:
            links.remove(link)
        if not links:
            self._links.pop(link.deployment_id, None)
        orphans = list(link.requests.values())
        link.requests.clear()
        for request in orphans:
            request.replica = None
            if request.alone and request.is_started:
                request.settle(ModelCrashed(name=request.key[1]))
            else:
                request.alone, request.is_started = True, False
                self._place(request)
        if orphans:
            self._retry_waiting()

    def settle_all(self, error: ModelryError) -> None:
        """The end: every request that is still here gets this error."""
        flying = [
            r for links in self._links.values() for link in links for r in link.requests.values()
        ]
        waiting = [r for requests in self._waiting.values() for r in requests.values()]
        for request in flying + waiting:
            self.abandon(request, error)

    def _place(self, request: Pending) -> None:
        """Sends the request to a replica, or lets it wait, or settles it with the refusal."""
        try:
            route = self.routes.get(request.key)
            if route is None:
                raise NotFound(noun="deployment", name=request.key[1])
            if route.weights and request.drawn is None and request.pinned is None:
                request.drawn = self._draws.draw(route)
            links = self._links.get(route.deployment_id, ())
            link = choose(route, request.pinned, links, request.drawn)
        except ModelryError as error:
            request.settle(error)
            return
        if link is None or self._is_full(route, links):
            self._waiting.setdefault(request.key, {})[request.id] = request
            request.moved(None)
            if route.wakes:
                self._on_wake(route.deployment_id)
            return
        request.replica = link
        link.requests[request.id] = request
        request.moved(link.version)
        link.send(request)

    def _detach(self, request: Pending, *, cancel: bool = False) -> None:
        """Takes the request from wherever it is."""
        link, request.replica = request.replica, None
        if link is None:
            self._forget(request)
            return
        link.requests.pop(request.id, None)
        if cancel:
            link.cancel(request.id)
        if not link.requests:
            link.idle()
        if request.key in self._waiting:
            self._let_in(request.key)

    def _is_full(self, route: Route, links: Sequence[ReplicaLink]) -> bool:
        """Whether the replicas have as many requests as the deployment allows."""
        if route.max_in_flight is None:
            return False
        return sum(link.in_flight for link in links) >= max(1, route.max_in_flight // self._shares)

    def _let_in(self, key: RouteKey) -> None:
        """A request has left a replica: the oldest that wait because there were too many."""
        route = self.routes.get(key)
        if route is None or route.max_in_flight is None:
            return
        for request in list(self._waiting[key].values()):
            if self._is_full(route, self._links.get(route.deployment_id, ())):
                return
            if request.replica is None and not request.is_settled:
                self._forget(request)
                self._place(request)

    def _forget(self, request: Pending) -> None:
        """It waits no more."""
        waiting = self._waiting.get(request.key, {})
        waiting.pop(request.id, None)
        if not waiting:
            self._waiting.pop(request.key, None)

    def _retry_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for requests in waiting.values():
            for request in requests.values():
                self._place(request)
