"""Requests on their way: who waits, who is with which replica, who gets which answer.

No input or output and no clock: events come in as calls (`submit`, `answered`, `lost`, …), and what follows
is done at once through two seams, a replica's `send` and a request's `settle`. So every order of events can
be tried in a test. The law: each submitted request is settled exactly once, unless it was abandoned.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Protocol

from modelry.core.errors import ModelCrashed, ModelryError, NotFound
from modelry.core.frames import Op, Stats
from modelry.core.records import Route
from modelry.server.gateway.choice import Option, choose

RouteKey = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Reply:
    """A replica's answer to one request."""

    payload: memoryview
    stats: Stats
    model: str
    version: int
    #: The `model.json` of the version that answered.
    manifest: Mapping[str, Any]


class Pending:
    """One request between its door and its answer."""

    __slots__ = (
        "alone",
        "deadline_at",
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
        #: The replica that has it, None while it waits.
        self.replica: ReplicaLink | None = None
        #: Set for the second try: it runs in a batch of its own.
        self.alone = False
        #: The replica said that this request, alone, is what it works on.
        self.is_started = False
        self.is_settled = False


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
    """Owner of all requests under way in one web process."""

    def __init__(self) -> None:
        self.routes: Mapping[RouteKey, Route] = {}
        self._links: dict[str, list[ReplicaLink]] = {}
        self._waiting: dict[RouteKey, dict[int, Pending]] = {}
        self._ids = count(1)

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
            self._settle(request, error)

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
            self._settle(request, answer)

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
                self._settle(request, ModelCrashed(name=request.key[1]))
            else:
                request.alone, request.is_started = True, False
                self._place(request)

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
            link = choose(route, request.pinned, self._links.get(route.deployment_id, ()))
        except ModelryError as error:
            self._settle(request, error)
            return
        if link is None:
            self._waiting.setdefault(request.key, {})[request.id] = request
            return
        request.replica = link
        link.requests[request.id] = request
        link.send(request)

    def _detach(self, request: Pending, *, cancel: bool = False) -> None:
        """Takes the request from wherever it is."""
        link, request.replica = request.replica, None
        if link is None:
            waiting = self._waiting.get(request.key, {})
            waiting.pop(request.id, None)
            if not waiting:
                self._waiting.pop(request.key, None)
            return
        link.requests.pop(request.id, None)
        if cancel:
            link.cancel(request.id)
        if not link.requests:
            link.idle()

    def _retry_waiting(self) -> None:
        waiting, self._waiting = self._waiting, {}
        for requests in waiting.values():
            for request in requests.values():
                self._place(request)

    @staticmethod
    def _settle(request: Pending, answer: Reply | ModelryError) -> None:
        request.is_settled = True
        request.on_settled(answer)
