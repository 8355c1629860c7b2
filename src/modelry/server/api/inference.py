"""The inference calls as the ASGI application answers them: for every door of the table, one way.

The protocol class of `fast.py` takes most of them before they come here; what it leaves (large, chunked or compressed
bodies, refusals before the body) and, where it is turned off, all of them are answered here, and alike.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import TypeVar

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import Scope

from modelry.core.errors import InvalidRequest, ModelryError
from modelry.server.api.auth import authorize
from modelry.server.api.doors.door import Door, Head, Target
from modelry.server.api.doors.table import DOORS
from modelry.server.api.exchange import (
    LARGE_BODY_BYTES,
    SCOPE,
    Outgoing,
    answer,
    decode,
    read_deadline,
    read_headers,
    refuse,
    too_large,
    undo,
)
from modelry.server.gateway import Caller, Gateway, Reply

#: A client that left is noticed this much later; answers are mostly quicker.
_WATCH_AFTER_S = 0.02
#: Status of an answer that nobody will read (nginx's number).
_CLIENT_GONE = 499

Value = TypeVar("Value")


class InferenceRoute(Route):
    """One of a door's paths. The door itself says what a path names; the template is for the reference."""

    scope = SCOPE

    def __init__(self, path: str, door: Door, gateway: Gateway) -> None:
        super().__init__(path, Inference(door, gateway).respond, methods=["POST"])
        self.door = door

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        """The framework's question; the target, or what is wrong with the path, goes on in the scope."""
        if scope["type"] != "http":
            return Match.NONE, {}
        try:
            target: Target | InvalidRequest | None = self.door.match(scope["path"])
        except InvalidRequest as error:
            target = error
        if target is None:
            return Match.NONE, {}
        found = {"endpoint": self.endpoint, "path_params": {}, "target": target}
        return Match.FULL if scope["method"] == "POST" else Match.PARTIAL, found


def inference_router(gateway: Gateway) -> APIRouter:
    """The routes of all inference doors."""
    router = APIRouter()
    router.routes += [InferenceRoute(path, door, gateway) for door in DOORS for path in door.paths]
    return router


class Inference:
    """One door's endpoint."""

    def __init__(self, door: Door, gateway: Gateway) -> None:
        self._door = door
        self._gateway = gateway

    async def respond(self, request: Request) -> Response:
        """The answer, or the error in the door's shape."""
        try:
            outgoing = await self._exchange(request)
        except ModelryError as error:
            outgoing = refuse(self._door, error)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        return _response(outgoing)

    async def _exchange(self, request: Request) -> Outgoing:
        call = await authorize(request.app.state.service, request, SCOPE, takes_encoded=True)
        caller = Caller(call.project, call.key)
        target = request.scope["target"]
        if isinstance(target, ModelryError):
            raise target
        headers = read_headers(request.scope["headers"])
        deadline_s = read_deadline(headers.get("x-request-timeout"))
        head = Head(target, request.url.query, headers)
        if target.name:
            self._gateway.find(caller, target.name, target.version)
        sent = await self._read(request)
        body = await _apart(sent, partial(self._undo, sent, headers))
        find = partial(self._gateway.find, caller)
        asked = await _apart(body, partial(decode, self._door, head, body, find))
        reply = self._gateway.infer(
            caller,
            asked.name,
            asked.payload,
            version=asked.version,
            op=asked.op,
            rows=asked.rows,
            bytes_in=len(sent),
            deadline_s=deadline_s,
        )
        outcome: Reply | ModelryError
        try:
            outcome = await _unless_gone(request, reply)
        except ModelryError as error:
            outcome = error
        return await _apart(_size_of(outcome), partial(answer, self._door, head, asked, outcome))

    def _undo(self, body: bytes, headers: dict[str, str]) -> bytes:
        encoding = headers.get("content-encoding", "")
        return undo(body, encoding, self._gateway.settings.max_body_bytes)

    async def _read(self, request: Request) -> bytes:
        """The body; raises `BodyTooLarge` from what was announced, or as soon as more has come."""
        limit = self._gateway.settings.max_body_bytes
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise too_large(limit)
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise too_large(limit)
            parts.append(part)
        return b"".join(parts)


async def _apart(content: bytes | memoryview, work: Callable[[], Value]) -> Value:
    """Works on large content in a thread, so that small requests do not wait for it."""
    return await asyncio.to_thread(work) if len(content) >= LARGE_BODY_BYTES else work()


def _size_of(outcome: Reply | ModelryError) -> bytes | memoryview:
    return outcome.payload if isinstance(outcome, Reply) else b""


async def _unless_gone(request: Request, answer: Awaitable[Value]) -> Value:
    """The answer; cancelled, with `ClientDisconnect`, when the client hangs up before it is there."""
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    watch: asyncio.Task[None] | None = None
    is_gone = False

    async def wait_for_end() -> None:
        nonlocal is_gone
        while (await request.receive())["type"] != "http.disconnect":
            pass
        is_gone = True
        task.cancel()

    def begin() -> None:
        nonlocal watch
        watch = loop.create_task(wait_for_end())

    timer = loop.call_later(_WATCH_AFTER_S, begin)
    try:
        return await answer
    except asyncio.CancelledError:
        if is_gone:
            task.uncancel()
            raise ClientDisconnect from None
        raise
    finally:
        timer.cancel()
        if watch is not None:
            watch.cancel()


def _response(outgoing: Outgoing) -> Response:
    response = Response(outgoing.body, outgoing.status)
    lines = [line.split(b": ", 1) for line in outgoing.head.encode("latin-1").splitlines()]
    response.raw_headers = [*((name, value) for name, value in lines), *response.raw_headers]
    return response
