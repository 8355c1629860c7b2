"""The inference calls over HTTP: read the body, ask a door, ask the gateway, write the answer. No database.

Every answer carries where the time went: `x-queue-time` and `x-inference-time` (seconds), and the version.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

from fastapi import APIRouter
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from modelry.core.errors import BodyTooLarge, InvalidRequest, ModelryError
from modelry.core.manifests import ModelManifest
from modelry.server.api.auth import Call, authorize
from modelry.server.api.doors import native, tf_serving
from modelry.server.api.doors.numbers import read_count
from modelry.server.api.doors.signature import Signatures
from modelry.server.api.errors import error_response
from modelry.server.gateway import Caller, Gateway, Reply

#: The scope that all calls here need.
SCOPE = "infer"
#: From this size on a body is decoded beside the event loop.
LARGE_BODY_BYTES = 1 << 20
#: A client that left is noticed this much later; answers are mostly quicker.
_WATCH_AFTER_S = 0.02
#: Status of an answer that nobody will read (nginx's number).
_CLIENT_GONE = 499

Value = TypeVar("Value")


class InferenceRoute(Route):
    """A route that declares its scope."""

    scope = SCOPE


def inference_router(gateway: Gateway) -> APIRouter:
    """The routes of all inference doors."""
    doors = InferenceDoors(gateway)
    tf_path = "/v1/models/{name}"
    router = APIRouter()
    router.routes += [
        InferenceRoute(f"{tf_path}:predict", doors.tf_serving, methods=["POST"]),
        InferenceRoute(
            f"{tf_path}/versions/{{version}}:predict", doors.tf_serving, methods=["POST"]
        ),
        InferenceRoute("/predict/{name}", doors.native, methods=["POST"]),
    ]
    return router


class InferenceDoors:
    """The endpoints; all they remember is how models look."""

    def __init__(self, gateway: Gateway) -> None:
        self._gateway = gateway
        self._signatures = Signatures()
        self._body_limit = gateway.settings.max_body_bytes

    async def tf_serving(self, request: Request) -> Response:
        """TensorFlow Serving's predict call, with its shape of errors."""
        try:
            return await self._tf_serving(request)
        except ModelryError as error:
            plain = error_response(error)
            headers = {
                name: plain.headers[name]
                for name in ("retry-after", "www-authenticate")
                if name in plain.headers
            }
            return _json(
                tf_serving.encode_error(error),
                {**headers, "x-modelry-error": error.code},
                plain.status_code,
            )
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)

    async def native(self, request: Request) -> Response:
        """Modelry's own predict call."""
        try:
            return await self._native(request)
        except ClientDisconnect:
            return Response(status_code=_CLIENT_GONE)

    async def _tf_serving(self, request: Request) -> Response:
        caller = await self._authorize(request)
        name, sent = request.path_params["name"], request.path_params.get("version")
        version = None if sent is None else read_count("version", sent)
        if request.url.query:
            raise InvalidRequest(reason="this call takes no query parameters")
        deadline_s = self._deadline(request)
        manifest = self._manifest(caller, name, version)
        body = await self._read(request)
        call = await _apart(body, lambda: tf_serving.decode(body, manifest))
        reply = await self._ask(
            request, caller, name, call.payload, version=version, deadline_s=deadline_s
        )
        return _json(tf_serving.encode(reply.payload, call.by_rows), _headers(reply))

    async def _native(self, request: Request) -> Response:
        began = time.perf_counter()
        caller = await self._authorize(request)
        name = request.path_params["name"]
        options = native.read_options(request.query_params)
        deadline_s = self._deadline(request)
        manifest = self._manifest(caller, name, options.version)
        body = await self._read(request)
        content_type = request.headers.get("content-type", "")
        payload = await _apart(body, lambda: native.decode(body, content_type, manifest))
        reply = await self._ask(
            request, caller, name, payload, version=options.version, deadline_s=deadline_s
        )
        timing = native.Timing(
            reply.stats.queue_us / 1e6, reply.stats.inference_us / 1e6, time.perf_counter() - began
        )
        about = {"deployment": name, "model": reply.model, "version": reply.version}
        answered = self._signatures.of(reply.manifest)
        content = native.encode(reply.payload, answered, options.top_k, about, timing)
        return _json(content, _headers(reply))

    async def _authorize(self, request: Request) -> Caller:
        call: Call = await authorize(request.app.state.service, request, SCOPE)
        return Caller(call.project, call.key)

    def _manifest(self, caller: Caller, name: str, version: int | None) -> ModelManifest:
        return self._signatures.of(self._gateway.manifest(caller, name, version))

    def _deadline(self, request: Request) -> float:
        longest_s = 3600.0
        text = request.headers.get("x-request-timeout")
        if text is None:
            return self._gateway.settings.deadline_s
        try:
            seconds = float(text)
        except ValueError:
            seconds = 0.0
        if not 0 < seconds <= longest_s:
            raise InvalidRequest(
                reason=f"x-request-timeout must be seconds, more than 0 and at most {longest_s:g}"
            )
        return seconds

    async def _read(self, request: Request) -> bytes:
        """The body; raises `BodyTooLarge` from what was announced, or as soon as more has come."""
        limit = self._body_limit
        announced = request.headers.get("content-length", "")
        if announced.isdecimal() and int(announced) > limit:
            raise _too_large(limit)
        parts, size = [], 0
        async for part in request.stream():
            size += len(part)
            if size > limit:
                raise _too_large(limit)
            parts.append(part)
        return b"".join(parts)

    async def _ask(
        self,
        request: Request,
        caller: Caller,
        name: str,
        payload: bytes,
        *,
        version: int | None,
        deadline_s: float,
    ) -> Reply:
        return await _unless_gone(
            request,
            self._gateway.infer(caller, name, payload, version=version, deadline_s=deadline_s),
        )


async def _apart(body: bytes, decode: Callable[[], Value]) -> Value:
    """Decodes a large body in a thread, so that small requests do not wait for it."""
    return await asyncio.to_thread(decode) if len(body) >= LARGE_BODY_BYTES else decode()


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


def _too_large(limit_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(limit_bytes=limit_bytes, setting="MODELRY_MAX_BODY_BYTES")


def _headers(reply: Reply) -> dict[str, str]:
    return {
        "x-model-version": str(reply.version),
        "x-queue-time": f"{reply.stats.queue_us / 1e6:.6f}",
        "x-inference-time": f"{reply.stats.inference_us / 1e6:.6f}",
        "x-batch-rows": str(reply.stats.batch_rows),
    }


def _json(content: bytes, headers: dict[str, str], status: int = 200) -> Response:
    return Response(content, status, headers, media_type="application/json")
