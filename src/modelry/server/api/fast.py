"""The hot path: inference calls taken off the connection when their headers are complete, and answered without ASGI.

    headers complete ── a plain inference call of a known key? ──no──► uvicorn's cycle, a task, the application
                             │ yes
                        FastCycle in uvicorn's own pipeline: body ► door ► gateway.submit ► callback ► transport

No task, no scope, no framework object for each request. Only calls whose head leaves nothing to decide are taken:
whatever is refused before its body, comes in chunks, compressed or large, waits for `100-continue`, or repeats a
header goes on to the application, which answers alike (`exchange.py` is shared, and the tests walk both ways).
"""

from __future__ import annotations

import logging
import math
import time
from dataclasses import dataclass
from typing import Any, ClassVar
from urllib.parse import unquote

import httptools
from fastapi import FastAPI
from starlette.datastructures import Headers
from uvicorn.protocols.http.httptools_impl import STATUS_LINE

from modelry.core.errors import ModelryError
from modelry.core.settings import Settings
from modelry.server.api.auth import key_in, project_in
from modelry.server.api.doors.door import Call, Door, Find, Head, Target
from modelry.server.api.doors.table import DOORS
from modelry.server.api.envelope import request_id_of
from modelry.server.api.exchange import (
    LARGE_BODY_BYTES,
    SCOPE,
    Outgoing,
    answer,
    decode,
    read_deadline,
    read_headers,
    refuse,
)
from modelry.server.api.hosts import HostGuard
from modelry.server.api.protocol import BoundedHttp, Patience
from modelry.server.gateway import Caller, Gateway, Reply, Ticket

log = logging.getLogger(__name__)

#: Paths and hosts that were looked at are remembered up to so many, and none that are longer: they come from anybody.
REMEMBERED = 1024
LONGEST_REMEMBERED = 256
#: A head with one of these has something to decide.
_NOT_PLAIN = frozenset(
    {
        b"transfer-encoding",
        b"content-encoding",
        b"expect",
        b"upgrade",
        b"trailer",
        b"http2-settings",
    }
)

RawHeaders = dict[bytes, bytes]


@dataclass(slots=True)
class Plan:
    """What the head of a call decided; the next request of the connection with the same head has the same plan."""

    door: Door
    head: Head
    caller: Caller
    find: Find
    deadline_s: float | None
    #: Until the clock says this or the snapshot has another number.
    until: float
    number: int


class Entrance:
    """Who may come in this way; one for all connections of a process."""

    def __init__(self, app: FastAPI, gateway: Gateway, settings: Settings) -> None:
        self.gateway = gateway
        self.state = app.state
        self._limit = min(LARGE_BODY_BYTES - 1, settings.max_body_bytes)
        self._guard = HostGuard(app, settings)
        self._targets: dict[bytes, tuple[Door, Target, str] | None] = {}
        #: Pairs of Host and Origin that are ours.
        self._hosts: set[tuple[str, str | None]] = set()
        self._common: list[tuple[bytes, bytes]] = []
        self._common_head = b""

    def takes(self, method: bytes, headers: RawHeaders) -> bool:
        """Whether such a request may be taken at all, wherever it goes."""
        length = headers.get(b"content-length")
        return (
            method == b"POST"
            and length is not None
            and len(length) < 10
            and int(length) <= self._limit
            and _NOT_PLAIN.isdisjoint(headers)
        )

    def plan(self, url: bytes, raw: RawHeaders) -> Plan | None:
        """What to do with a request; None for one that the application decides about."""
        found = self._target(url)
        if found is None:
            return None
        door, target, query = found
        headers = read_headers(raw.items())
        try:
            if not self._is_for_us(headers):
                return None
            caller = self.gateway.authorize(key_in(headers), project_in(headers), SCOPE)
            deadline_s = read_deadline(headers.get("x-request-timeout"))
            if target.name:
                self.gateway.find(caller, target.name, target.version)
        except ModelryError:
            return None
        return Plan(
            door,
            Head(target, query, headers),
            caller,
            lambda name, version: self.gateway.find(caller, name, version),
            deadline_s,
            until=caller.key.expires_at or math.inf,
            number=self.gateway.number,
        )

    def common_head(self, headers: list[tuple[bytes, bytes]]) -> bytes:
        """What uvicorn adds to every answer (the date), as lines; it makes a new list once a second."""
        if headers is not self._common:
            self._common = headers
            self._common_head = b"".join([b"%b: %b\r\n" % line for line in headers])
        return self._common_head

    def _target(self, url: bytes) -> tuple[Door, Target, str] | None:
        if url in self._targets:
            return self._targets[url]
        found = _look_up(url)
        if len(url) <= LONGEST_REMEMBERED:
            if len(self._targets) >= REMEMBERED:
                self._targets.clear()
            self._targets[url] = found
        return found

    def _is_for_us(self, headers: dict[str, str]) -> bool:
        asked = headers.get("host", ""), headers.get("origin")
        if asked in self._hosts:
            return True
        if self._guard.check(Headers(headers)) is not None:
            return False
        if sum(len(text or "") for text in asked) <= LONGEST_REMEMBERED:
            if len(self._hosts) >= REMEMBERED:
                self._hosts.clear()
            self._hosts.add(asked)
        return True


