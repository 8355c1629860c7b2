"""Permission: declared once per route, decided in one place, before a byte of the body is read.

    @router.get("/api/v1/jobs")
    def list_jobs(call: Annotated[Call, needs("read")]) -> list[Job]: ...

The gateway's snapshot of keys decides for management and inference alike, so a revoked key stops everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Mapping, Set
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from fastapi import APIRouter, Depends, Request, Response
from fastapi.dependencies.models import Dependant
from fastapi.routing import APIRoute
from starlette.types import Message, Receive

from modelry.core.errors import (
    BodyTooLarge,
    InvalidKey,
    InvalidRequest,
    UnsupportedMedia,
)
from modelry.core.records import Key
from modelry.server.api.service import Service

#: An empty object says as little as nothing.
_NO_BODY = (b"", b"{}")
_WRITES = frozenset({"POST", "PUT", "PATCH", "DELETE"})


@dataclass(frozen=True, slots=True)
class Call:
    """A request that may go on: who asks, for which project, and the service's parts to answer with."""

    key: Key
    project: str
    service: Service


@dataclass(frozen=True, slots=True)
class Permission:
    """What a route needs; as a dependency it hands over the `Call` that the route's guard made."""

    scope: str
    #: The body may be as large as it likes: the endpoint reads it as a stream with a limit of its own.
    streams: bool = False
    #: The other processes learn of the write at once.
    rings: bool = True

    def __call__(self, request: Request) -> Call:
        call: Call = request.state.call
        return call


def needs(scope: str, *, streams: bool = False, rings: bool = True) -> Any:
    """The dependency that declares a route's permission and gives it the `Call`."""
    return Depends(Permission(scope, streams, rings))


def permission_of(dependant: Dependant) -> Permission | None:
    """The permission a route declares."""
    for part in dependant.dependencies:
        if isinstance(part.call, Permission):
            return part.call
    return None


class GuardedRoute(APIRoute):
    """A route that checks the key first. One without a declared permission cannot be made."""

    @property
    def permission(self) -> Permission:
        """What this route needs."""
        found = permission_of(self.dependant)
        if found is None:
            raise TypeError(f"the route {self.path} declares no permission; this is a bug")
        return found

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """The framework's handler behind the check, with the bell after a write."""
        handle = super().get_route_handler()
        permission = self.permission
        known = {field.alias for field in self.dependant.query_params}

        async def guarded(request: Request) -> Response:
            service: Service = request.app.state.service
            request.state.call = await authorize(service, request, permission.scope)
            _check_query(request, known)
            if not permission.streams:
                limit = service.settings.max_body_bytes
                request = Request(request.scope, _limited(request, limit), request._send)
                if self.body_field is None and await request.body() not in _NO_BODY:
                    raise InvalidRequest(reason="this call takes no body", remedy="Send none.")
            response = await handle(request)
            if permission.rings and request.method in _WRITES:
                await service.announce()
            return response

        return guarded


def guarded_router() -> APIRouter:
    """A router whose routes are all guarded."""
    return APIRouter(route_class=GuardedRoute)


async def authorize(
    service: Service, request: Request, scope: str, *, takes_encoded: bool = False
) -> Call:
    """The call of a key that has the scope; a key that another process made a moment ago is looked up once.

    `takes_encoded`: the caller undoes a body's content encoding itself.
    """
    text = sent_key(request)
    project = sent_project(request)
    try:
        caller = service.gateway.authorize(text, project, scope)
    except InvalidKey:
        if not await service.look_up(request.client.host if request.client else ""):
            raise
        caller = service.gateway.authorize(text, project, scope)
    if not takes_encoded:
        _check_encoding(request)
    return Call(caller.key, caller.project, service)


def sent_key(request: Request) -> str | None:
    """The key in `Authorization: Bearer …` or `x-api-key`."""
    return key_in(request.headers)


def key_in(headers: Mapping[str, str]) -> str | None:
    """The same, of headers with names in small letters."""
    scheme, _, text = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and text.strip():
        return text.strip()
    return headers.get("x-api-key")


def sent_project(request: Request) -> str | None:
    """The project in `x-modelry-project`, percent-encoded where it is not plain ASCII."""
    return project_in(request.headers)


def project_in(headers: Mapping[str, str]) -> str | None:
    """The same, of headers with names in small letters."""
    sent = headers.get("x-modelry-project")
    return unquote(sent) if sent else None


def _check_encoding(request: Request) -> None:
    """Bodies are taken as they are: a compressed one would be misread, or kept compressed without a word."""
    sent = request.headers.get("content-encoding", "identity")
    if sent.lower() != "identity":
        raise UnsupportedMedia(
            f"A body in the content encoding '{sent}' is not taken here.",
            remedy="Send it as it is, without content-encoding.",
            content_type=sent,
        )


def _check_query(request: Request, known: Set[str]) -> None:
    unknown = sorted(set(request.query_params) - known)
    if unknown:
        takes = f"It takes: {', '.join(sorted(known))}." if known else "It takes none."
        raise InvalidRequest(
            reason=f"the query parameter '{unknown[0]}' is not known", remedy=takes
        )


def _limited(request: Request, limit: int) -> Receive:
    """The body's messages, refused with `BodyTooLarge` from the first that goes over the limit."""
    announced = request.headers.get("content-length", "")
    left = limit
    too_large = BodyTooLarge(limit_bytes=limit, setting="MODELRY_MAX_BODY_BYTES")

    async def receive() -> Message:
        nonlocal left
        if announced.isdecimal() and int(announced) > limit:
            raise too_large
        message = await request.receive()
        left -= len(message.get("body", b""))
        if left < 0:
            raise too_large
        return message

    return receive
