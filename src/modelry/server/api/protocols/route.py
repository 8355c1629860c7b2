"""One call of a foreign protocol beside inference: the key is checked first, errors leave in the protocol's shape."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, TypeVar

import msgspec
from starlette.convertors import CONVERTOR_TYPES, Convertor, register_url_convertor
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modelry.core.errors import InvalidRequest, ModelryError
from modelry.server.api.auth import authorize
from modelry.server.api.doors.door import Refusal
from modelry.server.api.errors import error_headers, status_of
from modelry.server.api.exchange import too_large
from modelry.server.api.service import Service
from modelry.server.gateway import Caller

#: Status of an answer that nobody will read (nginx's number).
_CLIENT_GONE = 499

Struct = TypeVar("Struct", bound=msgspec.Struct)


class _DeploymentName(Convertor[str]):
    """`{name:deployment}` in a path: a deployment's name, perhaps with its project's before it."""

    regex = "[^/]+(?:/[^/]+)?"

    def convert(self, value: str) -> str:
        return value

    def to_string(self, value: str) -> str:
        return value


if "deployment" not in CONVERTOR_TYPES:
    register_url_convertor("deployment", _DeploymentName())


@dataclass(frozen=True, slots=True)
class Asked:
    """A call that may go on."""

    service: Service
    caller: Caller
    #: What the path names.
    path: dict[str, str]
    body: bytes
    headers: dict[str, str]

    def read(self, kind: type[Struct]) -> Struct:
        """The body as `kind`, or as `kind` without fields where it is empty; raises `InvalidRequest`."""
        try:
            return msgspec.json.decode(self.body.strip() or b"{}", type=kind)
        except (msgspec.DecodeError, RecursionError, UnicodeDecodeError) as error:
            raise InvalidRequest(reason=str(error).replace("`", "'").rstrip(".")) from None


#: The answer's JSON, or a response that is made already. Raises `ModelryError`.
Answer = Callable[[Asked], Awaitable[Any]]


class ProtocolRoute(Route):
    """`scope` is what the key needs."""

    def __init__(
        self,
        method: str,
        path: str,
        scope: str,
        answer: Answer,
        refusal: Callable[[ModelryError], Refusal],
    ) -> None:
        super().__init__(path, self._respond, methods=[method])
        self.scope = scope
        self._answer = answer
        self._refusal = refusal

    async def _respond(self, request: Request) -> Response:
        try:
            value = await self._answer(await self._ask(request))
        except ModelryError as error:
            return self._refuse(error)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)
        return value if isinstance(value, Response) else json_response(value)

    async def _ask(self, request: Request) -> Asked:
        service: Service = request.app.state.service
        call = await authorize(service, request, self.scope)
        caller = Caller(call.project, call.key)
        if request.url.query:
            raise InvalidRequest(reason="this call takes no query parameters")
        body = await _read(request, service.settings.max_body_bytes)
        return Asked(service, caller, request.path_params, body, dict(request.headers))

    def _refuse(self, error: ModelryError) -> Response:
        refusal = self._refusal(error)
        headers = {**error_headers(error), **dict(refusal.headers)}
        return Response(refusal.body, status_of(error), headers, refusal.content_type)


def json_response(value: Any, status: int = HTTPStatus.OK) -> Response:
    """JSON with a status."""
    return Response(msgspec.json.encode(value), status, media_type="application/json")


async def _read(request: Request, limit: int) -> bytes:
    """The body; raises `BodyTooLarge` from what was announced, or as soon as more has come."""
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