def _look_up(url: bytes) -> tuple[Door, Target, str] | None:
    """The door of a URL; None where there is none, or where it has something to say about the path."""
    try:
        parsed = httptools.parse_url(url)
        path, query = unquote(parsed.path.decode("ascii")), (parsed.query or b"").decode("ascii")
        for door in DOORS:
            target = door.match(path)
            if target is not None:
                return door, target, query
    except (ModelryError, ValueError, httptools.HttpParserError):
        pass
    return None


class FastHttp(BoundedHttp):
    """A connection that answers inference calls itself."""

    entrance: ClassVar[Entrance]

    #: The last plan, and the head it was made for.
    _plan: Plan | None = None
    _planned: tuple[bytes, RawHeaders] = (b"", {})
    #: The one that the gateway works for.
    running: FastCycle | None = None
    #: The next one, while the client does not read its answers.
    held: FastCycle | None = None

    def on_message_begin(self) -> None:
        """A request begins; the scope is made when the application is to see it."""
        self.url = b""
        self.headers = []

    def on_header(self, name: bytes, value: bytes) -> None:
        """One more header."""
        self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Takes the request, or leaves it to the application."""
        plan = self._find_plan()
        if plan is None:
            self._leave_to_application()
            return
        self._head_bytes = 0
        self._is_in_body = True
        before = self.cycle
        cycle = FastCycle(self, plan)
        self.cycle = cycle  # type: ignore[assignment]
        if before is None or before.response_complete:
            cycle.begin()
        else:
            self.flow.pause_reading()
            self.pipeline.appendleft((cycle, self.app))  # type: ignore[arg-type]

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        cycle: Any = self.cycle
        if type(cycle) is not FastCycle:
            super().on_body(body)
            return
        self._head_bytes = 0
        self._progress += len(body)
        cycle.parts.append(body)

    def on_message_complete(self) -> None:
        """The request is whole."""
        cycle: Any = self.cycle
        if type(cycle) is not FastCycle:
            super().on_message_complete()
            return
        self._head_bytes = 0
        self._progress += 1
        self._is_in_body = False
        cycle.end()

    def connection_lost(self, exc: Exception | None) -> None:
        """The client is gone, and what it asked is not done any more."""
        super().connection_lost(exc)
        if self.running is not None:
            self.running.leave()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        held, self.held = self.held, None
        if held is not None:
            held.run()

    def _start_asgi_task(self, cycle: Any, app: Any) -> None:
        if type(cycle) is FastCycle:
            self.flow.resume_reading()
            cycle.begin()
        else:
            super()._start_asgi_task(cycle, app)

    def _find_plan(self) -> Plan | None:
        raw = dict(self.headers)
        # Who repeats a header has the application decide which counts.
        if len(raw) != len(self.headers):
            return None
        if not self.entrance.takes(self.parser.get_method(), raw) or self.parser.should_upgrade():
            return None
        del raw[b"content-length"]
        self.request_id = raw.pop(b"x-request-id", b"")
        plan, planned = self._plan, (self.url, raw)
        if plan is None or planned != self._planned or not self._holds(plan):
            plan = self._plan = self.entrance.plan(self.url, raw)
            self._planned = planned
        return plan

    def _holds(self, plan: Plan) -> bool:
        return plan.number == self.entrance.gateway.number and (
            plan.until == math.inf or time.time() < plan.until
        )

    def _leave_to_application(self) -> None:
        url, headers = self.url, self.headers
        super().on_message_begin()
        self.url = url
        for name, value in headers:
            super().on_header(name, value)
        super().on_headers_complete()


class _NobodyListens:
    """Where uvicorn's cycles have an event for their application."""

    def set(self) -> None:
        """Nobody waits."""


