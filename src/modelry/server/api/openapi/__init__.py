"""The OpenAPI document of the whole service: management as the framework knows it, all other calls as `calls.py` says.

Every route is in it but those that exist to be refused, and every error a call may end with.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from starlette.routing import Route

from modelry.server.api.openapi.calls import CALLS, REFUSED, Described
from modelry.server.api.openapi.shapes import PARTS, Schema, ref

__all__ = ["document", "template_of"]

_CONVERTOR = re.compile(r":\w+\}")
_NAMED = re.compile(r"\{(\w+)\}")
_METHODS = ("GET", "PUT", "POST", "PATCH", "DELETE")
#: Beside 4XX: what calls may end with through no fault of the client's, and what it then is.
_UNAVAILABLE = {
    HTTPStatus.SERVICE_UNAVAILABLE: "Nothing can answer now; `retry-after` says when to try again.",
    HTTPStatus.INSUFFICIENT_STORAGE: "The disk is full.",
}
_BROKEN = {
    HTTPStatus.INTERNAL_SERVER_ERROR: "The model broke over this input, or cannot be loaded.",
    HTTPStatus.SERVICE_UNAVAILABLE: "No replica can answer now; `retry-after` says when to try again.",
    HTTPStatus.GATEWAY_TIMEOUT: "No answer before the deadline.",
}
_PROJECT = {
    "name": "x-modelry-project",
    "in": "header",
    "description": "The project, for a key that belongs to none; percent-encoded where it is not plain.",
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"},
}
_TIMEOUT = {
    "name": "x-request-timeout",
    "in": "header",
    "description": "Seconds that the answer may take.",
    "schema": {"type": "number", "exclusiveMinimum": 0, "maximum": 3600},
}
_SECURITY = {
    "key": {"type": "http", "scheme": "bearer"},
    "x-api-key": {"type": "apiKey", "in": "header", "name": "x-api-key"},
}


def document(app: FastAPI) -> dict[str, Any]:
    """The document; made once for an application."""
    found: dict[str, Any] | None = getattr(app.state, "openapi", None)
    if found is None:
        found = app.state.openapi = _write(app)
    return found


def template_of(path: str) -> str:
    """A route's path without the words for its converters."""
    return _CONVERTOR.sub("}", path)


def _write(app: FastAPI) -> dict[str, Any]:
    managed = app.openapi()
    paths: dict[str, Any] = {}
    for path, calls in managed["paths"].items():
        is_open = path == "/health"
        paths[path] = {method: _managed(call, is_open=is_open) for method, call in calls.items()}
    for method, path, route in _others(app):
        described = CALLS[method, path]
        operation = _operation(method, path, described, route)
        paths.setdefault(path, {})[method.lower()] = operation
    schemas = {
        name: schema
        for name, schema in managed["components"]["schemas"].items()
        if name not in ("HTTPValidationError", "ValidationError")
    }
    return {
        **managed,
        "paths": paths,
        "components": {"schemas": {**schemas, **PARTS}, "securitySchemes": _SECURITY},
    }


def _others(app: FastAPI) -> Iterator[tuple[str, str, Route]]:
    """The calls that the framework does not describe, in the order of the table."""
    found = {
        (method, template_of(route.path)): route
        for route in app.routes
        if isinstance(route, Route) and not any(part in route.path for part in REFUSED)
        for method in sorted(set(route.methods or ()) & set(_METHODS))
    }
    for key in CALLS:
        if key in found:
            yield *key, found[key]


def _managed(call: dict[str, Any], *, is_open: bool) -> dict[str, Any]:
    """A management call with its real errors: the framework would document a shape that is never sent."""
    responses = {code: told for code, told in call["responses"].items() if code != "422"}
    if is_open:
        return {**call, "tags": ["Service"], "responses": responses}
    return {
        **call,
        "tags": ["Management"],
        "parameters": [*call.get("parameters", ()), _PROJECT],
        "responses": {**responses, **_errors(ref("Error"), _UNAVAILABLE)},
        "security": [{name: []} for name in _SECURITY],
    }


def _operation(method: str, path: str, call: Described, route: Route) -> dict[str, Any]:
    scope = getattr(route, "scope", None)
    parameters: list[dict[str, Any]] = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}}
        for name in _NAMED.findall(path)
    ]
    parameters += [
        {"name": name, "in": "query", "schema": schema, "description": says}
        for name, (schema, says) in call.query.items()
    ]
    is_inference = method == "POST" and bool(call.takes) and scope == "infer"
    if scope:
        parameters.append(_PROJECT)
    if is_inference:
        parameters.append(_TIMEOUT)
    answer = {"description": "The answer.", "content": {call.given_as: {"schema": call.gives}}}
    said: dict[str, Any] = {
        "tags": [call.tag],
        "summary": f"{method} {path}",
        "description": call.says,
        "operationId": re.sub(r"\W+", "_", f"{method}_{path}").strip("_").lower(),
        "parameters": parameters,
        "responses": {
            "200": answer,
            **_errors(ref(call.error), _BROKEN if is_inference else _UNAVAILABLE),
        },
    }
    if call.takes:
        content = {media: {"schema": schema} for media, schema in call.takes.items()}
        said["requestBody"] = {"content": content, "required": is_inference}
    if scope:
        said["security"] = [{name: []} for name in _SECURITY]
    return said


def _errors(shape: Schema, known: dict[HTTPStatus, str]) -> dict[str, Any]:
    content = {"application/json": {"schema": shape}}
    refused = {"description": "What is wrong with the call, and what to do.", "content": content}
    told = {
        str(int(status)): {"description": says, "content": content}
        for status, says in known.items()
    }
    return {"4XX": refused, **told}
