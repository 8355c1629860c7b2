"""`/openapi.json` and `/docs`: the calls of this service, for programs and for people, behind a key like all else.

The page is plain text on purpose: no script from elsewhere runs beside the service, and `curl` reads it as well.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Annotated, Any

from fastapi import Request
from fastapi.responses import PlainTextResponse, Response

from modelry.server.api.auth import Call, guarded_router, needs

router = guarded_router()

_METHODS = ("get", "put", "post", "patch", "delete")


@router.get("/openapi.json", include_in_schema=False)
def get_schema(call: Annotated[Call, needs("read")], request: Request) -> Response:
    """The calls as OpenAPI."""
    text = json.dumps(request.app.openapi(), ensure_ascii=False)
    return Response(text, media_type="application/json")


@router.get("/docs", include_in_schema=False)
def get_page(call: Annotated[Call, needs("read")], request: Request) -> Response:
    """The calls as a page of text."""
    return PlainTextResponse("\n".join(_lines(request.app.openapi())) + "\n")


def _lines(schema: dict[str, Any]) -> Iterator[str]:
    info = schema["info"]
    yield f"{info['title']} {info['version']}: the calls of this service"
    yield "Every call but /health needs 'Authorization: Bearer mk_…'. The whole schema: /openapi.json"
    parts = schema.get("components", {}).get("schemas", {})
    for path, calls in schema["paths"].items():
        for method in _METHODS:
            if method in calls:
                yield ""
                yield from _describe(path, method, calls[method], parts)


def _describe(path: str, method: str, call: dict[str, Any], parts: dict[str, Any]) -> Iterator[str]:
    yield f"{method.upper()} {path}"
    if call.get("description"):
        yield f"    {call['description']}"
    for parameter in call.get("parameters", ()):
        if parameter["in"] == "query":
            yield f"    ?{parameter['name']}"
    body = call.get("requestBody", {}).get("content", {}).get("application/json", {})
    for name in _references(body.get("schema", {})):
        required = parts[name].get("required", ())
        for field, facts in parts[name].get("properties", {}).items():
            mark = "" if field in required else " (optional)"
            yield f"    {field}{mark}: {facts.get('description', facts.get('const', ''))}"


def _references(schema: dict[str, Any]) -> Iterator[str]:
    """The names of the body's schemas, each once."""
    if "$ref" in schema:
        yield schema["$ref"].rpartition("/")[2]
    for one in (*schema.get("anyOf", ()), *schema.get("oneOf", ())):
        yield from _references(one)