class FastCycle:
    """One request and its answer, where uvicorn's pipeline has its own cycles. Owned by its connection."""

    __slots__ = (
        "_call",
        "_connection",
        "_is_next",
        "_is_whole",
        "_plan",
        "_request_id",
        "_ticket",
        "disconnected",
        "keep_alive",
        "parts",
        "response_complete",
    )

    message_event = _NobodyListens()
    #: Its answer is written in one go.
    response_started = False

    def __init__(self, connection: FastHttp, plan: Plan) -> None:
        self._connection = connection
        self._plan = plan
        self._request_id = connection.request_id
        self._is_next = self._is_whole = False
        self._ticket: Ticket | None = None
        self._call: Call | None = None
        self.parts: list[bytes] = []
        self.disconnected = self.response_complete = False
        parser = connection.parser
        self.keep_alive = parser.should_keep_alive() and parser.get_http_version() != "1.0"

    def begin(self) -> None:
        """All that came before it on its connection is answered."""
        self._is_next = True
        if self._is_whole:
            self.run()

    def end(self) -> None:
        """Its body is whole."""
        self._is_whole = True
        if self._is_next:
            self.run()

    def run(self) -> None:
        """Asks the gateway, unless the client first has answers to read."""
        connection, plan = self._connection, self._plan
        if connection.flow.write_paused:
            connection.held = self
            return
        body = self.parts[0] if len(self.parts) == 1 else b"".join(self.parts)
        self.parts = []
        try:
            call = self._call = decode(plan.door, plan.head, body, plan.find)
        except ModelryError as error:
            self._write(refuse(plan.door, error))
            return
        connection.running = self
        ticket = connection.entrance.gateway.submit(
            plan.caller,
            call.name,
            call.payload,
            self._settled,
            version=call.version,
            op=call.op,
            rows=call.rows,
            bytes_in=len(body),
            deadline_s=plan.deadline_s,
        )
        if connection.running is self:
            self._ticket = ticket

    def leave(self) -> None:
        """The client is gone."""
        ticket, self._ticket = self._ticket, None
        if ticket is not None:
            ticket.cancel()

    def _settled(self, outcome: Reply | ModelryError) -> None:
        connection, plan, call = self._connection, self._plan, self._call
        # They hold each other: without this, only the garbage collector would find them.
        connection.running = self._ticket = self._call = None
        if self.disconnected or self.response_complete:
            return
        assert call is not None
        self._write(answer(plan.door, plan.head, call, outcome))

    def _write(self, outgoing: Outgoing) -> None:
        connection = self._connection
        if connection.entrance.state.is_ending:
            self.keep_alive = False
        request_id = request_id_of(self._request_id.decode("latin-1"))
        close = "" if self.keep_alive else "connection: close\r\n"
        head = (
            f"{outgoing.head}content-length: {len(outgoing.body)}\r\n"
            f"x-request-id: {request_id}\r\n{close}\r\n"
        )
        connection.transport.write(
            b"".join(
                (
                    STATUS_LINE[outgoing.status],
                    connection.entrance.common_head(connection.server_state.default_headers),
                    head.encode("latin-1"),
                    outgoing.body,
                )
            )
        )
        self.response_complete = True
        if not self.keep_alive:
            connection.transport.close()
        connection.on_response_complete()


def http_protocol(app: FastAPI, gateway: Gateway, settings: Settings) -> type[BoundedHttp]:
    """The protocol class of one process."""
    if not settings.fast:
        return type("Http", (BoundedHttp,), {"patience": Patience(settings)})
    parts = {"patience": Patience(settings), "entrance": Entrance(app, gateway, settings)}
    return type("FastHttp", (FastHttp,), parts)
