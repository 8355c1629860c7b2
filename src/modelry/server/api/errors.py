"""Errors as answers: the one table code → status, and the one shape.

`{"error": {"code", "message", "remedy", "retryable"}}`; the header `x-request-id` is added by `envelope`.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from modelry.core.errors import (
    InternalError,
    InvalidRequest,
    MethodNotAllowed,
    ModelryError,
    NotFound,
    to_wire,
)

#: Every error's code → HTTP status; a test proves that none is missing.
STATUS_OF_CODE: Mapping[str, int] = {
    "error": 500,
    "bad_input": 400,
    "invalid_request": 400,
    "unknown_parameter": 400,
    "invalid_parameter": 400,
    "invalid_name": 400,
    "invalid_data": 400,
    "wrong_data_kind": 400,
    "invalid_input": 400,
    "invalid_media": 400,
    "unsupported_media": 415,
    "body_too_large": 413,
    "too_slow": 408,
    "path_refused": 403,
    "unsafe_file": 422,
    "not_convertible": 422,
    "unsupported_task": 400,
    "method_not_allowed": 405,
    "access_refused": 403,
    "no_key": 401,
    "invalid_key": 401,
    "scope_too_small": 403,
    "host_refused": 403,
    "not_found": 404,
    "conflict": 409,
    "already_exists": 409,
    "in_use": 409,
    "illegal_move": 409,
    "unavailable": 503,
    "no_ready_replica": 503,
    "store_unavailable": 503,
    "compute_unavailable": 503,
    "storage_full": 507,
    "overloaded": 429,
    "rate_limited": 429,
    "quota_exceeded": 429,
    "too_many_wrong_keys": 429,
    "deadline_exceeded": 504,
    "service_unreachable": 502,
    "shutting_down": 503,
    "work_failed": 500,
    "model_crashed": 500,
    "model_unloadable": 500,
    "program_failed": 500,
    "out_of_memory": 500,
    "out_of_time": 500,
    "verification_failed": 500,
    "diverged": 500,
    "worker_lost": 500,
    "job_cancelled": 409,
    "start_refused": 500,
    "invalid_setting": 500,
    "database_too_new": 500,
    "already_running": 500,
    "port_taken": 500,
    "format_too_new": 500,
    "stale_epoch": 500,
    "internal_error": 500,
}

#: Seconds after which a client may try again what can succeed later.
_RETRY_AFTER_S = "1"


def status_of(error: ModelryError) -> int:
    """The HTTP status of an error; 500 for a code from a later peer that the table cannot know."""
    return STATUS_OF_CODE.get(error.code, 500)


def error_headers(error: ModelryError) -> dict[str, str]:
    """What an error's answer says in headers, whatever the shape of its body."""
    headers = _retry_after(error) if error.retryable else {}
    if status_of(error) == HTTPStatus.UNAUTHORIZED:
        headers["www-authenticate"] = "Bearer"
    return headers


def _retry_after(error: ModelryError) -> dict[str, str]:
    """When to try again: in whole seconds, and exactly where the error knows it."""
    after_s = error.facts.get("retry_after_s")
    if not isinstance(after_s, float | int):
        return {"retry-after": _RETRY_AFTER_S}
    return {
        "retry-after": str(max(1, math.ceil(after_s))),
        "retry-after-ms": str(max(1, math.ceil(after_s * 1000))),
    }


def error_response(error: ModelryError) -> JSONResponse:
    """The error in its one shape."""
    body = {"error": to_wire(error)}
    return JSONResponse(body, status_code=status_of(error), headers=error_headers(error))


def add_error_handlers(app: FastAPI) -> None:
    """Makes every error of ours and of the framework leave in the one shape."""
    app.add_exception_handler(ModelryError, _on_modelry_error)
    app.add_exception_handler(RequestValidationError, _on_validation_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_modelry_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, ModelryError)
    return error_response(error)


async def _on_validation_error(_: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    return error_response(InvalidRequest(reason=reason_of(error.errors())))


async def _on_http_exception(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, HTTPException)
    # The framework wraps what is raised while it reads a body; what was raised is what happened.
    if isinstance(error.__cause__, ModelryError):
        return error_response(error.__cause__)
    response = error_response(_translate(request, error))
    response.headers.update(error.headers or {})
    return response


def _translate(request: Request, error: HTTPException) -> ModelryError:
    if error.status_code == HTTPStatus.NOT_FOUND:
        remedy = "The calls of this service are listed at /docs."
        return NotFound(noun="path", name=request.url.path, remedy=remedy)
    if error.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = (error.headers or {}).get("Allow", "another method")
        return MethodNotAllowed(method=request.method, path=request.url.path, allowed=allowed)
    if error.status_code < HTTPStatus.INTERNAL_SERVER_ERROR:
        return InvalidRequest(reason=_clause(error.detail))
    return InternalError(reason=_clause(error.detail), request_id="of this answer")


def reason_of(errors: Sequence[Any]) -> str:
    """What pydantic found, as one clause that names each field: `'steps': should be greater than 0`."""
    return "; ".join(dict.fromkeys(_describe(error) for error in errors[:5]))


def _describe(error: Mapping[str, Any]) -> str:
    if error["type"] == "json_invalid":
        return f"the body is not JSON ({error.get('ctx', {}).get('error', 'malformed')})"
    place, *path = error["loc"]
    if error["type"] == "extra_forbidden":
        return f"the field {_field(path)} is not known"
    if not path:
        return f"the {place} {_clause(error['msg'])}"
    where = "" if place == "body" else f" in the {place}"
    return f"{_field(path)}{where}: {_clause(error['msg'])}"


def _field(path: Sequence[Any]) -> str:
    return "'" + ".".join(str(part) for part in path) + "'"


def _clause(text: str) -> str:
    text = re.sub(r"^(Input|Value|Field) ", "", str(text)).rstrip(".")
    return text.removeprefix("error, ")
